"""Objects as files to write to. Writing is an operation (``_ops/file_write.py``); here are its two faces."""

from __future__ import annotations

import io
import warnings
from collections.abc import Awaitable
from typing import Any, Self

from obstore._effects import Op
from obstore._faces import AsyncFace, SyncFace
from obstore._file_errors import as_file
from obstore._ops import args
from obstore._ops.file_write import FileWriter
from obstore._run import Ready, run, start
from obstore._types import Buffer, PutResult

DEFAULT_WRITE_BYTES = 10 * 1024 * 1024


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


class _ObjectWriting:
    """What both kinds have in common: the state of the file, and its operations."""

    mode = "wb"
    _face: type[SyncFace | AsyncFace]
    _closed_kind: type[_Closed]

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
        backend = store._backend  # noqa: SLF001 - every store has one
        self._writer = FileWriter(
            backend,
            backend.parse_key(path, "path"),
            args.parse_put_options(mode, attributes, tags),
            args.whole_number(buffer_size, "buffer_size", minimum=1),
            max(1, args.whole_number(max_concurrency, "max_concurrency")),
            self._face(backend),
        )
        self._written = 0
        self._result: PutResult | None = None

    def __repr__(self) -> str:
        return f"<obstore.{type(self).__name__} name={self.name!r} closed={self.closed!r}>"

    @property
    def closed(self) -> Any:
        """Whether the file was closed or given up. May be called, too, which gives the same; asynchronously, to be awaited."""
        return self._closed_kind(self._writer is None)

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

    def tell(self) -> int:
        """Number of bytes written so far."""
        return self._written

    def _open_writer(self) -> FileWriter:
        if self._writer is None:
            raise ValueError("I/O operation on closed file.")
        return self._writer

    def _write(self, buffer: Any) -> tuple[int, Op[int] | None]:
        """Take the bytes; how many they are, and what is to be run where there are enough of them to be sent."""
        writer = self._open_writer()
        if isinstance(buffer, str):
            raise TypeError("a bytes-like object is required, not 'str'")
        size = memoryview(buffer).nbytes
        self._written += size
        return size, as_file(self._send(writer, size)) if writer.add(buffer) else None

    def _send(self, writer: FileWriter, size: int) -> Op[int]:
        try:
            yield from writer.send()
        except BaseException:
            self._writer = None
            raise
        return size

    def _close(self) -> Op[None] | None:
        """What closing runs; ``None`` where the file is closed."""
        writer, self._writer = self._writer, None
        return None if writer is None else as_file(self._finish(writer))

    def _finish(self, writer: FileWriter) -> Op[None]:
        self._result = yield from writer.finish()

    def _give_up(self) -> Op[None] | None:
        """What giving up runs; ``None`` where the file is closed."""
        writer, self._writer = self._writer, None
        return None if writer is None else writer.abort()

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


class WritableFile(_ObjectWriting, io.BufferedIOBase):
    """An object opened for writing by ``open_writer``: a binary file like those of ``open(path, "wb")``.

    The object appears, whole, when the file is closed; until then there is nothing, or what was there before. Leaving a ``with``
    block by an exception gives it up, as `abort` does, and as does letting go of a file that was not closed.

    Up to ``buffer_size`` bytes are sent in one request on closing; more go up in parts while the file is being written. Errors of
    the store are what they always are and `OSError` too; after one of them the file is closed and nothing of it is left.
    """

    _face = SyncFace
    _closed_kind = _Closed

    def tell(self) -> int:
        """Number of bytes written so far."""
        self._open_writer()
        return self._written

    def write(self, buffer: Buffer, /) -> int:
        """Write all of a bytes-like object; returns its number of bytes. It may be changed afterwards."""
        size, op = self._write(buffer)
        return size if op is None else run(op)

    def flush(self) -> None:
        """Does nothing: what was written waits for its part to be full, or for `close`."""
        self._open_writer()

    def close(self) -> None:
        """Send what is left and make the object. A second call does nothing."""
        op = self._close()
        if op is not None:
            run(op)

    def abort(self) -> None:
        """Give the object up: nothing of it is left in the store."""
        op = self._give_up()
        if op is not None:
            run(op)

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class AsyncWritableFile(_ObjectWriting):
    """An object opened for writing by ``open_writer_async``: see `WritableFile`; its methods are awaitable."""

    _face = AsyncFace
    _closed_kind = _ClosedAsync
    _sending = False

    def _open_writer(self) -> FileWriter:
        writer = super()._open_writer()
        if self._sending:
            raise RuntimeError("another write to this file is under way: await it first")
        return writer

    def write(self, buffer: Buffer, /) -> Awaitable[int]:
        """Write all of a bytes-like object; its number of bytes. It may be changed once this was awaited."""
        size, op = self._write(buffer)
        if op is None:
            return Ready(size)
        self._sending = True
        return start(op)

    def _send(self, writer: FileWriter, size: int) -> Op[int]:
        try:
            return (yield from super()._send(writer, size))
        finally:
            self._sending = False

    def flush(self) -> Awaitable[None]:
        """Does nothing: what was written waits for its part to be full, or for `close`."""
        self._open_writer()
        return Ready(None)

    def close(self) -> Awaitable[None]:
        """Send what is left and make the object. A second call does nothing."""
        if self._writer is not None:
            self._open_writer()
        op = self._close()
        return Ready(None) if op is None else start(op)

    def abort(self) -> Awaitable[None]:
        """Give the object up: nothing of it is left in the store."""
        op = self._give_up()
        return Ready(None) if op is None else start(op)

    async def __aenter__(self) -> Self:
        self._open_writer()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        await (self.close() if kind is None else self.abort())
