"""Arguments of the public operations, checked before anything is sent; every error names its argument."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from obstore._dialect.attributes import canonical_attributes
from obstore._types import PLAIN_GET, GetSpec, PutSpec, Range
from obstore.exceptions import GenericError

_MAX_OFFSET = 2**63 - 1
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def whole_number(value: Any, argument: str, *, minimum: int = 0) -> int:
    """A non-negative int: TypeError for other types, OverflowError for negative or huge ones."""
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise TypeError(f"{argument}: '{type(value).__name__}' object cannot be interpreted as an integer")
    number = operator.index(value)
    if number < 0:
        raise OverflowError(f"{argument}: can't convert negative int to unsigned")
    if number > _MAX_OFFSET:
        raise OverflowError(f"{argument}: int too big")
    if number < minimum:
        raise ValueError(f"{argument} must be at least {minimum}, not {number}")
    return number


def flag(value: Any, argument: str) -> bool:
    """A real bool."""
    if not isinstance(value, bool):
        raise TypeError(f"{argument}: '{type(value).__name__}' object is not an instance of 'bool'")
    return value


def text(value: Any, argument: str) -> str:
    """A real str."""
    if not isinstance(value, str):
        raise TypeError(f"{argument}: '{type(value).__name__}' object is not an instance of 'str'")
    return value


def moment(value: Any, argument: str) -> datetime:
    """An aware datetime, in UTC."""
    if not isinstance(value, datetime):
        raise TypeError(f"{argument}: '{type(value).__name__}' object is not an instance of 'datetime'")
    if value.tzinfo is None or value.utcoffset() is None:
        raise TypeError(f"{argument}: expected a datetime with non-None tzinfo")
    return value.astimezone(UTC)


def parse_range(value: Any, store: str) -> Range:
    """The ``range`` of `GetOptions`."""
    argument = "options['range']"
    if isinstance(value, Mapping):
        if "offset" in value:
            return Range(start=whole_number(value["offset"], f"{argument}['offset']"))
        if "suffix" in value:
            return Range(suffix=whole_number(value["suffix"], f"{argument}['suffix']"))
        raise ValueError(f"{argument} must have the key 'offset' or 'suffix'")
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ValueError(f"{argument} must be (start, end), {{'offset': n}} or {{'suffix': n}}")
    if len(value) != 2:
        raise ValueError(f"{argument} must have two items, start and end, not {len(value)}")
    start, end = whole_number(value[0], f"{argument}[0]"), whole_number(value[1], f"{argument}[1]")
    if end <= start:
        raise GenericError.of(store, f"Range started at {start} and ended at {end}", hint=f"{argument} is empty")
    return Range(start, end)


_GET_OPTIONS = ("head", "if_match", "if_modified_since", "if_none_match", "if_unmodified_since", "range", "version")


def parse_get_options(options: Any, store: str) -> GetSpec:
    """`GetOptions`; ``None`` values count as not given, unknown keys are an error."""
    if options is None:
        return PLAIN_GET
    if not isinstance(options, Mapping):
        raise TypeError(f"options: '{type(options).__name__}' object is not an instance of 'dict'")
    unknown = [key for key in options if key not in _GET_OPTIONS]
    if unknown:
        raise ValueError(f"options: unknown key {unknown[0]!r}; it takes {', '.join(_GET_OPTIONS)}")
    spec = GetSpec()
    for name in ("if_match", "if_none_match", "version"):
        if options.get(name) is not None:
            setattr(spec, name, header_text(options[name], f"options['{name}']"))
    for name in ("if_modified_since", "if_unmodified_since"):
        if options.get(name) is not None:
            setattr(spec, name, moment(options[name], f"options['{name}']"))
    if options.get("range") is not None:
        spec.range = parse_range(options["range"], store)
    if options.get("head") is not None:
        spec.head = flag(options["head"], "options['head']")
    return spec


def header_text(value: Any, argument: str) -> str:
    """A str that can be the value of a header."""
    checked = text(value, argument)
    if not checked.isprintable():
        raise ValueError(f"{argument} contains a control character")
    return checked


def header_pairs(value: Any, argument: str) -> list[tuple[str, str]]:
    """A mapping of header names to values as pairs, names in lower case; ``None`` is an empty one."""
    pairs = []
    for name, item in _texts(value, argument).items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{argument}: invalid HTTP header name {name!r}")
        pairs.append((name.lower(), header_text(item, f"{argument}[{name!r}]")))
    return pairs


def parse_put_options(mode: Any, attributes: Any, tags: Any) -> PutSpec:
    """``mode``, ``attributes`` and ``tags`` of a put."""
    spec = PutSpec(attributes=canonical_attributes(_texts(attributes, "attributes")), tags=dict(_texts(tags, "tags")))
    if mode is None:
        return spec
    if isinstance(mode, str):
        lowered = mode.lower()
        if lowered not in ("create", "overwrite"):
            raise ValueError(f"mode: Unexpected input for PutMode: {mode}")
        spec.mode = lowered  # type: ignore[assignment]
        return spec
    if not isinstance(mode, Mapping):
        raise TypeError(f"mode: '{type(mode).__name__}' object is not 'create', 'overwrite' or a dict")
    spec.mode = "update"
    for name in ("e_tag", "version"):
        if mode.get(name) is not None:
            setattr(spec, name, header_text(mode[name], f"mode['{name}']"))
    return spec


def _texts(value: Any, argument: str) -> Mapping[str, str]:
    """A mapping of str to str; ``None`` is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise TypeError(f"{argument}: '{type(value).__name__}' object is not an instance of 'dict'")
    for name, item in value.items():
        if not isinstance(name, str) or not isinstance(item, str):
            raise TypeError(f"{argument}: names and values must be str, not {name!r}: '{type(item).__name__}'")
    return value


def parse_span(start: Any, end: Any, length: Any, offset: Any) -> tuple[int, int]:
    """``start`` (or its alias ``offset``) with ``end`` or ``length``, as start and end."""
    if offset is not None:
        if start is not None:
            raise TypeError("start and offset are the same argument: give one of them")
        start = whole_number(offset, "offset")
    elif start is None:
        raise TypeError("missing required keyword argument: 'start'")
    else:
        start = whole_number(start, "start")
    if end is not None and length is not None:
        raise ValueError("end and length cannot both be non-None.")
    if end is not None:
        stop = whole_number(end, "end")
    elif length is not None:
        stop = start + whole_number(length, "length")
    else:
        raise ValueError("Either end or length must be non-None.")
    if stop <= start or stop > _MAX_OFFSET:
        raise ValueError(f"Invalid range requested, start: {start} end: {stop}")
    return start, stop


def parse_spans(starts: Any, ends: Any, lengths: Any) -> list[tuple[int, int]]:
    """``starts`` with ``ends`` or ``lengths``, as pairs of start and end."""
    if ends is not None and lengths is not None:
        raise ValueError("ends and lengths cannot both be non-None.")
    if ends is None and lengths is None:
        raise ValueError("Either ends or lengths must be non-None.")
    other, name = (ends, "ends") if ends is not None else (lengths, "lengths")
    firsts, seconds = _numbers(starts, "starts"), _numbers(other, name)
    if len(firsts) != len(seconds):
        raise ValueError(f"starts and {name} must have the same length: {len(firsts)} and {len(seconds)}")
    spans = []
    for start, second in zip(firsts, seconds, strict=True):
        stop = second if ends is not None else start + second
        if stop <= start or stop > _MAX_OFFSET:
            raise ValueError(f"Invalid range requested, start: {start} end: {stop}")
        spans.append((start, stop))
    return spans


def _numbers(values: Any, argument: str) -> list[int]:
    if isinstance(values, (str, bytes)):
        raise TypeError(f"{argument}: '{type(values).__name__}' object is not a sequence of integers")
    try:
        items = list(values)
    except TypeError:
        raise TypeError(f"{argument}: '{type(values).__name__}' object is not a sequence of integers") from None
    return [whole_number(item, f"{argument}[{index}]") for index, item in enumerate(items)]
