"""``upload`` and ``put_many``: files and buffers to objects."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from obstore._bulk.download import limited
from obstore._bulk.options import Options
from obstore._bulk.progress import Meter
from obstore._bulk.resend import Sent, find_parts
from obstore._bulk.result import BulkResult
from obstore._bulk.tree import File
from obstore._bulk.window import Window, in_window
from obstore._effects import Call, Cancel, Fork, Op
from obstore._ops import put as _put
from obstore._ops.forks import begin_upload, settle
from obstore._ops.remote import RemoteBackend
from obstore._types import Backend, PutSpec

_BATCH = 256


class Sending:
    """Sends files.

    Args:
        backend: of the store.
        files: with the key of each, taken as room comes.
        options: limits and wishes.
        result, meter: count and show.
        attributes: of each object, by its file.
    """

    def __init__(
        self,
        backend: Backend,
        files: Iterable[tuple[File, str]],
        options: Options,
        result: BulkResult,
        meter: Meter,
        attributes: Any = None,
    ) -> None:
        self._backend = limited(backend, options)
        self._files: Iterator[tuple[File, str]] = iter(files)
        self._options = options
        self._attributes = attributes
        self._result = result
        self._meter = meter
        self._window = Window(result, meter, options.connections, options.memory)
        # Parts of one file at a time: half of the memory, so that small files go on beside it.
        self._parts = max(1, min(options.streams, options.memory // (2 * options.piece)))

    def run(self) -> Op[None]:
        """Do it all."""
        return in_window(self._window, self._feed)

    def _feed(self) -> Op[None]:
        while batch := (yield Call(lambda: list(islice(self._files, _BATCH)))):
            for file, key in batch:
                weight = min(max(file.size, 0), self._parts * self._options.piece)
                yield from self._window.start(file.path, self._one(file, key), weight)

    def _one(self, file: File, key: str) -> Op[int]:
        backend, options = self._backend, self._options
        spec = PutSpec(attributes=self._attributes(file) if self._attributes else {})
        if not options.overwrite:
            spec.mode = "create"
        if file.size <= options.piece:
            body = yield Call(_read_file, file.path)
            yield from backend.put(key, [body] if body else [], spec)
            return len(body)
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


def put_many(
    backend: Backend,
    items: Iterable[tuple[str, Any]],
    options: Options,
    result: BulkResult,
    meter: Meter,
    attributes: Any,
) -> Op[None]:
    """Put buffers, files and iterables: pairs of key and content."""
    backend = limited(backend, options)
    window = Window(result, meter, options.connections, options.memory)
    pairs = iter(items)

    def one(key: str, source: _put.Source, pushed: bool) -> Op[int]:
        spec = PutSpec(attributes=dict(attributes or {}), mode="overwrite" if options.overwrite else "create")
        parts = None if not pushed or not options.overwrite else True
        if isinstance(source, _put.FileSource):
            yield from _put._put_file(backend, key, source, spec, parts, options.piece, 4)  # noqa: SLF001 - ours
        else:
            yield from _put._put_source(backend, key, source, spec, parts, options.piece, 4)  # noqa: SLF001 - ours
        return 0

    def feed() -> Op[None]:
        while batch := (yield Call(lambda: list(islice(pairs, _BATCH)))):
            for path, content in batch:
                key = backend.parse_key(path, "items")
                source, pushed = _put.open_source(content, asynchronous=False)
                size = source.size or 0
                yield from window.start(key, _sized(one(key, source, pushed), size), min(size, 4 * options.piece))

    return in_window(window, feed)


def _sized(op: Op[int], size: int) -> Op[int]:
    yield from op
    return size


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
