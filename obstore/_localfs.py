"""The half of ``LocalStore`` that touches the file system: everything here may block and runs inside a ``Call``.

Every path is reached through an open descriptor whose real place is checked against the root, and what follows is done
relative to that descriptor: a symbolic link cannot lead out of the root, not even one that is swapped in meanwhile.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from operator import itemgetter
from types import TracebackType
from typing import TYPE_CHECKING, TypeAlias

from obstore._types import Scatter
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
)

if TYPE_CHECKING:
    from obstore._types import Buffer

NAME = "LocalFileSystem"

# What a listing finds: keys, with the status of objects, and with None for prefixes.
Walk: TypeAlias = Iterator[tuple[str, os.stat_result | None]]

# O_NONBLOCK: opening a named pipe must not wait for its writer; it changes nothing for regular files.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_LOOK = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK) | os.O_CLOEXEC
_DIRECTORY = _LOOK | os.O_DIRECTORY
_STAGE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

_MAX_SEGMENTS = 1024  # IOV_MAX of Linux and macOS
_MAX_TRANSFER_BYTES = 1 << 30  # one system call moves less than 2 GiB
_STEP_BYTES = 1 << 20  # read into memory of the caller, who may want it back, at a time
_COPY_BYTES = 1 << 20
# Where huge pages pay: 256 MiB from the page cache take 45 ms into them and 155 ms into malloc's memory; below this
# size malloc reuses memory that is already mapped, and wins.
_HUGE_BYTES = 16 << 20
_MAX_NAME_BYTES = 255
_ATTEMPTS = 100  # at a directory that a concurrent clean-up takes away each time

_UNSAFE_SEGMENT = re.compile(r"(?:^|/)\.{0,2}(?:/|\Z)")
_STAGING_NAME = re.compile(r"#[0-9]+\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})
_NO_FAST_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM})
_HINTS = {
    errno.ENOENT: "the root directory of the store is gone",  # all other parents are made
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is mounted read-only",
    errno.EISDIR: "a directory of that name exists; a file system cannot hold both the objects a and a/b",
    errno.ENOTDIR: "a parent of that name is a file; a file system cannot hold both the objects a and a/b",
    errno.ENAMETOOLONG: "file systems take about 255 bytes between two slashes and 4095 in all",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ELOOP: "symbolic links lead around in a circle",
}


class Descriptor:
    """Owns a file descriptor.

    Dropping the last reference closes it, so that no thread can close what another one still reads from: whoever
    uses ``fd`` holds the object meanwhile.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close now and report failure, as network file systems fail late. Only for the one who shares it with nobody."""
        fd, self.fd = self.fd, -1
        os.close(fd)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class explaining:  # noqa: N801 - used like a function
    """Turn an ``OSError`` of the block into the library's exception, which names the key and the path.

    Args:
        doing: what the block does to the file, as in "Unable to ... file".
        path: absolute path of the file.
        key: of the object.
        reading: whether the block needs an existing object, and misses it where there is none.
    """

    __slots__ = ("_doing", "_key", "_path", "_reading")

    def __init__(self, doing: str, path: str, key: str, *, reading: bool = False) -> None:
        self._doing = doing
        self._path = path
        self._key = key
        self._reading = reading

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Some exceptions of ours are OSErrors too.
        if isinstance(error, OSError) and not isinstance(error, BaseError):
            raise _explained(error, self._doing, self._path, self._key, reading=self._reading) from error


class Tree:
    """The files below a root directory; ``root=None`` is the whole file system.

    Raises:
        GenericError: the root does not exist or is no directory.
    """

    def __init__(self, root: str | None, *, mkdir: bool) -> None:
        self.root = "/" if root is None else _resolve_root(root, mkdir)
        self._base = self.root.rstrip("/") + "/"
        self._is_confined = self._base != "/"

    def path(self, key: str) -> str:
        """Map a key to its absolute path.

        Raises:
            InvalidPathError: the key could leave the root, or names no file.
            GenericError: it is the name of a staging file.
        """
        if not key or _STAGING_NAME.search(key):
            detail = f"Filenames containing trailing '/#\\d+/' are not supported: {printable(key)}"
            hint = None if key else "the empty key is the root directory"
            raise GenericError.of(NAME, detail, key=key, hint=hint)
        if not is_mappable(key):
            raise InvalidPathError.of(key, f"{key!r} cannot be a file below {printable(self.root)}", key=key)
        return self._base + key

    def open_file(self, key: str) -> tuple[Descriptor, os.stat_result]:
        """Open an object for reading."""
        return self._open_regular(key, _READ)

    def stat_file(self, key: str) -> os.stat_result:
        """Describe an object; needs no permission to read it."""
        return self._open_regular(key, _LOOK)[1]

    def stage(self, key: str) -> Staging:
        """Begin to write an object; makes its parent directories."""
        for _ in range(_ATTEMPTS):
            with suppress(FileNotFoundError):  # a clean-up took the directory that we had just found or made
                return Staging(*self._open_parent(key, create=True))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def delete(self, key: str, *, clean_up: bool) -> None:
        """Remove an object; with ``clean_up`` also the parent directories that this empties."""
        path = self.path(key)
        with explaining("delete", path, key, reading=True):
            directory, name = self._open_parent(key, create=False)
            os.unlink(name, dir_fd=directory.fd)
        if not clean_up:
            return
        parent = os.path.dirname(path)
        while len(parent) > len(self.root):
            try:
                os.rmdir(parent)
            except OSError:
                return  # not empty, or not ours to remove: either way the object is gone
            parent = os.path.dirname(parent)

    def copy(self, from_: str, to: str, overwrite: bool) -> None:
        """Copy an object's bytes; later changes to either file do not show in the other."""
        with explaining("open", self.path(from_), from_, reading=True):
            source, status = self.open_file(from_)
        if from_ == to:
            return
        with explaining("copy", self.path(to), to):
            staging = self.stage(to)
            try:
                if not overwrite:
                    staging.refuse_existing()  # commit would find it too, but after all the work
                _copy_bytes(source.fd, staging.file.fd, status.st_size)
                staging.commit(overwrite=overwrite)
            finally:
                staging.discard()

    def rename(self, from_: str, to: str, overwrite: bool) -> None:
        """Move an object; in one step, unless it crosses file systems."""
        for _ in range(_ATTEMPTS):
            with explaining("open", self.path(from_), from_, reading=True):
                from_directory, from_name = self._open_parent(from_, create=False)
                source = os.stat(from_name, dir_fd=from_directory.fd, follow_symlinks=False)
            if stat.S_ISLNK(source.st_mode):
                break  # a relative link would point elsewhere from its new place: move what it stands for
            self._refuse_irregular(source, from_)
            if from_ == to:
                return
            with explaining("rename", self.path(to), to):
                try:
                    to_directory, to_name = self._open_parent(to, create=True)
                    _rename(source, from_directory, from_name, to_directory, to_name, overwrite=overwrite)
                except FileNotFoundError:
                    continue  # the source went, which the next round reports, or a clean-up took the new parent
                except OSError as error:
                    if error.errno != errno.EXDEV:
                        raise
                    break
                return
        self.copy(from_, to, overwrite)
        if from_ != to:
            self.delete(from_, clean_up=False)

    def walk(self, prefix: str, offset: str | None, *, delimiter: bool) -> Walk:
        """Iterate over the objects whose keys begin with ``prefix`` and follow ``offset``, in the order of the keys.

        Follows symbolic links that stay inside the root and do not lead to a directory that is being walked; leaves
        out the others, and broken ones. One directory's names are held at a time for each level.

        Yields:
            Key and status of each object. With ``delimiter``, a directory is not entered: its key, without slash, comes
            with ``None``.
        """
        folder, slash, partial = prefix.rpartition("/")
        if "\0" in prefix or (slash and not is_mappable(folder)):
            return  # no file can have such a name
        reals = self._real_chain(folder, prefix)
        stack = [self._scan(folder + slash, partial, reals)]
        while stack:
            item = next(stack[-1], None)
            if item is None:
                stack.pop()
                reals.pop()
                continue
            key, status, real = item
            if status is not None:
                if offset is None or key > offset:
                    yield key, status
                continue
            below = key + "/"
            if offset is not None and offset >= below and not offset.startswith(below):
                continue  # everything in there comes before the offset
            if delimiter:
                yield key, None
            else:
                reals.append(real)
                stack.append(self._scan(below, "", reals))

    def _scan(
        self, key_prefix: str, partial: str, reals: list[str]
    ) -> Iterator[tuple[str, os.stat_result | None, str]]:
        """Read one directory now, and give its items in the order of their keys.

        Args:
            key_prefix: of the directory's keys.
            partial: how names must begin.
            reals: real paths of this directory (the last one) and of all above it.

        Returns:
            ``(key, status, "")`` for each file and ``(key, None, real path)`` for each directory.
        """
        here = reals[-1]
        found: list[tuple[str, os.DirEntry[str], str]] = []
        try:
            with explaining("list", here, key_prefix, reading=True), os.scandir(here) as entries:
                for entry in entries:
                    name = entry.name
                    if not name.startswith(partial):
                        continue
                    if entry.is_symlink():
                        try:
                            real = os.path.realpath(entry.path, strict=True)
                            is_directory = os.path.isdir(real)
                        except OSError:
                            continue  # leads nowhere, or where we may not look
                        if not self._is_inside(real) or (is_directory and real in reals):
                            continue
                    else:
                        real = entry.path
                        is_directory = entry.is_dir(follow_symlinks=False)
                    if is_directory:
                        found.append((name + "/", entry, real))  # the slash takes part in the order
                    elif not _STAGING_NAME.search(name):
                        found.append((name, entry, ""))
        except NotFoundError:
            return iter(())
        found.sort(key=itemgetter(0))
        return _described(found, key_prefix)

    def _real_chain(self, folder: str, prefix: str) -> list[str]:
        """Real paths of the root and of each directory on the way to ``folder``, which is where a listing begins."""
        reals = [self.root]
        for segment in folder.split("/") if folder else ():
            real = os.path.join(reals[-1], segment)
            if os.path.islink(real):
                real = os.path.realpath(real)
                if not self._is_inside(real):
                    raise _escape(self.root, prefix)
            reals.append(real)
        return reals

    def _open_regular(self, key: str, flags: int) -> tuple[Descriptor, os.stat_result]:
        path = self.path(key)
        with explaining("open", path, key, reading=True):
            descriptor = Descriptor(os.open(path, flags))
            self._confine(descriptor, path, key)
            status = os.fstat(descriptor.fd)
        self._refuse_irregular(status, key)
        return descriptor, status

    def _open_parent(self, key: str, *, create: bool) -> tuple[Descriptor, str]:
        """Open the directory that holds ``key``; return it with the name therein."""
        path, _, name = self.path(key).rpartition("/")
        missing: list[str] = []
        while True:
            try:
                directory = Descriptor(os.open(path or "/", _DIRECTORY))
                break
            except FileNotFoundError:
                if not create or len(path) <= len(self.root):
                    raise
            path, _, parent = path.rpartition("/")
            missing.append(parent)
        self._confine(directory, path or "/", key)
        while missing:
            parent = missing.pop()
            with suppress(FileExistsError):  # another writer was faster
                os.mkdir(parent, dir_fd=directory.fd)
            directory = Descriptor(os.open(parent, _DIRECTORY | os.O_NOFOLLOW, dir_fd=directory.fd))
        return directory, name

    def _confine(self, descriptor: Descriptor, path: str, key: str) -> None:
        """Refuse what a symbolic link led out of the root to."""
        if not self._is_confined:
            return
        try:
            real = os.readlink(f"/proc/self/fd/{descriptor.fd}")
        except OSError:
            real = os.path.realpath(path)  # no /proc: macOS, some sandboxes
        if not self._is_inside(real):
            raise _escape(self.root, key)

    def _is_inside(self, real: str) -> bool:
        return real == self.root or real.startswith(self._base)

    def _refuse_irregular(self, status: os.stat_result, key: str) -> None:
        if not stat.S_ISREG(status.st_mode):
            detail = "is directory" if stat.S_ISDIR(status.st_mode) else "is not a regular file"
            raise NotFoundError.of(printable(self.path(key)), detail, key=key)


class Staging:
    """A file ``{name}#{number}`` beside its target, which becomes the target by `commit`, or vanishes.

    It also vanishes when nobody refers to this object any more, and at the interpreter's exit.
    """

    def __init__(self, directory: Descriptor, name: str) -> None:
        self._directory = directory
        self._target = name
        stem = name
        if len(os.fsencode(name)) > _MAX_NAME_BYTES - 12:
            stem = os.fsencode(name)[: _MAX_NAME_BYTES - 12].decode(errors="ignore")
        for number in count(1):
            self._name = f"{stem}#{number}"
            with suppress(FileExistsError):
                self.file = Descriptor(os.open(self._name, _STAGE, 0o666, dir_fd=directory.fd))
                break
        # The process id: a forked child that ends must not take the file from its parent.
        self._remove = weakref.finalize(self, _remove_staging, directory, self._name, os.getpid())

    def refuse_existing(self) -> None:
        """Raise ``FileExistsError`` where the target exists already."""
        with suppress(FileNotFoundError):
            os.stat(self._target, dir_fd=self._directory.fd, follow_symlinks=False)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    def commit(self, *, overwrite: bool) -> os.stat_result:
        """Make this the target in one step; return its status. No thread may still be writing."""
        self.file.close()
        at = self._directory.fd
        status = os.stat(self._name, dir_fd=at, follow_symlinks=False)
        _move(self._directory, self._name, self._directory, self._target, overwrite=overwrite)
        self._remove.detach()
        return status

    def discard(self) -> None:
        """Remove the file, unless it was committed or removed before."""
        self._remove()


def _described(
    found: list[tuple[str, os.DirEntry[str], str]], key_prefix: str
) -> Iterator[tuple[str, os.stat_result | None, str]]:
    for _, entry, real in found:
        key = key_prefix + entry.name
        if real:
            yield key, None, real
            continue
        try:
            status = entry.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # deleted since
        except OSError as error:
            raise _explained(error, "list", entry.path, key, reading=True) from error
        if stat.S_ISREG(status.st_mode):
            yield key, status, ""


def take_page(walk: Walk, size: int) -> tuple[list[tuple[str, os.stat_result]], list[str], bool]:
    """Advance a walk to the next ``size`` items: the objects, the prefixes, and whether there may be more."""
    objects: list[tuple[str, os.stat_result]] = []
    prefixes: list[str] = []
    for key, status in walk:
        if status is None:
            prefixes.append(key)
        else:
            objects.append((key, status))
        if len(objects) + len(prefixes) == size:
            return objects, prefixes, True
    return objects, prefixes, False


def write_at(descriptor: Descriptor, body: Sequence[Buffer], offset: int) -> None:
    """Write all buffers one after the other, from ``offset``."""
    views = [memoryview(each) for each in body]
    left = [view.cast("B") for view in views if view.nbytes]
    left.reverse()  # the next one last: taken from the end, a million small buffers stay linear
    while left:
        written = os.pwritev(descriptor.fd, left[: -_MAX_SEGMENTS - 1 : -1], offset)
        offset += written
        while left and written >= left[-1].nbytes:
            written -= left.pop().nbytes
        if written:
            left[-1] = left[-1][written:]


def read_bytes(descriptor: Descriptor, start: int, end: int) -> bytes:
    """Read bytes ``start`` to ``end``.

    Raises:
        OSError: the file ends before that (``EIO``).
    """
    pieces = []
    while start < end:
        piece = os.pread(descriptor.fd, min(end - start, _MAX_TRANSFER_BYTES), start)
        if not piece:
            raise _cut()
        pieces.append(piece)
        start += len(piece)
    return b"".join(pieces)  # a single piece, which is the rule, is not copied


def read_block(descriptor: Descriptor, start: int, end: int) -> bytes | memoryview:
    """Read bytes ``start`` to ``end`` into one new block, of huge pages where that pays; raises as `read_bytes`."""
    size = end - start
    if size < _HUGE_BYTES:
        return read_bytes(descriptor, start, end)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            pages.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(pages)
    read_into(descriptor, view, start)
    return view.toreadonly()


def read_into(descriptor: Descriptor, view: memoryview, start: int) -> None:
    """Fill ``view`` with the bytes from ``start``; raises as `read_bytes`."""
    done = 0
    while done < view.nbytes:
        read = os.preadv(descriptor.fd, [view[done : done + _MAX_TRANSFER_BYTES]], start + done)
        if not read:
            raise _cut()
        done += read


class Target:
    """The caller's memory, which a thread fills from a file, and which may be taken back meanwhile.

    Args:
        into: a writable view, or several by their place in the span.
    """

    def __init__(self, into: memoryview | Scatter) -> None:
        self._into = into
        self._lock = threading.Lock()
        self._is_released = False

    def fill(self, descriptor: Descriptor, start: int, end: int) -> None:
        """Read bytes ``start`` to ``end``, of a span that begins at ``start``; raises as `read_bytes`."""
        size = end - start
        pieces = self._into.clipped(size) if isinstance(self._into, Scatter) else [(0, self._into[:size])]
        for at, view in pieces:
            for done in range(0, len(view), _STEP_BYTES):
                with self._lock:
                    if self._is_released:
                        return
                    read_into(descriptor, view[done : done + _STEP_BYTES], start + at + done)

    def release(self) -> None:
        """Nothing is written from here on. Waits for at most one step of a thread that is at it."""
        with self._lock:
            self._is_released = True


def _cut() -> OSError:
    return OSError(errno.EIO, "the file was cut while it was being read")


def last_modified(status: os.stat_result) -> datetime:
    """Modification time, to the microsecond."""
    try:
        return _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    except OverflowError:  # a date that Python does not know must not spoil a listing
        return datetime(9999 if status.st_mtime_ns > 0 else 1, 1, 1, tzinfo=UTC)


def e_tag(status: os.stat_result) -> str:
    """Tag of a file's version: inode, modification time in microseconds and size, in hexadecimal."""
    return f'"{status.st_ino:x}-{status.st_mtime_ns // 1000:x}-{status.st_size:x}"'


def is_mappable(key: str) -> bool:
    """Whether a key can be a relative path that stays below its root."""
    if "\0" in key or _UNSAFE_SEGMENT.search(key):
        return False
    if not key.isascii():
        try:
            os.fsencode(key)
        except UnicodeEncodeError:
            return False
    return True


def printable(path: str) -> str:
    """Path for a message, which may end in a file that cannot hold surrogates: they show as escapes."""
    return path if path.isascii() else path.encode(errors="backslashreplace").decode()


def _explained(error: OSError, doing: str, path: str, key: str, *, reading: bool) -> BaseError:
    code = error.errno or 0
    path = printable(path)
    detail = f"{error.strerror} (os error {code})"
    if isinstance(error, PermissionError):
        return PermissionDeniedError.of(path, detail, key=key)
    if isinstance(error, FileExistsError):
        return AlreadyExistsError.of(path, detail, key=key)
    if reading and code in _MISSING:
        return NotFoundError.of(path, "is directory" if code == errno.EISDIR else detail, key=key)
    return GenericError.of(NAME, f"Unable to {doing} file {path}: {detail}", key=key, hint=_HINTS.get(code))


def _resolve_root(root: str, mkdir: bool) -> str:
    try:
        if mkdir:
            os.makedirs(root, exist_ok=True)
        real = os.path.realpath(root, strict=True)
        if not os.path.isdir(real):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        detail = f"Unable to canonicalize filesystem root: {printable(root)}: {error.strerror} (os error {error.errno})"
        hint = "mkdir=True creates it" if isinstance(error, FileNotFoundError) else None
        raise GenericError.of(NAME, detail, hint=hint) from error
    return real


def _escape(root: str, key: str) -> InvalidPathError:
    detail = f"{key!r} leads out of the store's root {printable(root)} through a symbolic link"
    return InvalidPathError.of(key, detail, key=key)


def _remove_staging(directory: Descriptor, name: str, owner: int) -> None:
    if os.getpid() == owner:
        # Already gone, or the directory became read-only: there is nothing more to do about it.
        with suppress(OSError):
            os.unlink(name, dir_fd=directory.fd)


def _rename(
    source: os.stat_result,
    from_directory: Descriptor,
    from_name: str,
    to_directory: Descriptor,
    to_name: str,
    *,
    overwrite: bool,
) -> None:
    """Move a file; unlike rename(2), between two hard links of one file too."""
    if overwrite and source.st_nlink > 1:
        is_same_place = from_name == to_name and os.path.sameopenfile(from_directory.fd, to_directory.fd)
        with suppress(FileNotFoundError):
            target = os.stat(to_name, dir_fd=to_directory.fd, follow_symlinks=False)
            if os.path.samestat(source, target):
                if not is_same_place:
                    os.unlink(from_name, dir_fd=from_directory.fd)
                return
    _move(from_directory, from_name, to_directory, to_name, overwrite=overwrite)


def _move(from_: Descriptor, from_name: str, to: Descriptor, to_name: str, *, overwrite: bool) -> None:
    """Rename a file; without ``overwrite``, exactly one of several movers to the same name succeeds."""
    if not overwrite:
        try:
            os.link(from_name, to_name, src_dir_fd=from_.fd, dst_dir_fd=to.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            # Some file systems have no links. Claim the name with an empty file, which readers may see for a moment.
            os.close(os.open(to_name, _STAGE, 0o666, dir_fd=to.fd))
        else:
            os.unlink(from_name, dir_fd=from_.fd)
            return
    os.rename(from_name, to_name, src_dir_fd=from_.fd, dst_dir_fd=to.fd)


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy a file's bytes, without moving them through this process where the kernel can, or sharing their blocks."""
    left = size
    if hasattr(os, "copy_file_range"):
        try:
            while left:
                copied = os.copy_file_range(source, target, min(left, _MAX_TRANSFER_BYTES))
                if not copied:
                    break
                left -= copied
        except OSError as error:
            if error.errno not in _NO_FAST_COPY:
                raise
    # Goes on where the offsets of both descriptors stand; also for files that tell no size, such as those of /proc.
    while chunk := os.read(source, _COPY_BYTES):
        view = memoryview(chunk)
        while view:
            view = view[os.write(target, view) :]
