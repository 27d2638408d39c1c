"""What the C core does of a bulk transfer by itself, and what it hands over: no Python for each object, no rule of its own."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import os
import sys
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore import _transfers, bulk
from obstore._auth import sigv4_form
from obstore._auth.shared_key import Hmac, string_to_sign
from obstore._auth.sigv4 import Signer, payload_hash
from obstore._bulk.tree import File
from obstore._dialect.bulk import is_clean
from obstore._engine import _core
from obstore._ops.remote import RemoteBackend
from obstore.store import AzureStore, GCSStore, S3Store
from tests.servers.fakes3 import FakeS3, cut, dropped, error_reply, gets, puts, status
from tests.servers.scripted import Reply, Request

QUICK = {"backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}}
WHERE = ("key", "secret", "token", "eu-west-1", 1_700_000_000.0)


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    return S3Store(**fake_s3.config(retry_config=QUICK))


def fill(root: Path, count: int, size: int = 50) -> Path:
    root.mkdir()
    for n in range(count):
        (root / f"f{n:04}").write_bytes(os.urandom(size))
    return root


def calls_of(run: Callable[[], Any]) -> int:
    """Python functions called on this thread."""
    count = 0

    def note(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


# ---- the hot path ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for a request of its own fails; listings may."""
    request = RemoteBackend.request

    def refuse(self: RemoteBackend, wanted: Any, *args: Any, **kwargs: Any) -> Any:
        assert wanted.operation == "list", f"an operation of its own: {wanted.operation} {wanted.key}"
        return request(self, wanted, *args, **kwargs)

    monkeypatch.setattr(RemoteBackend, "request", refuse)


@pytest.mark.usefixtures("no_operations")
def test_small_objects_are_no_operations_of_python(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    """Each way up and down: one request an object, made by the C core, and few calls of Python functions."""
    count = 400
    source = fill(tmp_path / "in", count)
    sent = {path.name: path.read_bytes() for path in source.iterdir()}
    keys = list(sent)
    results: list[Any] = []
    out: list[Any] = []
    once = bulk.upload(store, source, "warm")  # what is imported and set up once
    assert (once.objects, once.failures) == (count, [])
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        # An operation would be a hundred and more. Some are for each wake-up, of which a slow machine has more. Finding the files
        # is Python's: scandir's entries, their names, their order.
        "upload": (lambda: results.append(bulk.upload(store, source, "up")), 16),
        "put_many": (lambda: results.append(bulk.put_many(store, {f"put/{key}": sent[key] for key in keys})), 8),
        "get_many": (lambda: out.extend(bulk.get_many(store, [f"up/{key}" for key in keys])), 8),
        "download": (lambda: results.append(bulk.download(store, "put", tmp_path / "out")), 4),
    }
    for name, (run, most) in ways.items():
        fake_s3.requests.clear()
        calls = calls_of(run)
        assert calls / count <= most, f"{name}: {calls / count:.1f} calls of Python functions for an object"
        assert len([request for request in fake_s3.requests if "list-type" not in request.query]) == count, name
    assert [(result.objects, result.failures) for result in results] == [(count, [])] * 3
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == sent
    assert {key[3:]: bytes(body) for key, body in out} == sent


def test_progress_costs_the_same_for_any_number_of_objects(store: S3Store, tmp_path: Path) -> None:
    """A transfer that is watched calls hardly more functions than one that is not: under one in a hundred objects."""
    count = 1500
    source = fill(tmp_path / "in", count)
    bulk.upload(store, source, "up")
    plain = calls_of(lambda: bulk.download(store, "up", tmp_path / "a"))
    seen: list[bulk.Progress] = []
    watched = calls_of(lambda: bulk.download(store, "up", tmp_path / "b", progress=seen.append))
    assert seen[-1].objects == count
    steps = seen[-1].seconds / 0.05 + 2  # shown at most 20 times a second
    assert len(seen) <= steps
    # Steps of the C core last as long as the machine lets them: what each costs beside the showing is the same.
    assert watched - plain <= 0.01 * count + 40 * steps


# ---- one set of rules -----------------------------------------------------------------------------------------------


def test_uploads_are_retried(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    source = fill(tmp_path / "in", 30)
    fake_s3.inject(status(503), times=3, when=puts)
    fake_s3.inject(dropped(), times=2, when=puts, after=4)
    fake_s3.inject(status(500), times=1, when=puts, after=9)
    fake_s3.inject(cut(0), times=1, when=puts, after=12)
    before = store.stats()["retries"]
    result = bulk.upload(store, source, "up")
    assert (result.objects, result.failures) == (30, [])
    assert {key: stored.body for key, stored in fake_s3.objects.items()} == {
        f"up/{path.name}": path.read_bytes() for path in source.iterdir()
    }
    assert store.stats()["retries"] > before


def test_failed_attempt_is_not_repeated_to_learn_what_it_meant(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    """Answers that are final are asked for once; the error knows its attempts and the service's name of the request."""
    fake_s3.add("d/k", b"x")
    (tmp_path / "one").write_bytes(b"1")
    fake_s3.inject(status(404, error="NoSuchKey"), times=float("inf"), when=gets)
    fake_s3.inject(status(403, error="AccessDenied"), times=float("inf"), when=puts)
    failures = [
        *bulk.download(store, ["d/k"], tmp_path / "out").failures,
        *bulk.upload(store, tmp_path / "one", "up").failures,
        *bulk.put_many(store, {"p": b"1"}).failures,
    ]
    assert [(failure.path, type(failure.error)) for failure in failures] == [
        ("d/k", obs.NotFoundError),
        (str(tmp_path / "one"), obs.PermissionDeniedError),
        ("p", obs.PermissionDeniedError),
    ]
    with pytest.raises(obs.NotFoundError) as caught:
        list(bulk.get_many(store, ["d/k"]))
    for error in (*(failure.error for failure in failures), caught.value):
        assert isinstance(error, obs.BaseError)
        assert len(error.attempts) == 1
        assert error.attempts[0].status == error.status
        assert error.attempts[0].request_id == error.request_id == "REQ123"
    assert len(fake_s3.requests) == 4


def test_errors_of_bulk_tell_of_all_attempts(fake_s3: FakeS3, tmp_path: Path) -> None:
    store = S3Store(**fake_s3.config(retry_config={**QUICK, "max_retries": 2}))
    fake_s3.add("d/k", b"x")
    fake_s3.inject(status(500), times=float("inf"), when=gets)
    fake_s3.inject(dropped(), times=float("inf"), when=puts)
    (down,) = bulk.download(store, ["d/k"], tmp_path).failures
    (up,) = bulk.put_many(store, {"p": b"1"}).failures
    assert [attempt.status for attempt in down.error.attempts] == [500, 500, 500]  # type: ignore[attr-defined]
    assert [attempt.error for attempt in up.error.attempts] == ["interrupted"] * 3  # type: ignore[attr-defined]


def test_create_is_not_repeated_where_it_may_have_been_carried_out(fake_s3: FakeS3, store: S3Store) -> None:
    fake_s3.add("there", b"old")
    fake_s3.inject(dropped(), when=lambda request: puts(request) and request.path.endswith("unclear"))
    result = bulk.put_many(store, {"there": b"1", "new": b"2", "unclear": b"3"}, overwrite=False)
    assert result.objects == 1
    assert {failure.path: type(failure.error) for failure in result.failures} == {
        "there": obs.AlreadyExistsError,
        "unclear": obs.exceptions.ConnectionFailedError,
    }
    assert fake_s3.objects["there"].body == b"old"
    assert len(fake_s3.requests) == 3


def test_clock_that_is_wrong_is_corrected_for_all(fake_s3: FakeS3, store: S3Store) -> None:
    """The first answers tell the service's time; what has not been sent by then is signed for it."""
    refused = 0

    def check_clock(request: Request, proceed: Callable[[], Reply]) -> Reply:
        nonlocal refused
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        theirs = datetime.now(UTC) + timedelta(hours=1)
        if theirs - signed < timedelta(minutes=15):
            return proceed()
        refused += 1
        reply = error_reply(403, "RequestTimeTooSkewed")
        return dataclasses.replace(reply, headers=[*reply.headers, ("date", format_datetime(theirs, usegmt=True))])

    fake_s3.inject(check_clock, times=float("inf"))
    result = bulk.put_many(store, {f"k{n}": b"x" for n in range(600)}, connections=8)
    assert (result.objects, result.failures) == (600, [])
    assert refused < 300


def test_region_and_headers_that_are_wrong_are_corrected_for_all(fake_s3: FakeS3) -> None:
    """What the first refused request teaches holds for those that were under way with it, too."""

    def elsewhere(request: Request, proceed: Callable[[], Reply]) -> Reply:
        if "/eu-west-1/" in request.headers["authorization"]:
            return proceed()
        reply = error_reply(400, "AuthorizationHeaderMalformed")
        return dataclasses.replace(reply, headers=[*reply.headers, ("x-amz-bucket-region", "eu-west-1")])

    def older(request: Request, proceed: Callable[[], Reply]) -> Reply:
        return error_reply(501, "NotImplemented") if "x-amz-checksum-mode" in request.headers else proceed()

    fake_s3.inject(elsewhere, times=float("inf"))
    config = {name: value for name, value in fake_s3.config(retry_config=QUICK).items() if name != "region"}
    store = S3Store(**config)
    bodies = {f"k{n}": bytes([n]) for n in range(100)}
    result = bulk.put_many(store, bodies, connections=8)
    assert (result.objects, result.failures) == (100, [])
    fake_s3.inject(older, times=float("inf"), when=gets)
    assert {key: bytes(body) for key, body in bulk.get_many(S3Store(**config), list(bodies), connections=8)} == bodies


# ---- what is sent ---------------------------------------------------------------------------------------------------


def test_attributes_make_forms_and_too_many_make_operations(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    source = fill(tmp_path / "in", 150)
    result = bulk.upload(
        store, source, "up", attributes=lambda path: {"Content-Type": "text/x", "n": str(int(path[-4:]) // 2)}
    )
    assert (result.objects, result.failures) == (150, [])
    for n in range(150):
        headers = fake_s3.objects[f"up/f{n:04}"].headers
        assert headers["content-type"] == "text/x"
        assert headers["x-amz-meta-n"] == str(n // 2)


def test_attribute_that_cannot_be_sent_is_a_failure(store: S3Store) -> None:
    result = bulk.put_many(store, {"a": b"1"}, attributes={"n": "line\nbreak"})
    assert [failure.path for failure in result.failures] == ["a"]
    result = bulk.put_many(store, {"a": b"1"}, attributes={"n": "\x01"})
    assert [failure.path for failure in result.failures] == ["a"]


def test_files_that_cannot_be_read_or_are_none(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"good")
    os.mkfifo(tmp_path / "pipe")
    os.symlink("nowhere", tmp_path / "dangling")
    paths = [tmp_path / name for name in ("good", "none", "dangling")]
    result = bulk.upload(store, paths, "up")
    assert result.objects == 1
    assert [(Path(failure.path).name, type(failure.error)) for failure in result.failures] == [
        ("none", FileNotFoundError),
        ("dangling", FileNotFoundError),
    ]
    assert all(failure.path in str(failure.error) for failure in result.failures)
    put = bulk.put_many(store, {"dir": tmp_path, "good": tmp_path / "good"})
    assert (put.objects, [(failure.path, type(failure.error)) for failure in put.failures]) == (
        1,
        [("dir", IsADirectoryError)],
    )
    assert sorted(fake_s3.objects) == ["good", "up/good"]


def test_file_that_grew_since_it_was_found_is_sent_in_parts(
    fake_s3: FakeS3, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = tmp_path / "large"
    large.write_bytes(b"")
    os.truncate(large, 9 << 20)
    monkeypatch.setattr(_transfers, "_files", lambda paths: iter([File(str(large), "large", 1, 0.0)]))
    assert bulk.upload(store, [large], "up").objects == 1
    assert len(fake_s3.objects["up/large"].body) == 9 << 20


def test_buffers_of_all_kinds(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    from array import array

    (tmp_path / "file").write_bytes(b"from a file")
    items: dict[str, Any] = {
        "bytearray": bytearray(b"ba"),
        "view": memoryview(b"0123456789")[2:5],
        "array": array("h", [1, 2]),
        "path": tmp_path / "file",
        "open": (tmp_path / "file").open("rb"),
        "pieces": iter([b"a", b"b"]),
        "empty": b"",
        "strided": bytes(memoryview(b"0123456789")[::2]),
        "large": bytes(9 << 20),
    }
    with items["open"]:
        result = bulk.put_many(store, items)
    assert (result.objects, result.failures) == (len(items), [])
    bodies = {key: stored.body for key, stored in fake_s3.objects.items()}
    assert bodies["view"] == b"234"
    assert bodies["array"] == array("h", [1, 2]).tobytes()
    assert bodies["path"] == bodies["open"] == b"from a file"
    assert bodies["pieces"] == b"ab"
    assert bodies["empty"] == b""
    assert len(bodies["large"]) == 9 << 20
    with pytest.raises(ValueError, match="contiguous"):
        bulk.put_many(store, {"k": memoryview(b"0123456789")[::2]})
    with pytest.raises(TypeError, match="file"):
        bulk.put_many(store, {"k": "text"})


def test_memory_bounds_what_waits_to_be_sent(fake_s3: FakeS3, store: S3Store) -> None:
    """Buffers are asked for as there is room: with 4 MiB, no more than a few of a MiB each at a time."""
    made = sent = most = 0

    def items() -> Any:
        nonlocal made, sent, most
        for n in range(40):
            made += 1
            sent = len(fake_s3.objects)
            most = max(most, made - sent)
            yield f"k{n}", bytes(1 << 20)

    assert bulk.put_many(store, items(), memory="4MiB", connections=2).ok
    blocks = _core.stats()["block_bytes"]
    assert blocks < 4 << 20
    assert len(fake_s3.objects) == 40


@pytest.mark.parametrize("algorithm", [None, "SHA256", "CRC32", "CRC32C", "CRC64NVME"])
def test_checksums_of_uploads(fake_s3: FakeS3, algorithm: str | None) -> None:
    store = S3Store(**fake_s3.config(**({"checksum_algorithm": algorithm} if algorithm else {})))
    bodies = {"k": b"123456789", "empty": b""}
    assert bulk.put_many(store, bodies).ok
    values = {
        "SHA256": lambda body: hashlib.sha256(body).digest(),
        "CRC32": lambda body: zlib.crc32(body).to_bytes(4, "big"),
        "CRC32C": lambda body: _core.crc32c(body).to_bytes(4, "big"),
        "CRC64NVME": lambda body: _core.crc64nvme(body).to_bytes(8, "big"),
    }
    for request in fake_s3.requests:
        body = bodies[request.path.rpartition("/")[2]]
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(body).hexdigest()
        sums = {name: value for name, value in request.headers.items() if name.startswith("x-amz-checksum")}
        expected = {} if algorithm is None else {f"x-amz-checksum-{algorithm.lower()}": values[algorithm](body)}
        assert sums == {name: base64.b64encode(value).decode() for name, value in expected.items()}


def test_unsigned_payload_and_anonymous_uploads(fake_s3: FakeS3) -> None:
    assert bulk.put_many(S3Store(**fake_s3.config(unsigned_payload=True)), {"k": b"x"}).ok
    assert fake_s3.requests[-1].headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert bulk.put_many(S3Store(**fake_s3.config(skip_signature=True)), {"k": b"x"}).ok
    assert "authorization" not in fake_s3.requests[-1].headers


# ---- statistics -----------------------------------------------------------------------------------------------------


def test_statistics_of_the_store_count_bulk_transfers(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    bodies = {f"k{n}": bytes(100) for n in range(50)}
    bulk.put_many(store, bodies)
    after_put = store.stats()
    assert (after_put["requests"], after_put["succeeded"], after_put["bytes_out"]) == (50, 50, 5000)
    bulk.download(store, list(bodies), tmp_path)
    dict(bulk.get_many(store, list(bodies), connections=2))
    stats = store.stats()
    assert (stats["requests"], stats["succeeded"], stats["bytes_in"], stats["in_flight"]) == (150, 150, 10_000, 0)
    assert stats["first_byte_p50"] > 0
    assert S3Store(**fake_s3.config()).stats()["requests"] == 0


def test_bulk_transfers_of_two_stores_keep_their_options_apart(fake_s3: FakeS3) -> None:
    """Handles of libcurl are kept from one transfer to the next, and with them the options of their store."""
    for agent in ("one", "two", "one"):
        store = S3Store(**fake_s3.config(client_options={"user_agent": agent}))
        assert bulk.put_many(store, {"k": b"x"}).ok
        dict(bulk.get_many(store, ["k"]))
        obs.get(store, "k").bytes()
        assert {request.headers["user-agent"] for request in fake_s3.requests} == {agent}
        fake_s3.requests.clear()


# ---- forms ----------------------------------------------------------------------------------------------------------


def test_marks_are_those_of_the_c_core() -> None:
    ours = (sigv4_form.MARK_HASH, sigv4_form.MARK_CHECK, sigv4_form.MARK_LENGTH, sigv4_form.MARK_KEY)
    assert ours == (_core.MARK_HASH, _core.MARK_CHECK, _core.MARK_LENGTH, _core.MARK_KEY)
    assert not any(is_clean([f"a{mark}"]) for mark in ours)
    assert is_clean(["", "plain", "schön", "a\u2028b"])


def test_signing_form_of_puts_signs_as_the_signer_does() -> None:
    body, path = b"content", "/bucket/a%20key"
    digest = payload_hash([body])
    headers = [("content-type", "text/plain"), ("x-amz-checksum-crc32c", "AAAAAA==")]
    marked = [headers[0], (headers[1][0], sigv4_form.MARK_CHECK)]
    sent, form = sigv4_form.signing_form("host:9000", marked, sigv4_form.MARK_HASH, *WHERE, method="PUT")

    def filled(text: str) -> str:
        return text.replace(sigv4_form.MARK_HASH, digest).replace(sigv4_form.MARK_CHECK, "AAAAAA==")

    canonical = filled(f"{form.before}{path}{form.after}")
    text = form.scope_text + hashlib.sha256(canonical.encode()).hexdigest()
    ours = form.authorization + hmac.new(form.key, text.encode(), "sha256").hexdigest()
    signed = Signer("s3").sign("PUT", "host:9000", path, (), headers, digest, *WHERE)
    assert dict(signed)["authorization"] == ours
    assert {name: filled(value) for name, value in sent} == {k: v for k, v in signed if k != "authorization"}
    assert "secret" not in repr(form)


def test_azure_form_is_what_shared_key_signs() -> None:
    store = AzureStore("box", account_name="acc", account_key=base64.b64encode(b"secret").decode())
    dialect, cred = store._backend.dialect, store._backend.source.current(0.0)
    form = dialect.write_form(cred, 1_700_000_000.0, obs._types.PutSpec(attributes={"Content-Type": "a/b"}))
    assert form.signing is not None
    path = f"{form.path}k%20y"
    text = form.signing.before.replace(sigv4_form.MARK_LENGTH, "7") + path + form.signing.after
    assert text == string_to_sign("PUT", "acc", path, (), form.headers, 7)
    assert ("x-ms-blob-content-type", "a/b") in form.headers
    assert len(Hmac("c2VjcmV0").states()) == len(form.signing.key)
    assert "secret" not in repr(form)


def test_google_form_describes_the_object_in_its_body() -> None:
    store = GCSStore("box", prefix='p"q', bearer_token="t")
    dialect, cred = store._backend.dialect, store._backend.source.current(0.0)
    spec = obs._types.PutSpec(attributes={"Content-Type": "a/b", "n": 'v"'})
    form = dialect.write_form(cred, 0.0, spec)
    head, tail = form.body
    described = head.split("\r\n\r\n")[1].rpartition("\r\n--")[0]
    values = {sigv4_form.MARK_KEY: "key", sigv4_form.MARK_CHECK: "AAAAAA=="}
    for mark, value in values.items():
        assert described.count(mark) == 1
        described = described.replace(mark, value)
    assert json.loads(described) == {
        "name": 'p"q/key',
        "contentType": "a/b",
        "metadata": {"n": 'v"'},
        "crc32c": "AAAAAA==",
    }
    assert tail.strip().strip("-") in form.headers[0][1]
    assert "Bearer" not in repr(form)
    create = dialect.write_form(cred, 0.0, obs._types.PutSpec(mode="create"))
    assert "ifGenerationMatch=0" in create.suffix
