"""Credentials of the user's own provider. Imported where there is one: `inspect` is not cheap."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from obstore._auth.cache import THRESHOLD_S, C, CachedSource
from obstore._effects import Await, Call, Op
from obstore.exceptions import UnauthenticatedError

__all__ = ["ProviderSource"]


class ProviderSource(CachedSource[C]):
    """The user's ``credential_provider``.

    A provider is called without arguments and returns, or is awaited for, a dict in the shape of its cloud, with
    ``expires_at`` (aware datetime of any zone, or ``None``: does not expire). What it raises reaches the caller as it is.
    Two optional attributes are read when the store is made: ``config``, a dict of store options for those that are not
    given, and ``refresh_threshold``, a timedelta.

    Args:
        provider: the callable. Plain functions run where they may block; coroutine functions need an event loop.
        read: makes the credential out of what it returned, or says in text, values left out, what is wrong with that.
        cloud: whose provider it is, in messages.
        shape: of the dict, in messages.
        clock: seconds since the epoch.

    Raises:
        TypeError: ``provider`` is not callable, or one of the two attributes is of the wrong type.
    """

    def __init__(
        self,
        provider: Callable[[], Any],
        clock: Callable[[], float] = time.time,
        *,
        read: Callable[[Any], C | str],
        cloud: str,
        shape: str,
    ) -> None:
        if not callable(provider):
            raise TypeError("Expected callable object for credential_provider.")
        self.provider = provider
        self._read = read
        self._cloud = cloud
        self._shape = shape
        self._name = getattr(provider, "__qualname__", None) or type(provider).__qualname__
        threshold = getattr(provider, "refresh_threshold", None)
        if threshold is not None and not isinstance(threshold, timedelta):
            raise TypeError(f"refresh_threshold of {self._name} must be a timedelta, not {type(threshold).__name__}")
        config = getattr(provider, "config", None)
        if config is not None and not isinstance(config, Mapping):
            raise TypeError(f"config of {self._name} must be a dict, not {type(config).__name__}")
        super().__init__(THRESHOLD_S if threshold is None else threshold.total_seconds(), clock)
        self.config: dict[str, Any] = dict(config or {})
        self._is_async = inspect.iscoroutinefunction(provider) or inspect.iscoroutinefunction(
            getattr(provider, "__call__", None)  # noqa: B004 - an object whose __call__ is async def
        )

    def __repr__(self) -> str:
        return f"ProviderSource({self._name})"

    @property
    def description(self) -> str:
        """For `describe_source`."""
        return f"credential_provider: {self._name}"

    def fetch(self) -> Op[C]:
        # Calling a coroutine function runs none of its code yet.
        outcome = self._call() if self._is_async else (yield Call(self._call))
        if inspect.isawaitable(outcome):
            outcome = yield from _wait_and_read(outcome, self._read)
        if not isinstance(outcome, str):
            credential: C = outcome
            return credential
        raise UnauthenticatedError.of(
            f"External {self._cloud} credential provider",
            f"{self._name} {outcome}",
            hint=f"a credential_provider returns a dict with {self._shape}",
        )

    def _call(self) -> C | str | Awaitable[Any]:
        # Read at once: tools print the variables of frames that failed, and those above must hold no raw secrets.
        given = self.provider()
        return given if inspect.isawaitable(given) else self._read(given)


def _wait_and_read(given: Awaitable[Any], read: Callable[[Any], C | str]) -> Op[C | str]:
    async def wait_and_read() -> C | str:
        return read(await given)

    waiting = wait_and_read()
    try:
        outcome: C | str = yield Await(waiting)
    finally:
        for unstarted in (waiting, given):  # where nobody could await, Python would warn of them
            if inspect.iscoroutine(unstarted) and inspect.getcoroutinestate(unstarted) == inspect.CORO_CREATED:
                unstarted.close()
    return outcome
