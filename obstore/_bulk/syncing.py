"""``sync``: what differs between two ordered listings, found by walking both at once, a page of each in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from obstore._bulk.result import Action, BulkResult, Failure
from obstore._bulk.select import PAGE, Pages
from obstore._bulk.tree import File, walk
from obstore._effects import Call, Op
from obstore._ops.list import Cursor
from obstore._types import Backend
from obstore.exceptions import GenericError

DELETE_BATCH = 1000

# What a service says of an object's time in its listings and in its answers may lie some milliseconds apart, on both sides of a
# second: rclone's does for one object in a hundred.
_WINDOW_S = 1


class Entry(NamedTuple):
    """An object or file of one side.

    Attributes:
        name: relative to the side.
        size: bytes.
        modified: seconds since 1970.
        item: the listed object, or the `File`.
    """

    name: str
    size: int
    modified: float
    item: Any


class Side:
    """One side of a synchronisation, in the order of its names' bytes."""

    def __init__(self, is_wanted: Callable[[str], bool] | None) -> None:
        self._is_wanted = is_wanted
        self._page: list[Entry] = []
        self._at = 0
        self._last: str | None = None
        self.ended = False
        self.is_broken = False  # some of it could not be listed

    def head(self) -> Op[Entry | None]:
        """The next entry, not taken; ``None`` at the end."""
        while self._at == len(self._page) and not self.ended:
            page = yield from self.more()
            if not page:
                self.ended = True
                return None
            self._at = 0
            self._page = [entry for entry in page if self._is_wanted is None or self._is_wanted(entry.name)]
        if self._at == len(self._page):
            return None
        entry = self._page[self._at]
        if self._last is not None and _order(entry.name) < _order(self._last):
            # To go on would delete and copy what only seems to be missing.
            raise GenericError.of("", f"the listing is not in order: {entry.name!r} comes after {self._last!r}")
        return entry

    def take(self) -> None:
        """Pass over the next entry."""
        self._last = self._page[self._at].name
        self._at += 1

    def more(self) -> Op[list[Entry]]:
        """The next page."""
        raise NotImplementedError


def _order(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


class StoreSide(Side):
    """A store, below a prefix. Objects that stand for directories are passed over."""

    def __init__(self, backend: Backend, prefix: str, is_wanted: Callable[[str], bool] | None) -> None:
        super().__init__(is_wanted)
        self.backend = backend
        self.prefix = prefix
        self._cursor = Cursor(backend, prefix, None)

    def more(self) -> Op[list[Entry]]:
        while True:
            page = yield from self._cursor.page()
            if not page:
                return []
            cut = len(self.prefix)
            entries = [
                Entry(item["path"][cut:], item["size"], item["last_modified"].timestamp(), item)
                for item in page
                if not item["path"].endswith("/")
            ]
            if entries:
                return entries


class TreeSide(Side):
    """A directory; one that is not there is empty."""

    def __init__(
        self, root: Path, is_wanted: Callable[[str], bool] | None, on_error: Callable[[str, OSError], None]
    ) -> None:
        super().__init__(None)
        self.root = root
        self._on_error = on_error
        self._files: Iterator[File] = walk(root, is_wanted, on_error=self._broke) if root.is_dir() else iter(())

    def _broke(self, path: str, error: OSError) -> None:
        self.is_broken = True
        self._on_error(path, error)

    def more(self) -> Op[list[Entry]]:
        files = yield Call(lambda: list(islice(self._files, PAGE)))
        return [Entry(file.name, file.size, file.modified, file) for file in files]


class LocalSide(TreeSide):
    """A directory that is read as a store: its entries are listed objects."""

    def __init__(
        self, backend: Any, is_wanted: Callable[[str], bool] | None, on_error: Callable[[str, OSError], None]
    ) -> None:
        super().__init__(backend.root, is_wanted, on_error)

    def more(self) -> Op[list[Entry]]:
        return [
            entry._replace(item={"path": entry.name, "size": entry.size, "e_tag": None, "last_modified": None})
            for entry in (yield from super().more())
        ]


class Difference(Pages):
    """What has to be transferred, as the pages of a download or a copy; what is to be deleted is gathered beside.

    Args:
        source, target: the sides.
        kind: of the actions: ``download``, ``upload`` or ``copy``.
        result: counts what is up to date.
        delete: whether what the source lacks is to be deleted at the target.
        on_delete: an operation that deletes the entries it is given.
        dry_run: only write down what would be done.
        size_only: whether equal size is enough to be up to date.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        kind: str,
        result: BulkResult,
        *,
        delete: bool,
        on_delete: Callable[[list[Entry]], Op[None]],
        dry_run: bool,
        size_only: bool,
    ) -> None:
        self._source = source
        self._target = target
        self._kind = kind
        self._result = result
        self._delete = delete
        self._on_delete = on_delete
        self._dry_run = dry_run
        self._size_only = size_only
        self._doomed: list[Entry] = []
        self.cut = len(source.prefix) if isinstance(source, StoreSide) else 0

    def next(self) -> Op[Sequence[Any]]:
        return [entry.item for entry in (yield from self.entries())]

    def entries(self) -> Op[list[Entry]]:
        """The next entries of the source that have to be transferred; none at the end."""
        page: list[Entry] = []
        while len(page) < PAGE:
            ours = yield from self._source.head()
            theirs = yield from self._target.head()
            if ours is None and theirs is None:
                break
            if theirs is None or (ours is not None and _order(ours.name) < _order(theirs.name)):
                assert ours is not None
                self._source.take()
                page.append(ours)
            elif ours is None or _order(theirs.name) < _order(ours.name):
                self._target.take()
                if self._delete:
                    yield from self._doom(theirs)
            else:
                self._source.take()
                self._target.take()
                if self._is_current(ours, theirs):
                    self._result.skipped += 1
                else:
                    page.append(ours)
        if not page and self._doomed:
            yield from self._flush()
        if self._dry_run:
            self._result.actions += [Action(self._kind, entry.name, entry.size) for entry in page]
        return page

    def _is_current(self, ours: Entry, theirs: Entry) -> bool:
        if ours.size != theirs.size:
            return False
        # Services tell whole seconds in some answers and fractions in others.
        return self._size_only or math.floor(theirs.modified) + _WINDOW_S >= math.floor(ours.modified)

    def _doom(self, entry: Entry) -> Op[None]:
        if self._dry_run:
            self._result.actions.append(Action("delete", entry.name, entry.size))
            return
        self._doomed.append(entry)
        if len(self._doomed) >= DELETE_BATCH:
            yield from self._flush()

    def _flush(self) -> Op[None]:
        """Delete what was gathered, unless the source was not seen whole: what it seems to lack may be there."""
        doomed, self._doomed = self._doomed, []
        if self._source.is_broken:
            error = OSError("not deleted: some of the source could not be listed")
            self._result.failures += [Failure(entry.name, error) for entry in doomed]
        else:
            yield from self._on_delete(doomed)


def dry(difference: Difference) -> Op[None]:
    """Go through it without doing anything."""
    while (yield from difference.entries()):
        continue


def delete_files(root: Path, result: BulkResult) -> Callable[[list[Entry]], Op[None]]:
    """Deletes files below ``root``, and the directories that are left empty."""

    def unlink(entries: list[Entry]) -> None:
        for entry in entries:
            path = root / entry.name
            try:
                path.unlink()
            except OSError as error:
                result.failures.append(Failure(str(path), error))
                continue
            result.deleted += 1
            for parent in path.parents:
                if parent == root:
                    break
                try:
                    parent.rmdir()
                except OSError:
                    break

    def delete(entries: list[Entry]) -> Op[None]:
        yield Call(unlink, entries)

    return delete


def delete_objects(backend: Backend, result: BulkResult) -> Callable[[list[Entry]], Op[None]]:
    """Deletes listed objects."""

    def delete(entries: list[Entry]) -> Op[None]:
        keys = [entry.item["path"] for entry in entries]
        for start in range(0, len(keys), backend.delete_batch):
            part = keys[start : start + backend.delete_batch]
            for key, error in zip(part, (yield from backend.delete(part)), strict=True):
                if error is None:
                    result.deleted += 1
                else:
                    result.failures.append(Failure(key, error))

    return delete
