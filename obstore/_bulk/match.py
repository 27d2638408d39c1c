"""Patterns over keys: ``*`` and ``?`` within a path segment, ``**`` across them, ``[...]``; and ``--include``/``--exclude``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_MAGIC = re.compile(r"[*?\[]")


def is_glob(text: str) -> bool:
    """Whether ``text`` is a pattern."""
    return _MAGIC.search(text) is not None


def literal_prefix(pattern: str) -> str:
    """What every match begins with."""
    found = _MAGIC.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def compile_glob(pattern: str, *, crosses: bool = False) -> re.Pattern[str]:
    """A regular expression for a whole key.

    Args:
        pattern: ``*`` and ``?`` stand for characters but ``/``, ``**/`` for any number of directories, ``**`` for anything.
        crosses: ``*`` and ``?`` stand for ``/``, too, as they do in ``--include``.
    """
    some = "." if crosses else "[^/]"
    parts: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif pattern.startswith("**", at):
            parts.append(".*")
            at += 2
        elif char == "*":
            parts.append(f"{some}*")
            at += 1
        elif char == "?":
            parts.append(some)
            at += 1
        elif char == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            negated = inside[0] in "!^"
            parts.append(f"(?!/)[{'^' if negated else ''}{inside[1:] if negated else inside}]")
            at = end + 1
        else:
            parts.append(re.escape(char))
            at += 1
    return re.compile("".join(parts), re.DOTALL)


def make_filter(
    include: Iterable[str] | str | None, exclude: Iterable[str] | str | None
) -> Callable[[str], bool] | None:
    """What of the relative names is wanted: those that match an ``include``, if there are any, and no ``exclude``."""
    wanted = [compile_glob(pattern, crosses=True) for pattern in _patterns(include, "include")]
    unwanted = [compile_glob(pattern, crosses=True) for pattern in _patterns(exclude, "exclude")]
    if not wanted and not unwanted:
        return None

    def is_wanted(name: str) -> bool:
        if wanted and not any(pattern.fullmatch(name) for pattern in wanted):
            return False
        return not any(pattern.fullmatch(name) for pattern in unwanted)

    return is_wanted


def _patterns(value: Iterable[str] | str | None, argument: str) -> list[str]:
    if value is None:
        return []
    patterns = [value] if isinstance(value, str) else list(value)
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"{argument}: patterns are str, not '{type(pattern).__name__}'")
    return patterns
