"""list, list_with_delimiter: prefixes, pages, cursors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

from obstore._effects import Op
from obstore._ops import args
from obstore._ops.split_list import SplitBackend, SplitListing
from obstore._types import Backend, ListPage, ListResult, RawKey

Match = Literal["segment", "string"]

AUTO_CONCURRENCY = 32


class Pages(Protocol):
    """Where a listing stands: an operation per page until there is none left."""

    ended: bool

    def page(self) -> Op[Sequence[Any]]:
        """The objects of the next page; an empty sequence is the end."""


class Cursor:
    """The pages of a listing, one after the other.

    From the second page on the next one is asked for as soon as its token is known, so that it is on its way while the caller works
    on this one. Whoever looks at the first page only causes one request.
    """

    __slots__ = ("__weakref__", "_ahead", "_backend", "_cursor", "_offset", "_pages", "_prefix", "ended")

    def __init__(self, backend: Backend, prefix: str, offset: str | None) -> None:
        self._backend = backend
        self._prefix = prefix
        self._offset = offset
        self._cursor: Any = None
        self._ahead: Any = None
        self._pages = 0
        self.ended = False

    def __del__(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()

    def page(self) -> Op[Sequence[Any]]:
        """The objects of the next page; empty pages are passed over, an empty list is the end."""
        while not self.ended:
            page: ListPage = yield from self._next()
            self._cursor = page.cursor
            self._pages += 1
            if page.cursor is None:
                self.ended = True
            elif self._pages > 1 and (begin := getattr(self._backend, "begin_list", None)) is not None:
                self._ahead = yield from begin(self._prefix, self._offset, page.cursor)
            if page.objects:
                return page.objects
        return []

    def _next(self) -> Op[ListPage]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.usable:
            finish: Op[ListPage] = self._backend.finish_list(ahead, self._cursor)  # type: ignore[attr-defined]
            return (yield from finish)
        return (yield from self._backend.list_page(self._prefix, self._offset, delimiter=False, cursor=self._cursor))


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


def open_listing(backend: Backend, prefix: Any, offset: Any, match: str, concurrency: Any = None) -> Pages:
    """Start a listing; nothing is sent yet."""
    start = None
    if offset is not None:
        args.text(offset, "offset")
        start = str(offset) if match == "string" or isinstance(offset, RawKey) else backend.parse_key(offset, "offset")
    begins = server_prefix(backend, prefix, match)
    at_once = _concurrency(concurrency)
    if at_once > 1 and getattr(backend, "splits_lists", False):
        return SplitListing(cast("SplitBackend", backend), begins, start, at_once)
    return Cursor(backend, begins, start)


def _concurrency(value: Any) -> int:
    if value is None:
        return 1
    if value == "auto":
        return AUTO_CONCURRENCY
    if isinstance(value, str):
        raise ValueError(f"concurrency must be 'auto' or a number of requests, not {value!r}")
    return args.whole_number(value, "concurrency", minimum=1)


def list_with_delimiter(backend: Backend, prefix: Any, match: str) -> Op[ListResult[list[Any]]]:
    """One level of the tree: all its pages."""
    return _list_level(backend, server_prefix(backend, prefix, match))


def _list_level(backend: Backend, prefix: str) -> Op[ListResult[list[Any]]]:
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
