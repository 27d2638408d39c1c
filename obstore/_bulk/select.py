"""What a bulk transfer is of: pages of objects, from a listing or from the caller's iterable, in constant memory.

A page is a list of listed objects (dicts with ``path``, ``size`` ...) or of keys (``str``); the name of an object relative to the
selection is its key without the first `Pages.cut` characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from obstore._bulk import match
from obstore._effects import Call, Op
from obstore._ops.list import Cursor, server_prefix
from obstore._types import Backend

PAGE = 1000


class Pages:
    """Pages of what is selected. ``next`` is an operation: an empty page is the end."""

    cut = 0
    # The only object: its local name may be chosen freely.
    single = False

    def next(self) -> Op[Sequence[Any]]:
        """The next page."""
        raise NotImplementedError


class Listed(Pages):
    """Below a prefix, or matching a pattern; where a prefix names nothing, the object of that key."""

    def __init__(
        self,
        backend: Backend,
        what: str,
        is_wanted: Callable[[str], bool] | None,
        *,
        recursive: bool = True,
        or_object: bool = True,
    ) -> None:
        self._backend = backend
        self._pattern = None
        self._is_wanted = is_wanted
        self._key: str | None = None
        self._recursive = recursive
        if match.is_glob(what):
            base = match.literal_prefix(what)
            self._pattern = match.compile_glob(what)
            self._cursor = Cursor(backend, base, None)
            self.cut = base.rfind("/") + 1
        else:
            prefix = server_prefix(backend, what, "segment")
            self._cursor = Cursor(backend, prefix, None)
            self.cut = len(prefix)
            if or_object and prefix and not what.endswith("/"):
                self._key = prefix[:-1]

    def next(self) -> Op[Sequence[Any]]:
        while True:
            page = yield from self._cursor.page()
            if not page:
                break
            self._key = None
            page = self._wanted(page)
            if page:
                return page
        key, self._key = self._key, None
        if key is None:
            return []
        self.single = True
        self.cut = key.rfind("/") + 1
        return [key]

    def _wanted(self, page: Sequence[Any]) -> Sequence[Any]:
        if self._pattern is not None:
            page = [item for item in page if self._pattern.fullmatch(item["path"])]
        if not self._recursive:
            page = [item for item in page if "/" not in item["path"][self.cut :]]
        if self._is_wanted is not None:
            page = [item for item in page if self._is_wanted(item["path"][self.cut :])]
        return page


class Given(Pages):
    """The caller's keys, or objects of a listing of the caller's."""

    def __init__(self, backend: Backend, items: Iterable[Any], is_wanted: Callable[[str], bool] | None) -> None:
        self._backend = backend
        self._items: Iterator[Any] = iter(items)
        self._is_wanted = is_wanted

    def next(self) -> Op[Sequence[Any]]:
        while True:
            taken: list[Any] = yield Call(_take, self._items)  # an iterator of the user's may block
            if not taken:
                return []
            page = [self._checked(item) for item in taken]
            if self._is_wanted is not None:
                page = [item for item in page if self._is_wanted(item if isinstance(item, str) else item["path"])]
            if page:
                return page

    def _checked(self, item: Any) -> Any:
        if isinstance(item, str):
            return self._backend.parse_key(item, "what")
        if isinstance(item, dict) and isinstance(item.get("path"), str) and isinstance(item.get("size"), int):
            return item
        raise TypeError(f"what: items are keys or objects of a listing, not '{type(item).__name__}'")


def _take(items: Iterator[Any]) -> list[Any]:
    taken: list[Any] = []
    for item in items:
        if isinstance(item, list):  # batches of a listing with chunk_size
            taken.extend(item)
        else:
            taken.append(item)
        if len(taken) >= PAGE:
            break
    return taken


class Keys(Pages):
    """Keys that are known already; their names are the keys, less ``cut`` characters."""

    def __init__(self, keys: Iterable[Any], cut: int = 0) -> None:
        self._keys = iter(keys)
        self.cut = cut

    def next(self) -> Op[Sequence[Any]]:
        return list(islice(self._keys, PAGE))
        yield


class Recorded(Pages):
    """Passes pages on and remembers their keys, for what is to be done with them afterwards."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.keys: list[str] = []

    def next(self) -> Op[Sequence[Any]]:
        page = yield from self._pages.next()
        self.cut, self.single = self._pages.cut, self._pages.single
        self.keys += [item if isinstance(item, str) else item["path"] for item in page]
        return page


def select(
    backend: Backend,
    what: Any,
    include: Any = None,
    exclude: Any = None,
    *,
    recursive: bool = True,
) -> Pages:
    """The pages of ``what``: a prefix, a pattern, an object's key, or an iterable of keys or listed objects.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(what, Pages):
        return what
    is_wanted = match.make_filter(include, exclude)
    if isinstance(what, str):
        return Listed(backend, what, is_wanted, recursive=recursive)
    if isinstance(what, (bytes, bytearray, memoryview)) or not isinstance(what, Iterable):
        raise TypeError(f"what: a prefix, a pattern or an iterable of keys is required, not '{type(what).__name__}'")
    return Given(backend, what, is_wanted)
