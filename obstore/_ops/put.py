"""put: what the source is, whether it goes up in one piece, and the multipart engine."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

from obstore._effects import Await, Call, Cancel, Fork, Op
from obstore._ops import args
from obstore._ops.forks import begin_upload, settle
from obstore._types import Backend, Buffer, PutResult, PutSpec, Upload

DEFAULT_CHUNK_SIZE = 5 * 1024 * 1024
DEFAULT_CONCURRENCY = 12

# Parts of this size and more are prepared in pairs, where so many may be under way: with few, one would wait for the other.
_PAIR_BYTES = 1 << 20
_PAIRS_FROM = 4
_MAX_PARTS_PLANNED = 9_900  # of 10,000: room for a source that turns out longer than it said
# Parts of a source of unknown length keep their size for so many parts (some services want all of one size), then double
# every so many: 10,000 of them hold 5 TiB even where the first have 5 MiB.
_GROW_AFTER = 4_500
_GROW_EVERY = 500


class Source:
    """Where the bytes come from. `size` is what is left to read, ``None`` where unknown.

    ``read(n)`` is an operation: the next bytes as buffers, together ``n`` unless the source ends; ``[]`` at its end.
    """

    size: int | None = None

    def read(self, size: int) -> Op[list[Buffer]]:
        """The next ``size`` bytes."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what was opened for the upload (not of what the user opened). May block."""


class BufferSource(Source):
    """Any contiguous buffer; its parts are views."""

    def __init__(self, data: Any) -> None:
        view = memoryview(data)
        if not view.c_contiguous:
            raise ValueError("file: the buffer is not C-contiguous")
        self._view = view.cast("B") if view.nbytes else memoryview(b"")
        self._position = 0
        self.size = view.nbytes

    def read(self, size: int) -> Op[list[Buffer]]:
        piece = self._view[self._position : self._position + size]
        self._position += len(piece)
        return [piece] if len(piece) else []
        yield


class FileSource(Source):
    """A file object with ``read`` and ``seek``, from where it stands; or a path, opened for the upload."""

    def __init__(self, file: Any, path: Any = None) -> None:
        self._file = file
        self._path = path

    def open(self) -> Op[None]:
        """Open the path, and find out how much there is to read."""
        yield Call(self._open)

    def _open(self) -> None:
        if self._file is None:
            self._file = open(self._path, "rb")  # noqa: SIM115 - see close()
        self.size = _left_to_read(self._file)

    def read(self, size: int) -> Op[list[Buffer]]:
        data = yield Call(_read_fully, self._file, size)
        return [data] if len(data) else []

    def close(self) -> None:
        if self._path is not None and self._file is not None:
            self._file.close()


def _left_to_read(file: Any) -> int:
    position: int = file.tell() if hasattr(file, "tell") else file.seek(0, os.SEEK_CUR)
    end: int | None = file.seek(0, os.SEEK_END)
    if end is None:  # a minimal seek() returns nothing
        end = file.tell()
    file.seek(position)
    return max(0, end - position)


def _read_fully(file: Any, size: int) -> Any:
    """Read ``size`` bytes, fewer only at the end: raw files may return less than asked."""
    data = file.read(size)
    if isinstance(data, str):
        raise TypeError("file: read() returned str: open the file in binary mode")
    if data is None or not len(data):
        return b""
    if len(data) >= size:
        return data
    pieces = [data]
    got = len(data)
    while got < size:
        data = file.read(size - got)
        if not data:
            break
        pieces.append(data)
        got += len(data)
    return b"".join(pieces) if len(pieces) > 1 else pieces[0]


class IteratorSource(Source):
    """A synchronous iterator of buffers."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._iterator = iterator
        self._left: memoryview | None = None
        self._ended = False

    def _next(self) -> Op[Any]:
        return (yield Call(next, self._iterator, _END))

    def read(self, size: int) -> Op[list[Buffer]]:
        pieces: list[Buffer] = []
        wanted = size
        while wanted:
            if self._left is None:
                if self._ended:
                    break
                item = yield from self._next()
                if item is _END:
                    self._ended = True
                    break
                self._left = _item_view(item)
            piece = self._left[:wanted]
            wanted -= len(piece)
            # The iterator may reuse its buffer once it is asked for the next item: only bytes are safe to keep.
            pieces.append(piece if isinstance(piece.obj, bytes) else bytes(piece))
            self._left = self._left[len(piece) :] if len(piece) < len(self._left) else None
        return [piece for piece in pieces if len(piece)]  # type: ignore[arg-type]


class AsyncIteratorSource(IteratorSource):
    """An asynchronous iterator of buffers."""

    def __init__(self, iterator: AsyncIterator[Any]) -> None:
        super().__init__(iter(()))
        self._async_iterator = iterator

    def _next(self) -> Op[Any]:
        try:
            return (yield Await(_anext(self._async_iterator)))
        except _AsyncEnd:
            return _END


class _AsyncEnd(Exception):  # noqa: N818 - a signal: StopAsyncIteration cannot cross a future cleanly
    """The asynchronous iterator is exhausted."""


async def _anext(iterator: AsyncIterator[Any]) -> Any:
    try:
        return await iterator.__anext__()
    except StopAsyncIteration:
        raise _AsyncEnd from None


_END = object()


def _item_view(item: Any) -> memoryview:
    try:
        view = memoryview(item)
    except TypeError:
        raise TypeError(f"file: items must be bytes-like, not '{type(item).__name__}'") from None
    if not view.c_contiguous:
        raise ValueError("file: an item is not C-contiguous")
    return view.cast("B") if view.nbytes else memoryview(b"")


def open_source(file: Any, *, asynchronous: bool) -> tuple[Source, bool]:
    """What ``file`` is, and whether it is pushed piece by piece (an iterator) rather than read."""
    if isinstance(file, str):
        raise TypeError("file: got str; pass bytes for content (text.encode()), or a pathlib.Path to upload a file")
    if isinstance(file, os.PathLike):
        return FileSource(None, os.fspath(file)), False
    try:
        memoryview(file)
    except TypeError:
        pass
    else:
        return BufferSource(file), False
    if hasattr(file, "read") and hasattr(file, "seek"):
        return FileSource(file), False
    if hasattr(file, "__aiter__") or hasattr(file, "__anext__"):
        if not asynchronous:
            raise ValueError("file: Async input not allowed in 'put'. Use 'put_async'.")
        return AsyncIteratorSource(file.__aiter__() if hasattr(file, "__aiter__") else file), True
    if hasattr(file, "__iter__"):
        return IteratorSource(iter(file)), True
    if hasattr(file, "__next__"):
        return IteratorSource(file), True
    raise TypeError(
        f"file: '{type(file).__name__}' object is no bytes-like object, path, binary file or iterable of bytes"
        " (Unexpected input for PutInput)"
    )


def put(
    backend: Backend,
    path: Any,
    file: Any,
    *,
    attributes: Any = None,
    tags: Any = None,
    mode: Any = None,
    use_multipart: Any = None,
    chunk_size: Any = DEFAULT_CHUNK_SIZE,
    max_concurrency: Any = DEFAULT_CONCURRENCY,
    asynchronous: bool = False,
) -> Op[PutResult]:
    """Write an object."""
    key = backend.parse_key(path, "path")
    spec = args.parse_put_options(mode, attributes, tags)
    if use_multipart is not None:
        args.flag(use_multipart, "use_multipart")
    chunk = args.whole_number(chunk_size, "chunk_size", minimum=1)
    window = max(1, args.whole_number(max_concurrency, "max_concurrency"))
    source, pushed = open_source(file, asynchronous=asynchronous)
    if spec.mode != "overwrite":
        use_multipart = False  # the condition holds for one request only
    elif use_multipart is None and pushed:
        use_multipart = True
    if isinstance(source, FileSource):
        return _put_file(backend, key, source, spec, use_multipart, chunk, window)
    return _put_source(backend, key, source, spec, use_multipart, chunk, window)


def _put_file(
    backend: Backend, key: str, source: FileSource, spec: PutSpec, use_multipart: bool | None, chunk: int, window: int
) -> Op[PutResult]:
    try:
        yield from source.open()
        result = yield from _put_source(backend, key, source, spec, use_multipart, chunk, window)
    except GeneratorExit:
        source.close()  # in place: a generator that is thrown away may not yield
        raise
    except BaseException:
        yield Call(source.close)  # waits for a read that a thread may still be at
        raise
    source.close()
    return result


def _put_source(
    backend: Backend, key: str, source: Source, spec: PutSpec, use_multipart: bool | None, chunk: int, window: int
) -> Op[PutResult]:
    if use_multipart is None:
        use_multipart = source.size is not None and source.size > chunk
        if backend.single_put and isinstance(source, BufferSource):
            use_multipart = False
    if use_multipart:
        return (yield from upload(backend, key, source, spec, chunk, window))
    body: list[Buffer] = []
    while piece := (yield from source.read(source.size or chunk)):
        body.extend(piece)
    return (yield from backend.put(key, body, spec))


def part_size(chunk: int, size: int | None, upload: Upload) -> int:
    """Bytes of each part: as asked for, larger where the object would need more parts than the service allows."""
    wanted = chunk
    if upload.max_parts is not None and size is not None:
        planned = min(_MAX_PARTS_PLANNED, upload.max_parts)
        wanted = max(wanted, -(-size // planned))
    return wanted


def part_growth(number: int) -> bool:
    """Whether part ``number`` of a source of unknown length is to be twice as large as the one before it."""
    grown = number - _GROW_AFTER
    return grown > 0 and grown % _GROW_EVERY == 1


def upload(backend: Backend, key: str, source: Source, spec: PutSpec, chunk: int, window: int) -> Op[PutResult]:
    """Write an object in parts, up to ``window`` of them at once; whatever fails, nothing is left behind."""
    first = yield from source.read(chunk)
    started: Upload = yield from begin_upload(backend.start_upload(key, spec))
    running: list[Any] = []
    window = min(window, started.max_parallel or window)
    try:
        size = part_size(chunk, source.size, started)
        if size > chunk and first:
            first = [*first, *(yield from source.read(size - _length(first)))]
        pair = started.part_pair
        if source.size is None or window < _PAIRS_FROM or size < _PAIR_BYTES:
            pair = None  # a source that is pushed may take its time for the second one
        number = 1
        piece = first
        while True:
            # An empty object is one empty part.
            if not piece and number > 1:
                break
            second: list[Buffer] = []
            if pair is not None and _length(piece) == size:
                second = yield from source.read(size)
            if second and pair is not None:
                running.append((yield Fork(pair(number, piece, second))))
                number += 1
                piece = second
            else:
                running.append((yield Fork(started.part(number, piece))))
            if _length(piece) < size:
                break
            yield from settle(running, window if pair is None else window // 2)
            number += 1
            if source.size is None and started.max_parts is not None and part_growth(number):
                size *= 2
            piece = yield from source.read(size)
        yield from settle(running, 1)
        return (yield from started.finish())
    except GeneratorExit:
        raise
    except BaseException:
        yield Cancel(running)
        yield from started.abort()
        raise


def _length(body: list[Buffer]) -> int:
    return sum(memoryview(piece).nbytes for piece in body)
