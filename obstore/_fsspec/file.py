"""The file that fsspec's ``open`` gives for an object."""

from __future__ import annotations

import io
from typing import Any, Self

from fsspec.spec import AbstractBufferedFile

from obstore._file_functions import open_reader, open_writer
from obstore._file_writing import DEFAULT_WRITE_BYTES
from obstore._files import DEFAULT_READ_BYTES

_MODES = {"rb", "wb", "xb", "ab"}
_COPY_BYTES = 8 << 20


class BufferedFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec is not typed
    """An object opened by an `FsspecStore`: `obstore.ReadableFile` or `obstore.WritableFile`, as fsspec expects files to be.

    Args:
        fs: the file system.
        path: of the object.
        mode: ``"rb"``, ``"wb"``, ``"xb"`` (only if there is no such object) or ``"ab"`` (reads the object first).
        buffer_size: bytes of a request at first, or of a part; see `obstore.open_reader` and `obstore.open_writer`.
        attributes, tags: of the object that is written.
        autocommit: whether closing makes the object; otherwise `commit` does.
        size: of the object that is read, where it is known.

    Raises:
        ValueError: another mode.
        NotFoundError: there is nothing to read.
    """

    def __init__(
        self,
        fs: Any,
        path: str,
        mode: str = "rb",
        *,
        buffer_size: int | None = None,
        attributes: Any = None,
        tags: Any = None,
        autocommit: bool = True,
        size: int | None = None,
        **kwargs: Any,
    ) -> None:
        self._file: Any = None  # for close(), where the rest fails
        self._is_closed = False
        if mode not in _MODES:
            raise ValueError(f"Only 'rb', 'wb', 'xb' and 'ab' modes supported, got: {mode}")
        store, key = fs.locate(path)
        self.fs = fs
        self.path = path
        self.mode = mode
        self.kwargs = kwargs
        self.autocommit = autocommit
        self.forced = False
        self.offset: int | None = None
        self.blocksize = buffer_size or (DEFAULT_READ_BYTES if mode == "rb" else DEFAULT_WRITE_BYTES)
        if mode == "rb":
            self._file = open_reader(store, key, buffer_size=self.blocksize, size=size)
            self.size = self._file.size
            return
        if mode == "xb" and fs.exists(path):
            raise FileExistsError(path)  # now; whoever makes one meanwhile is noticed on closing
        self._file = open_writer(
            store,
            key,
            attributes=attributes,
            tags=tags,
            buffer_size=self.blocksize,
            mode="create" if mode == "xb" else None,
        )
        if mode == "ab":
            self._write_what_is_there(store, key)

    def _write_what_is_there(self, store: Any, key: str) -> None:
        try:
            old = open_reader(store, key)
        except FileNotFoundError:
            return
        with old:
            while piece := old.read(_COPY_BYTES):
                self._file.write(piece)

    @property
    def name(self) -> str:
        """Path of the object."""
        return self.path

    @property
    def details(self) -> Any:
        """What the file system knows of the object."""
        return self.fs.info(self.path)

    @property
    def full_name(self) -> Any:
        """The path with its protocol."""
        return self.fs.unstrip_protocol(self.path)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    @property
    def loc(self) -> int:
        """The position."""
        return self.tell()

    @loc.setter
    def loc(self, value: int) -> None:
        if value:
            raise ValueError("the position is set by seek()")

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return self.mode == "rb"

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.mode != "rb"

    def seekable(self) -> bool:
        """Whether it was opened for reading."""
        return self.readable()

    def _reader(self) -> Any:
        if self._is_closed:
            raise ValueError("I/O operation on closed file.")
        if self.mode != "rb":
            raise io.UnsupportedOperation("the file was opened for writing")
        return self._file

    def _writer(self) -> Any:
        if self._is_closed:
            raise ValueError("I/O operation on closed file.")
        if self.mode == "rb":
            raise io.UnsupportedOperation("the file was opened for reading")
        return self._file

    def tell(self) -> int:
        """The position."""
        if self._is_closed:
            raise ValueError("I/O operation on closed file.")
        position: int = self._file.tell()
        return position

    def seek(self, loc: int, whence: int = 0) -> int:
        """Go to ``loc`` from the start, the position (``whence=1``) or the end (2)."""
        position: int = self._reader().seek(loc, whence)
        return position

    def read(self, length: int | None = -1) -> bytes:
        """Up to ``length`` bytes; all that is left where it is negative or ``None``."""
        data: bytes = self._reader().read(length)
        return data

    def read1(self, length: int = -1) -> bytes:
        """The same as `read`."""
        return self.read(length)

    def readinto(self, b: Any) -> int:
        """Fill a writable buffer."""
        got: int = self._reader().readinto(b)
        return got

    readinto1 = readinto

    def readline(self, size: int | None = -1) -> bytes:
        """Up to the next newline, that included."""
        line: bytes = self._reader().readline(-1 if size is None else size)
        return line

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """All lines that are left."""
        lines: list[bytes] = self._reader().readlines(-1 if hint is None else hint)
        return lines

    def __iter__(self) -> BufferedFile:
        self._reader()
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def write(self, data: Any) -> int:
        """Write all of a bytes-like object."""
        written: int = self._writer().write(data)
        return written

    def flush(self, force: bool = False) -> None:  # noqa: ARG002 - parts go up when they are full, and on closing
        """Does nothing: the object is made on closing."""
        if self._is_closed:
            raise ValueError("I/O operation on closed file.")

    def close(self) -> None:
        """Close it; what was written becomes the object, or waits for `commit` in a transaction."""
        if self._is_closed:
            return
        self._is_closed = True
        if self._file is not None and (self.mode == "rb" or self.autocommit):
            self._finish()

    def _finish(self) -> None:
        self._file.close()
        if self.mode != "rb":
            self.fs.invalidate_cache(self.path)

    def commit(self) -> None:
        """Make the object: the transaction is complete."""
        self._is_closed = True
        self._finish()

    def discard(self) -> None:
        """Give the object up: the transaction failed."""
        self._is_closed = True
        if self.mode != "rb":
            self._file.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        if kind is not None and self.mode != "rb" and not self._is_closed:
            self.discard()
        else:
            self.close()

    def __del__(self) -> None:
        self._file = None  # a writer that was not closed gives itself up

    def __reduce__(self) -> Any:
        if self.mode != "rb":
            raise TypeError("a file that is being written cannot be pickled")
        position = None if self._is_closed else self.tell()
        return _reopened, (type(self), self.fs, self.path, self.blocksize, self.size, position)


def _reopened(
    kind: type[BufferedFile], fs: Any, path: str, blocksize: int, size: int, position: int | None
) -> BufferedFile:
    file = kind(fs, path, buffer_size=blocksize, size=size)
    if position is None:
        file.close()
    else:
        file.seek(position)
    return file
