"""``upload`` and ``put_many``: files and buffers to objects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from obstore._bulk.options import Options
from obstore._bulk.outbox import Outbox, Start, Task
from obstore._bulk.progress import Meter
from obstore._bulk.resend import Sent, find_parts
from obstore._bulk.result import BulkResult
from obstore._bulk.tree import File
from obstore._effects import Call, Cancel, Fork, Op
from obstore._ops import put as _put
from obstore._ops.forks import begin_upload, settle
from obstore._ops.remote import RemoteBackend
from obstore._types import Backend, PutSpec

_BATCH = 512

Batches = Callable[[], Op[Sequence[Any]]]


def batches(items: Iterable[Any]) -> Batches:
    """An iterable, which may block, a batch at a time."""
    left = iter(items)

    def take() -> Op[Sequence[Any]]:
        taken: list[Any] = yield Call(lambda: list(islice(left, _BATCH)))
        return taken

    return take


class Sending(Outbox):
    """Sends files.

    Args:
        backend: of the store.
        files: with the key of each, a batch at a time.
        options: limits and wishes.
        result, meter: count and show.
        attributes: of each object, by its file.
    """

    def __init__(
        self,
        backend: Backend,
        files: Batches,
        options: Options,
        result: BulkResult,
        meter: Meter,
        attributes: Callable[[File], dict[str, str]] | None = None,
    ) -> None:
        super().__init__(backend, options, result, meter)
        self._files = files
        self._attributes = attributes
        # Parts of one file at a time: half of the memory, so that small files go on beside it.
        self._parts = max(1, min(options.streams, options.memory // (2 * options.piece)))

    def _batch(self) -> Op[Sequence[tuple[File, str]]]:
        return self._files()

    def _task(self, item: tuple[File, str]) -> Task:
        file, key = item
        if file.size > self._options.piece:
            return key, {}, None, None
        return key, self._attributes(file) if self._attributes else {}, file.path, file.size

    def _start(self, item: tuple[File, str]) -> Start:
        file, key = item
        spec = self._spec(self._attributes(file) if self._attributes else {})
        return file.path, self._weight(file.size), lambda: self._one(file, key, spec)

    def _start_file(self, path: str, key: str, spec: PutSpec) -> Start:
        size = os.stat(path).st_size if os.path.isfile(path) else -1
        file = File(path, os.path.basename(path), size, 0.0)
        return path, self._weight(size), lambda: self._one(file, key, spec)

    def _name_of(self, key: str, path: str | None) -> str:
        return key if path is None else path

    def _weight(self, size: int) -> int:
        return min(max(size, 0), self._parts * self._options.piece)

    def _one(self, file: File, key: str, spec: PutSpec) -> Op[int]:
        if file.size <= self._options.piece:
            body = yield Call(_read_file, file.path)
            return (yield from self._put(key, [body] if body else [], spec))
        return (yield from self._in_parts(file, key, spec))

    def _in_parts(self, file: File, key: str, spec: PutSpec) -> Op[int]:
        """A large file: parts side by side, those left out that the service has from an earlier run."""
        backend, options = self._backend, self._options
        fd = os.open(
            file.path, os.O_RDONLY | os.O_CLOEXEC
        )  # in place: a thread's would be nobody's if this were cancelled
        running: list[Any] = []
        told = 0
        try:
            size = os.fstat(fd).st_size
            part_size = max(options.piece, -(-size // 9_900))
            sent: Sent | None = None
            if options.resume and isinstance(backend, RemoteBackend):
                sent = yield from find_parts(backend, key, spec, fd, size, part_size)
            if sent is None:
                upload: Any = yield from begin_upload(backend.start_upload(key, spec))
                present: frozenset[int] = frozenset()
            else:
                upload, present = sent
                self._result.resumed_bytes += sum(min(part_size, size - (number - 1) * part_size) for number in present)
            window = min(self._parts, upload.max_parallel or self._parts)
            try:
                for number, start in enumerate(range(0, size, part_size), 1):
                    length = min(part_size, size - start)
                    if number not in present:
                        body = yield Call(_read_exactly, fd, start, length, file.path)
                        running.append((yield Fork(upload.part(number, [body]))))
                        del body
                        yield from settle(running, window)
                    told += length
                    self._meter.extra_bytes += length
                    self._meter.sample(self._result)
                yield from settle(running, 1)
                yield from upload.finish()
            except GeneratorExit:
                raise
            except BaseException:
                yield Cancel(running)
                yield from upload.abort()
                raise
        finally:
            self._meter.extra_bytes -= told
            os.close(fd)
        return size


class Putting(Outbox):
    """Puts buffers, files and iterables.

    Args:
        backend: of the store.
        items: pairs of key and content, taken as room comes.
        options: limits and wishes.
        result, meter: count and show.
        attributes: of all objects.
    """

    def __init__(
        self,
        backend: Backend,
        items: Iterable[tuple[str, Any]],
        options: Options,
        result: BulkResult,
        meter: Meter,
        attributes: dict[str, str] | None,
    ) -> None:
        super().__init__(backend, options, result, meter)
        self._items = batches(items)
        self._all = dict(attributes or {})

    def _batch(self) -> Op[Sequence[tuple[str, Any]]]:
        batch = yield from self._items()
        parse = self._backend.parse_key
        return [(parse(path, "items"), content) for path, content in batch]

    def _task(self, item: tuple[str, Any]) -> Task:
        key, content = item
        if type(content) is bytes:
            return key, self._all, content, None
        if isinstance(content, os.PathLike):
            path = os.fspath(content)
            return key, self._all, path if isinstance(path, str) else os.fsdecode(path), -1
        try:
            memoryview(content)
        except TypeError:
            return key, {}, None, None
        return key, self._all, content, None

    def _start(self, item: tuple[str, Any]) -> Start:
        key, content = item
        source, pushed = _put.open_source(content, asynchronous=False)
        return self._start_source(key, source, self._spec(self._all), pushed)

    def _start_file(self, path: str, key: str, spec: PutSpec) -> Start:
        return self._start_source(key, _put.FileSource(None, path), spec, pushed=False)

    def _name_of(self, key: str, path: str | None) -> str:  # noqa: ARG002 - it was put by its key
        return key

    def _start_source(self, key: str, source: _put.Source, spec: PutSpec, pushed: bool) -> Start:
        size = source.size or 0
        piece = self._options.piece
        parts = None if not pushed or not self._options.overwrite else True

        def one() -> Op[int]:
            if isinstance(source, _put.FileSource):
                yield from _put._put_file(self._backend, key, source, spec, parts, piece, 4)  # noqa: SLF001 - ours
            else:
                yield from _put._put_source(self._backend, key, source, spec, parts, piece, 4)  # noqa: SLF001 - ours
            return source.size or 0

        return key, min(size, 4 * piece), one


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_exactly(fd: int, start: int, length: int, path: str) -> bytes:
    data = os.pread(fd, length, start)
    while len(data) < length:
        more = os.pread(fd, length - len(data), start + len(data))
        if not more:
            raise OSError(f"{path} became shorter while it was sent")
        data += more
    return data
