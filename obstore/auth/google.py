"""Credentials of google-auth that a program has made itself. Needs ``google-auth``.

`GCSStore` finds by itself what ``google.auth.default()`` would find, and refreshes it through its own connections; these are for
credentials of other origin.
"""

from __future__ import annotations

import asyncio
import inspect
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import GCSCredential

__all__ = ["GoogleAsyncCredentialProvider", "GoogleCredentialProvider"]

# What google-auth itself takes for "about to expire".
DEFAULT_REFRESH_THRESHOLD = timedelta(minutes=3, seconds=45)
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class GoogleCredentialProvider:
    """The tokens of google-auth's credentials.

    Args:
        credentials: ``google.auth.credentials.Credentials``, with scopes; those of ``google.auth.default()`` by default.
        request: transport that refreshes them; one on ``requests`` by default.
        refresh_threshold: a token is renewed so long before it ends.

    Attributes:
        refresh_threshold: as given.

    Raises:
        ImportError: google-auth, or ``requests`` for the default transport, is not installed.
    """

    def __init__(
        self,
        credentials: Any = None,
        *,
        request: Any = None,
        refresh_threshold: timedelta = DEFAULT_REFRESH_THRESHOLD,
    ) -> None:
        self._credentials = _default() if credentials is None else credentials
        self._request = _transport() if request is None else request
        self.refresh_threshold = refresh_threshold

    def __call__(self) -> GCSCredential:
        """A new token."""
        self._credentials.refresh(self._request)
        return _credential(self._credentials)


class GoogleAsyncCredentialProvider:
    """As `GoogleCredentialProvider`, for asynchronous programs: the event loop is not blocked by a refresh.

    Args:
        credentials: google-auth's, of its synchronous or its asynchronous kind; ``google.auth.default()`` by default.
        request: transport of the same kind; one on ``requests``, used in a thread, by default.
        refresh_threshold: a token is renewed so long before it ends.

    Attributes:
        refresh_threshold: as given.

    Raises:
        ImportError: google-auth, or ``requests`` for the default transport, is not installed.
    """

    def __init__(
        self,
        credentials: Any = None,
        *,
        request: Any = None,
        refresh_threshold: timedelta = DEFAULT_REFRESH_THRESHOLD,
    ) -> None:
        self._credentials = _default() if credentials is None else credentials
        self._request = _transport() if request is None else request
        self.refresh_threshold = refresh_threshold

    async def __call__(self) -> GCSCredential:
        """A new token."""
        refresh = self._credentials.refresh
        if inspect.iscoroutinefunction(refresh):
            await refresh(self._request)
        else:
            await asyncio.to_thread(refresh, self._request)
        return _credential(self._credentials)


def _default() -> Any:
    try:
        import google.auth
    except ImportError as error:
        raise ImportError("obstore.auth.google needs google-auth: pip install 'obstore[google]'") from error
    credentials, _ = google.auth.default(scopes=list(_SCOPES))
    return credentials


def _transport() -> Any:
    try:
        from google.auth.transport import requests
    except ImportError as error:
        raise ImportError(
            "obstore.auth.google needs google-auth and requests (pip install 'google-auth[requests]'), or request="
        ) from error
    return requests.Request()


def _credential(credentials: Any) -> GCSCredential:
    expiry: datetime | None = credentials.expiry
    if expiry is not None:
        expiry = expiry.replace(tzinfo=UTC) if expiry.tzinfo is None else expiry.astimezone(UTC)
    return {"token": credentials.token, "expires_at": expiry}
