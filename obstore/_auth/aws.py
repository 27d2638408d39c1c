"""Credentials for S3: what one is, and the sources it comes from."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from obstore._auth.cache import Source, Unpicklable, credential
from obstore._auth.sources import (
    ANONYMOUS,
    Anonymous,
    Static,
    Unconfigured,
    problem_of,
    read_expiry,
)
from obstore._lazy import setting_up
from obstore.exceptions import GenericError

if TYPE_CHECKING:
    from obstore._auth.provided import ProviderSource

__all__ = [
    "ANONYMOUS",
    "Anonymous",
    "AwsCredential",
    "AwsSession",
    "AwsSource",
    "Static",
    "Unconfigured",
    "credential",
    "default_source",
    "provider_source",
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
            problem_of("access_key_id", access_key_id)
            or problem_of("secret_access_key", secret_access_key, ascii_only=False)
            or (token is not None and problem_of("token", token))
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


class AwsSession(AwsCredential):
    """Keys of a session with a directory bucket: their token goes into a header of its own."""

    __slots__ = ()


AwsSource = Source[AwsCredential]


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
    expires_at = read_expiry(given)
    if isinstance(expires_at, str):
        return expires_at
    try:
        return AwsCredential(
            given["access_key_id"],
            given["secret_access_key"],
            given.get("token"),
            expires_at,
        )
    except ValueError as error:
        return f"returned unusable credentials: {error}"


def provider_source(
    provider: Callable[[], Any], clock: Callable[[], float] = time.time
) -> ProviderSource[AwsCredential]:
    """The source behind a ``credential_provider`` of an S3 store."""
    with setting_up():  # forks wait for it
        from obstore._auth.provided import ProviderSource

    return ProviderSource(
        provider,
        clock,
        read=_read,
        cloud="AWS",
        shape="access_key_id, secret_access_key, expires_at (aware datetime or None) and optionally token",
    )


def default_source(
    settings: Mapping[str, Any], provider: Callable[[], Any] | None = None, chain: AwsSource | None = None
) -> AwsSource:
    """Choose where a store's credentials come from; the first that is there.

    Args:
        settings: the store's configuration under canonical names, environment included: ``access_key_id``,
            ``secret_access_key``, ``session_token`` (str) and ``skip_signature`` (bool) are read.
        provider: ``credential_provider`` of the store.
        chain: where to look further; ``None``: nowhere.

    Raises:
        GenericError: half a pair is configured.
        TypeError: the provider is none.
        ValueError: what is configured cannot be a credential.
    """
    if settings.get("skip_signature"):
        return Anonymous(_signing_source(settings, provider, chain))
    return _signing_source(settings, provider, chain)


def _signing_source(
    settings: Mapping[str, Any], provider: Callable[[], Any] | None, chain: AwsSource | None
) -> AwsSource:
    if provider is not None:
        return provider_source(provider)
    access_key_id = settings.get("access_key_id")
    secret_access_key = settings.get("secret_access_key")
    if access_key_id is not None and secret_access_key is not None:
        return Static(AwsCredential(access_key_id, secret_access_key, settings.get("session_token")))
    if access_key_id is not None or secret_access_key is not None:
        missing = "SecretAccessKey" if secret_access_key is None else "AccessKeyId"
        raise GenericError.of("S3", f"Missing {missing}")
    if chain is not None:
        return chain
    return Unconfigured(
        "No credentials are configured for S3.",
        "set access_key_id and secret_access_key (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the "
        "environment), pass credential_provider=..., or skip_signature=True for a public bucket",
    )
