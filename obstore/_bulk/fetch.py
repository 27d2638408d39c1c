"""One object to a file, with all that may go wrong: retries, ranges side by side, resumption, verification.

The C core's bulk hands over what it does not settle: large objects, and small ones that failed. The first request asks for the
whole object and takes its first piece only, so size, version and checksum are known without a request of their own; the ranges
that follow are pinned to that version and start as soon as its headers are there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from obstore._bulk.dest import Destination
from obstore._bulk.plan import Gaps, Pace
from obstore._bulk.verify import Md5, mismatch
from obstore._effects import FILE, AttemptFailed, Call, Cancel, Collect, Fork, Op
from obstore._engine._core import DIGEST_AUTO, DIGEST_MD5, DIGEST_NONE, digest_combine
from obstore._ops.forks import settle
from obstore._ops.resume import BodyBroke, before_resume
from obstore._ops.retry import Retry
from obstore._types import GetSpec, ObjectMeta
from obstore.exceptions import IntegrityError, PreconditionError

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend

_VERSIONS = 3  # of an object that changes while it is read
_READINGS = 2  # of one that does not match its checksum
_COPY_BYTES = 4 << 20


class _Changed(Exception):  # noqa: N818 - a signal: begin again
    """The object is not the one that was begun with."""


class _Unpinned(Exception):  # noqa: N818 - a signal: read it in one go
    """The object has no ETag: ranges of it could be of different versions."""


class Piece:
    """A range of an object that is on disk."""

    __slots__ = ("digest", "end", "start")

    def __init__(self, start: int, end: int, digest: int) -> None:
        self.start = start
        self.end = end
        self.digest = digest


class State:
    """What is on disk of a large object: lines of JSON beside its data; the first names the version.

    Data that was not yet written through when the machine went down is not on disk although this says so: the state of an earlier
    boot does not count.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = path.with_suffix(".part")
        self.pieces: list[Piece] = []
        self.e_tag: str | None = None
        self.size = 0
        self.digest: tuple[int, int | None] = (DIGEST_NONE, None)

    def load(self) -> bool:
        """Read it; false where there is none that can be used."""
        try:
            lines = self.path.read_text().splitlines()
            head = json.loads(lines[0])
            if head["boot"] != _boot_id() or not self.data.exists():
                return False
            self.e_tag, self.size = head["e_tag"], head["size"]
            self.digest = (head["digest"], head["expected"])
            for line in lines[1:]:
                with contextlib.suppress(ValueError):  # the last line, torn
                    start, end, digest = json.loads(line)
                    self.pieces.append(Piece(start, end, digest))
        except (OSError, ValueError, KeyError, IndexError):
            return False
        return self.e_tag is not None

    def begin(self, e_tag: str | None, size: int, digest: tuple[int, int | None]) -> None:
        """A version begins."""
        self.e_tag, self.size, self.digest = e_tag, size, digest
        self.pieces = []
        head = {"e_tag": e_tag, "size": size, "digest": digest[0], "expected": digest[1], "boot": _boot_id()}
        self.path.write_text(json.dumps(head) + "\n")

    def add(self, piece: Piece) -> None:
        """A range is there."""
        self.pieces.append(piece)
        with open(self.path, "a") as file:
            file.write(f"[{piece.start}, {piece.end}, {piece.digest}]\n")

    def remove(self) -> None:
        """Nothing is left to resume."""
        self.path.unlink(missing_ok=True)
        self.data.unlink(missing_ok=True)


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Fetch:
    """How objects of a store behind HTTP are fetched into a destination.

    Args:
        backend: of the store.
        dest: the destination.
        verify: whether to compare with the service's checksums.
        streams: ranges at a time, of all objects together.
        piece: bytes of the first range.
        on_bytes: told of bytes of unfinished objects; negative where they have to be fetched again.
    """

    def __init__(
        self, backend: RemoteBackend, dest: Destination, *, verify: bool, streams: int, piece: int, on_bytes: Any
    ) -> None:
        self.backend = backend
        self.dest = dest
        self.verify = verify
        self.streams = streams
        self.piece = piece
        self.on_bytes = on_bytes
        self.resumed_bytes = 0
        self.verified = 0
        self._in_ranges = 0  # objects

    def limit(self) -> int:
        """Ranges at a time of one of the objects that are under way."""
        return max(1, self.streams // max(1, self._in_ranges))

    def object(self, key: str, name: str, first: Any = None) -> Op[ObjectMeta]:
        """Fetch one object.

        Args:
            key: of it.
            name: relative to the destination.
            first: the `BulkItem` of its first bytes, where the C core has them.

        Returns:
            Its meta.
        """
        self.dest.path(name)  # what could leave the destination is refused before anything is sent
        readings = 0
        while True:
            for _ in range(_VERSIONS):
                state = State(self.dest.temp(f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.state"))
                try:
                    meta, is_right = yield from self._once(key, name, state, first)
                    break
                except (_Changed, PreconditionError):
                    state.remove()
                    first = None
                except _Unpinned:
                    state.remove()
                    return (yield from copy_out(self.backend, self.dest, key, name, state.data))
            else:
                raise IntegrityError.of(self.backend.name, f"{key} changes faster than it can be read", key=key)
            if is_right:
                return meta
            state.remove()
            first = None
            readings += 1
            if readings == _READINGS:
                raise IntegrityError.of(
                    self.backend.name,
                    mismatch(key, state.digest[0]),
                    key=key,
                    retryable=True,
                )

    def _once(self, key: str, name: str, state: State, first: Any) -> Op[tuple[ObjectMeta, bool]]:
        work = _Work(self, key, state)
        self._in_ranges += 1
        try:
            if first is not None and first.part is not None and first.e_tag is not None:
                work.adopt(first)
                meta = _meta_of(key, first)
            elif state.load():
                self.resumed_bytes += sum(piece.end - piece.start for piece in state.pieces)
                work.resume()
                meta = yield from self.backend.head(key, None)
                if _bare(meta["e_tag"]) != _bare(state.e_tag) or meta["size"] != state.size:
                    raise _Changed
            else:
                meta = yield from work.begin()
            yield from work.rest()
            is_right = work.is_right()
            if is_right:
                work.close()
                modified = meta["last_modified"].timestamp() or None
                yield Call(self.dest.place, state.data, name, modified)
                self.dest.note(key, meta["e_tag"], meta["size"])
                state.remove()
                self.verified += state.digest[1] is not None
            return meta, is_right
        finally:
            self._in_ranges -= 1
            work.close()
            self.on_bytes(-work.told)


class _Work:
    """One version of an object on its way to disk."""

    def __init__(self, fetch: Fetch, key: str, state: State) -> None:
        self._fetch = fetch
        self._backend = fetch.backend
        self._key = key
        self._state = state
        self._fd = -1
        self._first: Any = None
        self._first_end = 0
        self._pace = Pace(fetch.piece, fetch.limit)
        self._base = fetch.backend.dialect.build_get(key, GetSpec())
        self._md5: Md5 | None = None
        self.told = 0

    def close(self) -> None:
        """Let go of the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _open(self, *, anew: bool) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | (os.O_TRUNC if anew else 0)
        self._fd = os.open(self._state.data, flags, 0o666)

    def _have(self, start: int, end: int, digest: int) -> None:
        if end > start:
            self._state.add(Piece(start, end, digest))
            self._tell(end - start)

    def _tell(self, count: int) -> None:
        self.told += count
        self._fetch.on_bytes(count)

    def adopt(self, first: Any) -> None:
        """Go on from what the C core has."""
        kind, value, expected = first.digest
        os.rename(self._fetch.dest.temp(first.part), self._state.data)
        self._state.begin(first.e_tag, first.size, (kind, expected))
        self._open(anew=False)
        self._have(0, first.received, value)

    def resume(self) -> None:
        """Go on from what an earlier run left."""
        self._open(anew=False)
        self._tell(sum(piece.end - piece.start for piece in self._state.pieces))

    def begin(self) -> Op[ObjectMeta]:
        """Ask for the object, take its first piece."""
        self._open(anew=True)
        digest = DIGEST_AUTO if self._fetch.verify else DIGEST_NONE
        self._base.slice_ = (0, self._fetch.piece)
        response = yield from self._backend.request(self._base, FILE, into=(self._fd, 0, digest, True))
        meta, _, _ = self._backend.dialect.read_get(response, self._key, GetSpec(), sliced=response.sliced)
        if meta["e_tag"] is None and meta["size"] > self._fetch.piece:
            response.cancel()
            raise _Unpinned
        kind, _, expected = response.digest()
        self._first = response
        self._first_end = min(self._fetch.piece, meta["size"])
        self._state.begin(meta["e_tag"], meta["size"], (kind, expected))
        return meta

    def rest(self) -> Op[None]:
        """Fetch what is missing, several ranges at once."""
        state = self._state
        gaps = Gaps(state.size, [(piece.start, piece.end) for piece in state.pieces])
        running: list[Any] = []
        reader: list[Any] = []
        try:
            if state.digest[0] == DIGEST_MD5 and state.digest[1] is not None:
                self._md5 = Md5(self._fd, state.size)
                reader.append((yield Fork(self._md5.follow(state.pieces))))
            if self._first is not None:
                gaps.take(self._first_end)
                running.append((yield Fork(self._finish_first(gaps))))
            while True:
                span = gaps.take(self._pace.piece(gaps.left))
                if span is None:
                    if not running:
                        yield from settle(reader, 1)
                        return
                    yield from settle(running, len(running))  # one of them may give back what it could not get
                    continue
                running.append((yield Fork(self._range(*span))))
                yield from settle(running, self._pace.streams)
        except GeneratorExit:
            raise
        except BaseException:
            yield Cancel([*running, *reader])
            raise
        finally:
            self._first = None

    def _finish_first(self, gaps: Gaps) -> Op[None]:
        response = self._first
        try:
            yield Collect(response)
        except AttemptFailed as failure:
            if failure.kind == "file":
                raise OSError(failure.response.oserrno, os.strerror(failure.response.oserrno)) from None
            failure.response = None
            if self._state.e_tag is None:
                raise _Changed from None
        received = min(response.received, self._first_end)
        self._have(0, received, response.digest()[1])
        if received < self._first_end:
            gaps.give_back(received, self._first_end)
        self._pace.learn(response.timing(), received)

    def _range(self, start: int, end: int) -> Op[None]:
        backend, dialect, state = self._backend, self._backend.dialect, self._state
        kind = DIGEST_NONE if state.digest[0] == DIGEST_MD5 else state.digest[0]  # of a part it says nothing
        retry = Retry(backend.policy)
        while start < end:
            request = dialect.build_resume(self._base, start, end, state.e_tag)
            request.slice_ = (start, end - start)
            broke: BodyBroke | None = None
            try:
                response = yield from backend.request(
                    request, FILE, into=(self._fd, start, kind, False), retry=retry, resumable=True
                )
            except BodyBroke as exc:
                broke = exc.with_traceback(None)
                response = exc.response
            dialect.check_range(response, start, end, sliced=response.sliced)
            if state.e_tag is None or _bare(response.header("etag")) != _bare(state.e_tag):
                raise _Changed
            received = response.received
            self._have(start, start + received, response.digest()[1])
            self._pace.learn(response.timing(), received)
            start += received
            if broke is None:
                if start != end:
                    raise IntegrityError.of(backend.name, f"a range of {self._key} came short", key=self._key)
                return
            failure, broke.response = broke.failure, None
            del broke, response
            failure.response = None
            retry.progressed()
            yield from before_resume(backend, request, state.e_tag, failure, retry)

    def is_right(self) -> bool:
        """Whether all bytes are there and, as far as the service says, the right ones."""
        state = self._state
        state.pieces.sort(key=lambda piece: piece.start)
        position, value = 0, 0
        for piece in state.pieces:
            if piece.start != position:
                raise IntegrityError.of(self._backend.name, f"bytes of {self._key} are missing", key=self._key)
            if self._md5 is None:
                value = digest_combine(state.digest[0], value, piece.digest, piece.end - piece.start)
            position = piece.end
        if position != state.size:
            raise IntegrityError.of(self._backend.name, f"bytes of {self._key} are missing", key=self._key)
        if self._md5 is not None:
            value = self._md5.value
        return state.digest[1] is None or state.digest[1] == value


def _bare(e_tag: str | None) -> str | None:
    """An ETag without quotes: Google's descriptions have none, its headers do."""
    return None if e_tag is None else e_tag.strip('"')


def _meta_of(key: str, first: Any) -> Any:
    from datetime import UTC, datetime

    return {
        "path": key,
        "last_modified": datetime.fromtimestamp(max(0, first.modified), UTC),
        "size": first.size,
        "e_tag": first.e_tag,
        "version": None,
    }


def copy_out(backend: Any, dest: Destination, key: str, name: str, temp: Path) -> Op[ObjectMeta]:
    """One object to a file in one stream, by way of ``temp``: of a store without HTTP, or one that cannot be read in ranges."""
    dest.path(name)
    opened = yield from backend.get(key, GetSpec())
    # In place: the descriptor that a thread opens for a cancelled operation would be nobody's.
    fd = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        position = 0
        while chunk := (yield from opened.read(_COPY_BYTES)):
            yield Call(_write_all, fd, chunk, position)
            position += len(chunk)
    finally:
        opened.close()
        os.close(fd)
    meta: ObjectMeta = opened.meta
    yield Call(dest.place, temp, name, meta["last_modified"].timestamp())
    dest.note(key, meta["e_tag"], meta["size"])
    return meta


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written
