"""Plain requests that the C core makes of forms are those that the dialects build one by one, and learn from what those learn."""

from __future__ import annotations

import base64
import gc
import json
import time
import weakref
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import obstore as obs
from obstore import RawKey
from obstore._ops import formed
from obstore._ops.remote import RemoteBackend
from obstore.store import AzureStore, GCSStore, S3Store
from tests.servers.fakes3 import FakeS3, error_reply
from tests.servers.scripted import Reply, Request, ScriptedServer

NOW = 1_700_000_000.25
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
QUICK = {"backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}}
KEYS = (
    RawKey("/raw\x01\x00/"),
    RawKey("../\x7f\n"),
    "plain",
    "a/b c",
    "ü€/𝄞",
    "%41+&=?#;",
    "..",
    "a//b/./c",
    "'\"<>\\^`{|}",
    "tab\u00a0",
    "x" * 900,
)

Make = Callable[[str], Any]


def s3(**config: Any) -> Make:
    given = {"access_key_id": "AKID", "secret_access_key": "secret", "region": "eu-west-1", **config}
    given["client_options"] = {"allow_http": True, **given.get("client_options", {})}
    return lambda url: S3Store("bucket", endpoint=url, **given)


def azure(**config: Any) -> Make:
    return lambda url: AzureStore(
        "box", account_name="acc", endpoint=f"{url}/acc", client_options={"allow_http": True}, **config
    )


def gcs(**config: Any) -> Make:
    return lambda url: GCSStore("bucket", base_url=url, client_options={"allow_http": True}, **config)


def bearer() -> dict[str, Any]:
    return {"token": "t0ken", "expires_at": None}


MAKERS: dict[str, Make] = {
    "s3": s3(),
    "s3-prefix": s3(prefix="p ü/q"),
    "s3-token": s3(session_token="to/ken"),
    "s3-anonymous": s3(skip_signature=True),
    "s3-unsigned-payload": s3(unsigned_payload=True),
    "s3-checksum": s3(checksum_algorithm="CRC32C"),
    "s3-sse-c": s3(server_side_encryption="sse-c", sse_customer_key_base64=base64.b64encode(b"k" * 32).decode()),
    "s3-requester-pays": s3(request_payer=True),
    "s3-default-headers": s3(client_options={"default_headers": {"x-mine": " a  b ", "x-amz-meta-a": "1"}}),
    "azure-key": azure(account_key=base64.b64encode(b"secret").decode()),
    "azure-sas": azure(sas_key="sv=2021-08-06&sig=a%2Fb%3D"),
    "azure-bearer": azure(credential_provider=bearer),
    "azure-anonymous": azure(skip_signature=True),
    "gcs-bearer": gcs(credential_provider=bearer),
    "gcs-anonymous": gcs(skip_signature=True, prefix="p"),
}


def answer(request: Request) -> Reply:
    headers = [("last-modified", MODIFIED), ("etag", '"tag"')]
    if request.method in ("PUT", "POST"):
        body = {"name": "x", "etag": "tag", "generation": "1"} if request.method == "POST" else None
        return Reply(
            201 if "x-ms-date" in request.headers else 200, headers, b"" if body is None else json.dumps(body).encode()
        )
    if "range" in request.headers:
        return Reply(206, [*headers, ("content-range", "bytes 2-5/10")], b"2345")
    return Reply(200, headers, b"0123456789")


def ask(store: Any, key: str) -> None:
    assert obs.get(store, key).bytes() == b"0123456789"
    assert obs.get_range(store, key, start=2, end=6) == b"2345"
    obs.put(store, key, b"content of " + key.encode()[:20])


def told(request: Request) -> tuple[Any, ...]:
    """A request without what chance decides, and without the signature where something in it is not signed."""
    headers, body = dict(request.headers), request.body
    boundary = headers.get("content-type", "").partition("boundary=")[2]
    if boundary:
        headers["content-type"] = headers["content-type"].replace(boundary, "BOUNDARY")
        del headers["content-length"]  # JSON may be written in several ways
        body = body.replace(boundary.encode(), b"BOUNDARY")
        head, _, content = body.partition(b"\r\n\r\n")[2].partition(b"\r\n")
        body = json.dumps(json.loads(head), sort_keys=True).encode() + content
    if "range" in headers and headers.get("authorization", "").startswith("AWS4"):
        del headers["authorization"]
    return request.method, request.target, headers, body


@pytest.mark.parametrize("name", MAKERS)
def test_requests_are_those_built_one_by_one(
    name: str, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted.handler = answer
    monkeypatch.setattr(time, "time", lambda: NOW)
    for key in KEYS:
        ask(MAKERS[name](scripted.url), key)
    made = [told(request) for request in scripted.requests]
    scripted.requests.clear()
    monkeypatch.setattr(formed.SignedForms, "current", lambda *_: None)
    for key in KEYS:
        ask(MAKERS[name](scripted.url), key)
    assert made == [told(request) for request in scripted.requests]


@pytest.mark.parametrize("name", MAKERS)
def test_plain_requests_are_made_of_forms(name: str, scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.handler = answer
    built: list[str] = []
    request = RemoteBackend.request
    monkeypatch.setattr(
        RemoteBackend, "request", lambda self, what, *a, **o: built.append(what.method) or request(self, what, *a, **o)
    )
    store = MAKERS[name](scripted.url)
    ask(store, "k")
    built.clear()
    ask(store, "k")
    # Account keys sign ranges.
    assert built == (["GET"] if name == "azure-key" else [])


def keys_of(requests: list[Request]) -> list[str]:
    return [request.headers["authorization"].partition("Credential=")[2].partition("/")[0] for request in requests]


def test_form_is_as_old_as_its_credential(fake_s3: FakeS3) -> None:
    given = iter(range(100))

    def provider() -> dict[str, Any]:
        soon = datetime.now(UTC) + timedelta(milliseconds=1)
        return {"access_key_id": f"K{next(given)}", "secret_access_key": "s", "expires_at": soon}

    config = fake_s3.config()
    for name in ("access_key_id", "secret_access_key"):
        config.pop(name)
    store = S3Store(**config, credential_provider=provider)
    fake_s3.objects.clear()
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            obs.get(store, "gone")
        time.sleep(0.01)
    assert keys_of(fake_s3.requests) == ["K0", "K1", "K2"]


def test_form_is_signed_anew(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted.handler = answer
    clock = [NOW]
    monkeypatch.setattr(time, "time", lambda: clock[0])
    store = MAKERS["s3"](scripted.url)
    for step in (0.0, formed.FORM_SECONDS - 1, 2.0, -3600.0):  # the last one: somebody set the clock back
        clock[0] += step
        obs.get(store, "k")
    dates = [request.headers["x-amz-date"] for request in scripted.requests]
    assert dates == ["20231114T221320Z", "20231114T221320Z", "20231114T221336Z", "20231114T211336Z"]


def test_form_learns_the_clock(fake_s3: FakeS3) -> None:
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    obs.put(store, "k", b"body")
    server = datetime.now(UTC) + timedelta(hours=1)

    def skewed(request: Request, proceed: Callable[[], Reply]) -> Reply:
        signed = datetime.strptime(request.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(server - signed) < timedelta(minutes=15):
            return proceed()
        refused = error_reply(403, "RequestTimeTooSkewed")
        refused.headers = [*refused.headers, ("date", format_datetime(server, usegmt=True))]
        return refused

    fake_s3.inject(skewed, times=float("inf"))
    fake_s3.requests.clear()
    assert obs.get(store, "k").bytes() == b"body"
    assert len(fake_s3.requests) == 2
    assert obs.get(store, "k").bytes() == b"body"
    assert obs.get_range(store, "k", start=0, end=4) == b"body"
    obs.put(store, "k", b"other")
    assert len(fake_s3.requests) == 5


def test_failure_of_a_formed_request_is_told_and_repeated_as_any(fake_s3: FakeS3) -> None:
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    obs.put(store, "k", b"body")
    for operation in (
        lambda: obs.get(store, "k").bytes(),
        lambda: obs.get_range(store, "k", start=0, end=4),
        lambda: obs.put(store, "k", b"body"),
    ):
        fake_s3.requests.clear()
        fake_s3.inject(lambda _request, _proceed: error_reply(503, "SlowDown"), times=2)
        operation()
        assert len(fake_s3.requests) == 3
        fake_s3.requests.clear()
        fake_s3.inject(lambda _request, _proceed: error_reply(403, "AccessDenied"))
        with pytest.raises(PermissionError) as caught:
            operation()
        assert len(fake_s3.requests) == 1
        assert caught.value.code == "AccessDenied"
        assert [attempt.status for attempt in caught.value.attempts] == [403]
    assert store.stats()["retries"] == 6


def test_store_ends_with_its_last_reference(scripted: ScriptedServer) -> None:
    scripted.handler = answer
    store = MAKERS["s3"](scripted.url)
    ask(store, "k")
    backend = weakref.ref(store._backend)
    gc.disable()  # not one collection later
    try:
        del store
        assert backend() is None
    finally:
        gc.enable()
