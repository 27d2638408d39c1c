"""Keys as users write them, and as the services list them."""

from __future__ import annotations

import re
from typing import Any

from obstore._config.duration import CONTROL
from obstore._types import RawKey

__all__ = ["needs_raw", "parse_key", "parse_prefix"]


def parse_key(path: Any, argument: str, *, strict: bool = False) -> str:
    """Return the key that ``path`` names: one leading and one trailing slash are not part of it.

    A `RawKey` is returned as it is.

    Args:
        path: what the user gave.
        argument: its name, for messages.
        strict: refuse what has no place on a file system: empty segments, ``.`` and ``..``. In a `RawKey` too.

    Raises:
        TypeError: ``path`` is no str.
        ValueError: it holds a control character or, if ``strict``, a segment that is refused.
        UnicodeEncodeError: it holds half of a surrogate pair (a ``ValueError`` too).
    """
    if not isinstance(path, str):
        raise TypeError(f"{argument}: '{type(path).__name__}' object is not an instance of 'str'")
    if not path.isascii():
        path.encode()
    if isinstance(path, RawKey):
        if strict and path:
            _check_segments(path, path, argument)
        return path
    key = path.removeprefix("/").removesuffix("/")
    # isprintable() is much the cheaper test and true of nearly every key.
    if not key.isprintable() and (control := CONTROL.search(key)):
        raise _illegal(path, control[0], _segment_at(key, control.start()), argument)
    if strict and key:
        _check_segments(key, path, argument)
    return key


def parse_prefix(prefix: Any, argument: str = "prefix", *, strict: bool = False) -> str | None:
    """Return a store's prefix, ``/p/q/`` as ``p/q``; ``None`` stays ``None``. Raises what `parse_key` raises."""
    return None if prefix is None else parse_key(prefix, argument, strict=strict)


def needs_raw(key: str) -> bool:
    """Whether a listed key would name another object, or none, once it went through `parse_key`."""
    return key[:1] == "/" or key[-1:] == "/" or (not key.isprintable() and CONTROL.search(key) is not None)


def _check_segments(key: str, original: str, argument: str) -> None:
    for segment in key.split("/"):
        if not segment:
            raise ValueError(
                f'Could not parse path: Path "{_visible(original)}" contained empty path segment ({argument})'
            )
        if segment in (".", ".."):
            raise _illegal(original, segment, segment, argument)
        if control := CONTROL.search(segment):
            raise _illegal(original, control[0], segment, argument)


def _illegal(path: str, sequence: str, segment: str, argument: str) -> ValueError:
    return ValueError(
        f'Could not parse path: Error parsing Path "{_visible(path)}": Encountered illegal character sequence '
        f'"{_visible(sequence)}" whilst parsing path segment "{_visible(segment)}" ({argument})'
    )


def _segment_at(key: str, position: int) -> str:
    return key[key.rfind("/", 0, position) + 1 :].partition("/")[0]


def _visible(text: str) -> str:
    return CONTROL.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
