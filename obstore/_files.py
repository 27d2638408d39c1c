"""Objects as files. Reading and writing are operations (``_ops/file_read.py``, ``_ops/file_write.py``); here are their two faces.

The synchronous files are real ones of ``io``: the reader is an `io.BufferedReader` whose raw file is the object, so small reads,
lines and ``peek`` run in C.
"""

from __future__ import annotations

import contextlib
import io
import operator
import os
import sys
import warnings
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Self

from obstore._effects import Await, Call, Op
from obstore._ops import args
from obstore._ops.file_read import FileReader, JobLostError
from obstore._ops.file_write import FileWriter
from obstore._ops.get import head
from obstore._ops.remote import RemoteBackend
from obstore._run import Ready, in_trio, run, start
from obstore._types import Backend, Buffer, ObjectMeta, PutResult
from obstore.exceptions import BaseError

if TYPE_CHECKING:
    import asyncio

    from obstore._run.background import Job

DEFAULT_READ_BYTES = 1024 * 1024
DEFAULT_WRITE_BYTES = 10 * 1024 * 1024
# What `io.BufferedReader` keeps itself; reads of up to this size cost no Python.
_INNER_BYTES = 64 << 10


# ---- errors of file objects ---------------------------------------------------------------------------

_os_errors: dict[type[BaseError], type[BaseError]] = {}


def _os_error(kind: type[BaseError]) -> type[BaseError]:
    """The class of errors that is both ``kind`` and `OSError`, as which programs expect what a file raises."""
    if issubclass(kind, OSError):
        return kind
    found = _os_errors.get(kind)
    if found is None:
        names = {"__module__": kind.__module__, "__doc__": kind.__doc__, "__reduce__": _reduce_os_error}
        found = _os_errors[kind] = type(kind.__name__, (kind, OSError), names)
    return found


def _reduce_os_error(error: BaseError) -> tuple[Any, ...]:
    return _rebuild_os_error, (type(error).__mro__[1], str(error), error.__dict__)


def _rebuild_os_error(kind: type[BaseError], message: str, attributes: dict[str, Any]) -> BaseError:
    error = _os_error(kind)(message)
    error.__dict__.update(attributes)
    return error


def as_file(op: Op[Any]) -> Op[Any]:
    """The operation; what it raises on purpose is an `OSError` as well."""
    failure: BaseError | None = None
    try:
        return (yield from op)
    except BaseError as error:
        if isinstance(error, OSError):
            raise
        failure = _rebuild_os_error(type(error), str(error), error.__dict__)
    try:
        raise failure
    finally:
        del failure  # the traceback holds this frame


# ---- how operations go on between calls ---------------------------------------------------------------


class SyncFace:
    """The background thread; for stores behind HTTP only, since others have nothing to wait for."""

    def __init__(self, backend: Backend) -> None:
        self._is_remote = isinstance(backend, RemoteBackend)

    def launch(self, op: Op[Any]) -> Job | None:
        if not self._is_remote:
            return None
        from obstore._run import background

        return background.start_in_background(op) if background.is_possible() else None

    def discard(self, writer: FileWriter) -> None:
        background = sys.modules.get("obstore._run.background")
        if background is not None:  # else no part was ever sent on
            background.discard_in_background(writer.abandon())

    def wait(self, job: Job) -> Op[Any]:
        if job.lost:
            raise JobLostError("the file was opened before a fork, and what it had under way is in the parent process")
        return (yield Call(job.result))


class AsyncFace:
    """The event loop that runs."""

    def __init__(self, backend: Backend) -> None:
        self._is_remote = isinstance(backend, RemoteBackend)
        self._loop: asyncio.AbstractEventLoop | None = None

    def launch(self, op: Op[Any]) -> Any:
        if not self._is_remote or in_trio():  # there, one request after the other
            return None
        import asyncio

        self._loop = asyncio.get_running_loop()
        return _unattended(op)

    def discard(self, writer: FileWriter) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the service's lifecycle rules are left
                self._loop.call_soon_threadsafe(lambda: _unattended(writer.abandon()))

    def wait(self, job: Any) -> Op[Any]:
        import asyncio

        if job.get_loop() is not asyncio.get_running_loop():
            raise JobLostError(
                "the file is used on another event loop than before, and what it had under way is on that one"
            )
        return (yield Await(job))


def _unattended(op: Op[Any]) -> Any:
    job: Any = start(op)
    job.add_done_callback(_look_at_error)
    return job


def _look_at_error(job: Any) -> None:
    """Nobody may ever wait for what was fetched ahead."""
    if not job.cancelled():
        job.exception()


class _Closed(int):
    """What ``closed`` is: true or false as files have it, and callable, as the published writers have it."""

    def __call__(self) -> bool:
        return bool(self)

    def __repr__(self) -> str:
        return str(bool(self))


class _ClosedAsync(_Closed):
    """The same for the asynchronous files: calling it gives an awaitable."""

    def __call__(self) -> Any:
        return Ready(bool(self))


# ---- reading ------------------------------------------------------------------------------------------


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


# ---- writing ------------------------------------------------------------------------------------------


def _writer(
    store: Any, path: Any, attributes: Any, buffer_size: Any, tags: Any, max_concurrency: Any, mode: Any, face: Any
) -> FileWriter:
    backend = store._backend  # noqa: SLF001 - every store has one
    return FileWriter(
        backend,
        backend.parse_key(path, "path"),
        args.parse_put_options(mode, attributes, tags),
        args.whole_number(buffer_size, "buffer_size", minimum=1),
        max(1, args.whole_number(max_concurrency, "max_concurrency")),
        face(backend),
    )


def _check_buffer(data: Any) -> int:
    """Its number of bytes."""
    if isinstance(data, str):
        raise TypeError("a bytes-like object is required, not 'str'")
    return memoryview(data).nbytes


class WritableFile(io.BufferedIOBase):
    """An object opened for writing by ``open_writer``: a binary file like those of ``open(path, "wb")``.

    The object appears, whole, when the file is closed; until then there is nothing, or what was there before. Leaving a ``with``
    block by an exception gives it up, as `abort` does, and as does letting go of a file that was not closed.

    Up to ``buffer_size`` bytes are sent in one request on closing; more go up in parts while the file is being written. Errors of
    the store are what they always are and `OSError` too; after one of them the file is closed and nothing of it is left.
    """

    mode = "wb"

    def __init__(
        self,
        store: Any,
        path: str,
        *,
        attributes: Any = None,
        buffer_size: int = DEFAULT_WRITE_BYTES,
        tags: Any = None,
        max_concurrency: int = 12,
        mode: Any = None,
    ) -> None:
        self._writer: FileWriter | None = None  # for __del__, where an argument is wrong
        self.name = path
        self._writer = _writer(store, path, attributes, buffer_size, tags, max_concurrency, mode, SyncFace)
        self._written = 0
        self._result: PutResult | None = None

    def __repr__(self) -> str:
        return f"<obstore.WritableFile name={self.name!r} closed={self.closed!r}>"

    @property
    def closed(self) -> Any:
        """Whether the file was closed or given up. May be called, too, which gives the same."""
        return _Closed(self._writer is None)

    @property
    def result(self) -> PutResult | None:
        """The new object's ``e_tag`` and ``version``, once it was closed."""
        return self._result

    def readable(self) -> bool:
        """False."""
        return False

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """False: an object is written from front to end."""
        return False

    def _open_writer(self) -> FileWriter:
        if self._writer is None:
            raise ValueError("I/O operation on closed file.")
        return self._writer

    def tell(self) -> int:
        """Number of bytes written so far."""
        self._open_writer()
        return self._written

    def write(self, buffer: Buffer, /) -> int:
        """Write all of a bytes-like object; returns its number of bytes. It may be changed afterwards."""
        writer = self._open_writer()
        size = _check_buffer(buffer)
        self._written += size
        if writer.add(buffer):
            try:
                run(as_file(writer.send()))
            except BaseException:
                self._writer = None
                raise
        return size

    def flush(self) -> None:
        """Does nothing: what was written waits for its part to be full, or for `close`."""
        self._open_writer()

    def close(self) -> None:
        """Send what is left and make the object. A second call does nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._result = run(as_file(writer.finish()))

    def abort(self) -> None:
        """Give the object up: nothing of it is left in the store."""
        writer, self._writer = self._writer, None
        if writer is not None:
            run(writer.abort())

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def __del__(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.let_go()
        if self._written:
            warnings.warn(
                f"{self.name!r} was not closed: what was written to it is given up",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __reduce_ex__(self, protocol: Any, /) -> Any:
        raise TypeError("a file that is being written cannot be pickled")


class AsyncWritableFile:
    """An object opened for writing by ``open_writer_async``: see `WritableFile`; its methods are awaitable."""

    mode = "wb"

    def __init__(
        self,
        store: Any,
        path: str,
        *,
        attributes: Any = None,
        buffer_size: int = DEFAULT_WRITE_BYTES,
        tags: Any = None,
        max_concurrency: int = 12,
        mode: Any = None,
    ) -> None:
        self._writer: FileWriter | None = None  # for __del__, where an argument is wrong
        self.name = path
        self._writer = _writer(store, path, attributes, buffer_size, tags, max_concurrency, mode, AsyncFace)
        self._written = 0
        self._sending = False
        self._result: PutResult | None = None

    def __repr__(self) -> str:
        return f"<obstore.AsyncWritableFile name={self.name!r} closed={self.closed!r}>"

    @property
    def closed(self) -> Any:
        """Whether the file was closed or given up. May be called, too, and the answer awaited."""
        return _ClosedAsync(self._writer is None)

    @property
    def result(self) -> PutResult | None:
        """The new object's ``e_tag`` and ``version``, once it was closed."""
        return self._result

    def readable(self) -> bool:
        """False."""
        return False

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """False: an object is written from front to end."""
        return False

    def _open_writer(self) -> FileWriter:
        if self._writer is None:
            raise ValueError("I/O operation on closed file.")
        if self._sending:
            raise RuntimeError("another write to this file is under way: await it first")
        return self._writer

    def tell(self) -> int:
        """Number of bytes written so far."""
        return self._written

    def write(self, buffer: Buffer, /) -> Awaitable[int]:
        """Write all of a bytes-like object; its number of bytes. It may be changed once this was awaited."""
        writer = self._open_writer()
        size = _check_buffer(buffer)
        self._written += size
        if writer.add(buffer):
            self._sending = True
            return start(as_file(self._send(writer, size)))
        return Ready(size)

    def _send(self, writer: FileWriter, size: int) -> Op[int]:
        try:
            yield from writer.send()
        except BaseException:
            self._writer = None
            raise
        finally:
            self._sending = False
        return size

    def flush(self) -> Awaitable[None]:
        """Does nothing: what was written waits for its part to be full, or for `close`."""
        self._open_writer()
        return Ready(None)

    def close(self) -> Awaitable[None]:
        """Send what is left and make the object. A second call does nothing."""
        if self._writer is None:
            return Ready(None)
        writer = self._open_writer()
        self._writer = None
        return start(as_file(self._finish(writer)))

    def _finish(self, writer: FileWriter) -> Op[None]:
        self._result = yield from writer.finish()

    def abort(self) -> Awaitable[None]:
        """Give the object up: nothing of it is left in the store."""
        writer, self._writer = self._writer, None
        return Ready(None) if writer is None else start(writer.abort())

    async def __aenter__(self) -> Self:
        self._open_writer()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        await (self.close() if kind is None else self.abort())

    def __del__(self) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.let_go()
        if self._written:
            warnings.warn(
                f"{self.name!r} was not closed: what was written to it is given up",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )

    def __reduce__(self) -> Any:
        raise TypeError("a file that is being written cannot be pickled")
