"""What operations give to the caller: objects to read from, synchronously or not. Listings are in ``_listings``.

Each object serves both faces; which one is decided by the method that is called, each time anew.
"""

from __future__ import annotations

import builtins
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self, TypeVar

from obstore._effects import Op
from obstore._engine import Bytes, NewBytes
from obstore._ops.get import writable
from obstore._run import begun, finished, observe, run, start

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from obstore._types import Attributes, Body, Buffer, CoroutineType, ObjectMeta, Opened

T = TypeVar("T")

DEFAULT_CHUNK_BYTES = 10 * 1024 * 1024
_LANDING_BYTES = 256 << 10  # chunks of so many bytes arrive in the memory that they are given out in


def wrapped(op: Op[Any]) -> Op[Any]:
    """The operation, its buffer result as `Bytes`; a number (of bytes written into a buffer) stays."""
    body = yield from op
    return body if type(body) is Bytes or isinstance(body, int) else Bytes(body)


def wrapped_all(op: Op[builtins.list[Any]]) -> Op[builtins.list[Any]]:
    """The operation, each buffer of its result as `Bytes`; numbers (of bytes written into buffers) stay."""
    return [body if type(body) is Bytes or isinstance(body, int) else Bytes(body) for body in (yield from op)]


def opened(op: Op[Opened]) -> Op[GetResult]:
    """The operation, the object that it opens as `GetResult`."""
    return GetResult((yield from op))


class GetResult:
    """An object opened by ``get``: what is known of it at once, its body on demand.

    The body can be consumed once, by one of `bytes`, `buffer`, `stream`, iteration, or their asynchronous twins; it is downloaded
    as it is consumed. Letting go of the result gives the connection back.
    """

    __slots__ = ("__weakref__", "_opened", "_source")

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        # What is still to be consumed: popped, which gives it to one thread only, with a GIL or without.
        self._source: list[Opened] = [opened]

    def __repr__(self) -> str:
        return f"GetResult(path={self.meta['path']!r}, size={self.meta['size']}, range={self.range})"

    def __del__(self) -> None:
        source = getattr(self, "_source", None)
        if source:
            source.pop().close()

    def close(self) -> None:
        """Give up the body, if it was not consumed. The rest stays readable."""
        try:
            source = self._source.pop()
        except IndexError:
            return
        source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.close()

    @property
    def meta(self) -> ObjectMeta:
        """The object's path, size (of the whole object), last modification, ETag and version."""
        return self._opened.meta

    @property
    def range(self) -> tuple[int, int]:
        """The bytes of the object that the body holds, as ``(start, end)``, end exclusive."""
        return self._opened.range

    @property
    def attributes(self) -> Attributes:
        """Content-Type and the like, and user metadata; empty where the store keeps none."""
        return self._opened.attributes

    @property
    def timing(self) -> Any:
        """Where the time of the HTTP attempt that answered went (`obstore.Timing`); ``None`` for stores without HTTP."""
        return self._opened.timing

    def _consume(self) -> Opened:
        try:
            return self._source.pop()
        except IndexError:
            raise ValueError("Result has already been disposed.") from None

    def bytes(self) -> Bytes:
        """Download the body.

        Raises:
            ValueError: it was consumed before.
            BaseError: the download failed.
        """
        source = self._consume()
        body = source.ready()
        if body is None:
            body = run(wrapped(source.collect()))
        return body if type(body) is Bytes else Bytes(body)

    def buffer(self) -> Bytes:
        """The same as `bytes`."""
        return self.bytes()

    def bytes_async(self) -> Awaitable[Bytes]:
        """Download the body on the running event loop; see `bytes`."""
        source = self._consume()
        body = source.ready()
        if body is None:
            return start(wrapped(source.collect()))
        return finished(body if type(body) is Bytes else Bytes(body))

    def buffer_async(self) -> CoroutineType[Any, Any, Bytes]:
        """The same as `bytes_async`, as a coroutine."""
        return begun(self.bytes_async)

    def readinto(self, buffer: Buffer) -> int:
        """Download the body into a writable buffer, of which no more is needed than that: bytearray, numpy array, mmap ...

        Returns:
            Number of bytes written, from the buffer's front on.

        Raises:
            ValueError: the buffer is too small, or the body was consumed before.
            TypeError: it is no writable buffer.
            BaseError: the download failed; what is in the buffer is of no use.
        """
        view = self._room_in(buffer)
        return run(_read_into(self._consume(), view))

    def readinto_async(self, buffer: Buffer) -> Awaitable[int]:
        """Download the body into a writable buffer, on the running event loop; see `readinto`."""
        view = self._room_in(buffer)
        return start(_read_into(self._consume(), view))

    def _room_in(self, buffer: Any) -> memoryview:
        first, last = self.range
        return writable(buffer, last - first, "buffer")

    def stream(self, min_chunk_size: int = DEFAULT_CHUNK_BYTES) -> BytesStream:
        """Download the body piece by piece.

        Args:
            min_chunk_size: bytes that every chunk but the last has at least; 0 gives pieces as they arrive.

        Returns:
            An iterator and asynchronous iterator of ``bytes``.
        """
        if isinstance(min_chunk_size, bool) or not isinstance(min_chunk_size, int):
            raise TypeError(
                f"min_chunk_size: '{type(min_chunk_size).__name__}' object cannot be interpreted as an integer"
            )
        if min_chunk_size < 0:
            raise OverflowError("min_chunk_size: can't convert negative int to unsigned")
        body = self._consume()
        return BytesStream(observe.StreamedBody(body) if observe.watching() else body, min_chunk_size)

    def __iter__(self) -> BytesStream:
        return self.stream()

    def __aiter__(self) -> BytesStream:
        return self.stream()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickling downloads the body, if it was not consumed; afterwards both have it in memory."""
        opened = self._opened
        body: bytes | None = None
        if self._source:
            body = bytes(self.bytes())
            self._opened = kept = Kept(opened, body)
            self._source.append(kept)
        return _result_of, (opened.meta, opened.range, opened.attributes, opened.timing, body)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        meta = self.meta
        return "obstore.GetResult", meta["path"], meta["e_tag"], meta["version"], str(meta["last_modified"]), self.range


def _read_into(opened: Opened, view: memoryview) -> Op[int]:
    done = yield from opened.read_into(view)
    opened.close()
    return done


class Kept:
    """An opened object whose body is in memory: what a result turns into when it is pickled."""

    arrives = False

    def __init__(self, opened: Any, body: bytes) -> None:
        self.meta = opened.meta
        self.range = opened.range
        self.attributes = opened.attributes
        self.timing = opened.timing
        self._body = body

    def ready(self) -> bytes:
        """The body."""
        body, self._body = self._body, b""
        return body

    def collect(self) -> Op[bytes]:
        """The body."""
        yield from ()
        return self.ready()

    def read(self, size: int) -> Op[bytes]:  # noqa: ARG002 - all of it is there
        """The body."""
        return self.collect()

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._body)

    def read_into(self, view: memoryview) -> Op[int]:
        """Copy the next bytes to ``view``; fewer only at the end."""
        yield from ()
        size = min(len(view), len(self._body))
        view[:size] = self._body[:size]
        self._body = self._body[size:]
        return size

    def close(self) -> None:
        """Forget the body."""
        self._body = b""


def _result_of(meta: Any, span: tuple[int, int], attributes: Any, timing: Any, body: bytes | None) -> GetResult:
    made = GetResult.__new__(GetResult)
    made._opened = Kept(SimpleNamespace(meta=meta, range=span, attributes=attributes, timing=timing), body or b"")  # noqa: SLF001
    made._source = [] if body is None else [made._opened]  # noqa: SLF001
    return made


class BytesStream:
    """The chunks of a body, made by ``GetResult.stream``: for use with ``for`` or ``async for``."""

    __slots__ = ("__weakref__", "_body", "_min_chunk_size")

    def __init__(self, body: Body, min_chunk_size: int) -> None:
        self._body: Body | None = body
        self._min_chunk_size = min_chunk_size

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give up the rest of the body."""
        body, self._body = getattr(self, "_body", None), None
        if body is not None:
            body.close()

    def _next(self, end: type[Exception]) -> Op[bytes]:
        body = self._body
        chunk = b"" if body is None else (yield from _chunk_of(body, self._min_chunk_size))
        if not chunk:
            self.close()
            raise end("stream exhausted")
        return chunk

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        try:
            return run(self._next(_Exhausted))
        except _Exhausted:
            raise StopIteration("stream exhausted") from None

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return start(self._next(StopAsyncIteration))


def _chunk_of(body: Body, least: int) -> Op[bytes]:
    size = min(least, body.left) if least >= _LANDING_BYTES and body.arrives else 0
    if size < _LANDING_BYTES:
        return (yield from body.read(least))  # type: ignore[no-any-return]
    chunk = NewBytes(size)
    with memoryview(chunk) as view:
        done = yield from body.read_into(view)
    return chunk.value(done)


class _Exhausted(Exception):  # noqa: N818 - StopIteration cannot leave a generator
    """The stream is at its end."""
