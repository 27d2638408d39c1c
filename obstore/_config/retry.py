"""How often and how patiently a request is repeated."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, NamedTuple, TypedDict

from obstore._config.duration import parse_duration

__all__ = ["BackoffConfig", "RetryConfig", "RetryPolicy"]


class BackoffConfig(TypedDict, total=False):
    """Pauses between tries: the first is ``init_backoff``, later ones are drawn at random below ``base`` times the last.

    Attributes:
        init_backoff: the first pause; 100 ms by default.
        max_backoff: the longest pause; 15 s by default.
        base: growth of the pauses; 2 by default.
    """

    init_backoff: timedelta
    max_backoff: timedelta
    base: int | float


class RetryConfig(TypedDict, total=False):
    """How failed requests are repeated. Every key is optional.

    Attributes:
        backoff: pauses between tries.
        max_retries: tries after the first one; 10 by default, 0 for none.
        retry_timeout: no new try is made once a request made no progress for so long; 180 s by default.
    """

    backoff: BackoffConfig
    max_retries: int
    retry_timeout: timedelta


class RetryPolicy(NamedTuple):
    """`RetryConfig`, checked, with its defaults filled in; durations in seconds."""

    max_retries: int = 10
    retry_timeout_s: float = 180.0
    init_backoff_s: float = 0.1
    max_backoff_s: float = 15.0
    base: float = 2.0

    @classmethod
    def parse(cls, config: RetryConfig | dict[str, Any] | None) -> RetryPolicy:
        """Check what a user gave as ``retry_config``; ``None`` is all defaults.

        Durations may also be texts such as ``"30s"``, or numbers of seconds.

        Raises:
            TypeError: a value is of the wrong type.
            ValueError: a key is unknown, or a value negative or not finite.
            GenericError: a text is not a duration.
        """
        if config is None:
            return cls()
        given = _section(config, "retry_config", ("backoff", "max_retries", "retry_timeout"))
        backoff_given = given.get("backoff")
        backoff = (
            {}
            if backoff_given is None
            else _section(backoff_given, "retry_config['backoff']", ("init_backoff", "max_backoff", "base"))
        )
        fields: dict[str, Any] = {}
        if "max_retries" in given:
            fields["max_retries"] = _count(given["max_retries"], "retry_config['max_retries']")
        if "retry_timeout" in given:
            fields["retry_timeout_s"] = _seconds(given["retry_timeout"], "retry_config['retry_timeout']")
        for name in ("init_backoff", "max_backoff"):
            if name in backoff:
                fields[f"{name}_s"] = _seconds(backoff[name], f"retry_config['backoff']['{name}']")
        if "base" in backoff:
            fields["base"] = _not_negative(backoff["base"], "retry_config['backoff']['base']")
        return cls(**fields)

    def as_dict(self) -> RetryConfig:
        """The whole policy in the form that users give, defaults included."""
        return {
            "backoff": {
                "init_backoff": timedelta(seconds=self.init_backoff_s),
                "max_backoff": timedelta(seconds=self.max_backoff_s),
                "base": self.base,
            },
            "max_retries": self.max_retries,
            "retry_timeout": timedelta(seconds=self.retry_timeout_s),
        }


def _section(value: Any, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, not '{type(value).__name__}'")
    for key in value:
        if key not in keys:
            raise ValueError(f"{name} has an unknown key {key!r}; it takes {', '.join(keys)}")
    return value


def _count(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, not '{type(value).__name__}'")
    if value < 0:
        raise ValueError(f"{name} must not be negative: {value}")
    return value


def _not_negative(value: Any, name: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not '{type(value).__name__}'")
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must be finite and not negative: {value!r}")
    return float(value)


def _seconds(value: Any, name: str) -> float:
    if isinstance(value, str):
        value = parse_duration(value, name)
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a timedelta, a text like '30s' or seconds, not '{type(value).__name__}'")
    if _not_negative(value, name) > timedelta.max.total_seconds():
        raise ValueError(f"{name} is too long: {value!r} seconds")
    return float(value)
