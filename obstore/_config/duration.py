"""Texts that stand for durations and booleans, as environment variables and configuration values have them."""

from __future__ import annotations

import re
from datetime import timedelta

from obstore.exceptions import GenericError

__all__ = ["format_duration", "parse_bool", "parse_duration"]

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_MONTH = 2_630_016  # 30.44 days
_YEAR = 31_557_600  # 365.25 days

_UNITS: dict[str, float] = {
    name: seconds
    for names, seconds in (
        ("ns nsec nanos", 1e-9),
        ("us usec µs", 1e-6),
        ("ms msec millis", 1e-3),
        ("s sec secs second seconds", 1),
        ("m min mins minute minutes", _MINUTE),
        ("h hr hrs hour hours", _HOUR),
        ("d day days", _DAY),
        ("w wk wks week weeks", 7 * _DAY),
        ("M month months", _MONTH),
        ("y yr yrs year years", _YEAR),
    )
    for name in names.split()
}

_TERM = re.compile(r"\s*([0-9][0-9\s]*(?:\.[0-9][0-9\s]*)?)([A-Za-zµ]+)\s*")
_MAX_SECONDS = 2.0**64

_TRUE = frozenset({"1", "true", "on", "yes", "y"})
_FALSE = frozenset({"0", "false", "off", "no", "n"})


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` stands for.

    One or more numbers, each with its unit: ``30s``, ``1h 30m``, ``1.5s``; or a bare ``0``. Units are case-sensitive:
    ``ns us ms s m h d w``, ``M`` for months, ``y``, and their longer names.

    Raises:
        GenericError: ``text`` is something else.
    """
    if text == "0":
        return 0.0
    total = 0.0
    position = 0
    while match := _TERM.match(text, position):
        number, unit = match.groups()
        if unit not in _UNITS:
            break
        total += float("".join(number.split())) * _UNITS[unit]
        position = match.end()
    if position == 0 or position < len(text) or total >= _MAX_SECONDS:
        raise GenericError.of("Config", f'failed to parse "{text}" as Duration')
    return total


def format_duration(value: timedelta) -> str:
    """Return the text that `parse_duration` reads back as ``value``, such as ``1h 30m`` or ``1s 500ms``.

    Raises:
        ValueError: ``value`` is negative.
    """
    if value < timedelta(0):
        raise ValueError(f"a duration cannot be negative: {value!r}")
    seconds = value.days * _DAY + value.seconds
    terms: list[str] = []
    for unit, size in (("year", _YEAR), ("month", _MONTH), ("day", _DAY)):
        count, seconds = divmod(seconds, size)
        if count:
            terms.append(f"{count}{unit}{'s' if count > 1 else ''}")
    for unit, size in (("h", _HOUR), ("m", _MINUTE), ("s", 1)):
        count, seconds = divmod(seconds, size)
        if count:
            terms.append(f"{count}{unit}")
    milliseconds, microseconds = divmod(value.microseconds, 1000)
    if milliseconds:
        terms.append(f"{milliseconds}ms")
    if microseconds:
        terms.append(f"{microseconds}us")
    return " ".join(terms) or "0s"


def parse_bool(text: str) -> bool:
    """Return the boolean that ``text`` stands for: ``1 true on yes y`` or ``0 false off no n``, in any case.

    Raises:
        GenericError: ``text`` is something else.
    """
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise GenericError.of("Config", f'failed to parse "{text}" as boolean')
