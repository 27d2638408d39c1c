"""Errors: class, attributes, one line without secrets; wrong arguments named before anything is sent."""

from __future__ import annotations

import asyncio
import copy
import pickle

import pytest

import obstore as obs
from obstore import exceptions
from obstore.store import S3Store
from tests.fix_stores import Face, Subject
from tests.servers.fakes3 import FakeS3, error_reply
from tests.servers.scripted import Reply

SECRET = "SECRETKEY/never+shown"


def test_missing_object(subject: Subject, face: Face):
    for act in (
        lambda: face.get(subject.store, "no/such"),
        lambda: face.head(subject.store, "no/such"),
        lambda: face.get_range(subject.store, "no/such", start=0, end=1),
    ):
        with pytest.raises(obs.NotFoundError, match=r"Object at location .*no/such not found") as caught:
            act()
        error = caught.value
        assert isinstance(error, FileNotFoundError)
        assert isinstance(error, obs.BaseError)
        assert "\n" not in str(error)
        if subject.remote:
            assert error.status == 404
            assert error.key == "no/such"
            assert error.url.startswith(subject.url)
            assert not error.retryable
            assert len(error.attempts) == 1
            assert error.attempts[0].status == 404


def test_missing_bucket(s3: Subject, face: Face):
    store = S3Store(**s3.endpoint.config("no-such-bucket"))
    with pytest.raises(obs.NotFoundError) as caught:
        face.get(store, "k")
    assert caught.value.code == "NoSuchBucket"
    with pytest.raises(obs.NotFoundError):
        face.put(store, "k", b"")
    with pytest.raises(obs.BaseError) as caught:
        face.items(face.list(store))
    assert caught.value.code == "NoSuchBucket"


@pytest.mark.parametrize("kind", ["swift", "moto_auth", pytest.param("ceph", marks=pytest.mark.ceph)])
def test_wrong_keys_are_refused(kind: str, request: pytest.FixtureRequest, judges):
    server = request.getfixturevalue(kind)
    bucket = "bucket-of-errors"
    judge = judges(server.endpoint)
    if bucket not in [b["Name"] for b in judge.list_buckets()["Buckets"]]:
        judge.create_bucket(Bucket=bucket)
    config = server.endpoint.config(bucket)
    for wrong in ({"secret_access_key": SECRET}, {"access_key_id": "AKIDNOBODY"}):
        store = S3Store(**{**config, **wrong})
        for act in (
            lambda store=store: obs.get(store, "k"),
            lambda store=store: obs.put(store, "k", b"x"),
            lambda store=store: list(obs.list(store)),
            lambda store=store: obs.delete(store, "k"),
        ):
            with pytest.raises((obs.PermissionDeniedError, obs.UnauthenticatedError, obs.GenericError)) as caught:
                act()
            error = caught.value
            assert error.status in (400, 401, 403)
            assert SECRET not in _everything(error)
            assert len(error.attempts) == 1, "wrong keys do not get better by repetition"
        with pytest.raises((obs.PermissionDeniedError, obs.UnauthenticatedError)) as caught:
            obs.get(store, "k")
        if isinstance(caught.value, obs.PermissionDeniedError):
            assert isinstance(caught.value, PermissionError)
        assert caught.value.code


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "InvalidRequest", obs.GenericError),
        (401, "Unauthorized", obs.UnauthenticatedError),
        (403, "AccessDenied", obs.PermissionDeniedError),
        (403, "SignatureDoesNotMatch", obs.BaseError),
        (404, "NoSuchKey", obs.NotFoundError),
        (409, "InvalidBucketState", obs.AlreadyExistsError),
        (412, "PreconditionFailed", obs.PreconditionError),
        (416, "InvalidRange", obs.GenericError),
        (500, "InternalError", obs.GenericError),
        (503, "SlowDown", obs.ThrottledError),
        (429, "TooManyRequests", obs.ThrottledError),
    ],
)
def test_statuses_become_classes(fake_s3: FakeS3, status: int, code: str, kind: type):
    fake_s3.push(error_reply(status, code, "what the service says"))
    store = S3Store(**fake_s3.config(retry_config={"max_retries": 0}))
    with pytest.raises(kind) as caught:
        obs.get(store, "dir/a b")
    error = caught.value
    assert (error.status, error.code) == (status, code)
    assert (error.request_id, error.host_id) == ("REQ123", "HOST456")
    assert error.key == "dir/a b"
    assert error.url == f"{fake_s3.url}/bucket/dir/a%20b"
    assert "what the service says" in str(error)
    assert "\n" not in str(error)
    assert len(error.attempts) == 1
    assert (error.attempts[0].status, error.attempts[0].code) == (status, code)
    assert error.retryable == (status >= 500 or status == 429)


def test_304_becomes_not_modified(fake_s3: FakeS3):
    fake_s3.push(Reply(304))
    with pytest.raises(obs.NotModifiedError):
        obs.get(S3Store(**fake_s3.config()), "k", options={"if_none_match": '"x"'})


def test_no_connection(free_port: int):
    store = S3Store(
        "b",
        endpoint=f"http://127.0.0.1:{free_port}",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 1},
    )
    with pytest.raises(obs.ConnectionFailedError) as caught:
        obs.get(store, "k")
    error = caught.value
    assert isinstance(error, ConnectionError)
    assert isinstance(error, obs.GenericError)
    assert [attempt.error for attempt in error.attempts] == ["connect", "connect"]
    assert error.retryable
    assert error.status is None


def test_unknown_host():
    store = S3Store(
        "b",
        endpoint="http://no-such-host.invalid",
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(obs.ConnectionFailedError, match=r"no-such-host\.invalid"):
        obs.head(store, "k")


def test_plain_http_is_refused_unless_allowed(fake_s3: FakeS3):
    config = fake_s3.config(client_options={"allow_http": False})
    with pytest.raises(obs.GenericError, match=r"(?i)http"):
        obs.get(S3Store(**config), "k")
    assert fake_s3.requests == []
    assert fake_s3.opened == 0


def test_secrets_are_nowhere(fake_s3: FakeS3):
    fake_s3.push(error_reply(403, "AccessDenied"))
    store = S3Store(**fake_s3.config(secret_access_key=SECRET, session_token="TOKEN/never+shown"))
    with pytest.raises(obs.PermissionDeniedError) as caught:
        obs.get(store, "k")
    text = _everything(caught.value)
    assert SECRET not in text
    assert "TOKEN/never" not in text
    assert "Signature" not in text


def test_errors_survive_pickle_and_copy(fake_s3: FakeS3):
    fake_s3.push(error_reply(403, "AccessDenied"))
    with pytest.raises(obs.PermissionDeniedError) as caught:
        obs.get(S3Store(**fake_s3.config()), "k")
    for again in (pickle.loads(pickle.dumps(caught.value)), copy.copy(caught.value), copy.deepcopy(caught.value)):
        assert type(again) is type(caught.value)
        assert str(again) == str(caught.value)
        for name in ("status", "code", "request_id", "host_id", "url", "key", "attempts", "retryable", "hint"):
            assert getattr(again, name) == getattr(caught.value, name)


def test_exceptions_are_at_both_places():
    for name in exceptions.__all__:
        if name != "Attempt":
            assert getattr(obs, name) is getattr(exceptions, name)
    published = {
        "BaseError": Exception,
        "GenericError": obs.BaseError,
        "NotFoundError": FileNotFoundError,
        "InvalidPathError": obs.BaseError,
        "JoinError": obs.BaseError,
        "NotSupportedError": NotImplementedError,
        "AlreadyExistsError": FileExistsError,
        "PreconditionError": obs.BaseError,
        "NotModifiedError": obs.BaseError,
        "PermissionDeniedError": PermissionError,
        "UnauthenticatedError": obs.BaseError,
        "UnknownConfigurationKeyError": obs.BaseError,
    }
    for name, base in published.items():
        assert issubclass(getattr(obs, name), base)
        assert issubclass(getattr(obs, name), obs.BaseError)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda s: obs.put(s, "k", 7), (TypeError, ValueError), "file"),
        (lambda s: obs.put(s, "k", None), (TypeError, ValueError), "file"),
        (lambda s: obs.put(s, "k", "text"), TypeError, "file"),
        (lambda s: obs.put(s, "k", b"", mode="sometimes"), ValueError, "PutMode: sometimes"),
        (lambda s: obs.put(s, "k", b"", mode=1), (TypeError, ValueError), "mode"),
        (lambda s: obs.put(s, "k", b"", mode={"e_tag": 1}), TypeError, "e_tag"),
        (lambda s: obs.put(s, "k", b"", chunk_size=0), ValueError, "chunk_size"),
        (lambda s: obs.put(s, "k", b"", chunk_size=-1), OverflowError, "chunk_size"),
        (lambda s: obs.put(s, "k", b"", chunk_size=1.5), TypeError, "chunk_size"),
        (lambda s: obs.put(s, "k", b"", max_concurrency=-1), OverflowError, "max_concurrency"),
        (lambda s: obs.put(s, "k", b"", max_concurrency="2"), TypeError, "max_concurrency"),
        (lambda s: obs.put(s, "k", b"", use_multipart=1), TypeError, "use_multipart"),
        (lambda s: obs.put(s, "k", b"", attributes=["Content-Type"]), (TypeError, ValueError), "attributes"),
        (lambda s: obs.put(s, "k", b"", attributes={"Content-Type": 1}), TypeError, "Content-Type"),
        (lambda s: obs.put(s, "k", b"", attributes={1: "x"}), TypeError, "attributes"),
        (lambda s: obs.put(s, "k", b"", attributes={"Content-Type": "a\r\nx-evil: 1"}), ValueError, "Content-Type"),
        (lambda s: obs.put(s, "k", b"", attributes={"evil\r\nname": "1"}), ValueError, "attributes"),
        (lambda s: obs.put(s, "k", b"", tags={"a": 1}), TypeError, "tags"),
        (lambda s: obs.put(s, "k", b"", tags="a=b"), (TypeError, ValueError), "tags"),
        (lambda s: obs.get(s, "k", options=1), TypeError, "options"),
        (lambda s: obs.get(s, "k", options={"range": 5}), (TypeError, ValueError), "range"),
        (lambda s: obs.get(s, "k", options={"range": (1,)}), ValueError, "range"),
        (lambda s: obs.get(s, "k", options={"range": (0, 1, 2)}), ValueError, "range"),
        (lambda s: obs.get(s, "k", options={"range": (-1, 2)}), OverflowError, "range"),
        (lambda s: obs.get(s, "k", options={"range": ("0", "1")}), TypeError, "range"),
        (lambda s: obs.get(s, "k", options={"range": {"offset": -1}}), OverflowError, "offset"),
        (lambda s: obs.get(s, "k", options={"range": {}}), ValueError, "range"),
        (lambda s: obs.get(s, "k", options={"if_match": 1}), TypeError, "if_match"),
        (lambda s: obs.get(s, "k", options={"if_match": '"a"\r\nx-evil: 1'}), ValueError, "if_match"),
        (lambda s: obs.get(s, "k", options={"if_modified_since": "today"}), TypeError, "if_modified_since"),
        (lambda s: obs.get(s, "k", options={"if_modified_since": _naive()}), TypeError, "if_modified_since"),
        (lambda s: obs.get(s, "k", options={"head": 1}), TypeError, "head"),
        (lambda s: obs.get(s, "k").stream(min_chunk_size=-1), OverflowError, "min_chunk_size"),
        (lambda s: obs.get(s, "k").stream(min_chunk_size="1"), TypeError, "min_chunk_size"),
        (lambda s: obs.get("store", "k"), (TypeError, ValueError), "Expected an object store instance"),
        (lambda s: obs.list(None), (TypeError, ValueError), "Expected an object store instance"),
    ],
)
def test_wrong_arguments_are_named(quick: Subject, call, kind, message):
    obs.put(quick.store, "k", b"data")
    with pytest.raises(kind, match=message):
        call(quick.store)
    assert obs.get(quick.store, "k").bytes() == b"data"


def test_asynchronous_calls_refuse_wrong_arguments_at_the_call(quick: Subject):
    async def main() -> None:
        with pytest.raises(TypeError, match="path"):
            obs.get_async(quick.store, 1)
        with pytest.raises(TypeError, match="file"):
            obs.put_async(quick.store, "k", "text")
        with pytest.raises(ValueError, match="Either end or length"):
            obs.get_range_async(quick.store, "k", start=0)
        with pytest.raises(TypeError, match="paths"):
            obs.delete_async(quick.store, 1)

    asyncio.run(main())


def test_asynchronous_calls_need_a_loop(quick: Subject):
    with pytest.raises(RuntimeError, match="no running event loop"):
        obs.get_async(quick.store, "k")


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ({"no_such_key": "x"}, obs.UnknownConfigurationKeyError, "no_such_key"),
        ({"region": 7}, TypeError, "region"),
        ({"virtual_hosted_style_request": "maybe"}, obs.GenericError, "maybe"),
        ({"bucket": "b", "aws_bucket": "b"}, obs.GenericError, "Duplicate key"),
        ({"client_options": {"no_such_option": "1"}}, ValueError, "no_such_option"),
        ({"client_options": {"timeout": "30"}}, obs.GenericError, "30"),
        ({"client_options": {"timeout": 30}}, TypeError, "timeout"),
        ({"client_options": 1}, TypeError, "client_options"),
        ({"retry_config": 1}, TypeError, "retry_config"),
        ({"retry_config": {"max_retries": -1}}, (OverflowError, ValueError), "max_retries"),
        ({"access_key_id": "only"}, obs.GenericError, "SecretAccessKey"),
        ({"secret_access_key": SECRET}, obs.GenericError, "AccessKeyId"),
        ({"copy_if_not_exists": "somehow"}, obs.GenericError, "somehow"),
        ({"endpoint": "not a url"}, (obs.GenericError, ValueError), "endpoint|URL|url"),
        ({"credential_provider": 1}, TypeError, "credential_provider"),
    ],
    ids=str,
)
def test_wrong_configuration_is_named(config, kind, message):
    arguments = {"bucket": "b", **config} if "aws_bucket" not in config else config
    with pytest.raises(kind, match=message) as caught:
        S3Store(**arguments)
    assert SECRET not in str(caught.value)


def test_missing_bucket_name():
    with pytest.raises(obs.GenericError, match="Missing bucket name"):
        S3Store()


def _naive():
    from datetime import datetime

    return datetime(2024, 1, 1)  # noqa: DTZ001 - that is the point


@pytest.fixture
def free_port() -> int:
    from tests.servers.process import free_ports

    return free_ports(1)[0]


def _everything(error: BaseException) -> str:
    """All that printing or logging an error could show."""
    import traceback

    return " ".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])
