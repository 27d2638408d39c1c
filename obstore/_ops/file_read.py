"""Reading an object as a file: what to fetch for a read, and what to fetch before it is asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol

from obstore._effects import Op
from obstore._ops.forks import perform
from obstore._types import Backend, Pin
from obstore.exceptions import IntegrityError

# One request reads at most so much; longer spans are read by several at once, which one connection could not fill.
PIECE_BYTES = 8 << 20
PIECES_AT_ONCE = 8

WINDOW_MIN_BYTES = 64 << 10
WINDOW_MAX_BYTES = 16 << 20
# Blocks kept for those who go back and forth, as readers of HDF5 and ZIP do.
_BLOCKS = 16
_WINDOWS_KEPT = 4
_READS_IN_A_ROW = 2
_NEWLINE = re.compile(rb"\n")


class Job(Protocol):
    """An operation that goes on between reads: a future of the face that reads."""

    def cancel(self) -> bool: ...
    def done(self) -> bool: ...


class Face(Protocol):
    """What the synchronous and the asynchronous file do differently."""

    def launch(self, op: Op[Any]) -> Job | None:
        """Start an operation that goes on while nobody waits; ``None`` where that is not possible (the operation is closed)."""

    def wait(self, job: Any) -> Op[Any]:
        """The job's result. Raises `JobLostError` where the job belongs to another process or event loop."""

    def discard(self, writer: Any) -> None:
        """Run the ``abandon`` of a writer some time. Waits for nothing."""


class JobLostError(RuntimeError):
    """A job belongs to the process before a fork, or to another event loop: its result cannot be had here."""


class Block:
    """Bytes at hand.

    Attributes:
        start, stop: where they are in the object.
        used: how many of them were read, counted again where they are read again.
    """

    __slots__ = ("data", "start", "stop", "used")

    def __init__(self, start: int, data: memoryview) -> None:
        self.start = start
        self.stop = start + len(data)
        self.data = data
        self.used = 0


class ReadAhead:
    """Decides what to fetch. Knows the reads so far, does none itself.

    The window, what a read that finds nothing fetches at least, begins with ``buffer_size``. It doubles with every block that is
    read to its end and gone on from, up to 16 MiB, and is halved, down to 64 KiB, by jumping away from a block that was hardly used.

    Args:
        size: of the object, in bytes.
        buffer_size: the window at the beginning.
    """

    def __init__(self, size: int, buffer_size: int) -> None:
        self.size = size
        self.window = buffer_size
        self._min = min(buffer_size, WINDOW_MIN_BYTES)
        self._max = max(buffer_size, WINDOW_MAX_BYTES)
        self._next = 0  # where the next read begins if it goes on from the last one
        self._in_a_row = 0
        self._blocks: tuple[Block, ...] = ()  # the one last used last; replaced as a whole, so that any thread may look

    def find(self, position: int) -> Block | None:
        """The block that holds the byte at ``position``."""
        blocks = self._blocks
        for block in reversed(blocks):
            if block.start <= position < block.stop:
                if block is not blocks[-1]:
                    self._blocks = (*(each for each in blocks if each is not block), block)
                return block
        return None

    def span(self, position: int, size: int) -> tuple[int, int]:
        """What to fetch for a read that finds nothing at ``position``."""
        if position == self._next:
            if self._in_a_row >= _READS_IN_A_ROW:
                self.window = min(2 * self.window, self._max)
        elif self._blocks:
            last = self._blocks[-1]
            if 2 * last.used <= last.stop - last.start:
                self.window = max(self.window // 2, self._min)
        wanted = max(size, self.window)
        stop = min(self.size, position + wanted)
        # At the end of an object stand the directories of ZIP and Parquet: what is in front of them is read next.
        start = position if position == self._next else max(0, min(position, stop - wanted))
        while start < position and (known := self.find(start)) is not None:
            start = min(known.stop, position)
        return start, stop

    def add(self, block: Block) -> None:
        """Keep what was fetched."""
        kept = [*self._blocks, block][-_BLOCKS:]
        room = max(_WINDOWS_KEPT * self.window, block.stop - block.start)
        while sum(each.stop - each.start for each in kept) > room:
            del kept[0]
        self._blocks = tuple(kept)

    def served(self, position: int, size: int) -> None:
        """Take note of a read."""
        self._in_a_row = self._in_a_row + 1 if position == self._next else 0
        self._next = position + size

    def ahead(self) -> tuple[int, int] | None:
        """What to fetch before it is asked for, or ``None``."""
        if self._in_a_row < _READS_IN_A_ROW:
            return None
        frontier = self._next
        while (block := self.find(frontier)) is not None:
            frontier = block.stop
        if frontier >= self.size or frontier - self._next > self.window // 2:
            return None
        self.window = min(2 * self.window, self._max)
        return frontier, min(self.size, frontier + self.window)


class FileReader:
    """Reads of one object at any position, with what is kept and fetched ahead.

    Args:
        backend, key: where the object is.
        size: of the object, in bytes.
        buffer_size: see `ReadAhead`.
        face: how operations go on between reads.
    """

    def __init__(self, backend: Backend, key: str, size: int, buffer_size: int, face: Face) -> None:
        self._backend = backend
        self._key = key
        self._face = face
        self._pin = Pin()
        self._ahead = ReadAhead(size, buffer_size)
        self._coming: tuple[int, int, Job] | None = None
        self.size = size

    def read(self, position: int, size: int, *, line: bool = False) -> Op[list[memoryview]]:
        """The bytes from ``position`` on, in pieces: ``size`` of them, fewer only at the end; with ``line`` up to the newline."""
        end = min(self.size, position + size)
        pieces: list[memoryview] = []
        at = position
        fresh: list[Block] = []  # what was just fetched, which is not all kept
        while at < end:
            block = next((each for each in fresh if each.start <= at < each.stop), None) or self._ahead.find(at)
            if block is None:
                fresh = yield from self._fetch(at, end - at)
                continue
            stop = min(end, block.stop)
            if line and (newline := _NEWLINE.search(block.data, at - block.start, stop - block.start)) is not None:
                stop = end = block.start + newline.end()
            block.used += stop - at
            pieces.append(block.data[at - block.start : stop - block.start])
            at = stop
        if pieces:
            self._ahead.served(position, at - position)
            self._look_ahead()
        return pieces

    def read_into(self, position: int, view: memoryview) -> Op[int]:
        """Fill ``view`` with the bytes from ``position`` on; returns how many there were. Long reads land in it directly."""
        size = min(len(view), self.size - position)
        if size <= 0:
            return 0
        if size >= self._ahead.window and self._ahead.find(position) is None and not self._is_coming(position):
            yield from self._read_straight(position, view[:size])
            self._ahead.served(position, size)
            self._look_ahead()
            return size
        done = 0
        for piece in (yield from self.read(position, size)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def close(self) -> None:
        """Give up what is on its way."""
        coming, self._coming = self._coming, None
        if coming is not None:
            coming[2].cancel()

    def _is_coming(self, position: int) -> bool:
        coming = self._coming
        return coming is not None and coming[0] <= position < coming[1]

    def _fetch(self, position: int, size: int) -> Op[list[Block]]:
        """Get blocks, of which one holds ``position``. Those that a long read uses up are not kept."""
        if self._is_coming(position):
            coming, self._coming = self._coming, None
            assert coming is not None
            try:
                blocks = yield from self._face.wait(coming[2])
            except JobLostError:
                pass
            else:
                return self._keep(blocks)
        else:
            self.close()
        start, stop = self._ahead.span(position, size)
        blocks = yield from self._read_span(start, stop)
        return self._keep(blocks, used_up=position + size if size >= self._ahead.window else 0)

    def _keep(self, blocks: list[Block], used_up: int = 0) -> list[Block]:
        for block in blocks:
            if block.stop > used_up:
                self._ahead.add(block)
        return blocks

    def _look_ahead(self) -> None:
        if self._coming is None and (span := self._ahead.ahead()) is not None:
            job = self._face.launch(self._read_span(*span))
            if job is not None:
                self._coming = (*span, job)

    def _read_span(self, start: int, stop: int) -> Op[list[Block]]:
        found: list[Block] = []

        def piece(first: int, last: int) -> Op[None]:
            data = yield from self._backend.get_range(self._key, first, last, None, self._pin)
            self._check(len(data), first, last)
            found.append(Block(first, memoryview(data).cast("B")))

        yield from _in_pieces(start, stop, piece)
        return found

    def _read_straight(self, position: int, view: memoryview) -> Op[None]:
        def piece(first: int, last: int) -> Op[None]:
            part = view[first - position : last - position]
            got = yield from self._backend.get_range(self._key, first, last, part, self._pin)
            self._check(got, first, last)

        yield from _in_pieces(position, position + len(view), piece)

    def _check(self, got: int, first: int, last: int) -> None:
        if got != last - first:
            raise IntegrityError.of(
                self._backend.name,
                f"{self._key} has {first + got} bytes, the file was opened with size={self.size}",
                key=self._key,
            )


def _in_pieces(start: int, stop: int, piece: Callable[[int, int], Op[None]]) -> Op[None]:
    """Run ``piece`` for the span, or for parts of it beside each other where it is long."""
    if stop - start < 2 * PIECE_BYTES:
        yield from piece(start, stop)
        return
    pieces = (piece(first, min(first + PIECE_BYTES, stop)) for first in range(start, stop, PIECE_BYTES))
    yield from perform(pieces, PIECES_AT_ONCE)
