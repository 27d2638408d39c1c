"""Credentials for Google Cloud Storage: what one is, and the sources that need no library of Google's."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from obstore._auth.cache import Source, Unpicklable
from obstore._auth.sources import problem_of, read_expiry
from obstore._lazy import setting_up

if TYPE_CHECKING:
    from obstore._auth.provided import ProviderSource

__all__ = ["GcpCredential", "GcpSource", "provider_source"]


class GcpCredential(Unpicklable):
    """An access token, checked: it can be sent in a header. Never changes; compared by identity.

    Args:
        token: the token.
        expires_at: seconds since the epoch, or ``None`` where it does not expire.

    Raises:
        ValueError: it is empty, begins or ends with a blank, or has characters that no token has.

    Attributes:
        header: value of the ``authorization`` header.
    """

    __slots__ = ("expires_at", "header")

    def __init__(self, token: str, expires_at: float | None = None) -> None:
        if problem := problem_of("token", token):
            # Tools print the variables of frames that failed; this one has nothing to show of itself yet either.
            del self, token
            raise ValueError(problem)
        self.header = f"Bearer {str.__str__(token)}"
        self.expires_at = expires_at

    def __repr__(self) -> str:
        return f"GcpCredential(expires_at={self.expires_at!r})"


GcpSource = Source[GcpCredential]


def _read(given: Any) -> GcpCredential | str:
    """The credential that a provider returned, or what is wrong with it, values left out."""
    if not isinstance(given, Mapping):
        return f"returned {type(given).__name__}, not a dict"
    for name in ("token", "expires_at"):
        if name not in given:
            return f"returned no {name}"
    if not isinstance(given["token"], str):
        return f"returned token as {type(given['token']).__name__}, not str"
    expires_at = read_expiry(given)
    if isinstance(expires_at, str):
        return expires_at
    try:
        return GcpCredential(given["token"], expires_at)
    except ValueError as error:
        return f"returned unusable credentials: {error}"


def provider_source(
    provider: Callable[[], Any], clock: Callable[[], float] = time.time
) -> ProviderSource[GcpCredential]:
    """The source behind a ``credential_provider`` of a GCS store."""
    with setting_up():  # forks wait for it
        from obstore._auth.provided import ProviderSource

    return ProviderSource(
        provider, clock, read=_read, cloud="GCP", shape="token and expires_at (aware datetime or None)"
    )
