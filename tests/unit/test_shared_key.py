"""Shared Key: against the documentation's example, and against azure-storage-blob, which is the judge of everything else."""

from __future__ import annotations

import base64
import hashlib
import hmac
import pickle
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest
from azure.storage.blob._shared.authentication import SharedKeyCredentialPolicy
from hypothesis import given, settings
from hypothesis import strategies as st

from obstore._auth.shared_key import Hmac, authorize, http_date, string_to_sign

KEY = base64.b64encode(b"a key of some bytes").decode()
NAMES = st.text(alphabet="ab1_-", min_size=1, max_size=6).map(lambda text: f"x-ms-meta-m{text}")
VALUES = st.text(alphabet="ab \t,=/", max_size=8).map(lambda text: " ".join(text.split()))


def test_the_documented_example():
    # "Authorize with Shared Key", section "Constructing the signature string": Get Container Metadata.
    found = string_to_sign(
        "GET",
        "myaccount",
        "/mycontainer",
        [("comp", "metadata"), ("restype", "container"), ("timeout", "20")],
        [("x-ms-version", "2015-02-21"), ("x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT")],
        0,
    )
    assert found == (
        "GET\n\n\n\n\n\n\n\n\n\n\n\n"
        "x-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_date():
    assert http_date(1435361952.9) == "Fri, 26 Jun 2015 23:39:12 GMT"
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


def judged(method: str, path: str, query: list[tuple[str, str]], headers: dict[str, str]) -> str:
    """What azure-storage-blob makes of a request."""
    url = f"https://account.blob.core.windows.net{path}" + (f"?{urlencode(query, quote_via=quote)}" if query else "")
    http = SimpleNamespace(method=method, url=url, headers=dict(headers), query=dict(query))
    request = SimpleNamespace(http_request=http, context=SimpleNamespace(transport=None))
    policy = SharedKeyCredentialPolicy("account", KEY)
    policy._add_authorization_header(
        request,
        policy._get_verb(request)
        + policy._get_headers(
            request,
            [
                *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
                *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "byte_range"),
            ],
        )
        + policy._get_canonicalized_headers(request)
        + policy._get_canonicalized_resource(request)
        + policy._get_canonicalized_resource_query(request),
    )
    return str(http.headers["Authorization"])


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GET", "PUT", "DELETE", "HEAD", "POST"]),
    path=st.text(alphabet="ab/%20", max_size=10).map(lambda text: f"/container/{quote(text)}"),
    query=st.dictionaries(st.sampled_from(["comp", "restype", "prefix", "blockid"]), st.text("ab=/ ", max_size=5)),
    metadata=st.dictionaries(NAMES, VALUES, max_size=6),
    content_type=st.sampled_from([None, "text/plain; charset=utf-8"]),
    condition=st.sampled_from([None, "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]),
    length=st.sampled_from([0, 5, 10**12]),
)
def test_agrees_with_azure_storage_blob(method, path, query, metadata, content_type, condition, length):
    headers = {"x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT", "x-ms-version": "2023-11-03", **metadata}
    if content_type is not None:
        headers["content-type"] = content_type
    if condition is not None:
        headers[condition] = '"0x8D"'
    ours = authorize(Hmac(KEY), method, "account", path, list(query.items()), list(headers.items()), length)
    theirs = judged(method, path, list(query.items()), {**headers, "content-length": str(length) if length else ""})
    assert ours == theirs


def test_range_is_signed_in_its_place():
    lines = string_to_sign("GET", "a", "/c/k", [], [("range", "bytes=0-1"), ("x-ms-date", "d")], 0).split("\n")
    assert lines == ["GET", "", "", "", "", "", "", "", "", "", "", "bytes=0-1", "x-ms-date:d", "/a/c/k"]


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_hmac_is_that_of_the_library(size: int):
    secret = bytes(range(size))
    expected = hmac.digest(secret, "täxt".encode(), hashlib.sha256)
    assert Hmac(base64.b64encode(secret).decode()).sign("täxt") == base64.b64encode(expected).decode()


@pytest.mark.parametrize("key", ["", "***", "a"])
def test_what_is_no_key_is_refused_without_showing_it(key: str):
    with pytest.raises(ValueError, match=r"^the key is (not base64|empty)$"):
        Hmac(key)


def test_secrets_do_not_leave():
    with pytest.raises(TypeError, match="secret"):
        pickle.dumps(Hmac(KEY))
    assert KEY not in repr(Hmac(KEY))
    with pytest.raises(ValueError, match="control character"):
        string_to_sign("GET", "a", "/", [], [("x-ms-meta-a", "b\nc")], 0)
