"""Which bytes of a large object to ask for next, and how many at once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

_SMALLEST = 1 << 20
_LARGEST = 64 << 20
# A range is so much longer than what its delay is worth in bytes: then asking costs an eighth of the time.
_TIMES_DELAY = 8
# Ranges at a time: so many to begin with, twice as many for as long as that brings so much more, and no more of it for so many rounds
# once it does not.
_FIRST_STREAMS = 16
_WORTH_IT = 1.2
_ROUNDS_OF_REST = 16
_FIRST_ROUNDS = 4  # the first has the making of connections in it, and an object of a few gains nothing by a try


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
    """How long ranges should be and how many at a time, from what the earlier ones took.

    A connection whose bandwidth is the service's to give is worth another one beside it; where the bandwidth of the way is used up,
    more of them bring nothing.

    Args:
        piece: bytes of a range while nothing is known.
        limit: tells how many ranges there may be at a time.
        clock: seconds.
    """

    def __init__(self, piece: int, limit: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._wanted = _FIRST_STREAMS
        self._first = piece
        self._delay = 0.0
        self._rate = 0.0
        # The round: as many ranges as there are streams.
        self._since = clock()
        self._count = self._bytes = 0
        self._best = 0.0  # of all streams together, with fewer of them
        self._before = 0
        self._rest = _FIRST_ROUNDS

    @property
    def streams(self) -> int:
        """Ranges at a time."""
        return max(1, min(self._wanted, self._limit()))

    def learn(self, timing: Any, received: int) -> None:
        """A range came: its `Timing`."""
        seconds = timing.total - timing.first_byte
        delay = timing.first_byte - timing.queue
        if received < 64 << 10 or seconds <= 0 or delay <= 0:
            return
        rate = received / seconds
        self._delay = delay if not self._delay else 0.75 * self._delay + 0.25 * delay
        self._rate = rate if not self._rate else 0.75 * self._rate + 0.25 * rate
        self._count += 1
        self._bytes += received
        if self._count >= self.streams:
            self._end_round()

    def _end_round(self) -> None:
        """Look at what all streams together brought, and try more of them, or go back."""
        now = self._clock()
        rate = self._bytes / max(now - self._since, 1e-6)
        self._since, self._count, self._bytes = now, 0, 0
        if self._rest:
            self._rest -= 1
            self._best = 0.0
            return
        if self._best and rate < _WORTH_IT * self._best:
            self._wanted, self._rest = self._before, _ROUNDS_OF_REST
            return
        self._best, self._before = rate, self.streams
        self._wanted = 2 * self._before

    def piece(self, left: int) -> int:
        """Bytes to ask for next, of ``left``: enough for the delay not to count, few enough for all streams to have work."""
        wanted = self._first if not self._rate else int(_TIMES_DELAY * self._delay * self._rate)
        share = -(-left // self.streams)
        return max(_SMALLEST, min(max(wanted, self._first), share, _LARGEST))
