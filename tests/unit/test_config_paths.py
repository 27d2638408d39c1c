"""obstore._config.paths: keys as written and as listed."""

from typing import Any

import pytest

from obstore._config.paths import needs_raw, parse_key, parse_prefix
from obstore._types import RawKey

KEPT = ["a", "a/b", "a b", "a%2Fb", "a?b#c", "a\\b*", "\u00e9/e\u0301", "a\x85b", "\U0001f600", "...", ".a", "x" * 3000]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("key", KEPT)
def test_key_is_kept_but_for_one_slash_at_each_end(key: str, strict: bool) -> None:
    for path in (key, f"/{key}", f"{key}/", f"/{key}/"):
        assert parse_key(path, "path", strict=strict) == key
    assert not needs_raw(key)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("path", ["", "/"])
def test_root(path: str, strict: bool) -> None:
    assert parse_key(path, "path", strict=strict) == ""


@pytest.mark.parametrize(
    ("path", "key"), [("a//b", "a//b"), ("//a", "/a"), ("a//", "a/"), ("a/./b", "a/./b"), ("../a", "../a"), (".", ".")]
)
def test_services_take_odd_segments(path: str, key: str) -> None:
    assert parse_key(path, "path") == key


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a//b", 'Path "a//b" contained empty path segment'),
        ("//a", 'Path "//a" contained empty path segment'),
        ("/a//", 'Path "/a//" contained empty path segment'),
        (
            "/a/./b/",
            'Error parsing Path "/a/./b/": Encountered illegal character sequence "." whilst parsing path segment "."',
        ),
        (
            "a/../b",
            'Error parsing Path "a/../b": Encountered illegal character sequence ".." whilst parsing path segment ".."',
        ),
        ("..", 'Error parsing Path "..": Encountered illegal character sequence ".."'),
    ],
)
def test_strict_refuses_odd_segments(path: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"\(from_\)") as caught:
        parse_key(path, "from_", strict=True)
    assert str(caught.value).startswith(f"Could not parse path: {text}")


@pytest.mark.parametrize("path", ["a//b", "/a", "dir/", ".", "..", "a/../b", "../a", "a\nb"])
def test_strict_refuses_odd_segments_of_raw_keys(path: str) -> None:
    with pytest.raises(ValueError, match=r"^Could not parse path: .* \(path\)$"):
        parse_key(RawKey(path), "path", strict=True)


def test_strict_takes_other_raw_keys() -> None:
    for path in ("", "a", "a/b"):
        assert parse_key(RawKey(path), "path", strict=True) == path


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("code", [*range(0x20), 0x7F])
def test_control_characters_are_refused_and_shown_escaped(code: int, strict: bool) -> None:
    with pytest.raises(ValueError, match=r"^Could not parse path: .* \(prefix\)$") as caught:
        parse_key(f"/x/a{chr(code)}b/c", "prefix", strict=strict)
    assert str(caught.value).isprintable()
    assert 'parsing path segment "a' in str(caught.value)


@pytest.mark.parametrize("value", [None, b"a", 5, ["a"]])
def test_other_types_are_refused_by_name(value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^to: '{type(value).__name__}' object is not an instance of 'str'"):
        parse_key(value, "to")


@pytest.mark.parametrize("path", ["a\ud800", RawKey("\udfff")])
def test_lone_surrogates_are_refused(path: str) -> None:
    with pytest.raises(UnicodeEncodeError):
        parse_key(path, "path")


@pytest.mark.parametrize("key", ["dir/", "/a", "/", "a//", "a\nb", "\x7f"])
def test_raw_key_passes_and_is_what_listings_need(key: str) -> None:
    assert needs_raw(key)
    raw = RawKey(key)
    assert parse_key(raw, "path") is raw


@pytest.mark.parametrize("key", ["", "a//b", "a/../b", *KEPT])
def test_plain_key_is_enough_where_it_survives(key: str) -> None:
    assert not needs_raw(key)
    assert parse_key(key, "path") == key


@pytest.mark.parametrize(("prefix", "parsed"), [(None, None), ("", ""), ("/p/q/", "p/q"), ("p", "p"), ("p//q", "p//q")])
def test_parse_prefix(prefix: str | None, parsed: str | None) -> None:
    assert parse_prefix(prefix) == parsed


def test_parse_prefix_names_itself() -> None:
    with pytest.raises(TypeError, match=r"^prefix: "):
        parse_prefix(5)
