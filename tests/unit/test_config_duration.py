"""obstore._config.duration: the published grammars."""

from datetime import timedelta

import pytest

from obstore._config.duration import format_duration, parse_bool, parse_duration
from obstore.exceptions import GenericError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30s", 30),
        (" 1s ", 1),
        ("1 s", 1),
        ("1\ts", 1),
        ("1 0s", 10),
        ("1.5s", 1.5),
        ("1.5 s", 1.5),
        ("1h2m", 3720),
        ("1h 2m", 3720),
        ("1m1m", 120),
        ("1sec 2min", 121),
        ("500ms", 0.5),
        ("0.5us", 5e-7),
        ("5µs", 5e-6),
        ("7nanos", 7e-9),
        ("3wks", 3 * 7 * 86400),
        ("1M", 30.44 * 86400),
        ("1m", 60),
        ("1y 2months", 365.25 * 86400 + 2 * 30.44 * 86400),
        ("9999999999999999999s", 9999999999999999999.0),
    ],
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "30",
        "00",
        " 0",
        "0 ",
        "-1s",
        "+5s",
        "1S",
        "1h,2m",
        ".5s",
        "1.s",
        "1.5.5s",
        "1_0s",
        "1e3s",
        "\uff11s",
        "s",
        "1ss",
        "1s 0",
        "5\u03bcs",
        "1sx",
        "1s!",
        "99999999999999999999s",
        "9" * 5000 + "y",
    ],
)
def test_parse_duration_refuses(text: str) -> None:
    with pytest.raises(GenericError) as caught:
        parse_duration(text)
    assert str(caught.value).startswith("Generic Config error: failed to parse ")
    assert str(caught.value).endswith(" as Duration")
    if len(text) < 100:
        assert f'"{text}"' in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(milliseconds=1500), "1s 500ms"),
        (timedelta(microseconds=1), "1us"),
        (timedelta(hours=25, seconds=61), "1day 1h 1m 1s"),
        (timedelta(days=2), "2days"),
        (timedelta(days=365), "11months 30days 3h 50m 24s"),
        (timedelta(days=365.25), "1year"),
        (timedelta(days=800, hours=5, minutes=6, seconds=7, microseconds=8009), "2years 2months 8days 19h 58m 55s 8ms 9us"),
        (timedelta.max, "2737850years 9months 13days 12h 57m 35s 999ms 999us"),
    ],
)  # fmt: skip
def test_format_duration(value: timedelta, text: str) -> None:
    assert format_duration(value) == text
    assert parse_duration(text) == pytest.approx(value.total_seconds(), rel=1e-12)


def test_format_duration_refuses_negative() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(timedelta(microseconds=-1))


@pytest.mark.parametrize("text", ["1", "true", "on", "yes", "y", "True", "YES"])
def test_parse_bool_true(text: str) -> None:
    assert parse_bool(text) is True


@pytest.mark.parametrize("text", ["0", "false", "off", "no", "n", "FALSE"])
def test_parse_bool_false(text: str) -> None:
    assert parse_bool(text) is False


@pytest.mark.parametrize("text", ["", " true ", "2", "t", "enabled"])
def test_parse_bool_refuses(text: str) -> None:
    with pytest.raises(GenericError) as caught:
        parse_bool(text)
    assert str(caught.value) == f'Generic Config error: failed to parse "{text}" as boolean'
