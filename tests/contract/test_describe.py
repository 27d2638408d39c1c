"""What stores learn of their services, and how they tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.fakes3 import FakeS3, error_reply, status
from tests.servers.scripted import Reply, Request

SECRET = "never+shown/SECRET"


def test_description_of_a_new_store() -> None:
    store = S3Store("b", prefix="p", region="eu-west-1", access_key_id="AKID", secret_access_key=SECRET)
    assert store.describe() == {
        "store": "S3Store",
        "bucket": "b",
        "prefix": "p",
        "credentials": "given",
        "endpoint": "https://s3.eu-west-1.amazonaws.com",
        "region": "eu-west-1",
        "region_given": True,
        "addressing": "path",
        "learnt": {},
    }


@pytest.mark.parametrize(
    ("config", "credentials"),
    [
        ({"skip_signature": True}, "none: requests are not signed"),
        ({}, "looked for when they are needed"),
        ({"credential_provider": lambda: None}, "credential_provider: <lambda>"),
        ({"bucket": "d--use1-az4--x-s3", "access_key_id": "a", "secret_access_key": SECRET}, "sessions by given"),
    ],
)
def test_credentials_are_named_not_shown(config: dict[str, object], credentials: str) -> None:
    described = S3Store(**{"bucket": "b", "region": "r", **config}).describe()
    assert described["credentials"] == credentials
    assert SECRET not in str(described)


def test_profile_is_named_once_it_was_used(monkeypatch: pytest.MonkeyPatch, tmp_path, fake_s3: FakeS3) -> None:
    (tmp_path / "credentials").write_text(f"[x]\naws_access_key_id = AKID\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    config = {**fake_s3.config(), "profile": "x"}
    del config["access_key_id"], config["secret_access_key"]
    store = S3Store(**config)
    obs.put(store, "k", b"1")
    assert store.describe()["credentials"] == "keys of profile 'x'"


@pytest.mark.parametrize("fault", [status(501, error="NotImplemented"), status(405, error="MethodNotAllowed")])
def test_service_without_batches_deletes_one_by_one(fake_s3: FakeS3, face: Face, fault) -> None:
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        fake_s3.add(key, b"1")
    store = S3Store(**fake_s3.config())
    fake_s3.inject(fault, times=float("inf"), when=lambda request: request.method == "POST")
    face.delete(store, keys[:20])
    assert sorted(fake_s3.objects) == sorted(keys[20:])
    face.delete(store, keys[20:])
    assert fake_s3.objects == {}
    assert fake_s3.count("POST") == 1, "asked once"
    assert store.describe()["learnt"] == {"bulk_delete": False}


def test_refused_batch_stays_refused(fake_s3: FakeS3) -> None:
    fake_s3.add("k", b"1")
    store = S3Store(**fake_s3.config())
    fake_s3.inject(status(403, error="AccessDenied"), when=lambda request: request.method == "POST")
    with pytest.raises(obs.BaseError, match="AccessDenied"):
        obs.delete(store, ["k"])
    assert store.describe()["learnt"] == {}


def test_region_of_the_environment_is_a_first_guess(fake_s3: FakeS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is the one of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html."""
    fake_s3.add("k", b"1")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    config = fake_s3.config()
    del config["region"]
    store = S3Store(**config)

    def elsewhere(request: Request) -> Reply:
        if "/us-west-2/" in request.headers["authorization"]:
            return FakeS3._handle(fake_s3, request)
        reply = error_reply(400, "AuthorizationHeaderMalformed")
        reply.body = reply.body.replace(b"<RequestId>", b"<Region>us-west-2</Region><RequestId>")
        return reply

    fake_s3.handler = elsewhere
    for _ in range(2):
        assert bytes(obs.get(store, "k").bytes()) == b"1"
    assert fake_s3.count() == 3, "found once, and remembered"
    assert store.describe()["learnt"] == {"region": "us-west-2"}
    with pytest.raises(obs.BaseError) as caught:
        obs.head(S3Store(**{**config, "region": "us-east-1"}), "k")
    assert "AuthorizationHeaderMalformed" in str(caught.value) or caught.value.status == 400


def test_clock_and_checksums(fake_s3: FakeS3) -> None:
    fake_s3.add("k", b"1")
    store = S3Store(**fake_s3.config())
    ahead = datetime.now(UTC) + timedelta(hours=1)

    def skewed(request: Request, proceed) -> Reply:
        reply = error_reply(403, "RequestTimeTooSkewed")
        reply.headers = [*reply.headers, ("date", ahead.strftime("%a, %d %b %Y %H:%M:%S GMT"))]
        return reply

    fake_s3.inject(skewed)
    fake_s3.inject(status(501, error="NotImplemented"))
    assert bytes(obs.get(store, "k").bytes()) == b"1"
    learnt = store.describe()["learnt"]
    assert 3590 < learnt.pop("clock_offset") < 3610
    assert learnt == {"checksums": False}
