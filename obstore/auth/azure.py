"""Credentials of azure-identity that a program has made itself. Needs ``azure-identity``.

`AzureStore` finds by itself what ``DefaultAzureCredential`` would find, and knows secrets, identities and the Azure CLI natively;
these are for credentials of other origin.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from obstore.store import AzureBearerToken

__all__ = ["DEFAULT_SCOPES", "AzureAsyncCredentialProvider", "AzureCredentialProvider"]

DEFAULT_SCOPES: Iterable[str] = ("https://storage.azure.com/.default",)


class AzureCredentialProvider:
    """The tokens of a credential of azure-identity.

    Args:
        credential: anything with its ``get_token``; ``DefaultAzureCredential`` by default, which sends its requests by obstore's
            engine.
        scopes: what the tokens are for.
        tenant_id: ask for tokens of this tenant.

    Raises:
        ImportError: azure-identity is not installed.
    """

    def __init__(
        self, credential: Any = None, *, scopes: Iterable[str] = DEFAULT_SCOPES, tenant_id: str | None = None
    ) -> None:
        self._credential = _default() if credential is None else credential
        self._scopes = tuple(scopes)
        self._tenant_id = tenant_id

    def __call__(self) -> AzureBearerToken:
        """A token: a new one where the credential has none that is fresh."""
        return _token(self._credential.get_token(*self._scopes, tenant_id=self._tenant_id))


class AzureAsyncCredentialProvider:
    """As `AzureCredentialProvider`, for asynchronous programs: the event loop is not blocked.

    Args:
        credential: of ``azure.identity.aio``, or one of ``azure.identity``, which is asked in a thread; ``DefaultAzureCredential``
            by default.
        scopes: what the tokens are for.
        tenant_id: ask for tokens of this tenant.

    Raises:
        ImportError: azure-identity is not installed.
    """

    def __init__(
        self, credential: Any = None, *, scopes: Iterable[str] = DEFAULT_SCOPES, tenant_id: str | None = None
    ) -> None:
        self._credential = _default() if credential is None else credential
        self._scopes = tuple(scopes)
        self._tenant_id = tenant_id

    async def __call__(self) -> AzureBearerToken:
        """A token: a new one where the credential has none that is fresh."""
        get_token = self._credential.get_token
        if inspect.iscoroutinefunction(get_token):
            return _token(await get_token(*self._scopes, tenant_id=self._tenant_id))
        return _token(await asyncio.to_thread(get_token, *self._scopes, tenant_id=self._tenant_id))


def _default() -> Any:
    from obstore._config.client import ClientOptions
    from obstore._stores.azure_identity import default_credential

    try:
        return default_credential(None, ClientOptions())
    except ImportError as error:
        raise ImportError("obstore.auth.azure needs azure-identity: pip install 'obstore[azure]'") from error


def _token(found: Any) -> AzureBearerToken:
    return {"token": found.token, "expires_at": datetime.fromtimestamp(found.expires_on, UTC)}
