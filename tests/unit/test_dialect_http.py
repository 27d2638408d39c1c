"""The HTTP dialect: paths, redirects, who sees credentials."""

from __future__ import annotations

import pytest

from obstore._dialect.http_request import is_foreign, quote_path, resolve


@pytest.mark.parametrize(
    ("origin", "target", "foreign"),
    [
        ("https://h", "https://h/x", False),
        ("https://h", "https://h:443/x", False),
        ("https://h", "https://H/x", False),
        ("http://h", "https://h/x", False),
        ("http://h:80", "https://h:443/x", False),
        ("https://h", "http://h/x", True),
        ("http://h:8080", "https://h/x", True),
        ("http://h", "https://h:8443/x", True),
        ("http://h", "https://other/x", True),
        ("https://h", "https://h.evil/x", True),
        ("https://h", "https://sub.h/x", True),
        ("https://h:8443", "https://h:9443/x", True),
    ],
)
def test_who_is_another_origin(origin: str, target: str, foreign: bool):
    assert is_foreign(origin, target) is foreign


@pytest.mark.parametrize(
    ("base", "location", "expected"),
    [
        ("https://h/a/b?q=1", "/c", "https://h/c"),
        ("https://h/a/b?q=1", "c?x=%20y", "https://h/a/c?x=%20y"),
        ("https://h/a/b", "../c#part", "https://h/c"),
        ("https://h/a", "//other/x", "https://other/x"),
        ("https://h/a", "http://other:8080/x y/\u00e4", "http://other:8080/x%20y/%C3%A4"),
        ("https://h/a", "https://user:pass@other/x", "https://other/x"),
        ("https://h/a", "https://[::1]:8443/x", "https://[::1]:8443/x"),
        ("https://h/a", "ftp://h/x", None),
        ("https://h/a", "https://h:99999/", None),
        ("https://h/a", "javascript:alert(1)", None),
    ],
)
def test_where_a_location_leads(base: str, location: str, expected: str | None):
    assert resolve(base, location) == expected


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a/b.txt", "a/b.txt"),
        ("year=2024/part-1,2;v@x", "year=2024/part-1,2;v@x"),
        ("a b+c", "a%20b%2Bc"),
        ("100%", "100%25"),
        ("?#[]", "%3F%23%5B%5D"),
        ("\u00fc", "%C3%BC"),
        ("", ""),
    ],
)
def test_keys_as_paths(key: str, path: str):
    assert quote_path(key) == path
