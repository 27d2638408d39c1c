"""obstore._config.url: which store a URL is of, what it says, and how a wrong one is refused."""

from typing import Any

import pytest

from obstore._config.url import Location, normalise_http_url, parse_scheme, split_url
from obstore.exceptions import GenericError

VHOST = {"virtual_hosted_style_request": "true"}
FABRIC = {"use_fabric_endpoint": "true"}
WORKSPACE = {"account_name": "ws.z12", **FABRIC}


def s3(prefix: str | None = None, **config: str) -> Location:
    return Location(scheme="s3", config=config, prefix=prefix)


def azure(prefix: str | None = None, **config: str) -> Location:
    return Location(scheme="azure", config=config, prefix=prefix)


GOOD = [
    ("s3://b/p/q", s3("p/q", bucket="b")),
    ("s3a://b", s3(bucket="b")),
    ("S3://B", s3(bucket="B")),
    ("s3://b/", s3(bucket="b")),
    ("s3://b/p/", s3("p", bucket="b")),
    ("s3://b/p//q", s3("p//q", bucket="b")),
    ("s3://b/p/../q", s3("q", bucket="b")),
    ("s3://b/p/./q", s3("p/q", bucket="b")),
    ("s3://b/p/q/%2E%2e", s3("p", bucket="b")),
    ("s3://b/../../p", s3("p", bucket="b")),
    ("s3://b/p%20q%2Fr", s3("p q/r", bucket="b")),
    ("s3://b/p+q/%C3%A9\u00e9", s3("p+q/\u00e9\u00e9", bucket="b")),
    ("s3://b:80/p", s3("p", bucket="b")),
    ("s3://k:s@b/p", s3("p", bucket="b")),
    ("s3://b/p?x=1#f", s3("p", bucket="b")),
    ("  s3://b_u.c/p\n", s3("p", bucket="b_u.c")),
    ("https://s3.us-west-2.amazonaws.com/b/p", s3("p", region="us-west-2", bucket="b")),
    ("https://s3.us-west-2.amazonaws.com:443/b", s3(region="us-west-2", bucket="b")),
    ("https://s3.us-west-2.amazonaws.com/", s3(region="us-west-2")),
    ("https://b.s3.amazonaws.com/p", s3("p", bucket="b", **VHOST)),
    ("https://B.S3.eu-west-1.amazonaws.com/P", s3("P", bucket="b", region="eu-west-1", **VHOST)),
    (
        "https://acct.r2.cloudflarestorage.com/b/p",
        s3("p", bucket="b", region="auto", endpoint="https://acct.r2.cloudflarestorage.com"),
    ),
    (
        "https://acct.eu.r2.cloudflarestorage.com/b/p",
        s3("p", bucket="b", region="auto", endpoint="https://acct.eu.r2.cloudflarestorage.com"),
    ),
    ("gs://b/p", Location(scheme="gcs", config={"bucket": "b"}, prefix="p")),
    ("az://c/p", azure("p", container_name="c")),
    ("adl://c", azure(container_name="c")),
    ("azure://c", azure(container_name="c")),
    ("abfs://c", azure(container_name="c")),
    ("abfss://c/p", azure("p", container_name="c")),
    ("abfss://c@a.dfs.core.windows.net/p", azure("p", container_name="c", account_name="a")),
    ("abfs://c@a.blob.core.windows.net", azure(container_name="c", account_name="a")),
    ("az://c@a.dfs.core.windows.net", azure(container_name="c", account_name="a")),
    ("abfss://c@a.dfs.fabric.microsoft.com/p", azure("p", container_name="c", account_name="a", **FABRIC)),
    (
        "abfss://c@ws.z12.dfs.fabric.microsoft.com/p",
        azure("p", container_name="c", endpoint="https://ws.z12.dfs.fabric.microsoft.com", **WORKSPACE),
    ),
    ("https://a.blob.core.windows.net/c/p", azure("p", container_name="c", account_name="a")),
    ("https://a.dfs.core.windows.net/", azure(account_name="a")),
    ("https://a.dfs.fabric.microsoft.com/c", azure(container_name="c", account_name="a", **FABRIC)),
    (
        "https://ws.z12.blob.fabric.microsoft.com/c/p",
        azure("p", container_name="c", endpoint="https://ws.z12.blob.fabric.microsoft.com", **WORKSPACE),
    ),
    ("file:///abs/a%20b", Location(scheme="local", path="/abs/a b")),
    ("file://localhost/abs", Location(scheme="local", path="/abs")),
    ("file:/abs/../x", Location(scheme="local", path="/x")),
    ("file:///a%FFb", Location(scheme="local", path="/a\udcffb")),
    ("memory:///", Location(scheme="memory")),
    ("memory://", Location(scheme="memory")),
    ("memory:///x", Location(scheme="memory")),
    ("http://h/p?q", Location(scheme="http", url="http://h/p?q")),
    ("https://storage.googleapis.com/b", Location(scheme="http", url="https://storage.googleapis.com/b")),
    ("http://b.s3.eu-west-1.amazonaws.com/", Location(scheme="http", url="http://b.s3.eu-west-1.amazonaws.com/")),
    ("https://b.s3.cn-north-1.amazonaws.com.cn/", Location(scheme="http", url="https://b.s3.cn-north-1.amazonaws.com.cn/")),
    ("https://evilamazonaws.com/", Location(scheme="http", url="https://evilamazonaws.com/")),
    ("http://a.blob.core.windows.net/c", Location(scheme="http", url="http://a.blob.core.windows.net/c")),
]  # fmt: skip

NO_URL = [
    ("", "relative URL without a base"),
    ("foo", "relative URL without a base"),
    ("/abs/p", "relative URL without a base"),
    ("://b", "relative URL without a base"),
    ("http://", "empty host"),
    ("http://:80/", "empty host"),
    ("http://h:x/", "invalid port number"),
    ("http://h:99999/", "invalid port number"),
    ("s3://b:\u0661/p", "invalid port number"),
    ("http://[::1/p", "invalid IPv6 address"),
    ("http://[::1]x/p", "invalid"),
    ("s3://b c/p", "invalid domain character"),
    ("https://h/a\nb", "control character"),
    ("file:///a%00b", "NUL character"),
]

NO_STORE = [
    ("s3:///b", 'Generic URL error: Unable to recognise URL "s3:///b"; write s3://bucket/prefix'),
    ("s3:b", 'Generic URL error: Unable to recognise URL "s3:b"'),
    ("gcs://b", 'Generic URL error: Unable to recognise URL "gcs://b"'),
    ("ftp://u:pw@h", 'Generic URL error: Unable to recognise URL "ftp://h"'),
    ("c:\\foo", 'Generic URL error: Unable to recognise URL "c:\\foo"'),
    ("file://other/abs", "Generic URL error: Unable to recognise"),
    ("memory://x", "Generic URL error: Unable to recognise"),
]

NO_PATTERN = [
    ("https://s3.amazonaws.com/b", "s3", "S3"),
    ("https://s3-us-west-2.amazonaws.com/b", "s3", "S3"),
    ("https://b.s3.dualstack.us-west-2.amazonaws.com/p", "s3", "S3"),
    ("https://b.c.s3.amazonaws.com/p", "s3", "S3"),
    ("https://a.b.c.r2.cloudflarestorage.com/b", "s3", "S3"),
    ("adl://c@a.blob.core.windows.net/p", "azure", "MicrosoftAzure"),
    ("abfss://c@a.example.com/p", "azure", "MicrosoftAzure"),
    ("abfss://c.d/p", "azure", "MicrosoftAzure"),
]


@pytest.mark.parametrize(("url", "location"), GOOD)
def test_url_is_read(url: str, location: Location) -> None:
    assert parse_scheme(url) == location.scheme
    assert split_url(url) == location
    assert split_url(url, location.scheme) == location


@pytest.mark.parametrize(("url", "problem"), NO_URL)
def test_what_is_no_url_is_a_value_error_that_shows_it(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        split_url(url)
    assert repr(url) in str(caught.value)


def test_backslash_in_authority_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid domain character"):
        split_url("https://good.s3.amazonaws.com\\@evil/")


@pytest.mark.parametrize(("url", "message"), NO_STORE)
def test_url_of_no_store_is_refused(url: str, message: str) -> None:
    for function in (parse_scheme, split_url):
        with pytest.raises(GenericError) as caught:
            function(url)
        assert str(caught.value).startswith(message)


@pytest.mark.parametrize(("url", "scheme", "store"), NO_PATTERN)
def test_url_without_known_pattern_names_the_right_store(url: str, scheme: str, store: str) -> None:
    assert parse_scheme(url) == scheme
    with pytest.raises(GenericError) as caught:
        split_url(url)
    assert str(caught.value) == f"Generic {store} error: URL did not match any known pattern for scheme: {url}"


@pytest.mark.parametrize(
    ("url", "wanted", "error", "message"),
    [
        ("gs://b", "s3", GenericError, "Generic S3 error: Unknown url scheme cannot be parsed into storage location: gs"),
        ("s3://b", "gcs", GenericError, "Generic GCS error: Unknown url scheme"),
        ("http://h", "azure", GenericError, "Generic MicrosoftAzure error: Unknown url scheme"),
        ("https://minio.example/b", "s3", GenericError, "Generic S3 error: URL did not match any known pattern"),
        ("s3://b", "http", GenericError, "Generic HTTP error: Unknown url scheme"),
        ("s3://b", "local", ValueError, "Not a `file://` URL"),
        ("foo://b", "s3", GenericError, "Generic URL error: Unable to recognise"),
    ],
)  # fmt: skip
def test_url_of_another_store_is_refused(url: str, wanted: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        split_url(url, wanted)
    assert str(caught.value).startswith(message)


def test_any_web_url_may_be_read_as_http() -> None:
    url = "https://b.s3.eu-west-1.amazonaws.com/p"
    assert split_url(url, "http") == Location(scheme="http", url=url)


@pytest.mark.parametrize(("url", "word"), [("s3://b/%0a", "control|illegal"), ("s3://b/%ff", "UTF-8")])
def test_prefix_that_is_no_key_is_refused_with_its_url(url: str, word: str) -> None:
    with pytest.raises(GenericError, match=word) as caught:
        split_url(url)
    assert url in str(caught.value)


def test_url_must_be_text() -> None:
    with pytest.raises(TypeError, match="'bytes' object is not an instance of 'str'"):
        parse_scheme(b"s3://b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://h", "https://h/"),
        (" HTTPS://H/P ", "https://h/P"),
        ("http://h:80/", "http://h/"),
        ("https://h:80/", "https://h:80/"),
        ("https://u:p@h/p?q#f", "https://h/p?q"),
        ("https://h/a b/%41?x=a b", "https://h/a%20b/%41?x=a%20b"),
        ("http://[0:0::1]:8080/p", "http://[::1]:8080/p"),
        ("https://b\u00fccher.example/\u00e9", "https://xn--bcher-kva.example/%C3%A9"),
        ("https://h/a/../b/.", "https://h/b/"),
    ],
)
def test_normalise_http_url(url: str, normal: str) -> None:
    assert normalise_http_url(url) == normal
    assert normalise_http_url(normal) == normal


def test_normalise_http_url_refuses_other_schemes() -> None:
    with pytest.raises(GenericError, match="Generic HTTP error"):
        normalise_http_url("file:///x")


def test_message_shows_no_password() -> None:
    with pytest.raises(ValueError, match="invalid port") as caught:
        split_url("https://user:hunter2@h:x/")
    assert "hunter2" not in str(caught.value)
