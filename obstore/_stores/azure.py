"""`AzureStore`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, Self, TypeAlias, TypedDict

from obstore._auth.azure import IMDS_ENDPOINT, default_source
from obstore._config.azure import AzureConfig, AzureSettings
from obstore._config.client import ClientConfig, ClientOptions
from obstore._config.keys import AZURE_KEYS, MergedSettings
from obstore._config.retry import RetryConfig
from obstore._dialect.azure import AzureDialect
from obstore._dialect.base import Dialect
from obstore._run import ClientHandle
from obstore._stores.azure_identity import default_credential
from obstore._stores.remote import CloudStore
from obstore._types import SupportsAsUri

__all__ = [
    "AzureAccessKey",
    "AzureBearerToken",
    "AzureCredential",
    "AzureCredentialProvider",
    "AzureSASToken",
    "AzureStore",
]

# Metadata services are on this machine or beside it: one that does not answer soon is not there.
_METADATA_CONNECT_S = 1.0
_METADATA_READ_S = 10.0


class AzureAccessKey(TypedDict):
    """The key of a storage account, as a credential provider returns it.

    Attributes:
        access_key: the key, base64.
        expires_at: aware datetime until which it holds; ``None``: for ever. Asked for again some minutes before.
    """

    access_key: str
    expires_at: datetime | None


class AzureSASToken(TypedDict):
    """A shared access signature, as a credential provider returns it.

    Attributes:
        sas_token: the query string, or its decoded name-value pairs.
        expires_at: as of `AzureAccessKey`.
    """

    sas_token: str | Sequence[tuple[str, str]]
    expires_at: datetime | None


class AzureBearerToken(TypedDict):
    """A token of Microsoft Entra, as a credential provider returns it.

    Attributes:
        token: the token.
        expires_at: as of `AzureAccessKey`.
    """

    token: str
    expires_at: datetime | None


AzureCredential: TypeAlias = AzureAccessKey | AzureSASToken | AzureBearerToken
AzureCredentialProvider: TypeAlias = Callable[[], AzureCredential | Awaitable[AzureCredential]]


class AzureStore(CloudStore):
    """A container of Azure Blob Storage, Data Lake Storage or Microsoft Fabric.

    Args:
        container_name: its name; also ``container=`` and ``AZURE_CONTAINER_NAME``.
        prefix: of all keys: paths are relative to it, and results too.
        config: settings by name, see `AzureConfig`; in any case, most with or without ``azure_`` and ``azure_storage_``.
        client_options: how requests are sent, see `ClientConfig`.
        retry_config: how often and how patiently they are repeated, see `RetryConfig`.
        credential_provider: called for credentials: a callable, ``async`` or not, returning a dict of exactly one of
            ``access_key``, ``sas_token`` and ``token``, and ``expires_at`` (aware datetime or ``None``). Its attribute
            ``prefix`` is used where the store has none.
        **kwargs: settings, as in ``config``: ``account_name``, ``account_key``, ``sas_key``, ``use_emulator`` ...

    What is not given is taken from the environment: ``AZURE_STORAGE_ACCOUNT_NAME``, ``AZURE_STORAGE_ACCOUNT_KEY``,
    ``AZURE_CLIENT_ID`` and the other ``AZURE_`` variables. Without any credential, azure-identity's DefaultAzureCredential is
    used (``pip install "obstore[azure]"``).

    Raises:
        UnknownConfigurationKeyError: there is no such setting.
        GenericError: a setting is missing, given twice, or has a value that is not understood.
        TypeError, ValueError: an argument or option is wrong.
    """

    __module__ = "obstore.store"  # where users find it
    _keys = AZURE_KEYS
    _scheme = "azure"

    def __init__(
        self,
        container_name: str | None = None,
        *,
        prefix: str | None = None,
        config: AzureConfig | dict[str, Any] | None = None,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
        credential_provider: AzureCredentialProvider | None = None,
        **kwargs: Any,
    ) -> None:
        if prefix is None:
            prefix = getattr(credential_provider, "prefix", None)
        self._configure(container_name, prefix, config, client_options, retry_config, credential_provider, kwargs)

    @classmethod
    def _defaults_for(cls, merged: MergedSettings) -> dict[str, str]:
        # The emulator speaks plain HTTP, on this machine.
        return {"allow_http": "true"} if AzureSettings.build(merged).emulator else {}

    @classmethod
    def _connect(
        cls, merged: MergedSettings, client: ClientOptions, prefix: str | None, credential_provider: Any
    ) -> tuple[str, Dialect, Any]:
        settings = AzureSettings.build(merged)
        # Tokens come from other hosts than the account's: no default headers of the store go there.
        tokens = client._replace(default_headers=(), max_connections=0)
        nearby = tokens._replace(
            allow_http=True,
            proxy_url=None,
            proxy_excludes="*",
            connect_timeout_s=min(_METADATA_CONNECT_S, client.connect_timeout_s),
            read_timeout_s=_METADATA_READ_S,
        )
        source = default_source(
            settings,
            credential_provider,
            token_client=ClientHandle(tokens, settings.authority_host),
            metadata_client=ClientHandle(nearby, settings.msi_endpoint or IMDS_ENDPOINT),
            default_identity=lambda: default_credential(settings, tokens),
        )
        dialect = AzureDialect(
            settings,
            default_headers=client.default_headers,
            default_content_type=client.default_content_type,
            prefix=prefix,
        )
        return settings.container, dialect, source

    @classmethod
    def from_url(
        cls,
        url: str | SupportsAsUri,
        *,
        config: AzureConfig | dict[str, Any] | None = None,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
        credential_provider: AzureCredentialProvider | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store from the URL of a container.

        Such as ``az://container/prefix``, ``abfss://container@account.dfs.core.windows.net/prefix`` or
        ``https://account.blob.core.windows.net/container/prefix``. Settings given win over what the URL implies; ``prefix`` goes with a URL that has none.

        Raises:
            ValueError: it is no URL.
            GenericError: it is not one of Azure.
        """
        return cls._from_url(
            url,
            config,
            kwargs,
            prefix,
            client_options=client_options,
            retry_config=retry_config,
            credential_provider=credential_provider,
        )

    def __repr__(self) -> str:
        prefix = "" if self._prefix is None else f', prefix="{self._prefix}"'
        backend: Any = self._backend
        return f'AzureStore(container_name="{self._identity}", account_name="{backend.dialect.account}"{prefix})'

    @property
    def credential_provider(self) -> AzureCredentialProvider | None:
        """The credential provider as given, or ``None``."""
        provider: AzureCredentialProvider | None = self._credential_provider
        return provider
