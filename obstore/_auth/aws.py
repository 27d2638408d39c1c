"""Credentials for S3: what one is, and the sources it comes from."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from obstore._auth.cache import THRESHOLD_S, CachedSource, Source, Unpicklable, credential
from obstore._effects import Await, Call, Op
from obstore.exceptions import GenericError, UnauthenticatedError

__all__ = [
    "ANONYMOUS",
    "Anonymous",
    "AwsCredential",
    "AwsSource",
    "ProviderSource",
    "Static",
    "Unconfigured",
    "credential",
    "default_source",
]


class AwsCredential(Unpicklable):
    """An access key, checked: all its parts can be sent in a header. Never changes; compared by identity.

    Args:
        access_key_id: the public half.
        secret_access_key: the secret half.
        token: session token that belongs to the pair, or ``None``.
        expires_at: seconds since the epoch, or ``None`` where it does not expire.

    Raises:
        ValueError: a part is empty, begins or ends with a blank, or has characters that no key has.
    """

    __slots__ = ("access_key_id", "expires_at", "secret_access_key", "token")

    def __init__(
        self, access_key_id: str, secret_access_key: str, token: str | None = None, expires_at: float | None = None
    ) -> None:
        if problem := (
            _problem("access_key_id", access_key_id)
            or _problem("secret_access_key", secret_access_key, ascii_only=False)
            or (token is not None and _problem("token", token))
        ):
            # Tools print the variables of frames that failed; this one has nothing to show of itself yet either.
            del self, access_key_id, secret_access_key, token
            raise ValueError(problem)
        # Exactly str, as the signer takes it, whatever a subclass that masks secrets shows as.
        self.access_key_id = str.__str__(access_key_id)
        self.secret_access_key = str.__str__(secret_access_key)
        self.token = None if token is None else str.__str__(token)
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"AwsCredential({self.access_key_id!r}, expires_at={self.expires_at!r})"


def _problem(name: str, value: str, *, ascii_only: bool = True) -> str | None:
    """What is wrong with a part of a credential, without showing it."""
    if not value:
        return f"{name} is empty"
    if value != value.strip():
        return f"{name} begins or ends with white space"
    if not value.isprintable() or (ascii_only and not value.isascii()):
        return f"{name} has characters that cannot be part of it"
    return None


# What an `Anonymous` source yields: requests go out unsigned. Its parts are never read.
ANONYMOUS: Final = AwsCredential("anonymous", "anonymous")

AwsSource = Source[AwsCredential]


class Static(Unpicklable):
    """A pair that was given: by the user or by the environment.

    Args:
        fixed: the credential.
    """

    renewable = False

    def __init__(self, fixed: AwsCredential) -> None:
        self._fixed = fixed

    @property
    def key(self) -> Hashable:
        return self

    def current(self, now: float) -> AwsCredential:  # noqa: ARG002 - given ones are not known to expire
        return self._fixed

    def refresh(self, after: Any = None) -> Op[AwsCredential]:  # noqa: ARG002 - there is no other
        yield from ()  # an operation, as every source's, that needs nothing
        return self._fixed


class Anonymous(Static):
    """No signatures (``skip_signature``).

    Attributes:
        beneath: the source that would be used without ``skip_signature``; presigned URLs still need it.
    """

    def __init__(self, beneath: AwsSource) -> None:
        super().__init__(ANONYMOUS)
        self.beneath = beneath


class Unconfigured(Unpicklable):
    """Nothing was configured: the first request that needs a signature says what could be."""

    renewable = False

    @property
    def key(self) -> Hashable:
        return self

    def current(self, now: float) -> None:  # noqa: ARG002 - there never is one
        return None

    def refresh(self, after: Any = None) -> Op[AwsCredential]:  # noqa: ARG002 - fails either way
        yield from ()  # an operation, as every source's
        raise UnauthenticatedError(
            "No credentials are configured for S3.",
            hint="set access_key_id and secret_access_key (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
            "environment), pass credential_provider=..., or skip_signature=True for a public bucket",
        )


class ProviderSource(CachedSource[AwsCredential]):
    """The user's ``credential_provider``.

    A provider is called without arguments and returns, or is awaited for, a dict with ``access_key_id``,
    ``secret_access_key``, ``expires_at`` (aware datetime of any zone, or ``None``: does not expire) and optionally
    ``token``. What it raises reaches the caller as it is. Two optional attributes are read when the store is made:
    ``config``, a dict of store options for those that are not given, and ``refresh_threshold``, a timedelta.

    Args:
        provider: the callable. Plain functions run where they may block; coroutine functions need an event loop.
        clock: seconds since the epoch.

    Raises:
        TypeError: ``provider`` is not callable, or one of the two attributes is of the wrong type.
    """

    def __init__(self, provider: Callable[[], Any], clock: Callable[[], float] = time.time) -> None:
        if not callable(provider):
            raise TypeError("Expected callable object for credential_provider.")
        self.provider = provider
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

    def fetch(self) -> Op[AwsCredential]:
        # Calling a coroutine function runs none of its code yet.
        outcome = self._call() if self._is_async else (yield Call(self._call))
        if inspect.isawaitable(outcome):
            outcome = yield from _wait_and_read(outcome)
        if isinstance(outcome, AwsCredential):
            return outcome
        raise UnauthenticatedError.of(
            "External AWS credential provider",
            f"{self._name} {outcome}",
            hint="a credential_provider returns a dict with access_key_id, secret_access_key, expires_at (aware "
            "datetime or None) and optionally token",
        )

    def _call(self) -> AwsCredential | str | Awaitable[Any]:
        # Read at once: tools print the variables of frames that failed, and those above must hold no raw secrets.
        given = self.provider()
        return given if inspect.isawaitable(given) else _read(given)


def _wait_and_read(given: Awaitable[Any]) -> Op[AwsCredential | str]:
    async def wait_and_read() -> AwsCredential | str:
        return _read(await given)

    waiting = wait_and_read()
    try:
        outcome: AwsCredential | str = yield Await(waiting)
    finally:
        for unstarted in (waiting, given):  # where nobody could await, Python would warn of them
            if inspect.iscoroutine(unstarted) and inspect.getcoroutinestate(unstarted) == inspect.CORO_CREATED:
                unstarted.close()
    return outcome


def _read(given: Any) -> AwsCredential | str:
    """The credential that a provider returned, or what is wrong with it, values left out."""
    if not isinstance(given, Mapping):
        return f"returned {type(given).__name__}, not a dict"
    for name in ("access_key_id", "secret_access_key", "expires_at"):
        if name not in given:
            return f"returned no {name}"
    for name in ("access_key_id", "secret_access_key", "token"):
        value = given.get(name)
        if not (isinstance(value, str) or (value is None and name == "token")):
            return f"returned {name} as {type(value).__name__}, not str"
    expires_at = given["expires_at"]
    if not (expires_at is None or isinstance(expires_at, datetime)):
        return f"returned expires_at as {type(expires_at).__name__}, not datetime"
    if expires_at is not None and expires_at.utcoffset() is None:
        return "returned expires_at without a time zone"
    try:
        return AwsCredential(
            given["access_key_id"],
            given["secret_access_key"],
            given.get("token"),
            None if expires_at is None else expires_at.timestamp(),
        )
    except ValueError as error:
        return f"returned unusable credentials: {error}"


def default_source(settings: Mapping[str, Any], provider: Callable[[], Any] | None = None) -> AwsSource:
    """Choose where a store's credentials come from; the first that is there.

    Args:
        settings: the store's configuration under canonical names, environment included: ``access_key_id``,
            ``secret_access_key``, ``session_token`` (str) and ``skip_signature`` (bool) are read.
        provider: ``credential_provider`` of the store.

    Raises:
        GenericError: half a pair is configured.
        TypeError: the provider is none.
        ValueError: what is configured cannot be a credential.
    """
    if settings.get("skip_signature"):
        return Anonymous(_signing_source(settings, provider))
    return _signing_source(settings, provider)


def _signing_source(settings: Mapping[str, Any], provider: Callable[[], Any] | None) -> AwsSource:
    if provider is not None:
        return ProviderSource(provider)
    access_key_id = settings.get("access_key_id")
    secret_access_key = settings.get("secret_access_key")
    if access_key_id is not None and secret_access_key is not None:
        return Static(AwsCredential(access_key_id, secret_access_key, settings.get("session_token")))
    if access_key_id is not None or secret_access_key is not None:
        missing = "SecretAccessKey" if secret_access_key is None else "AccessKeyId"
        raise GenericError.of("S3", f"Missing {missing}")
    # The native chain goes here: web identity, profiles, containers, instance metadata.
    return Unconfigured()
