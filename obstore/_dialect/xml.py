"""The small XML documents of object stores: error bodies, delete results, upload ids. Lists are parsed in C instead.

Our own reader rather than the standard library's, for two reasons: object keys may hold characters that XML 1.0 has no
way to write, which servers then write as references that a conforming parser must refuse (``&#x1;``); and it costs
nothing to import. It knows no DTD, hence no entities but the five predefined ones, and does not recurse.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Element", "XmlError", "escape", "parse", "root_name"]

# All that XML 1.0 forbids or parsers normalise: written as character references so that keys arrive as they are.
_UNSAFE = re.compile("[&<>\"'\x00-\x1f\x7f-\x9f\u2028\ufffe\uffff]")
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&apos;"}

_ENTITY = re.compile("&(?:#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6})|([A-Za-z]+));|&")
_ENTITIES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}

# One token at a time, each alternative beginning differently, so that matching is linear.
_TOKEN = re.compile(
    r"""(?P<text>[^<]+)
    | <(?P<close>/)?(?P<name>[^\s<>/!?="'&]+)(?:\s(?:[^<>"'/]|"[^"<]*"|'[^'<]*'|/(?!>))*)?(?P<empty>/)?>
    | <!\[CDATA\[(?P<cdata>.*?)\]\]>
    | <\?.*?\?>
    | <!--.*?-->
    """,
    re.DOTALL | re.VERBOSE,
)
_ROOT = re.compile(
    rb"(?:\xef\xbb\xbf)?\s*(?:<\?.*?\?>\s*|<!--.*?-->\s*)*<(?:[^\s<>/!?=:]+:)?([^\s<>/!?=:]+)", re.DOTALL
)


class XmlError(ValueError):
    """The document is not well-formed, or uses what this reader refuses."""


class Element:
    """An element: its name without namespace prefix, its direct text, its child elements."""

    __slots__ = ("children", "name", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = ""
        self.children: list[Element] = []

    def find(self, name: str) -> str | None:
        """Text of the first child of that name, or ``None``."""
        for child in self.children:
            if child.name == name:
                return child.text
        return None

    def descendants(self) -> Iterator[Element]:
        """This element and all below it, in document order."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))


def escape(text: str) -> str:
    """Text as element content."""
    if _UNSAFE.search(text) is None:
        return text
    return _UNSAFE.sub(lambda found: _NAMED.get(found[0]) or f"&#x{ord(found[0]):X};", text)


def root_name(document: bytes) -> str | None:
    """Name of the root element without its namespace prefix, without parsing the rest."""
    found = _ROOT.match(document)
    return found[1].decode("utf-8", "replace") if found else None


def parse(document: bytes) -> Element:
    """The root element. Raises `XmlError`."""
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise XmlError(f"not UTF-8 at byte {error.start}") from None
    top = Element("")
    stack = [top]
    position, end = 0, len(text)
    while position < end:
        token = _TOKEN.match(text, position)
        if token is None:
            raise XmlError(f"unexpected markup at character {position}")
        position = token.end()
        if (name := token["name"]) is not None:
            local = name.rpartition(":")[2]
            if token["close"]:
                if len(stack) == 1 or stack[-1].name != local:
                    raise XmlError(f"unexpected </{local}>")
                stack.pop()
            else:
                if len(stack) == 1 and top.children:
                    raise XmlError("more than one root element")
                element = Element(local)
                stack[-1].children.append(element)
                if not token["empty"]:
                    stack.append(element)
        elif (chars := token["text"]) is not None:
            if len(stack) > 1:
                stack[-1].text += _unescape(chars)
            elif not chars.isspace():
                raise XmlError("text outside the root element")
        elif (chars := token["cdata"]) is not None:
            stack[-1].text += chars
    if len(stack) > 1:
        raise XmlError(f"<{stack[-1].name}> is not closed")
    if not top.children:
        raise XmlError("no root element")
    return top.children[0]


def _unescape(text: str) -> str:
    return text if "&" not in text else _ENTITY.sub(_decode_entity, text)


def _decode_entity(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if decimal or hexadecimal:
        code = int(decimal) if decimal else int(hexadecimal, 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise XmlError(f"{found[0]} is no character")
        return chr(code)
    if name is None:
        raise XmlError("bare ampersand")
    if name not in _ENTITIES:
        raise XmlError(f"unknown entity {found[0]}")
    return _ENTITIES[name]
