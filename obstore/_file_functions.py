"""The public functions that open objects as files. ``obstore`` re-exports them; the methods of the stores call them."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from obstore._file_writing import DEFAULT_WRITE_BYTES, AsyncWritableFile, WritableFile
from obstore._files import DEFAULT_READ_BYTES, AsyncReadableFile, ReadableFile, open_file
from obstore._functions import backend_of
from obstore._ops.put import DEFAULT_CONCURRENCY
from obstore._run import run as _run
from obstore._run import start as _start
from obstore._types import Attributes, PutMode

if TYPE_CHECKING:
    from obstore._methods import ObjectStoreMethods as ObjectStore


def open_reader(
    store: ObjectStore, path: str, *, buffer_size: int = DEFAULT_READ_BYTES, size: int | None = None
) -> ReadableFile:
    """Open an object for reading, as a binary file.

    Args:
        store: where from.
        path: the object's key.
        buffer_size: bytes of a request at first, 1 MiB by default. Requests grow while the file is read from front to end and
            shrink while it is read here and there; a read of more than that is one request of its size, or several beside each
            other.
        size: of the object, where it is known: saves the request that asks for it.

    Returns:
        An `io.BufferedReader`: for ``zipfile``, ``h5py``, ``PIL``, ``io.TextIOWrapper`` and whatever takes a file.

    Raises:
        NotFoundError: there is no such object. Not noticed before the first read where ``size`` is given.
        TypeError, ValueError, OverflowError: an argument is wrong.
    """
    backend_of(store)
    file: ReadableFile = _run(open_file(ReadableFile, store, path, buffer_size, size))
    return file


def open_reader_async(
    store: ObjectStore, path: str, *, buffer_size: int = DEFAULT_READ_BYTES, size: int | None = None
) -> Awaitable[AsyncReadableFile]:
    """Open an object for reading, as a file whose methods are awaited; see `open_reader`."""
    backend_of(store)
    return _start(open_file(AsyncReadableFile, store, path, buffer_size, size))


def open_writer(
    store: ObjectStore,
    path: str,
    *,
    attributes: Attributes | None = None,
    buffer_size: int = DEFAULT_WRITE_BYTES,
    tags: dict[str, str] | None = None,
    max_concurrency: int = DEFAULT_CONCURRENCY,
    mode: PutMode | None = None,
) -> WritableFile:
    """Open an object for writing, as a binary file. The object appears when the file is closed.

    Args:
        store: where to.
        path: the object's key.
        attributes: ``Content-Type``, ``Cache-Control`` and the like; other names are user metadata.
        buffer_size: up to so many bytes are kept and sent in one request, more go up in parts of this size; 10 MiB by default.
            Parts are never smaller than the service allows, and grow where 10,000 of them would not do.
        tags: object tags, where the store has them.
        max_concurrency: parts uploaded at the same time, 12 by default.
        mode: as for `put`; a condition is checked when the file is closed.

    Returns:
        An `io.BufferedIOBase`. Leaving its ``with`` block by an exception leaves nothing behind.

    Raises:
        TypeError, ValueError, OverflowError: an argument is wrong.
    """
    backend_of(store)
    return WritableFile(
        store,
        path,
        attributes=attributes,
        buffer_size=buffer_size,
        tags=tags,
        max_concurrency=max_concurrency,
        mode=mode,
    )


def open_writer_async(
    store: ObjectStore,
    path: str,
    *,
    attributes: Attributes | None = None,
    buffer_size: int = DEFAULT_WRITE_BYTES,
    tags: dict[str, str] | None = None,
    max_concurrency: int = DEFAULT_CONCURRENCY,
    mode: PutMode | None = None,
) -> AsyncWritableFile:
    """Open an object for writing, as a file whose methods are awaited; see `open_writer`. This call itself is not awaited."""
    backend_of(store)
    return AsyncWritableFile(
        store,
        path,
        attributes=attributes,
        buffer_size=buffer_size,
        tags=tags,
        max_concurrency=max_concurrency,
        mode=mode,
    )
