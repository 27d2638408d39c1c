"""The destination of a download: a directory, the place of unfinished files in it, and the journal of finished ones.

Everything unfinished is in ``.obstore-<job>`` in the destination, which goes when the transfer has ended and nothing can be
resumed. ``<job>`` is derived from what is transferred, so that the same call finds what a killed one left.

    journal      8 bytes for each finished file (csrc/ob_bulk.c, write_record): its key, ETag and size, hashed
    slot-N       files being written by the C core
    HASH.part    a large object; HASH.state says which ranges of which version of it are there
    worker-X     the same for each unit that a worker has in hand, but for large objects, which the next worker goes on with
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import time
from array import array
from pathlib import Path
from typing import Any

_RECORD_BYTES = 8
FOLDER_PREFIX = ".obstore-"
_WORKER_PREFIX = "worker-"
_DYING_SECONDS = 1.0  # a process that was killed holds its locks for a while yet, on a busy machine


class Destination:
    """A directory that objects are written below.

    Args:
        root: the directory; made if it is not there.
        job: names the transfer: what the same one left behind when it was killed is taken up again.
        resume: whether to look for what was left behind.

    Raises:
        OSError: the directory cannot be made or written to.
    """

    def __init__(self, root: Path, job: str, *, resume: bool) -> None:
        self.root = root
        self.dir_fd = self.temp_fd = self.journal_fd = -1
        root.mkdir(parents=True, exist_ok=True)
        self.dir_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self.folder = self._claim(f"{FOLDER_PREFIX}{hashlib.sha256(job.encode()).hexdigest()[:12]}")
            self.temp_fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._adopt_workers(wait=_DYING_SECONDS)
            self._finished = self._read_journal() if resume else array("Q")
            if not resume:
                os.ftruncate(self.journal_fd, 0)
        except BaseException:
            self.close(keep=True)
            raise
        self.is_resumed = len(self._finished) > 0
        self._clashes: set[int] | None = None if self._tells_case() else set()

    def _claim(self, name: str) -> Path:
        """A folder that no other transfer uses: the one of this name, or a numbered one beside it."""
        for number in range(1000):
            folder = self.root / (name if number == 0 else f"{name}-{number}")
            folder.mkdir(exist_ok=True)
            journal = os.open(folder / "journal", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had it before may have removed it just now.
                if os.stat(folder / "journal").st_ino != os.fstat(journal).st_ino:
                    raise BlockingIOError(errno.EWOULDBLOCK, "removed meanwhile")
            except (BlockingIOError, FileNotFoundError):
                os.close(journal)
                continue
            except BaseException:
                os.close(journal)
                raise
            self.journal_fd = journal
            return folder
        raise OSError(errno.EBUSY, "too many transfers of the same kind into one directory", str(self.root))

    def _read_journal(self) -> array[int]:
        records = array("Q")
        data = b""
        while block := os.pread(self.journal_fd, 1 << 20, len(data)):
            data += block
        whole = len(data) - len(data) % _RECORD_BYTES
        if whole < len(data):
            os.ftruncate(self.journal_fd, whole)  # torn by a crash: the next record must not continue it
        records.frombytes(data[:whole])
        return array("Q", sorted(records))

    def adopt(self, name: str) -> bool:
        """What a worker has finished becomes ours.

        Args:
            name: of the `WorkerDestination`.

        Returns:
            Whether it is done: alive, it may be of a run whose own process was killed, or on another machine, or it is dying.
        """
        try:
            with open(self.folder / name / "journal", "rb") as journal:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
                records = journal.read()
                if records:
                    os.write(self.journal_fd, records[: len(records) - len(records) % _RECORD_BYTES])
        except BlockingIOError:
            return False
        except FileNotFoundError:
            pass  # it was killed before it did a thing
        shutil.rmtree(self.folder / name, ignore_errors=True)
        return True

    def _adopt_workers(self, *, wait: float = 0.0) -> bool:
        """Likewise of all workers, for whose end it waits so many seconds; whether none is alive."""
        deadline = time.monotonic() + wait
        alive = [name for name in os.listdir(self.folder) if name.startswith(_WORKER_PREFIX)]
        while alive := [name for name in alive if not self.adopt(name)]:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)
        return True

    def _tells_case(self) -> bool:
        """Whether ``a`` and ``A`` are two files here."""
        return not os.path.exists(os.path.join(os.path.dirname(self.folder), self.folder.name.upper()))

    def __del__(self) -> None:
        # One that a thread made for an operation that was cancelled meanwhile has nobody to close it.
        self.close(keep=True)

    # ---- names ------------------------------------------------------------------------------------------------

    def clash(self, name: str) -> bool:
        """Whether the name stands for the same file as an earlier one that differs in case; where case counts, never."""
        if self._clashes is None:
            return False
        folded = hash(name.casefold())
        if folded in self._clashes:
            return True
        self._clashes.add(folded)
        return False

    @property
    def folds_case(self) -> bool:
        """Whether names have to be asked for with `clash`."""
        return self._clashes is not None

    def path(self, name: str) -> Path:
        """Where the object of this name goes.

        Raises:
            ValueError: it would lead out of the destination, or cannot be a file's name.
        """
        parts = name.split("/")
        if "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise ValueError(f"{name!r} is no path below the destination")
        return self.root.joinpath(*parts)

    def make_directory(self, name: str) -> None:
        """Make a directory below the destination."""
        self.path(name).mkdir(parents=True, exist_ok=True)

    # ---- the journal ------------------------------------------------------------------------------------------

    def has(self, key: str, e_tag: str | None, size: int, name: str) -> bool:
        """Whether an earlier run finished this version of the object."""
        if not self._finished or e_tag is None:
            return False
        record = _record(key, e_tag, size)
        low, high = 0, len(self._finished)
        while low < high:
            middle = (low + high) // 2
            if self._finished[middle] < record:
                low = middle + 1
            else:
                high = middle
        if low == len(self._finished) or self._finished[low] != record:
            return False
        try:
            return self.path(name).stat().st_size == size
        except (OSError, ValueError):
            return False

    def note(self, key: str, e_tag: str | None, size: int) -> None:
        """Write down that the object is in its place."""
        if e_tag is not None:
            os.write(self.journal_fd, _record(key, e_tag, size).to_bytes(_RECORD_BYTES, "little"))

    # ---- unfinished files ----------------------------------------------------------------------------------------

    def temp(self, name: str) -> Path:
        """A file in the place of unfinished ones."""
        return self.folder / name

    def place(self, temp: Path, name: str, modified: float | None) -> None:
        """Give a whole file its time and its name."""
        target = self.path(name)
        if modified is not None:
            os.utime(temp, (modified, modified))
        try:
            os.rename(temp, target)
        except FileNotFoundError:
            target.parent.mkdir(parents=True, exist_ok=True)
            os.rename(temp, target)

    def close(self, *, keep: bool) -> None:
        """Let go of the directory.

        Args:
            keep: leave what is unfinished for a later run.
        """
        if self.journal_fd >= 0 and (not keep or not self._forget_temporaries()):
            shutil.rmtree(self.folder, ignore_errors=True)
        for fd in (self.journal_fd, self.temp_fd, self.dir_fd):
            if fd >= 0:
                os.close(fd)
        self.journal_fd = self.temp_fd = self.dir_fd = -1

    def has_unfinished(self) -> bool:
        """Whether a large object is there in part."""
        return any(name.endswith(".state") for name in os.listdir(self.folder))

    def _forget_temporaries(self) -> bool:
        """Remove what cannot be resumed; true where something can."""
        has_workers = not self._adopt_workers()
        for name in os.listdir(self.folder):
            if name.startswith(("slot-", "first-")):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.folder / name)
        return has_workers or self.has_unfinished() or os.fstat(self.journal_fd).st_size > 0


class WorkerDestination(Destination):
    """A destination that many workers write into, each a unit at a time, on behalf of the one who made it.

    That one has looked at the names and holds the journal; it adopts the records of a worker that is done, or dead.

    Args:
        root: the directory.
        folder: name of the place of unfinished files in it.
    """

    def __init__(self, root: Path, folder: str) -> None:
        self.root = root
        self.dir_fd = self.temp_fd = self.journal_fd = -1
        self._shared = root / folder
        self.folder = self._shared / f"{_WORKER_PREFIX}{secrets.token_hex(8)}"
        self._finished = array("Q")
        self._clashes = None
        self.is_resumed = False
        self.folder.mkdir()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            self.dir_fd = os.open(root, flags)
            self.temp_fd = os.open(self.folder, flags)
            self.journal_fd = os.open(
                self.folder / "journal", os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            fcntl.flock(self.journal_fd, fcntl.LOCK_EX)  # says that somebody is at work here
        except BaseException:
            self.close(keep=False)
            raise

    def temp(self, name: str) -> Path:
        """A file of this unit; what is there of a large object is for all."""
        return (self._shared if name.endswith(".state") else self.folder) / name

    def close(self, *, keep: bool) -> None:  # noqa: ARG002 - what there is to keep is its owner's
        """Let go of the unit; its journal stays until it is adopted."""
        if self.temp_fd >= 0:
            with contextlib.suppress(FileNotFoundError):  # the owner has ended
                for name in os.listdir(self.folder):
                    if name != "journal":
                        os.unlink(self.folder / name)
        for fd in (self.journal_fd, self.temp_fd, self.dir_fd):
            if fd >= 0:
                os.close(fd)
        self.journal_fd = self.temp_fd = self.dir_fd = -1


def _record(key: str, e_tag: str, size: int) -> int:
    text = b"%s\0%s\0%d" % (key.encode("utf-8", "surrogateescape"), e_tag.strip('"').encode(), size)
    return int.from_bytes(hashlib.sha256(text).digest()[:_RECORD_BYTES], "little")


def job_of(*parts: Any) -> str:
    """The name of a transfer: the same for the same parts."""
    return "\0".join(str(part) for part in parts)
