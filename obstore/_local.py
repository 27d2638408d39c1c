"""Objects as files below a directory: the backend of ``LocalStore``.

One operation is one ``Call``, as far as possible: on an event loop each is a trip to a thread. What happens in there is in
``obstore._localfs``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from obstore._config.paths import needs_raw, parse_key
from obstore._effects import Call, Cancelled
from obstore._localfs import (
    NAME,
    Descriptor,
    Target,
    Tree,
    e_tag,
    explaining,
    is_mappable,
    last_modified,
    read_block,
    read_bytes,
    take_page,
    write_at,
)
from obstore._serverless import Unsigned, check_conditions, resolve_range, writable
from obstore._types import ListPage, ObjectMeta, PutResult, Range, RawKey, Scatter
from obstore.exceptions import BaseError, GenericError, not_implemented

if TYPE_CHECKING:
    from obstore._effects import Op
    from obstore._localfs import Staging, Walk
    from obstore._types import Buffer, GetSpec, PartPair, Pin, PutSpec

T = TypeVar("T")

INVALID_RANGE = "Requested range was invalid"
PAGE_ITEMS = 1000
SMALL_BYTES = 64 << 10  # up to here the body is read as the file is opened: no second Call, and no file stays open
READ_BYTES = 1 << 20  # what a stream reads at a time, at least


class LocalOpened:
    """An object opened by `LocalBackend.get`; see ``obstore._types.Opened``.

    Small bodies are here already; larger ones hold the file open until the end is read, `close`, or nobody refers to
    this any more. A file that is replaced meanwhile is read on as it was.
    """

    arrives = False

    def __init__(
        self, meta: ObjectMeta, span: tuple[int, int], path: str, file: Descriptor | None, body: bytes | None
    ) -> None:
        self.meta = meta
        self.range = span
        self.attributes: dict[str, str] = {}
        self.timing = None
        self._path = path
        self._position, self._end = span
        self._file = file
        self._body = body

    def ready(self) -> None:
        """Never: reading a file may block."""

    def collect(self) -> Op[bytes | memoryview]:
        """All that is left."""
        if self._body is not None:
            return self._take_body()
        body: bytes | memoryview = yield Call(self._read, read_block, self._open_file(), self._position, self._end)
        self._advance(self._end)
        return body

    def read(self, size: int) -> Op[bytes]:
        """The next ``size`` bytes or 1 MiB, whichever is more; fewer only at the end."""
        if self._body is not None:
            return self._take_body()
        end = min(self._position + max(size, READ_BYTES), self._end)
        chunk: bytes = yield Call(self._read, read_bytes, self._open_file(), self._position, end)
        self._advance(end)
        return chunk

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return self._end - self._position if self._body is None else len(self._body)

    def read_into(self, view: memoryview) -> Op[int]:
        """Fill ``view`` with the next bytes; fewer only at the end."""
        size = min(len(view), self.left)
        if self._body is not None:
            view[:size] = self._body[:size]
            self._body = self._body[size:]
            return size
        end = self._position + size
        target = Target(view)
        try:
            yield Call(self._read, target.fill, self._open_file(), self._position, end)
        finally:
            target.release()  # where this is a cancellation, a thread may be at it still
        self._advance(end)
        return size

    def close(self) -> None:
        """Give up the rest; the file is closed as soon as no thread reads from it."""
        self._file = None
        self._body = None

    def _take_body(self) -> bytes:
        body, self._body = self._body, b""
        assert body is not None
        return body

    def _open_file(self) -> Descriptor:
        if self._file is None:
            raise ValueError("the object is closed")
        return self._file

    def _advance(self, position: int) -> None:
        self._position = position
        if position == self._end and self._file is not None:
            self._file = None
            self._body = b""

    def _read(self, how: Callable[[Descriptor, int, int], Any], file: Descriptor, start: int, end: int) -> Any:
        with explaining("read", self._path, self.meta["path"]):
            return how(file, start, end)


class LocalUpload:
    """A multipart upload into one staging file; see ``obstore._types.Upload``.

    A part lies behind the parts before it, whose sizes are known when `part` has been called for them. Where parts are
    announced in order, as they usually are, nothing is copied, and they may differ in size.
    """

    max_parts: int | None = None
    min_part_bytes: int = 0
    max_parallel: int | None = None
    part_pair: PartPair | None = None

    def __init__(self, staging: Staging, path: str, key: str, *, overwrite: bool) -> None:
        self._staging: Staging | None = staging
        self._path = path
        self._key = key
        self._overwrite = overwrite
        self._starts = [0]  # of part n at n - 1; the last one is that of the part to be announced next
        self._early: dict[int, bytes] = {}  # parts announced before their predecessors, as copies
        self._written: set[int] = set()

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        """Write part ``number``. Its place is taken by the call itself, before the operation is driven."""
        size = sum(memoryview(each).nbytes for each in body)
        known = len(self._starts) - 1
        if number > known + 1:
            return self._keep(number, body)
        if number == known + 1:
            self._starts.append(self._starts[-1] + size)
        elif size != self._starts[number] - self._starts[number - 1]:
            raise ValueError(f"part {number} was sent before with another size")
        return self._write(number, body)

    def finish(self) -> Op[PutResult]:
        """Make the object of the parts."""
        staging = self._open_staging()
        missing = set(range(1, len(self._starts))) - self._written
        if self._early:
            missing.add(len(self._starts))
        if missing:
            raise GenericError.of(NAME, f"part {min(missing)} of the upload is missing", key=self._key)
        self._staging = None
        return (yield from _call(_commit, staging, self._path, self._key, self._overwrite))

    def abort(self) -> Op[None]:
        """Remove the staging file. Does nothing where the upload has ended already."""
        staging, self._staging = self._staging, None
        self._early.clear()
        if staging is not None:
            yield Call(staging.discard)

    def _keep(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        if number <= len(self._starts):  # the predecessors came before this was driven
            return (yield from self.part(number, body))
        self._open_staging()
        self._early[number] = b"".join(body)

    def _write(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        # The thread holds the descriptor, so that an abort meanwhile cannot hand its number to another file.
        file = self._open_staging().file
        yield Call(_write_part, file, body, self._starts[number - 1], self._path, self._key)
        self._written.add(number)
        early = self._early.pop(len(self._starts), None)
        if early is not None:
            yield from self.part(len(self._starts), [early])

    def _open_staging(self) -> Staging:
        if self._staging is None:
            raise GenericError.of(NAME, "the upload has ended", key=self._key)
        return self._staging


class _Put:
    """One object being written by a thread, which gives up where nobody waits for it any more."""

    def __init__(self, tree: Tree, key: str, body: Sequence[Buffer], *, overwrite: bool) -> None:
        self._tree = tree
        self._key = key
        self._body = body
        self._overwrite = overwrite
        self.is_abandoned = False

    def run(self) -> PutResult:
        path = self._tree.path(self._key)
        with explaining("write", path, self._key):
            staging = self._tree.stage(self._key)
            try:
                write_at(staging.file, self._body, 0)
                if self.is_abandoned:
                    raise Cancelled
                return {"e_tag": e_tag(staging.commit(overwrite=self._overwrite)), "version": None}
            finally:
                staging.discard()


class LocalBackend(Unsigned):
    """Keys to files below ``root``, usable from any thread; see ``obstore._types.Backend``.

    Args:
        root: directory that keys are relative to; ``None`` for the whole file system. Symbolic links in it are resolved
            once, here; those below it are followed as long as they stay inside.
        automatic_cleanup: whether a delete also removes the parent directories that it empties.
        mkdir: whether to make ``root``, with its parents, if it does not exist.

    Raises:
        GenericError: ``root`` does not exist or is no directory.
    """

    name = NAME
    missing_is_error = True
    delete_batch = 256
    delete_concurrency = 4
    single_put = False

    def __init__(self, root: Path | None, *, automatic_cleanup: bool, mkdir: bool) -> None:
        self._tree = Tree(None if root is None else os.fspath(root), mkdir=mkdir)
        self._clean_up = automatic_cleanup
        self.root = None if root is None else Path(self._tree.root)

    def __str__(self) -> str:
        return f"{NAME}(file://{self._tree.root})"

    def parse_key(self, path: str, argument: str) -> str:
        """Normalise a path argument; what could leave the root is refused.

        A `RawKey` may be any name that a file can have, as listings give it: with control characters, or not UTF-8.
        """
        if isinstance(path, RawKey):
            if path and not is_mappable(path):
                raise ValueError(f"{argument}: {path!r} cannot be a file below the store's root")
            return path
        return parse_key(path, argument, strict=True)

    def get(self, key: str, spec: GetSpec) -> Op[LocalOpened]:
        """Open the object; a body of up to 64 KiB is read in the same step."""
        return (yield from _call(self._get, key, spec))

    def get_range(
        self, key: str, start: int, end: int, into: Any, pin: Pin | None = None
    ) -> Op[bytes | memoryview | int]:
        """Bytes of the object, or their number once they are in ``into``."""
        if into is None:
            return (yield from _call(self._get_range, key, start, end, None, pin))
        target = Target(into if isinstance(into, Scatter) else writable(into, end - start))
        try:
            return (yield from _call(self._get_range, key, start, end, target, pin))
        finally:
            target.release()  # where this is a cancellation, a thread may be at it still

    def head(self, key: str, version: str | None) -> Op[ObjectMeta]:  # noqa: ARG002 - files have no versions
        """Describe the object; there is one version of it, whatever ``version`` says."""
        return _meta(key, (yield Call(self._tree.stat_file, key)))

    def put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]:
        """Write a staging file beside the target, then rename it over the target, or link it where none may exist."""
        self._refuse_unsupported(spec)
        put = _Put(self._tree, key, body, overwrite=spec.mode == "overwrite")
        try:
            return (yield from _call(put.run))
        except BaseException:
            put.is_abandoned = True  # where this is a cancellation, a thread may be at it still
            raise

    def start_upload(self, key: str, spec: PutSpec) -> Op[LocalUpload]:
        """Begin a multipart upload; an existing target is found when it is finished."""
        self._refuse_unsupported(spec)
        return (yield from _call(self._start_upload, key, spec.mode == "overwrite"))

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        """Walk on to the next 1,000 objects and prefixes. Pages of one listing are taken one after the other."""
        walk = self._tree.walk(prefix, offset, delimiter=delimiter) if cursor is None else cursor
        return (yield from _call(_page, walk))

    def delete(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Remove each file (a symbolic link, not what it leads to); a missing one is a `NotFoundError`."""
        return (yield from _call(self._delete, keys))

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Copy the bytes, inside the kernel where it can; onto itself it does nothing."""
        yield Call(self._tree.copy, from_, to, overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Move the file in one step; onto itself it does nothing."""
        yield Call(self._tree.rename, from_, to, overwrite)

    # ---- what runs inside a Call --------------------------------------------------------------------------

    def _get(self, key: str, spec: GetSpec) -> LocalOpened:
        path = self._tree.path(key)
        if spec.head:
            meta = _meta(key, self._tree.stat_file(key))
            check_conditions(spec, meta)
            return LocalOpened(meta, (0, meta["size"]), path, None, b"")
        file, status = self._tree.open_file(key)
        meta = _meta(key, status)
        check_conditions(spec, meta)
        start, end = resolve_range(spec.range, meta["size"], store=NAME, key=key, complaint=INVALID_RANGE)
        if end - start > SMALL_BYTES:
            return LocalOpened(meta, (start, end), path, file, None)
        with explaining("read", path, key):
            body = read_bytes(file, start, end)
        return LocalOpened(meta, (start, end), path, None, body)

    def _get_range(
        self, key: str, start: int, end: int, target: Target | None, pin: Pin | None
    ) -> bytes | memoryview | int:
        file, status = self._tree.open_file(key)
        if pin is not None:
            pin.check(NAME, key, e_tag(status))
        span = Range(start, end)
        start, end = resolve_range(span, status.st_size, store=NAME, key=key, complaint=INVALID_RANGE)
        with explaining("read", self._tree.path(key), key):
            if target is None:
                return read_block(file, start, end)
            target.fill(file, start, end)
            return end - start

    def _start_upload(self, key: str, overwrite: bool) -> LocalUpload:
        path = self._tree.path(key)
        with explaining("write", path, key):
            return LocalUpload(self._tree.stage(key), path, key, overwrite=overwrite)

    def _delete(self, keys: Sequence[str]) -> list[Exception | None]:
        outcomes: list[Exception | None] = []
        for key in keys:
            try:
                self._tree.delete(key, clean_up=self._clean_up)
                outcomes.append(None)
            except BaseError as error:
                outcomes.append(error)
        return outcomes

    def _refuse_unsupported(self, spec: PutSpec) -> None:
        if spec.mode == "update":
            raise not_implemented("`put_opts` with mode `update`", str(self))
        if spec.attributes:
            raise not_implemented("`put_opts` with `opts.attributes` specified", str(self))


def _call(fn: Callable[..., T], *args: Any) -> Op[T]:
    """`Call` with a type."""
    result: T = yield Call(fn, *args)
    return result


def _page(walk: Walk) -> ListPage:
    found, prefixes, has_more = take_page(walk, PAGE_ITEMS)
    objects = [_meta(_listed(key), status) for key, status in found]
    return ListPage(objects, [_listed(key) for key in prefixes], walk if has_more else None)


def _write_part(file: Descriptor, body: Sequence[Buffer], offset: int, path: str, key: str) -> None:
    with explaining("write", path, key):
        write_at(file, body, offset)


def _commit(staging: Staging, path: str, key: str, overwrite: bool) -> PutResult:
    with explaining("write", path, key):
        try:
            return {"e_tag": e_tag(staging.commit(overwrite=overwrite)), "version": None}
        finally:
            staging.discard()


def _meta(key: str, status: os.stat_result) -> ObjectMeta:
    return {
        "path": key,
        "last_modified": last_modified(status),
        "size": status.st_size,
        "e_tag": e_tag(status),
        "version": None,
    }


def _listed(key: str) -> str:
    """Return ``key`` as listings give it; names that are no UTF-8 come with surrogate escapes."""
    if not key.isascii():
        try:
            key.encode()
        except UnicodeEncodeError:
            return RawKey(key)
    return RawKey(key) if needs_raw(key) else key
