"""What is particular to Google Cloud Storage: uploads of large objects, generations, settings."""

from __future__ import annotations

import base64
import json
import os
import pickle
import secrets
from collections.abc import Callable
from typing import Any

import pytest
import requests

import obstore as obs
from obstore.store import GCSStore, from_url
from tests.fix_stores import Face
from tests.servers.gcs import FakeGCS
from tests.servers.google import GoogleXML
from tests.servers.moto import MotoGunicorn
from tests.servers.scripted import Reply, ScriptedServer
from tests.servers.tls import Authority

MIB = 1 << 20
Judge = Callable[[Any], Any]


def _json(document: Any, status: int = 200, **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, {"content-type": "application/json", **named}, json.dumps(document).encode())


@pytest.fixture
def fake(fake_gcs: FakeGCS) -> Callable[..., GCSStore]:
    bucket = fake_gcs.endpoint.create_bucket()
    return lambda **config: GCSStore(**{**fake_gcs.endpoint.config(bucket), **config})


def _store(scripted: ScriptedServer, **config: Any) -> GCSStore:
    return GCSStore("b", base_url=scripted.url, skip_signature=True, **config)


# ---- parallel parts by the XML API: moto makes the objects ---------------------------------------------------------


@pytest.fixture
def in_parts(google_xml: GoogleXML, moto_gunicorn: MotoGunicorn, judges: Judge) -> tuple[GCSStore, Any, str]:
    bucket = f"b-{secrets.token_hex(8)}"
    judge = judges(moto_gunicorn.endpoint)
    judge.create_bucket(Bucket=bucket)
    store = GCSStore(bucket, prefix="p q", base_url=google_xml.url, bearer_token="testtoken", xml_multipart=True)
    return store, judge, bucket


def test_parts_go_up_by_the_xml_api(in_parts: tuple[GCSStore, Any, str], face: Face):
    store, judge, bucket = in_parts
    data = os.urandom(12 * MIB + 7)
    attributes = {"Content-Type": "text/x", "Cache-Control": "no-store", "purpose": "a test"}
    result = face.put(store, "dir/a+b%", data, attributes=attributes)
    seen = judge.get_object(Bucket=bucket, Key="p q/dir/a+b%")
    with seen["Body"] as body:
        assert body.read() == data
    assert seen["ETag"].endswith('-3"'), "three parts of 5 MiB at most"
    assert (seen["ContentType"], seen["CacheControl"], seen["Metadata"]) == (
        "text/x",
        "no-store",
        {"purpose": "a test"},
    )
    assert result == {"e_tag": f"json-{seen['ETag'].strip(chr(34))}", "version": "1700000000000000"}
    assert "Uploads" not in judge.list_multipart_uploads(Bucket=bucket)


def test_a_source_that_fails_leaves_no_parts(in_parts: tuple[GCSStore, Any, str], face: Face):
    store, judge, bucket = in_parts

    def source() -> Any:
        yield os.urandom(6 * MIB)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        face.put(store, "k", source())
    assert "Uploads" not in judge.list_multipart_uploads(Bucket=bucket)
    assert "Contents" not in judge.list_objects_v2(Bucket=bucket)


def test_parts_that_arrive_changed_are_refused(in_parts: tuple[GCSStore, Any, str], monkeypatch: pytest.MonkeyPatch):
    store, judge, bucket = in_parts
    monkeypatch.setattr(store._backend.dialect, "_crc32c", lambda buffer, value: 1)
    with pytest.raises(obs.GenericError, match="BadDigest"):
        obs.put(store, "k", os.urandom(6 * MIB))
    assert "Uploads" not in judge.list_multipart_uploads(Bucket=bucket)


# ---- resumable uploads ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256 << 10, (256 << 10) + 1, 2 * MIB, 3 * MIB + 5])
@pytest.mark.parametrize("chunk", [100_000, 256 << 10, 1_000_000])
def test_resumable_uploads_of_any_size(fake: Callable[..., GCSStore], size: int, chunk: int):
    data = os.urandom(size)
    obs.put(fake(), "k", data, use_multipart=True, chunk_size=chunk, attributes={"Content-Type": "text/x", "a": "b"})
    got = obs.get(fake(), "k")
    assert got.bytes() == data
    assert {name: got.attributes[name] for name in ("Content-Type", "a")} == {"Content-Type": "text/x", "a": "b"}


def _begin(scripted: ScriptedServer) -> None:
    scripted.push(_json({}, location="http://elsewhere.example/upload?uploadType=resumable&upload_id=ID"))


def _made(data: bytes) -> Reply:
    from obstore._engine._core import crc32c

    crc = base64.b64encode(crc32c(data).to_bytes(4, "big")).decode()
    return _json({"etag": "e", "generation": "7", "size": str(len(data)), "crc32c": crc})


def test_a_resumable_upload_goes_on_from_what_the_service_has(scripted: ScriptedServer):
    """https://cloud.google.com/storage/docs/performing-resumable-uploads#resume-upload

    After a failure the service is asked; it may have less than was sent, or all of it.
    """
    data = os.urandom(MIB)
    quarter = 256 << 10
    _begin(scripted)
    scripted.push(
        Reply(503, {}, b""),
        Reply(308, {"range": f"bytes=0-{quarter - 1}"}, b""),  # the answer to the question
        Reply(308, {"range": f"bytes=0-{3 * quarter - 1}"}, b""),
        _made(data),
    )
    result = obs.put(_store(scripted), "k", data, use_multipart=True, chunk_size=MIB)
    assert result == {"e_tag": "e", "version": "7"}
    start, first, question, rest, last = scripted.requests
    assert json.loads(start.body)["name"] == "k"
    assert all(request.query["upload_id"] == "ID" for request in (first, question, rest, last))
    assert all(request.path == "/upload/storage/v1/b/b/o" for request in scripted.requests), "ours, not the server's"
    assert [request.headers["content-range"] for request in (first, question, rest, last)] == [
        f"bytes 0-{3 * quarter - 1}/*",
        "bytes */*",
        f"bytes {quarter}-{3 * quarter - 1}/*",
        f"bytes {3 * quarter}-{MIB - 1}/{MIB}",
    ]
    assert first.body[:quarter] + rest.body + last.body == data


def test_a_resumable_upload_whose_last_answer_is_lost(scripted: ScriptedServer):
    _begin(scripted)
    scripted.push(Reply(500, {}, b""), _made(b"abc"))
    assert obs.put(_store(scripted), "k", b"abc", use_multipart=True)["version"] == "7"
    assert [request.headers.get("content-range") for request in scripted.requests] == [
        None,
        "bytes 0-2/3",
        "bytes */*",
    ]


@pytest.mark.parametrize("reached", [None, "bytes=0-2"], ids=["nothing", "everything"])
def test_a_resumable_upload_that_does_not_advance_ends(scripted: ScriptedServer, reached: str | None):
    _begin(scripted)
    for _ in range(4):
        scripted.push(Reply(308, {} if reached is None else {"range": reached}, b""))
    scripted.push(Reply(499, {}, b""))
    store = _store(scripted, retry_config={"max_retries": 2 if reached is None else 1})
    with pytest.raises(obs.GenericError, match="the service takes no more than") as caught:
        obs.put(store, "k", b"abc", use_multipart=True)
    assert caught.value.retryable
    assert scripted.requests[-1].method == "DELETE"


def test_an_object_of_other_bytes_is_removed_again(scripted: ScriptedServer):
    _begin(scripted)
    scripted.push(_made(b"xyz"), Reply(204, {}, b""), Reply(499, {}, b""))
    with pytest.raises(obs.IntegrityError, match="CRC32C"):
        obs.put(_store(scripted), "k", b"abc", use_multipart=True)
    delete = scripted.requests[2]
    assert (delete.method, delete.target) == ("DELETE", "/storage/v1/b/b/o/k?generation=7")


def test_a_resumable_upload_that_fails_is_cancelled(scripted: ScriptedServer):
    _begin(scripted)
    scripted.push(_json({"error": {"code": 403, "message": "no"}}, 403), Reply(499, {}, b""))
    with pytest.raises(obs.PermissionDeniedError):
        obs.put(_store(scripted), "k", b"abc", use_multipart=True)
    assert scripted.requests[-1].method == "DELETE"
    assert scripted.requests[-1].query["upload_id"] == "ID"


# ---- conditions ---------------------------------------------------------------------------------------------------


def test_copies_carry_their_condition_and_go_on_until_done(scripted: ScriptedServer):
    """https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite"""
    scripted.push(_json({"done": False, "rewriteToken": "T"}), _json({"done": True}))
    obs.copy(_store(scripted, prefix="p"), "a/b", "c d", overwrite=False)
    first, second = scripted.requests
    assert first.path == second.path == "/storage/v1/b/b/o/p%2Fa%2Fb/rewriteTo/b/b/o/p%2Fc%20d"
    assert first.query["ifGenerationMatch"] == second.query["ifGenerationMatch"] == "0"
    assert second.query["rewriteToken"] == "T"
    scripted.push(_json({"error": {"code": 412, "errors": [{"reason": "conditionNotMet"}], "message": "x"}}, 412))
    with pytest.raises(obs.AlreadyExistsError) as caught:
        obs.copy(_store(scripted), "a", "b", overwrite=False)
    assert caught.value.code == "conditionNotMet"


def test_a_delete_whose_answer_was_lost_is_done(scripted: ScriptedServer):
    scripted.push(Reply(503, {}, b""), _json({"error": {"code": 404, "message": "No such object"}}, 404))
    obs.delete(_store(scripted), "k")
    scripted.push(_json({"error": {"code": 404, "message": "No such object"}}, 404))
    with pytest.raises(obs.NotFoundError):
        obs.delete(_store(scripted), "k")


@pytest.mark.parametrize(
    ("status", "reason", "retried"),
    [(408, "", True), (429, "rateLimitExceeded", True), (500, "backendError", True), (502, "", True), (503, "", True),
     (504, "", True), (403, "userRateLimitExceeded", True), (400, "invalid", False), (403, "forbidden", False),
     (501, "", False)],
)  # fmt: skip
def test_retries(scripted: ScriptedServer, status: int, reason: str, retried: bool):
    """https://cloud.google.com/storage/docs/retry-strategy#retryable"""
    scripted.push(_json({"error": {"code": status, "errors": [{"reason": reason}], "message": "m"}}, status))
    scripted.push(
        _json({"name": "k", "size": "1", "updated": "2024-01-02T03:04:05.678Z", "etag": "e", "generation": "1"})
    )
    if retried:
        assert obs.head(_store(scripted), "k")["size"] == 1
    else:
        with pytest.raises(obs.BaseError) as caught:
            obs.head(_store(scripted), "k")
        assert caught.value.status == status
    assert len(scripted.requests) == 1 + retried


def test_update_names_a_generation(fake: Callable[..., GCSStore]):
    store = fake()
    first = obs.put(store, "k", b"1")
    second = obs.put(store, "k", b"2", mode={"version": first["version"]})
    with pytest.raises(obs.PreconditionError):
        obs.put(store, "k", b"3", mode={"version": first["version"]})
    assert obs.put(store, "k", b"3", mode=second)["version"] != second["version"]


# ---- reading ------------------------------------------------------------------------------------------------------------


def test_small_objects_take_one_request(scripted: ScriptedServer):
    headers = {"etag": "CJ=", "x-goog-generation": "1704164645678901", "content-type": "text/plain"}
    scripted.push(Reply(200, headers, b"value"))
    result = obs.get(_store(scripted, user_project="payer"), "a/b")
    assert result.bytes() == b"value"
    (request,) = scripted.requests
    assert request.target == "/storage/v1/b/b/o/a%2Fb?alt=media"
    assert request.headers["accept-encoding"] == "gzip", "objects come as they are stored"
    assert request.headers["x-goog-user-project"] == "payer"
    assert result.meta["last_modified"].isoformat() == "2024-01-02T03:04:05.678901+00:00", "as the generation says"
    assert result.meta["e_tag"] == "CJ="


GOOD, BAD = "4waSgw==", "AAAAAA=="  # of 123456789, and of nothing


@pytest.mark.parametrize(
    ("headers", "kept"),
    [
        ([("x-goog-hash", f"crc32c={GOOD},md5=xxxx")], True),
        ([("x-goog-hash", f"crc32c={GOOD}"), ("x-goog-hash", "md5=xxxx")], True),
        ([("x-goog-hash", f"crc32c={BAD},md5=xxxx")], False),
        ([("x-goog-hash", f"crc32c={BAD}"), ("x-goog-hash", "md5=xxxx")], False),
        ([("x-goog-hash", "md5=xxxx")], True),
        ([("x-goog-hash", f"crc32c={BAD}"), ("x-goog-stored-content-encoding", "gzip")], True),
        ([("x-goog-hash", f"crc32c={BAD}"), ("x-goog-stored-content-encoding", "identity")], False),
    ],
    ids=["right", "right-apart", "wrong", "wrong-apart", "none", "unpacked", "not-unpacked"],
)
def test_whole_objects_are_held_against_their_checksum(
    scripted: ScriptedServer, face: Face, headers: list[tuple[str, str]], kept: bool
):
    for _ in range(3):
        scripted.push(Reply(200, [("etag", "e"), *headers], b"123456789"))
    ways = [
        lambda: face.body(face.get(_store(scripted), "k")),
        lambda: b"".join(face.chunks(face.get(_store(scripted), "k"), 4)),
    ]
    for way in ways:
        if kept:
            assert way() == b"123456789"
        else:
            with pytest.raises(obs.IntegrityError, match="CRC32C"):
                way()


def test_names_of_dots_are_not_resolved(fake: Callable[..., GCSStore]):
    for key in (".", "..", "a/../b", "a//b"):
        obs.put(fake(), key, key.encode())
        assert obs.get(fake(), key).bytes() == key.encode()
        obs.delete(fake(), key)


def test_over_tls(authority: Authority, face: Face):
    with FakeGCS(authority) as server:
        options = {"root_certificate": authority.pem, "disable_system_certificates": True}
        with requests.Session() as session:
            session.trust_env = False
            answer = session.post(
                f"{server.endpoint.url}/storage/v1/b", json={"name": "bucket"}, verify=str(authority.file), timeout=30
            )
            assert answer.status_code == 200
        store = GCSStore("bucket", base_url=server.endpoint.url, skip_signature=True, client_options=options)
        data = os.urandom(6 * MIB)
        face.put(store, "k", data)
        assert face.body(face.get(store, "k")) == data
        assert [entry["path"] for entry in face.items(face.list(store))] == ["k"]
        untrusting = GCSStore("bucket", base_url=server.endpoint.url, skip_signature=True)
        with pytest.raises(obs.GenericError, match="certificate"):
            face.get(untrusting, "k")


# ---- settings -------------------------------------------------------------------------------------------------------------


def test_emulator_of_the_environment(fake_gcs: FakeGCS, monkeypatch: pytest.MonkeyPatch):
    bucket = fake_gcs.endpoint.create_bucket()
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/does/not/exist")
    for host in (fake_gcs.endpoint.url, fake_gcs.endpoint.url.removeprefix("http://")):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        for store in (GCSStore(bucket), from_url(f"gs://{bucket}"), GCSStore.from_env(bucket=bucket)):
            obs.put(store, "k", b"1")
            assert obs.get(store, "k").bytes() == b"1"


def test_settings_by_many_names_and_pickle(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_BUCKET_NAME", "from-env")
    assert repr(GCSStore(skip_signature=True)) == 'GCSStore(bucket="from-env")'
    store = GCSStore("b", prefix="/p/", GOOGLE_BASE_URL=scripted.url, bearer_token="secret", user_project="u")
    assert store.config == {"bucket": "b", "base_url": scripted.url, "bearer_token": "secret"}
    assert (store.prefix, repr(store)) == ("p", 'GCSStore(bucket="b", prefix="p")')
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    assert copy._merged.ours() == {"user_project": "u"}
    assert store != GCSStore("b", prefix="p", base_url=scripted.url, bearer_token="other")
    assert store.__getnewargs_ex__()[1]["config"] == store.config, "only what the Rust library knows"


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        ({}, obs.GenericError, "Missing bucket name"),
        ({"bucket": "a/b"}, obs.GenericError, "Invalid bucket name"),
        ({"bucket": "b", "base_url": "ftp://x"}, obs.GenericError, "base_url is no http or https URL"),
        ({"bucket": "b", "base_url": "http://u:secret@x"}, obs.GenericError, "must not hold a user name"),
        ({"bucket": "b", "hmac_secret": "s"}, obs.GenericError, "Missing hmac_access_id"),
        ({"bucket": "b", "service_account": "a", "service_account_key": "{}"}, obs.GenericError, "both given"),
        ({"bucket": "b", "bearer_token": "a\nb"}, obs.GenericError, "control character"),
        ({"bucket": "b", "nonsense": "1"}, obs.UnknownConfigurationKeyError, "GCS"),
        ({"bucket": "b", "bucket_name": "c"}, obs.GenericError, "Duplicate key google_bucket"),
        ({"bucket": "b", "credential_provider": 1}, TypeError, "callable"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_at_once(config: dict[str, Any], error: type[Exception], text: str):
    with pytest.raises(error, match=text) as caught:
        GCSStore(**config)
    assert "secret" not in str(caught.value)


def test_service_account_files_may_name_the_service(scripted: ScriptedServer):
    key = json.dumps({"gcs_base_url": scripted.url, "disable_oauth": True, "client_email": "", "private_key": ""})
    scripted.push(Reply(200, {"etag": "e"}, b"v"))
    assert obs.get(GCSStore("b", service_account_key=key), "k").bytes() == b"v"
    assert "authorization" not in scripted.requests[0].headers
