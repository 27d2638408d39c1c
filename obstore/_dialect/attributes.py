"""Object attributes: their canonical names, and what may stand in a header."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlencode

__all__ = ["STANDARD", "canonical_attributes", "canonical_name", "encode_tags"]

# Known attributes. All others are user metadata.
STANDARD = (
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Type",
    "Cache-Control",
    "Storage-Class",
)

_BY_SPELLING = {name.lower(): name for name in STANDARD} | {name.lower().replace("-", ""): name for name in STANDARD}
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # what RFC 9110 lets a header name consist of
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f]")  # a tab is allowed inside a header value


def canonical_name(name: str) -> str:
    """``content-type``, ``ContentType`` ... as ``Content-Type``; user metadata as it is."""
    return _BY_SPELLING.get(name.lower(), name)


def canonical_attributes(attributes: Mapping[str, str]) -> dict[str, str]:
    """A caller's attributes with canonical names; of two spellings of one attribute the later wins.

    Raises:
        TypeError: a name or value is no ``str``.
        ValueError: a metadata name cannot be a header name, or a value holds a control character.
    """
    result: dict[str, str] = {}
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"attributes: names and values must be str, not {name!r}: {type(value).__name__}")
        if _TOKEN.fullmatch(name) is None:
            raise ValueError(f"attributes: {name!r} cannot be sent as a header name")
        if _CONTROL.search(value) is not None:
            raise ValueError(f"attributes: the value of {name!r} holds a control character")
        result[canonical_name(name)] = value
    return result


def encode_tags(tags: Mapping[str, str]) -> str:
    """Tags as a query string in the caller's order; a space is ``%20``, which servers that do not know ``+`` read too."""
    return urlencode(list(tags.items()), quote_via=quote)
