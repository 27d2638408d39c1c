"""Which proxy the environment names, and whom it is not for."""

from __future__ import annotations

import pytest

from obstore._config.proxy import proxy_of, without_proxy


@pytest.mark.parametrize(
    ("endpoint", "env", "expected"),
    [
        ("https://h", {}, None),
        ("https://h", {"https_proxy": "a", "HTTPS_PROXY": "b"}, "a"),
        ("https://h", {"HTTPS_PROXY": "b", "ALL_PROXY": "c"}, "b"),
        ("https://h", {"https_proxy": "", "all_proxy": "c"}, "c"),
        ("https://h", {"http_proxy": "a"}, None),
        ("http://h", {"http_proxy": "a", "https_proxy": "b"}, "a"),
        ("http://h", {"HTTP_PROXY": "a"}, "a"),
        ("http://h", {"HTTP_PROXY": "a", "REQUEST_METHOD": "GET"}, None),
        ("http://h", {"HTTP_PROXY": "a", "REQUEST_METHOD": "GET", "http_proxy": "b"}, "b"),
        ("https://h", {"HTTPS_PROXY": "a", "REQUEST_METHOD": "GET"}, "a"),
    ],
)
def test_the_variable_is_chosen_by_the_scheme(endpoint: str, env: dict[str, str], expected: str | None):
    assert proxy_of(endpoint, env) == (expected, None)


def test_exceptions_come_with_a_proxy_only():
    assert proxy_of("http://h", {"no_proxy": "x"}) == (None, None)
    assert proxy_of("http://h", {"http_proxy": "a", "NO_PROXY": "y"}) == ("a", "y")
    assert proxy_of("http://h", {"http_proxy": "a", "no_proxy": "x", "NO_PROXY": "y"}) == ("a", "x")


@pytest.mark.parametrize(
    ("excludes", "endpoint", "meant"),
    [
        ("*", "http://h", True),
        ("a, *", "http://h", True),
        ("example.org", "http://example.org", True),
        ("example.org", "http://s3.example.org", True),
        ("example.org", "http://notexample.org", False),
        (".example.org", "http://s3.EXAMPLE.org.", True),
        ("*.example.org", "http://s3.example.org", True),
        ("*.example.org", "http://example.com", False),
        ("EXAMPLE.org.", "http://example.org", True),
        ("example.org:8080", "http://example.org:8080", True),
        ("example.org:8080", "http://example.org", False),
        ("example.org:443", "https://example.org", True),
        ("a b\tc", "http://b", True),
        ("10.0.0.0/8", "http://10.1.2.3:9000", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.1.2.3/8", "http://10.9.9.9", True),
        ("10.0.0.0/8", "http://ten.example", False),
        ("10.0.0.0/99", "http://10.0.0.1", False),
        ("10.0.0.1", "http://10.0.0.1", True),
        ("0.0.1", "http://10.0.0.1", False),
        ("fd00::/8", "http://[fd00::1]", True),
        ("[::1]", "http://[::1]:80", True),
        ("::1", "http://[0:0:0:0:0:0:0:1]", True),
        ("[::1]:81", "http://[::1]:80", False),
        ("", "http://h", False),
        (",. ,*.", "http://h", False),
    ],
)
def test_whom_an_exception_means(excludes: str, endpoint: str, meant: bool):
    entries = (without_proxy(excludes, endpoint) or "").split(",")
    given = [entry for entry in excludes.replace(",", " ").split() if entry]
    assert (len(entries) > len(given) if given else False) is meant


def test_no_exceptions_stay_none():
    assert without_proxy(None, "http://h") is None
