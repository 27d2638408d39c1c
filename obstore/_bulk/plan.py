"""Which bytes of a large object to ask for next, and how many at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

_SMALLEST = 1 << 20
_LARGEST = 64 << 20
# A range is so much longer than what its delay is worth in bytes: then asking costs an eighth of the time.
_TIMES_DELAY = 8


class Gaps:
    """What is missing of ``size`` bytes."""

    def __init__(self, size: int, present: Sequence[tuple[int, int]]) -> None:
        self._spans: deque[tuple[int, int]] = deque()
        position = 0
        for start, end in sorted(present):
            if start > position:
                self._spans.append((position, start))
            position = max(position, end)
        if position < size:
            self._spans.append((position, size))

    @property
    def left(self) -> int:
        """Bytes that nobody has taken."""
        return sum(end - start for start, end in self._spans)

    def take(self, size: int) -> tuple[int, int] | None:
        """The first missing bytes, ``size`` at most; ``None`` where nothing is left."""
        if not self._spans:
            return None
        start, end = self._spans.popleft()
        if end - start > size > 0:
            self._spans.appendleft((start + size, end))
            end = start + size
        return start, end

    def give_back(self, start: int, end: int) -> None:
        """These are missing after all."""
        self._spans.appendleft((start, end))


class Pace:
    """How long ranges should be, from what the earlier ones took.

    Args:
        piece: bytes of a range while nothing is known.
        streams: ranges at a time.
    """

    def __init__(self, piece: int, streams: int) -> None:
        self.streams = streams
        self._first = piece
        self._delay = 0.0
        self._rate = 0.0

    def learn(self, timing: Any, received: int) -> None:
        """A range came: its `Timing`."""
        seconds = timing.total - timing.first_byte
        delay = timing.first_byte - timing.queue
        if received < 64 << 10 or seconds <= 0 or delay <= 0:
            return
        rate = received / seconds
        self._delay = delay if not self._delay else 0.75 * self._delay + 0.25 * delay
        self._rate = rate if not self._rate else 0.75 * self._rate + 0.25 * rate

    def piece(self, left: int) -> int:
        """Bytes to ask for next, of ``left``: enough for the delay not to count, few enough for all streams to have work."""
        wanted = self._first if not self._rate else int(_TIMES_DELAY * self._delay * self._rate)
        share = -(-left // self.streams)
        return max(_SMALLEST, min(max(wanted, self._first), share, _LARGEST))
