"""obstore._config.retry: what is accepted, what is refused and how it reads back."""

from datetime import timedelta
from typing import Any

import pytest

from obstore._config.retry import RetryPolicy
from obstore.exceptions import GenericError

DEFAULTS = {
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2.0},
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=180),
}


@pytest.mark.parametrize("config", [None, {}, {"backoff": {}}, {"backoff": None}])
def test_defaults_are_filled_in(config: Any) -> None:
    assert RetryPolicy.parse(config) == RetryPolicy()
    assert RetryPolicy.parse(config).as_dict() == DEFAULTS


def test_values_are_taken() -> None:
    policy = RetryPolicy.parse(
        {
            "max_retries": 0,
            "retry_timeout": "1m 30s",
            "backoff": {"init_backoff": timedelta(milliseconds=3), "max_backoff": 1.5, "base": 3},
        }
    )
    assert policy == RetryPolicy(max_retries=0, retry_timeout_s=90, init_backoff_s=0.003, max_backoff_s=1.5, base=3.0)
    assert RetryPolicy.parse(policy.as_dict()) == policy


@pytest.mark.parametrize(
    ("config", "error", "text"),
    [
        (5, TypeError, "retry_config must be a dict"),
        ([("max_retries", 1)], TypeError, "retry_config must be a dict"),
        ({"max_retry": 1}, ValueError, "retry_config has an unknown key 'max_retry'"),
        ({"backoff": {"factor": 1}}, ValueError, r"retry_config\['backoff'\] has an unknown key 'factor'"),
        ({"backoff": 2}, TypeError, r"retry_config\['backoff'\]"),
        ({"max_retries": -1}, ValueError, "max_retries"),
        ({"max_retries": 1.0}, TypeError, "max_retries"),
        ({"max_retries": True}, TypeError, "max_retries"),
        ({"max_retries": None}, TypeError, "max_retries"),
        ({"retry_timeout": -timedelta(1)}, ValueError, "retry_timeout"),
        ({"retry_timeout": float("inf")}, ValueError, "retry_timeout"),
        ({"retry_timeout": 1e300}, ValueError, "retry_timeout"),
        ({"retry_timeout": "5"}, GenericError, 'failed to parse "5" as Duration'),
        ({"retry_timeout": b"5s"}, TypeError, "retry_timeout"),
        ({"backoff": {"init_backoff": True}}, TypeError, "init_backoff"),
        ({"backoff": {"max_backoff": -1}}, ValueError, "max_backoff"),
        ({"backoff": {"base": float("nan")}}, ValueError, "base"),
        ({"backoff": {"base": "2"}}, TypeError, "base"),
    ],
)
def test_wrong_values_are_refused_by_name(config: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RetryPolicy.parse(config)
