"""Every argument that is wrong is named before anything is sent."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from obstore._ops import args
from obstore.exceptions import BaseError, GenericError

HUGE = 2**63


class Index:
    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize("value", [0, 1, HUGE - 1, Index()])
def test_whole_numbers(value: Any) -> None:
    assert args.whole_number(value, "n") == (7 if isinstance(value, Index) else value)


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (True, TypeError, "n: 'bool' object cannot be interpreted as an integer"),
        (1.0, TypeError, "n: 'float' object"),
        ("1", TypeError, "n: 'str' object"),
        (None, TypeError, "n: 'NoneType' object"),
        (-1, OverflowError, "n: can't convert negative int to unsigned"),
        (HUGE, OverflowError, "n: int too big"),
    ],
)
def test_what_is_no_whole_number(value: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        args.whole_number(value, "n")


def test_minimum() -> None:
    with pytest.raises(ValueError, match="n must be at least 1, not 0"):
        args.whole_number(0, "n", minimum=1)


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2)))


def test_get_options() -> None:
    spec = args.parse_get_options(
        {
            "if_match": "a",
            "if_none_match": "b",
            "if_modified_since": NOW,
            "if_unmodified_since": NOW,
            "range": [1, 5],
            "version": "v",
            "head": True,
        },
        "S3",
    )
    assert (spec.if_match, spec.if_none_match, spec.version, spec.head) == ("a", "b", "v", True)
    assert spec.if_modified_since == spec.if_unmodified_since == NOW
    assert spec.if_modified_since.tzinfo is UTC
    assert (spec.range.start, spec.range.end, spec.range.suffix) == (1, 5, None)


@pytest.mark.parametrize("options", [None, {}, dict.fromkeys(args._GET_OPTIONS)])
def test_no_get_options(options: Any) -> None:
    spec = args.parse_get_options(options, "S3")
    assert [getattr(spec, name) for name in args._GET_OPTIONS] == [False, None, None, None, None, None, None]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ((0, 1), (0, 1, None)),
        ({"offset": 5}, (5, None, None)),
        ({"suffix": 5}, (None, None, 5)),
        ({"suffix": 0}, (None, None, 0)),
    ],
)
def test_ranges(value: Any, wanted: Any) -> None:
    found = args.parse_range(value, "S3")
    assert (found.start, found.end, found.suffix) == wanted


@pytest.mark.parametrize(
    ("options", "error", "name"),
    [
        (5, TypeError, "options"),
        ({"nonsense": 1}, ValueError, "options"),
        ({"if_match": 5}, TypeError, "options['if_match']"),
        ({"if_match": "a\nb"}, ValueError, "options['if_match']"),
        ({"if_none_match": b"x"}, TypeError, "options['if_none_match']"),
        ({"version": 1}, TypeError, "options['version']"),
        ({"if_modified_since": "now"}, TypeError, "options['if_modified_since']"),
        ({"if_unmodified_since": datetime(2026, 1, 1)}, TypeError, "options['if_unmodified_since']"),  # noqa: DTZ001
        ({"head": 1}, TypeError, "options['head']"),
        ({"range": 5}, ValueError, "options['range']"),
        ({"range": "0-5"}, ValueError, "options['range']"),
        ({"range": (1, 2, 3)}, ValueError, "options['range']"),
        ({"range": {}}, ValueError, "options['range']"),
        ({"range": (None, 3)}, TypeError, "options['range'][0]"),
        ({"range": (1, "3")}, TypeError, "options['range'][1]"),
        ({"range": {"offset": -1}}, OverflowError, "options['range']['offset']"),
        ({"range": {"suffix": 1.5}}, TypeError, "options['range']['suffix']"),
    ],
)
def test_wrong_get_options_are_named(options: Any, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match="^" + re.escape(name)):
        args.parse_get_options(options, "S3")


def test_empty_range_is_the_stores_error() -> None:
    with pytest.raises(GenericError, match="Generic S3 error: Range started at 5 and ended at 5"):
        args.parse_get_options({"range": (5, 5)}, "S3")


@pytest.mark.parametrize(
    ("mode", "wanted"),
    [
        (None, ("overwrite", None, None)),
        ("overwrite", ("overwrite", None, None)),
        ("Create", ("create", None, None)),
        ({"e_tag": "e"}, ("update", "e", None)),
        ({"e_tag": None, "version": "v"}, ("update", None, "v")),
    ],
)
def test_modes(mode: Any, wanted: Any) -> None:
    spec = args.parse_put_options(mode, {"contenttype": "text/plain"}, {"a": "b"})
    assert (spec.mode, spec.e_tag, spec.version) == wanted
    assert spec.attributes == {"Content-Type": "text/plain"}
    assert spec.tags == {"a": "b"}


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        (("append", None, None), ValueError, "mode"),
        ((5, None, None), TypeError, "mode"),
        (({"e_tag": 5}, None, None), TypeError, "mode['e_tag']"),
        (({"version": "a\r"}, None, None), ValueError, "mode['version']"),
        ((None, [("a", "b")], None), TypeError, "attributes"),
        ((None, {"a": 5}, None), TypeError, "attributes"),
        ((None, {5: "a"}, None), TypeError, "attributes"),
        ((None, None, "a=b"), TypeError, "tags"),
        ((None, None, {"a": None}), TypeError, "tags"),
    ],
)
def test_wrong_put_options_are_named(arguments: Any, error: type[Exception], name: str) -> None:
    with pytest.raises(error, match="^" + re.escape(name)):
        args.parse_put_options(*arguments)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((3, 5, None, None), (3, 5)),
        ((3, None, 5, None), (3, 8)),
        ((None, 5, None, 3), (3, 5)),
        ((0, 1, None, None), (0, 1)),
    ],
)
def test_spans(arguments: Any, wanted: Any) -> None:
    assert args.parse_span(*arguments) == wanted


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((None, 5, None, None), TypeError, "missing required keyword argument: 'start'"),
        ((1, 5, None, 1), TypeError, "start and offset are the same argument"),
        ((1, None, None, None), ValueError, "Either end or length must be non-None."),
        ((1, 2, 3, None), ValueError, "end and length cannot both be non-None."),
        ((1, 1, None, None), ValueError, "Invalid range requested, start: 1 end: 1"),
        ((1, None, 0, None), ValueError, "Invalid range requested, start: 1 end: 1"),
        ((HUGE - 1, None, HUGE - 1, None), ValueError, "Invalid range requested"),
        (("1", 2, None, None), TypeError, "start: "),
        ((1, "2", None, None), TypeError, "end: "),
        ((1, None, 2.0, None), TypeError, "length: "),
        ((None, 2, None, -1), OverflowError, "offset: "),
    ],
)
def test_wrong_spans(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="^" + re.escape(text)):
        args.parse_span(*arguments)


def test_many_spans() -> None:
    assert args.parse_spans([1, 5], [2, 7], None) == [(1, 2), (5, 7)]
    assert args.parse_spans((1, 5), None, range(1, 3)) == [(1, 2), (5, 7)]
    assert args.parse_spans([], [], None) == []


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (([1], [2], [1]), ValueError, "ends and lengths cannot both be non-None."),
        (([1], None, None), ValueError, "Either ends or lengths must be non-None."),
        (([1], [2, 3], None), ValueError, "starts and ends must have the same length: 1 and 2"),
        (([1], None, []), ValueError, "starts and lengths must have the same length: 1 and 0"),
        (([3], [3], None), ValueError, "Invalid range requested, start: 3 end: 3"),
        ((b"ab", [3, 4], None), TypeError, "starts: 'bytes' object is not a sequence of integers"),
        ((5, [3], None), TypeError, "starts: 'int' object is not a sequence of integers"),
        (([1, "2"], [3, 4], None), TypeError, "starts[1]: "),
        (([1, 2], None, [3, -4]), OverflowError, "lengths[1]: "),
        (([1, 2], [3, 4.0], None), TypeError, "ends[1]: "),
    ],
)
def test_wrong_lists_of_spans(arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match="^" + re.escape(text)):
        args.parse_spans(*arguments)


def test_arguments_are_never_the_stores_fault() -> None:
    with pytest.raises(TypeError) as caught:
        args.flag(1, "overwrite")
    assert not isinstance(caught.value, BaseError)
