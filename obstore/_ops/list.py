"""list, list_with_delimiter: prefixes, pages, cursors."""

from __future__ import annotations

from typing import Any, Literal

from obstore._effects import Op
from obstore._ops import args
from obstore._types import Backend, ListPage, ListResult, RawKey

Match = Literal["segment", "string"]


class Cursor:
    """Where a listing stands: an operation per page until there is none left."""

    __slots__ = ("_backend", "_cursor", "_offset", "_prefix", "ended")

    def __init__(self, backend: Backend, prefix: str, offset: str | None) -> None:
        self._backend = backend
        self._prefix = prefix
        self._offset = offset
        self._cursor: Any = None
        self.ended = False

    def page(self) -> Op[list[Any]]:
        """The objects of the next page; empty pages are passed over, an empty list is the end."""
        while not self.ended:
            page: ListPage = yield from self._backend.list_page(
                self._prefix, self._offset, delimiter=False, cursor=self._cursor
            )
            self._cursor = page.cursor
            if page.cursor is None:
                self.ended = True
            if page.objects:
                return page.objects
        return []


def server_prefix(backend: Backend, prefix: Any, match: str) -> str:
    """The prefix as the server compares it.

    Segments: ``a/b`` matches ``a/b/c`` and not ``a/bc``, nor the object ``a/b`` itself. Strings: as it is.
    """
    if match not in ("segment", "string"):
        raise ValueError(f"match must be 'segment' or 'string', not {match!r}")
    if prefix is None:
        return ""
    args.text(prefix, "prefix")
    if match == "string" or isinstance(prefix, RawKey):
        return str(prefix)
    key = backend.parse_key(prefix, "prefix") if prefix.strip("/") else ""
    return f"{key}/" if key else ""


def open_listing(backend: Backend, prefix: Any, offset: Any, match: str) -> Cursor:
    """Start a listing; nothing is sent yet."""
    start = None
    if offset is not None:
        args.text(offset, "offset")
        start = str(offset) if match == "string" or isinstance(offset, RawKey) else backend.parse_key(offset, "offset")
    return Cursor(backend, server_prefix(backend, prefix, match), start)


def list_with_delimiter(backend: Backend, prefix: Any, match: str) -> Op[ListResult]:
    """One level of the tree: all its pages."""
    return _list_level(backend, server_prefix(backend, prefix, match))


def _list_level(backend: Backend, prefix: str) -> Op[ListResult]:
    objects: list[Any] = []
    prefixes: set[str] = set()
    cursor: Any = None
    while True:
        page: ListPage = yield from backend.list_page(prefix, None, delimiter=True, cursor=cursor)
        objects.extend(page.objects)
        prefixes.update(page.prefixes)
        cursor = page.cursor
        if cursor is None:
            return {"common_prefixes": sorted(prefixes), "objects": objects}
