"""Signed URLs and forms, each proved by using it with another HTTP client (urllib3)."""

from __future__ import annotations

import hashlib
import time
import urllib.parse
from collections.abc import Iterator
from datetime import timedelta

import pytest
import urllib3

import obstore as obs
from obstore import RawKey
from obstore.exceptions import NotSupportedError, UnauthenticatedError
from obstore.store import LocalStore, MemoryStore, S3Store
from tests.fix_stores import Face, Subject, make_subject

HOUR = timedelta(hours=1)


@pytest.fixture(
    params=[
        "swift",  # moto with authentication answers 500 to every signed URL
        pytest.param("ceph", marks=pytest.mark.ceph),
        pytest.param("localstack", marks=pytest.mark.localstack),
    ]
)
def signing(request: pytest.FixtureRequest) -> Subject:
    """Every server that verifies signed URLs."""
    return make_subject(request.param, request)


@pytest.fixture(
    params=[
        "moto_gunicorn",  # stores what the form holds, without a look at its policy; Swift has no forms
        pytest.param("ceph", marks=pytest.mark.ceph),
        pytest.param("localstack", marks=pytest.mark.localstack),
    ]
)
def posting(request: pytest.FixtureRequest) -> Subject:
    """Every server that takes forms."""
    return make_subject(request.param, request)


@pytest.fixture(scope="module")
def browser() -> Iterator[urllib3.PoolManager]:
    """An HTTP client that knows nothing of S3."""
    with urllib3.PoolManager(retries=False) as client:
        yield client


def test_url_downloads(signing: Subject, face: Face, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "a b/ü.txt", b"content")
    url = face.sign(signing.store, "GET", "a b/ü.txt", HOUR)
    assert isinstance(url, str)
    assert browser.request("GET", url).data == b"content"


def test_urls_of_many_paths_come_in_their_order(signing: Subject, browser: urllib3.PoolManager) -> None:
    keys = ["one", "two", RawKey("dir/")]
    for key in keys:
        obs.put(signing.store, key, key.encode())
    urls = signing.store.sign("GET", keys, HOUR)
    assert [browser.request("GET", url).data for url in urls] == [b"one", b"two", b"dir/"]
    assert signing.store.sign("GET", [], HOUR) == []


def test_urls_upload_look_and_delete(signing: Subject, browser: urllib3.PoolManager) -> None:
    store = S3Store(prefix="p/q", **signing.endpoint.config(signing.bucket))
    put = obs.sign(store, "PUT", "new", HOUR)
    assert browser.request("PUT", put, body=b"uploaded").status == 200
    assert bytes(obs.get(store, "new").bytes()) == b"uploaded"
    assert browser.request("HEAD", obs.sign(store, "HEAD", "new", HOUR)).headers["content-length"] == "8"
    assert browser.request("DELETE", obs.sign(store, "DELETE", "new", HOUR)).status == 204
    assert signing.judge_keys() == []


def test_url_does_what_it_was_signed_for_and_no_more(signing: Subject, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "mine", b"1")
    obs.put(signing.store, "other", b"2")
    url = obs.sign(signing.store, "GET", "mine", HOUR)
    assert browser.request("PUT", url, body=b"x").status == 403
    assert browser.request("GET", url.replace("/mine?", "/other?")).status == 403
    assert browser.request("GET", url.replace("X-Amz-Expires=3600", "X-Amz-Expires=7200")).status == 403


def test_url_ends(signing: Subject, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "mine", b"1")
    url = obs.sign(signing.store, "GET", "mine", timedelta(seconds=1, milliseconds=900))
    assert "X-Amz-Expires=1&" in url
    for _ in range(50):  # services count whole seconds, and each in its way
        if browser.request("GET", url).status == 403:
            return
        time.sleep(0.1)
    pytest.fail("the URL still holds after five seconds")


def test_url_overrides_headers_of_the_answer(signing: Subject, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "report", b"1")
    url = obs.sign(
        signing.store,
        "GET",
        "report",
        HOUR,
        response_content_type="text/x-report",
        response_content_disposition='attachment; filename="r 1.txt"',
        response_cache_control="no-store",
    )
    headers = browser.request("GET", url).headers
    assert headers["content-type"].startswith("text/x-report")
    assert headers["content-disposition"] == 'attachment; filename="r 1.txt"'
    assert headers["cache-control"] == "no-store"


def test_url_demands_the_headers_that_were_signed(signing: Subject, browser: urllib3.PoolManager) -> None:
    url = obs.sign(signing.store, "PUT", "picture", HOUR, headers={"Content-Type": "image/png", "x-amz-meta-by": "me"})
    good = {"content-type": "image/png", "x-amz-meta-by": "me"}
    assert browser.request("PUT", url, body=b"1", headers={**good, "content-type": "text/html"}).status == 403
    assert browser.request("PUT", url, body=b"1", headers=good).status == 200
    assert obs.get(signing.store, "picture").attributes["by"] == "me"
    assert obs.get(signing.store, "picture").attributes["Content-Type"] == "image/png"


def test_url_can_be_for_one_body_only(signing: Subject, browser: urllib3.PoolManager) -> None:
    promised = {"x-amz-content-sha256": hashlib.sha256(b"right").hexdigest()}
    url = obs.sign(signing.store, "PUT", "k", HOUR, headers=promised)
    assert browser.request("PUT", url, body=b"right", headers=promised).status == 200
    other = {"x-amz-content-sha256": hashlib.sha256(b"wrong").hexdigest()}
    assert browser.request("PUT", url, body=b"wrong", headers=other).status == 403


def test_url_of_a_listing(signing: Subject, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "dir/a", b"1")
    url = obs.sign(signing.store, "GET", "", HOUR, query={"list-type": "2", "prefix": "dir/"})
    answer = browser.request("GET", url)
    assert answer.status == 200
    assert b"<Key>dir/a</Key>" in answer.data


def test_parts_can_be_uploaded_by_urls(signing: Subject, browser: urllib3.PoolManager) -> None:
    started = signing.judge.create_multipart_upload(Bucket=signing.bucket, Key="large")["UploadId"]
    url = obs.sign(signing.store, "PUT", "large", HOUR, query={"partNumber": "1", "uploadId": started})
    e_tag = browser.request("PUT", url, body=b"part").headers["etag"]
    signing.judge.complete_multipart_upload(
        Bucket=signing.bucket,
        Key="large",
        UploadId=started,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": e_tag}]},
    )
    assert bytes(obs.get(signing.store, "large").bytes()) == b"part"


def test_url_of_a_version(signing: Subject, browser: urllib3.PoolManager) -> None:
    signing.judge.put_bucket_versioning(Bucket=signing.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = obs.put(signing.store, "k", b"first")["version"]
    obs.put(signing.store, "k", b"second")
    url = obs.sign(signing.store, "GET", "k", HOUR, version=first)
    assert browser.request("GET", url).data == b"first"


def test_wrong_secret_signs_urls_that_are_refused(signing: Subject, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "k", b"1")
    wrong = signing.sibling(secret_access_key="wrong")
    assert browser.request("GET", obs.sign(wrong, "GET", "k", HOUR)).status == 403


def test_store_that_skips_signatures_still_signs_urls(signing: Subject, browser: urllib3.PoolManager) -> None:
    obs.put(signing.store, "k", b"1")
    unsigned = signing.sibling(skip_signature=True)
    assert browser.request("GET", obs.sign(unsigned, "GET", "k", HOUR)).data == b"1"


# ---- forms ---------------------------------------------------------------------------------------------------------


def test_form_uploads(posting: Subject, face: Face, browser: urllib3.PoolManager) -> None:
    form = face.generate_presigned_post(
        posting.store,
        "inbox/${filename}",
        HOUR,
        fields={"Content-Type": "text/x-mail"},
        conditions=[["content-length-range", 1, 100]],
    )
    answer = browser.request(
        "POST", form["url"], fields={**form["fields"], "file": ("letter.txt", b"dear", "text/x-mail")}
    )
    assert answer.status in (200, 201, 204), answer.data
    assert bytes(obs.get(posting.store, "inbox/letter.txt").bytes()) == b"dear"


@pytest.mark.parametrize("posting", [pytest.param("ceph", marks=pytest.mark.ceph)], indirect=True)
def test_form_is_refused_beyond_its_policy(posting: Subject, browser: urllib3.PoolManager) -> None:
    form = obs.generate_presigned_post(posting.store, "k", HOUR, conditions=[["content-length-range", 1, 4]])

    def send(fields: dict[str, str], body: bytes) -> int:
        return browser.request("POST", form["url"], fields={**fields, "file": ("f", body, "text/plain")}).status

    assert send(form["fields"], b"too long") >= 400
    assert send({**form["fields"], "key": "another"}, b"1") == 403
    assert send({**form["fields"], "x-amz-signature": "0" * 64}, b"1") == 403
    assert send(form["fields"], b"fits") < 300


# ---- what cannot be signed -----------------------------------------------------------------------------------------

STORE = {"access_key_id": "AKID", "secret_access_key": "never+shown", "region": "eu-west-1"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "get"}, ValueError, "method: Unsupported HTTP method get"),
        ({"method": b"GET"}, TypeError, "method: 'bytes'"),
        ({"expires_in": 60}, TypeError, "expires_in: 'int' object is not an instance of 'timedelta'"),
        ({"expires_in": timedelta(seconds=-1)}, ValueError, "expires_in must not be negative"),
        ({"paths": b"k"}, TypeError, "paths: Expected string path or sequence of string paths"),
        ({"paths": ["k", 1]}, TypeError, r"paths\[1\]"),
        ({"query": [("a", "b")]}, TypeError, "query: 'list' object is not an instance of 'dict'"),
        ({"query": {"partNumber": 1}}, TypeError, r"query\['partNumber'\]: 'int'"),
        ({"query": {"X-Amz-Expires": "9"}}, ValueError, "query: X-Amz-Expires belongs to the signature"),
        ({"headers": {"a b": "c"}}, ValueError, "headers: invalid HTTP header name 'a b'"),
        ({"headers": {"a": "b\r\nc: d"}}, ValueError, r"headers\['a'\] contains a control character"),
        ({"headers": {"Host": "elsewhere"}}, ValueError, "host is not given among the headers"),
        ({"version": 3}, TypeError, "version: 'int'"),
        ({"response_content_type": "a\nb"}, ValueError, "response_content_type contains a control character"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    right: dict[str, object] = {"method": "GET", "paths": "k", "expires_in": HOUR}
    with pytest.raises(error, match=message):
        obs.sign(S3Store("b", **STORE), **{**right, **arguments})  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"path": 1}, TypeError, "path: 'int'"),
        ({"fields": {"a": 1}}, TypeError, r"fields\['a'\]: 'int'"),
        ({"conditions": "x"}, TypeError, "conditions: 'str' object is not an instance of 'list'"),
        ({"conditions": [{"a": "b", "c": "d"}]}, ValueError, r"conditions\[0\] must hold one field, not 2"),
        ({"conditions": [["near", "$key", "a"]]}, ValueError, "operators are eq, starts-with, content-length-range"),
        ({"conditions": [["starts-with", "$key", 1]]}, TypeError, r"conditions\[0\]\[2\]: 'int'"),
        ({"conditions": [["content-length-range", 1, -1]]}, OverflowError, r"conditions\[0\]\[2\]"),
    ],
)
def test_wrong_arguments_of_forms_are_named(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    right: dict[str, object] = {"path": "k", "expires_in": HOUR}
    with pytest.raises(error, match=message):
        obs.generate_presigned_post(S3Store("b", **STORE), **{**right, **arguments})  # type: ignore[arg-type]


def test_stores_without_a_server_have_no_urls(face: Face, tmp_path) -> None:
    for store in (MemoryStore(), LocalStore(tmp_path)):
        with pytest.raises(NotSupportedError, match="has no URLs to sign"):
            face.sign(store, "GET", "k", HOUR)
        with pytest.raises(NotSupportedError, match="has no URLs to sign"):
            face.generate_presigned_post(store, "k", HOUR)


def test_without_credentials_nothing_is_signed() -> None:
    with pytest.raises(UnauthenticatedError):
        obs.sign(S3Store("b", region="r", skip_signature=True), "GET", "k", HOUR)


def test_parameters_have_their_published_order() -> None:
    store = S3Store("b", **STORE, session_token="the/token", request_payer=True)
    url = urllib.parse.urlsplit(obs.sign(store, "GET", "k", HOUR))
    assert (url.scheme, url.netloc, url.path) == ("https", "s3.eu-west-1.amazonaws.com", "/b/k")
    assert [name for name, _ in urllib.parse.parse_qsl(url.query)] == [
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "x-amz-request-payer",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
    ]
