"""Listings of WebDAV servers: one answer for a whole tree where the server gives it, else one for each collection."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from obstore._effects import LIST, Op
from obstore._ops.forks import perform
from obstore._types import ListPage, ObjectMeta
from obstore.exceptions import BaseError, GenericError

if TYPE_CHECKING:
    from obstore._ops.http import HttpBackend

_PAGE = 1000
_CONCURRENCY = 8
# Statuses that refuse an answer about a whole tree: RFC 4918 has 403 for it, servers have others.
_REFUSES_INFINITY = frozenset({400, 403, 413, 501, 507})
# Objects on their way to another name, see `HttpBackend.put`.
STAGING = ".obstore-"
_STAGED = re.compile(r"(?:.*/)?\.obstore-[0-9a-f]{16}")


class Walk:
    """A listing under way, in the order of keys; the cursor of its pages.

    ``stack`` holds what is still to come, the next on top: objects, and collections (their keys, with a slash at the end)
    that were not asked for yet.
    """

    __slots__ = ("_backend", "_offset", "_prefix", "_stack", "_window")

    def __init__(self, backend: HttpBackend, prefix: str, offset: str | None) -> None:
        self._backend = backend
        self._prefix = prefix
        self._offset = offset
        self._stack: list[ObjectMeta | str] = [prefix[: prefix.rfind("/") + 1]]
        self._window = 1

    def page(self) -> Op[ListPage]:
        """The next objects; none where there are no more."""
        stack = self._stack
        objects: list[ObjectMeta] = []
        while stack and len(objects) < _PAGE:
            if not isinstance(stack[-1], str):
                objects.append(stack.pop())  # type: ignore[arg-type]
            elif objects:
                break
            else:
                yield from self._expand()
        return ListPage(objects, [], self if stack else None)

    def _expand(self) -> Op[None]:
        """Ask for the next collection, and for some after it at the same time: more of them the longer the walk lasts."""
        stack = self._stack
        wanted = [index for index in range(len(stack) - 1, -1, -1) if isinstance(stack[index], str)][: self._window]
        self._window = min(2 * self._window, _CONCURRENCY)
        found: dict[int, list[ObjectMeta | str]] = {}

        def ask(index: int) -> Op[None]:
            found[index] = yield from self._members(str(stack[index]))

        if len(wanted) == 1:
            yield from ask(wanted[0])
        else:
            yield from perform((ask(index) for index in wanted), _CONCURRENCY + 1)
        for index in sorted(found, reverse=True):
            stack[index : index + 1] = found[index]

    def _members(self, collection: str) -> Op[list[ObjectMeta | str]]:
        """What is in a collection and still to be shown, the last first."""
        deep = collection.startswith(self._prefix)
        objects, collections = yield from members(self._backend, collection, deep=deep)
        items: list[Any] = [item for item in objects if self._is_shown(item["path"])]
        items += [name for name in collections if self._is_entered(name)]
        items.sort(key=_key_of, reverse=True)
        return items

    def _is_shown(self, key: str) -> bool:
        return key.startswith(self._prefix) and (self._offset is None or key > self._offset)

    def _is_entered(self, collection: str) -> bool:
        if self._offset is not None and collection < self._offset and not self._offset.startswith(collection):
            return False  # all of it comes before the offset
        return collection.startswith(self._prefix) or self._prefix.startswith(collection)


def _key_of(item: Any) -> str:
    return item if isinstance(item, str) else item["path"]


def level(backend: HttpBackend, prefix: str) -> Op[ListPage]:
    """One level of the tree: the objects and collections whose keys begin with ``prefix`` and go on without a slash."""
    objects, collections = yield from members(backend, prefix[: prefix.rfind("/") + 1], deep=False)
    return ListPage(
        sorted((item for item in objects if item["path"].startswith(prefix)), key=_key_of),
        sorted(name[:-1] for name in collections if name.startswith(prefix)),
        None,
    )


def members(backend: HttpBackend, collection: str, *, deep: bool) -> Op[tuple[list[ObjectMeta], list[str]]]:
    """What is in a collection: objects, and collections with a slash at the end; none where there is no such collection.

    Args:
        backend: the store.
        collection: its key with a slash at its end; empty for the store's own.
        deep: whether to ask for all below it: then no collections are left to be asked. A server that refuses that tells
            of one level, and is not asked for more again (``backend.shallow``).
    """
    if any(segment in ("", ".", "..") for segment in collection.split("/")[:-1]):
        return [], []  # no key has such segments, and servers would resolve them
    if not deep or backend.shallow:
        return (yield from _ask(backend, collection, "1"))
    try:
        objects, _ = yield from _ask(backend, collection, "infinity")
    except BaseError as error:
        if error.status not in _REFUSES_INFINITY:
            raise
    else:
        return objects, []
    answer = yield from _ask(backend, collection, "1")
    backend.shallow = True
    return answer


def _ask(backend: HttpBackend, collection: str, depth: str) -> Op[tuple[list[ObjectMeta], list[str]]]:
    request = backend.http.build_properties(backend.http.path_of_collection(collection), depth)
    try:
        response = yield from backend.request(request, LIST, accept=_is_missing)
    except BaseError as error:
        # Some servers say so of a file that is asked for as if it were a collection.
        if error.status not in _REFUSES_INFINITY or not collection or depth == "infinity":
            raise
        if (yield from backend.is_collection(collection[:-1])) is not False:
            raise
        return [], []
    if response.status == 404:
        return [], []
    listing = read_listing(backend, response, backend.http.collection_path)
    objects, names = list(listing.objects), listing.prefixes
    found = [*(item["path"] for item in objects), *names]
    if found and all(path.startswith("/") for path in found):
        # Not below our path: something in between rewrites paths. The shortest is that of the collection asked for.
        here = min(found, key=len).rstrip("/") + "/"
        root = here.removesuffix(collection) if collection else here
        for item in objects:
            item["path"] = item["path"].removeprefix(root)
        names = [name.removeprefix(root) for name in names]
    return (
        [item for item in objects if _is_below(item["path"], collection)],
        [f"{name}/" for name in names if _is_below(name, collection)],
    )


def _is_below(path: str, collection: str) -> bool:
    """Whether a listed path is of a member; a collection lists itself too, and some servers a file that was asked for."""
    return len(path) > len(collection) and path.startswith(collection) and path[0] != "/" and not _is_staged(path)


def _is_staged(path: str) -> bool:
    return STAGING in path and _STAGED.fullmatch(path) is not None


def read_listing(backend: HttpBackend, response: Any, root: str) -> Any:
    """The parsed answer, its paths relative to ``root`` where they are below it."""
    try:
        return response.listing(root)
    except ValueError as exc:
        raise GenericError.of(
            backend.name,
            f"Got invalid list response: {exc}",
            status=response.status,
            hint="the server may not speak WebDAV",
        ) from None


def _is_missing(response: Any) -> bool:
    return response.status == 404  # type: ignore[no-any-return]
