"""Where to cut a range of keys of which only some were seen. Pure guesswork: a bad guess costs a request, never a key."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

# A range is measured this finely; more characters than that say nothing about shares of it.
_FINE_ENOUGH = 1 << 48
_DEPTH = 64  # characters of a key that are looked at
_MOST_KNOWN = 4000
_LOOKED_AT = 200  # known keys, when they are looked through for their characters


def order(key: str) -> bytes:
    """What services sort keys by: their UTF-8 bytes, also of keys that are not quite UTF-8."""
    return key.encode("utf-8", "surrogateescape")


class KeySpace:
    """What was seen of the keys under a prefix: some of them, and which characters stand where.

    Args:
        prefix: what all keys begin with.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._known: list[str] = []  # what follows the prefix in some keys, sorted

    def learn(self, keys: Iterable[str]) -> None:
        """Take note of some keys."""
        for key in keys:
            suffix = self._suffix(key)[:_DEPTH]
            at = bisect_left(self._known, suffix)
            if self._known[at : at + 1] != [suffix]:
                self._known.insert(at, suffix)
        if len(self._known) > _MOST_KNOWN:
            del self._known[::2]

    def share(self, first: str, position: str, until: str) -> float:
        """The part of the range from ``first`` to ``until`` that lies before ``position``, were keys spread evenly."""
        low, high = self._suffix(first), self._suffix(until)
        bases, start = self._scale(low, high)
        begin, here, end = (_number(text, start, bases) for text in (low, self._suffix(position), high))
        return (here - begin) / (end - begin) if end > begin else 1.0

    def between(self, position: str, until: str, n: int) -> list[str]:
        """At most ``n`` keys between the two, in order, that cut their range into equal parts: each likely the last of its part."""
        low, high = self._suffix(position), self._suffix(until)
        bases, start = self._scale(low, high)
        first, last = _number(low, start, bases), _number(high, start, bases)
        cuts = range(1, n + 1) if last - first > 1 else ()
        return self._inside(
            [high[:start] + _text(first + (last - first) * cut // (n + 1) - 1, bases) for cut in cuts], position, until
        )

    def beyond(self, page_first: str, position: str, until: str | None, n: int) -> list[str]:
        """At most ``n`` keys after ``position``, in order, ever farther apart. ``until`` ``None``: there is no end in sight.

        They leave its path at one place after the other, from that on by which the keys of its page, of which ``page_first``
        is the first, differ: the end of this thousand, of the next, of this ten thousand, of this day, month ... They are
        likely the last keys of their parts: whoever meets one need not ask what else there is before the next part.
        """
        low = self._suffix(position)
        found: list[str] = []
        for depth in range(_common(self._suffix(page_first), low), -1, -1):
            if depth < len(low) and n > len(found):
                alphabet, *deeper = self._alphabets(low[:depth], _DEPTH)
                last = "".join(characters[-1:] for characters in deeper)
                here = low[depth] + alphabet[bisect_left(alphabet, low[depth]) :].lstrip(low[depth])
                found += [
                    low[:depth] + character + last for character in here[:-1] if low[:depth] + character + last > low
                ]
        return self._inside(found[:n], position, until)

    def _inside(self, suffixes: list[str], position: str, until: str | None) -> list[str]:
        """The keys among them that lie between the two, in order, each once."""
        first, last = order(position), None if until is None else order(until)
        keys = {order(key): key for key in (self._prefix + suffix for suffix in suffixes)}
        return [keys[at] for at in sorted(keys) if at > first and (last is None or at < last)]

    def _suffix(self, key: str) -> str:
        """The part of a key after the prefix, as far as it is text; a key before the prefix stands for its beginning."""
        if not key.startswith(self._prefix):
            return ""
        suffix = key[len(self._prefix) :]
        return suffix[: next((at for at, character in enumerate(suffix) if "\ud800" <= character <= "\udfff"), None)]

    def _scale(self, low: str, high: str) -> tuple[list[str], int]:
        """The alphabets of the places by which keys between the two differ, and the first such place."""
        start = _common(low, high)
        alphabets = self._alphabets(low[:start], _DEPTH)
        fineness = 1
        for depth, alphabet in enumerate(alphabets):
            fineness *= len(alphabet) + 1
            if fineness > _FINE_ENOUGH:
                return alphabets[: depth + 1], start
        return alphabets, start

    def _alphabets(self, path: str, depth: int) -> list[str]:
        """The characters that can be expected at the next places after ``path``; of all keys, where none is known there."""
        begin = bisect_left(self._known, path)
        end = bisect_left(self._known, path + "\U0010ffff", begin)
        here = self._known[begin : max(end, begin)]
        if len(here) < 2:
            here = self._known
        here = here[:: len(here) // _LOOKED_AT + 1]
        start = len(path)
        seen = [{known[at] for known in here if len(known) > at} for at in range(start, start + depth)]
        return [_completed(characters) for characters in seen]


def _common(a: str, b: str) -> int:
    at = 0
    while at < len(a) and at < len(b) and a[at] == b[at]:
        at += 1
    return at


def _completed(seen: set[str]) -> str:
    """The characters that can be expected where these were seen, in order: all digits, all letters or those of hexadecimal digits."""
    likely = set(seen)
    if any("0" <= character <= "9" for character in seen):
        likely.update("0123456789")
    for first, last, hex_last in (("a", "z", "f"), ("A", "Z", "F")):
        letters = sorted(character for character in seen if first <= character <= last)
        if len(letters) > 1:
            high = hex_last if letters[-1] <= hex_last else last
            likely.update(map(chr, range(ord(first), ord(high) + 1)))
    return "".join(sorted(likely))


def _number(text: str, start: int, alphabets: list[str]) -> int:
    """Where ``text`` lies on the scale of the alphabets, from its place ``start`` on. Keeps the order of keys."""
    value = 0
    below = False  # an unknown character: the key lies right before what begins with the next known one
    ended = False
    for depth, alphabet in enumerate(alphabets, start):
        digit = 0
        if below:
            digit = len(alphabet)
        elif depth < len(text) and not ended:
            digit = bisect_left(alphabet, text[depth])
            if digit < len(alphabet) and alphabet[digit] == text[depth]:
                digit += 1
            else:
                below = True
        else:
            ended = True
        value = value * (len(alphabet) + 1) + digit
    return value


def _text(value: int, alphabets: list[str]) -> str:
    digits: list[int] = []
    for alphabet in reversed(alphabets):
        value, digit = divmod(value, len(alphabet) + 1)
        digits.append(digit)
    text = ""
    for alphabet, digit in zip(alphabets, reversed(digits), strict=True):
        if digit == 0:
            break
        text += alphabet[digit - 1]
    return text
