"""sign and generate_presigned_post on Google Cloud Storage: every URL is used by urllib, on a server that checks signatures.

The server (``servers/google_app.py``) does as the documents say; that Google's own client signs the same is shown beside it.
"""

from __future__ import annotations

import base64
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import requests

import obstore as obs
from obstore._dialect import gcs_sign
from obstore.store import GCSStore
from tests.fix_stores import make_face
from tests.servers.gcs import FakeGCS
from tests.servers.google import GoogleAuth
from tests.servers.scripted import Reply, ScriptedServer

HOUR = timedelta(hours=1)
KINDS = ["service_account", "hmac", "iam", "impersonated", "metadata"]
KEY = "dir/a b+c%41&é~"


def _use(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


@pytest.fixture
def bucket(fake_gcs: FakeGCS) -> str:
    name = fake_gcs.endpoint.create_bucket()
    fake_gcs.endpoint.write(name, f"p/{KEY}", b"value")
    return name


@pytest.fixture
def make(google_auth: GoogleAuth, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., GCSStore]:
    """A store that signs in one of the ways there are."""
    google_auth.counts(lifetime=3600, forget=True)

    def make(kind: str, **config: Any) -> GCSStore:
        base = {"bucket": bucket, "prefix": "p", "base_url": google_auth.url, "iam_url": google_auth.url, **config}
        if kind == "service_account":
            return GCSStore(service_account=str(google_auth.file("service_account")), **base)
        if kind == "hmac":
            access_id, secret = google_auth.hmac_key
            return GCSStore(hmac_access_id=access_id, hmac_secret=secret, **base)
        if kind in ("iam", "user"):
            base.setdefault("service_account_email", google_auth.email)
            return GCSStore(application_credentials=str(google_auth.file("user")), **base)
        if kind == "impersonated":
            return GCSStore(application_credentials=str(google_auth.file("impersonated")), **base)
        from tests.contract.test_google_auth import set_metadata_host

        set_metadata_host(monkeypatch, google_auth.url.removeprefix("http://"))
        return GCSStore(**base)

    return make


@pytest.mark.parametrize(("kind", "way"), [*((kind, "sync") for kind in KINDS), ("iam", "asyncio"), ("hmac", "uvloop")])
def test_urls_let_others_read_write_and_delete(make: Callable[..., GCSStore], kind: str, way: str):
    store = make(kind)
    face = make_face(way)
    assert _use(face.sign(store, "GET", KEY, HOUR))[:2] == (200, b"value")
    assert _use(face.sign(store, "HEAD", KEY, HOUR), "HEAD")[2]["content-length"] == "5"
    assert _use(face.sign(store, "PUT", "new", HOUR), "PUT", b"new value")[0] == 200
    first, second = face.sign(store, "GET", ["new", KEY], HOUR)
    assert (_use(first)[1], _use(second)[1]) == (b"new value", b"value")
    assert _use(face.sign(store, "DELETE", "new", HOUR), "DELETE")[0] == 204
    assert _use(first)[0] == 404
    assert face.sign(store, "GET", [], HOUR) == []
    face.close()


@pytest.mark.parametrize("kind", ["service_account", "hmac"])
def test_headers_query_and_overrides_are_part_of_the_signature(make: Callable[..., GCSStore], kind: str):
    store = make(kind)
    url = obs.sign(store, "PUT", "typed", HOUR, headers={"Content-Type": "text/x", "x-goog-meta-a": " b  c "})
    assert _use(url, "PUT", b"1", content_type="text/x", x_goog_meta_a="b c")[0] == 200
    assert _use(url, "PUT", b"1", content_type="text/y", x_goog_meta_a="b c")[0] == 403
    assert _use(url, "PUT", b"1", content_type="text/x")[0] == 403
    url = obs.sign(store, "GET", KEY, HOUR, response_content_type="text/z; a=b", query={"Zeta": "1 2", "alpha": "ü"})
    status, body, headers = _use(url)
    assert (status, body, headers["content-type"]) == (200, b"value", "text/z; a=b")
    assert _use(url.replace("alpha=", "alphb="))[0] == 403
    assert _use(url, "DELETE")[0] == 403
    assert _use(url.replace("value", "other").replace("p/dir", "p/dis"))[0] == 403


def test_urls_for_a_version(make: Callable[..., GCSStore]):
    store = make("service_account")
    version = obs.head(store, KEY)["version"]
    url = obs.sign(store, "GET", KEY, HOUR, version=version)
    assert f"generation={version}" in url
    assert _use(url)[:2] == (200, b"value")


def test_urls_run_out(make: Callable[..., GCSStore]):
    url = obs.sign(make("service_account"), "GET", KEY, timedelta(seconds=1))
    time.sleep(2.1)
    assert _use(url)[0] == 400
    with pytest.raises(obs.GenericError, match=r"can't be longer than 604800 seconds"):
        obs.sign(make("hmac"), "GET", KEY, timedelta(days=7, seconds=1))


@pytest.mark.parametrize("kind", ["service_account", "hmac", "iam"])
def test_forms_let_others_upload(make: Callable[..., GCSStore], kind: str, bucket: str, fake_gcs: FakeGCS):
    store = make(kind)
    form = obs.generate_presigned_post(
        store, "form", HOUR, fields={"content-type": "text/f"}, conditions=[["content-length-range", 1, 10]]
    )
    with requests.Session() as session:
        answer = session.post(form["url"], data=form["fields"], files={"file": b"posted"}, timeout=30)
        assert answer.status_code == 204, answer.text
        assert fake_gcs.endpoint.read(bucket, "p/form") == b"posted"
        assert fake_gcs.endpoint.describe(bucket, "p/form")["contentType"] == "text/f"
        too_long = session.post(form["url"], data=form["fields"], files={"file": b"x" * 11}, timeout=30)
        assert too_long.status_code == 400
        elsewhere = {**form["fields"], "key": "p/other"}
        assert session.post(form["url"], data=elsewhere, files={"file": b"x"}, timeout=30).status_code == 403


def test_many_urls_by_the_iam_api_are_asked_for_in_parallel(make: Callable[..., GCSStore], google_auth: GoogleAuth):
    store = make("iam")
    urls = obs.sign(store, "GET", [f"k{i}" for i in range(40)], HOUR)
    assert [urllib.parse.urlsplit(url).path.rpartition("/")[2] for url in urls] == [f"k{i}" for i in range(40)]
    assert len(set(urls)) == 40
    assert google_auth.counts() == {"token": 1, "signBlob": 40}


def test_accounts_that_may_not_sign(make: Callable[..., GCSStore], google_auth: GoogleAuth):
    with pytest.raises(obs.PermissionDeniedError, match="signBlob"):
        obs.sign(make("user", service_account_email="no@project"), "GET", KEY, HOUR)
    for config in ({"bearer_token": "t"}, {"application_credentials": str(google_auth.file("user"))}):
        with pytest.raises(obs.UnauthenticatedError, match=r"cannot sign.*hmac_access_id"):
            obs.sign(GCSStore("b", **config), "GET", KEY, HOUR)


def test_stores_that_send_nothing_signed_still_sign_urls(make: Callable[..., GCSStore]):
    store = make("service_account", skip_signature=True)
    with pytest.raises(obs.UnauthenticatedError):
        obs.get(store, KEY)
    assert _use(obs.sign(store, "GET", KEY, HOUR))[:2] == (200, b"value")


def test_parameters_of_the_signature_cannot_be_given(make: Callable[..., GCSStore]):
    with pytest.raises(ValueError, match="X-Goog-Date belongs to the signature"):
        obs.sign(make("hmac"), "GET", KEY, HOUR, query={"X-Goog-Date": "now"})


@pytest.mark.parametrize("version", [None, "12345"])
def test_googles_own_client_makes_the_same_urls(google_auth: GoogleAuth, monkeypatch: pytest.MonkeyPatch, version):
    from google.cloud.storage._signing import generate_signed_url_v4
    from google.oauth2 import service_account

    moment = "20260102T030405Z"
    monkeypatch.setattr(gcs_sign, "_now", lambda now=None: (moment, moment[:8]))
    store = GCSStore("my-bucket", service_account=str(google_auth.file("service_account")))
    headers = {"x-goog-meta-a": "b  c", "Content-Type": "text/x"}
    ours = obs.sign(store, "PUT", KEY, HOUR, headers=headers, query={"b": "1 2", "A": "/"}, version=version)
    theirs = generate_signed_url_v4(
        service_account.Credentials.from_service_account_file(str(google_auth.file("service_account"))),
        resource="/my-bucket/" + urllib.parse.quote(KEY, safe="/~"),
        expiration=HOUR,
        method="PUT",
        headers=headers,
        query_parameters={"b": "1 2", "A": "/"},
        generation=version,
        _request_timestamp=moment,
    )
    assert ours == theirs


def test_sign_blob_is_asked_as_documented(scripted: ScriptedServer):
    """https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/signBlob"""
    answer = json.dumps({"keyId": "k", "signedBlob": base64.b64encode(b"\x01\xff").decode()}).encode()
    scripted.push(Reply(200, {"content-type": "application/json"}, answer))
    store = GCSStore("b", bearer_token="token", iam_url=scripted.url, service_account_email="a@p.iam.example")
    url = obs.sign(store, "GET", "k", HOUR)
    assert url.endswith("&X-Goog-Signature=01ff")
    assert "X-Goog-Credential=a%40p.iam.example%2F" in url
    (request,) = scripted.requests
    assert (request.method, request.target) == ("POST", "/v1/projects/-/serviceAccounts/a%40p.iam.example:signBlob")
    assert request.headers["authorization"] == "Bearer token"
    payload = base64.b64decode(json.loads(request.body)["payload"])
    assert payload.startswith(b"GOOG4-RSA-SHA256\n")
