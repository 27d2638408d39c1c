"""Limits and wishes that all bulk transfers share."""

from __future__ import annotations

import math
import re
import secrets
from typing import Any, NamedTuple

from obstore._ops.args import flag, whole_number

DEFAULT_CONNECTIONS = 64
DEFAULT_MEMORY = 256 << 20
PIECE_BYTES = 8 << 20
STREAMS = 16
LARGE_AT_ONCE = 3

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


class Options(NamedTuple):
    """See `obstore.bulk`.

    Attributes:
        connections: at a time, over everything.
        memory: bytes of bodies in memory, over everything.
        piece: objects above this are fetched, or sent, in ranges; and the first of them has this size.
        streams: parts of one file at a time that is sent.
        large: objects in ranges at a time.
        verify: whether to compare with the service's checksums.
        overwrite: whether to replace what is at the destination.
        resume: whether to go on from what a killed run left.
        pace: requests a second, over everything, and the name that what is to keep within it together goes by; ``None``: any number.
    """

    connections: int = DEFAULT_CONNECTIONS
    memory: int = DEFAULT_MEMORY
    piece: int = PIECE_BYTES
    streams: int = STREAMS
    large: int = LARGE_AT_ONCE
    verify: bool = True
    overwrite: bool = True
    resume: bool = True
    pace: tuple[float, str] | None = None

    def shared(self, workers: int) -> Options:
        """What each of so many workers may use, for all together to keep within these."""
        connections = max(1, self.connections // workers)
        memory = max(1 << 20, self.memory // workers)
        return self._replace(
            connections=connections,
            memory=memory,
            piece=_piece(memory),
            streams=_streams(connections),
            large=_large(connections),
            pace=None if self.pace is None else (self.pace[0] / workers, self.pace[1]),
        )


def parse_size(value: Any, argument: str) -> int:
    """Bytes: an int, or text such as ``"64MiB"``, ``"64 MB"``, ``"64M"`` (binary) or ``"1e9"``'s like as digits.

    Raises:
        TypeError, ValueError: it is no size.
    """
    if not isinstance(value, str):
        return whole_number(value, argument, minimum=1)
    found = _SIZE.fullmatch(value)
    if found is None:
        raise ValueError(f"{argument}: {value!r} is no number of bytes, such as 64MiB")
    number, unit, binary = found.groups()
    decimal = value.strip().lower().endswith("b") and not binary
    size = int(float(number) * (1000 if decimal else 1024) ** _UNITS[unit.lower()])
    return whole_number(size, argument, minimum=1)


def make_options(
    *,
    connections: Any = None,
    memory: Any = None,
    verify: Any = True,
    overwrite: Any = True,
    resume: Any = True,
    rate: Any = None,
) -> Options:
    """The options, checked.

    Raises:
        TypeError, ValueError: one of them is wrong; the text names it.
    """
    count = DEFAULT_CONNECTIONS if connections is None else whole_number(connections, "connections", minimum=1)
    budget = DEFAULT_MEMORY if memory is None else parse_size(memory, "memory")
    return Options(
        connections=count,
        memory=budget,
        piece=_piece(budget),
        streams=_streams(count),
        large=_large(count),
        verify=flag(verify, "verify"),
        overwrite=flag(overwrite, "overwrite"),
        resume=flag(resume, "resume"),
        pace=None if rate is None else (_rate(rate), secrets.token_hex(8)),
    )


def _piece(memory: int) -> int:
    # Part by part in memory where something is sent: eight parts fit the budget.
    return max(1 << 20, min(PIECE_BYTES, memory // 8))


def _streams(connections: int) -> int:
    # A quarter of the connections stays for small objects, however slow the large ones are.
    return min(STREAMS, max(1, connections // (LARGE_AT_ONCE + 1)))


def _large(connections: int) -> int:
    return min(LARGE_AT_ONCE, max(1, connections // 2))


def _rate(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"rate: requests a second are a number, not '{type(value).__name__}'")
    if not 0 < value < math.inf:
        raise ValueError(f"rate: requests a second are more than 0, not {value!r}")
    return float(value)
