"""Configuration values are texts, wherever they come from: what they stand for, and where one came from."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, NamedTuple

from obstore.exceptions import GenericError

__all__ = ["Setting", "format_duration", "parse_bool", "parse_duration"]

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
_INTEGER = re.compile(r"[0-9]+")
# What no header, name or key may hold: ASCII control characters.
CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_TRUE = frozenset({"1", "true", "on", "yes", "y"})
_FALSE = frozenset({"0", "false", "off", "no", "n"})


def parse_duration(text: str, source: str | None = None) -> float:
    """Return the seconds that ``text`` stands for.

    One or more numbers, each with its unit: ``30s``, ``1h 30m``, ``1.5s``; or a bare ``0``. Units are case-sensitive:
    ``ns us ms s m h d w``, ``M`` for months, ``y``, and their longer names.

    Raises:
        GenericError: ``text`` is something else; the message names ``source`` where there is one.
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
        raise _unreadable(text, "Duration", source)
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


def parse_bool(text: str, source: str | None = None) -> bool:
    """Return the boolean that ``text`` stands for: ``1 true on yes y`` or ``0 false off no n``, in any case.

    Raises:
        GenericError: ``text`` is something else; the message names ``source`` where there is one.
    """
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise _unreadable(text, "boolean", source)


class Setting(NamedTuple):
    """A configuration value as it was given, and where: what error messages name.

    Attributes:
        text: the value; booleans and timedeltas are already text.
        source: ``skip_signature``, ``client_options['timeout']``, ``environment variable AWS_REGION`` ...
    """

    text: str
    source: str

    @classmethod
    def of(cls, value: Any, source: str) -> Setting:
        """Take a user's value: str, bool or timedelta.

        Raises:
            TypeError: the value is of another type, or a negative timedelta.
        """
        if isinstance(value, str):
            return cls(value, source)
        if isinstance(value, bool):
            return cls("true" if value else "false", source)
        if isinstance(value, timedelta):
            if value < timedelta(0):
                raise TypeError(f"{source}: a duration cannot be negative: {value!r}")
            return cls(format_duration(value), source)
        raise TypeError(f"{source}: '{type(value).__name__}' object is not an instance of 'str'")

    def as_bool(self) -> bool:
        """See `parse_bool`."""
        return parse_bool(self.text, self.source)

    def as_seconds(self) -> float:
        """See `parse_duration`."""
        return parse_duration(self.text, self.source)

    def as_int(self, kind: str, maximum: int) -> int:
        """The whole number from 0 to ``maximum``; ``kind`` is what the message calls it."""
        # The length is checked first: int() refuses very long texts with a message of its own.
        if not _INTEGER.fullmatch(self.text) or len(self.text) > 20 or int(self.text) > maximum:
            raise _unreadable(self.text, kind, self.source)
        return int(self.text)

    def as_header(self) -> str:
        """The text, if it can be the value of an HTTP header."""
        if CONTROL.search(self.text):
            raise _unreadable(self.text, "HeaderValue", self.source)
        return self.text


def _unreadable(text: str, kind: str, source: str | None) -> GenericError:
    where = f" ({source})" if source else ""
    return GenericError.of("Config", f'failed to parse "{text}" as {kind}{where}')
