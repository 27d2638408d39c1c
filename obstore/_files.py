"""Objects as files to read from. Reading is an operation (``_ops/file_read.py``); here are its two faces. Writing is in ``_file_writing``.

The synchronous files are real ones of ``io``: the reader is an `io.BufferedReader` whose raw file is the object, so small reads,
lines and ``peek`` run in C.
"""

from __future__ import annotations

import io
import operator
import os
from collections.abc import Awaitable
from typing import Any, Self

from obstore._effects import Op
from obstore._faces import AsyncFace, SyncFace
from obstore._file_errors import as_file
from obstore._ops import args
from obstore._ops.file_read import FileReader
from obstore._ops.get import head
from obstore._run import Ready, run, start
from obstore._types import Buffer, ObjectMeta

DEFAULT_READ_BYTES = 1024 * 1024
# What `io.BufferedReader` keeps itself; reads of up to this size cost no Python.
_INNER_BYTES = 64 << 10


class _ObjectRaw(io.RawIOBase):
    """The object as an unbuffered file, which `ReadableFile` buffers."""

    def __init__(self, reader: FileReader, name: str) -> None:
        super().__init__()
        self.reader = reader
        self.name = name
        self.mode = "rb"
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        got: int = run(as_file(self.reader.read_into(self.position, view)))
        self.position += got
        return got

    def readall(self) -> bytes:
        data = self.pread(self.position, max(0, self.reader.size - self.position))
        self.position += len(data)
        return data

    def pread(self, position: int, size: int) -> bytes:
        return _joined(run(as_file(self.reader.read(position, size))))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = _target(offset, whence, self.position, self.reader.size)
        return self.position

    def tell(self) -> int:
        return self.position

    def close(self) -> None:
        if not self.closed:
            self.reader.close()
        super().close()


def _joined(pieces: list[memoryview]) -> bytes:
    return pieces[0].tobytes() if len(pieces) == 1 else b"".join(pieces)


def _target(offset: Any, whence: int, position: int, size: int) -> int:
    """Where a seek leads."""
    base = {os.SEEK_SET: 0, os.SEEK_CUR: position, os.SEEK_END: size}.get(whence)
    if base is None:
        raise ValueError(f"whence must be 0, 1 or 2, not {whence!r}")
    target = base + operator.index(offset)
    if target < 0:
        raise ValueError(f"negative seek value {target}")
    return target


class ReadableFile(io.BufferedReader):
    """An object opened for reading by ``open_reader``: a binary file like those of ``open(path, "rb")``.

    It reads from the store as it is read from: at first ``buffer_size`` at a time; more, and ahead of the reader, where it is read
    from front to end; less where it is read here and there. Blocks that were just read are kept. All reads are of one version of
    the object: where it is replaced meanwhile, they fail with `PreconditionError`.

    Errors of the store are what they always are and `OSError` too. Pickling keeps the position, not the data.
    """

    def __init__(self, store: Any, path: str, size: int, buffer_size: int, meta: ObjectMeta | None) -> None:
        self._opened_with = store, path, size, buffer_size, meta
        backend = store._backend  # noqa: SLF001 - every store has one
        reader = FileReader(backend, backend.parse_key(path, "path"), size, max(buffer_size, 1), SyncFace(backend))
        super().__init__(_ObjectRaw(reader, path), max(512, min(buffer_size, _INNER_BYTES)))

    @property
    def size(self) -> int:
        """Bytes of the object."""
        size: int = self._opened_with[2]
        return size

    @property
    def meta(self) -> ObjectMeta | None:
        """What the store said of the object when it was opened; ``None`` where ``size`` was given and it was not asked."""
        meta: ObjectMeta | None = self._opened_with[4]
        return meta

    def __repr__(self) -> str:
        return f"<obstore.ReadableFile name={self._opened_with[1]!r} size={self.size}>"

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes, fewer only at the end; all that is left where it is negative or ``None``."""
        if size is not None and 0 <= size <= _INNER_BYTES:
            return super().read(size)
        position = self.tell()
        left = max(0, self.size - position)
        raw: Any = self.raw
        data: bytes = raw.pread(position, left if size is None or size < 0 else min(size, left))
        self.seek(position + len(data))
        return data

    def readall(self) -> bytes:
        """All that is left."""
        return self.read()

    def __reduce_ex__(self, protocol: Any, /) -> tuple[Any, ...]:
        return _reopened, (type(self), self._opened_with, None if self.closed else self.tell())

    def __reduce__(self) -> tuple[Any, ...]:
        return self.__reduce_ex__(2)

    def __dask_tokenize__(self) -> Any:
        return _token(self)


class AsyncReadableFile:
    """An object opened for reading by ``open_reader_async``: the methods of a binary file, those that read awaitable.

    See `ReadableFile` for how it reads. Reads that are started beside each other are of consecutive pieces.
    """

    mode = "rb"

    def __init__(self, store: Any, path: str, size: int, buffer_size: int, meta: ObjectMeta | None) -> None:
        self._opened_with = store, path, size, buffer_size, meta
        backend = store._backend  # noqa: SLF001 - every store has one
        self._reader = FileReader(
            backend, backend.parse_key(path, "path"), size, max(buffer_size, 1), AsyncFace(backend)
        )
        self._position = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<obstore.AsyncReadableFile name={self.name!r} size={self.size}>"

    @property
    def name(self) -> str:
        """Path of the object."""
        return self._opened_with[1]

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self._opened_with[2]

    @property
    def meta(self) -> ObjectMeta | None:
        """What the store said of the object when it was opened; ``None`` where ``size`` was given and it was not asked."""
        return self._opened_with[4]

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._is_closed

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """True."""
        return True

    def _check(self) -> None:
        if self._is_closed:
            raise ValueError("I/O operation on closed file.")

    def _left(self) -> int:
        return max(0, self.size - self._position)

    def read(self, size: int | None = -1, /) -> Awaitable[bytes]:
        """Up to ``size`` bytes, fewer only at the end; all that is left where it is negative or ``None``."""
        self._check()
        wanted = self._left() if size is None or size < 0 else min(operator.index(size), self._left())
        position = self._position
        self._position += wanted
        return start(as_file(_joined_op(self._reader.read(position, wanted))))

    def readall(self) -> Awaitable[bytes]:
        """All that is left."""
        return self.read()

    def readinto(self, buffer: Buffer, /) -> Awaitable[int]:
        """Fill a writable buffer; the number of bytes, fewer than it holds only at the end."""
        self._check()
        view = memoryview(buffer).cast("B")
        position = self._position
        self._position += min(len(view), self._left())
        return start(as_file(self._reader.read_into(position, view)))

    def readline(self, size: int | None = -1, /) -> Awaitable[bytes]:
        """Up to the next newline, that included; at most ``size`` bytes."""
        self._check()
        return start(as_file(self._line(size)))

    def _line(self, size: int | None) -> Op[bytes]:
        wanted = self._left() if size is None or size < 0 else min(size, self._left())
        line = _joined((yield from self._reader.read(self._position, wanted, line=True)))
        self._position += len(line)
        return line

    def readlines(self, hint: int | None = -1, /) -> Awaitable[list[bytes]]:
        """All lines that are left; no more once they are ``hint`` bytes together."""
        self._check()
        return start(as_file(self._lines(hint)))

    def _lines(self, hint: int | None) -> Op[list[bytes]]:
        lines: list[bytes] = []
        total = 0
        while (hint is None or hint <= 0 or total < hint) and (line := (yield from self._line(-1))):
            lines.append(line)
            total += len(line)
        return lines

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> Awaitable[int]:
        """Go to ``offset`` from the start, the position (``whence=1``) or the end (2). Returns the new position."""
        self._check()
        self._position = _target(offset, whence, self._position, self.size)
        return Ready(self._position)

    def tell(self) -> Awaitable[int]:
        """The position."""
        self._check()
        return Ready(self._position)

    def close(self) -> Awaitable[None]:
        """Give up what is fetched ahead. In effect at once; may be awaited."""
        self._is_closed = True
        self._reader.close()
        return Ready(None)

    async def __aenter__(self) -> Self:
        self._check()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self._opened_with, None if self._is_closed else self._position)

    def __dask_tokenize__(self) -> Any:
        return _token(self)


def _joined_op(op: Op[list[memoryview]]) -> Op[bytes]:
    return _joined((yield from op))


def _reopened(kind: type[Any], opened_with: tuple[Any, ...], position: int | None) -> Any:
    file = kind(*opened_with)
    if position is None:
        file.close()
    else:
        file.seek(position)
    return file


def _token(file: Any) -> tuple[Any, ...]:
    store, path, size, _, meta = file._opened_with  # noqa: SLF001 - ours
    return type(file).__qualname__, store.__dask_tokenize__(), path, size, None if meta is None else meta["e_tag"]


def open_file(kind: type[Any], store: Any, path: Any, buffer_size: Any, size: Any) -> Op[Any]:
    """Open an object for reading; asks for its size unless ``size`` is given."""
    backend = store._backend  # noqa: SLF001 - every store has one
    backend.parse_key(path, "path")
    window = args.whole_number(buffer_size, "buffer_size")
    if size is not None:
        size = args.whole_number(size, "size")
    return _open_file(kind, store, path, window, size)


def _open_file(kind: type[Any], store: Any, path: str, window: int, size: int | None) -> Op[Any]:
    meta: ObjectMeta | None = None
    if size is None:
        meta = yield from head(store._backend, path)  # noqa: SLF001 - every store has one
        size = meta["size"]
    return kind(store, path, size, window, meta)
