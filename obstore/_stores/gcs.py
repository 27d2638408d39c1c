"""`GCSStore`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeAlias, TypedDict

from obstore._auth.gcp_chain import choose
from obstore._config.client import ClientConfig, ClientOptions
from obstore._config.gcs import GOOGLE_URL, GCSConfig, GCSSettings
from obstore._config.keys import GCS_KEYS, MergedSettings
from obstore._config.retry import RetryConfig
from obstore._dialect.base import Dialect
from obstore._dialect.gcs import GCSDialect
from obstore._engine._core import crc32c
from obstore._run import ClientHandle
from obstore._stores.remote import CloudStore
from obstore._types import SupportsAsUri

__all__ = ["GCSCredential", "GCSCredentialProvider", "GCSStore"]

# Tokens come in a moment or not at all; the metadata server is on the same machine.
_TOKEN_TIMEOUT_S = 10.0
_METADATA_TIMEOUT_S = 1.0


class GCSCredential(TypedDict):
    """What a credential provider returns.

    Attributes:
        token: OAuth 2.0 access token.
        expires_at: aware datetime until which it holds; ``None``: for ever. Asked for again some minutes before.
    """

    token: str
    expires_at: datetime | None


GCSCredentialProvider: TypeAlias = Callable[[], GCSCredential | Awaitable[GCSCredential]]


class GCSStore(CloudStore):
    """A bucket of Google Cloud Storage.

    Args:
        bucket: its name; also ``GOOGLE_BUCKET``.
        prefix: of all keys: paths are relative to it, and results too.
        config: settings by name, see `GCSConfig`; in any case, with or without ``google_``.
        client_options: how requests are sent, see `ClientConfig`.
        retry_config: how often and how patiently they are repeated, see `RetryConfig`.
        credential_provider: called for credentials: a callable, ``async`` or not, returning a dict of ``token`` and
            ``expires_at`` (aware datetime or ``None``).
        **kwargs: settings, as in ``config``: ``service_account``, ``bearer_token``, ``skip_signature``, ``base_url`` ...

    Credentials are, the first that is there: ``credential_provider``, ``bearer_token``, a service account's key, the file named
    by ``application_credentials`` (also ``GOOGLE_APPLICATION_CREDENTIALS``), gcloud's login, the account of the machine. All but
    the first two need the extra ``google`` (``pip install 'obstore[google]'``). With ``STORAGE_EMULATOR_HOST`` requests go to an
    emulator, without credentials unless the program gives some.

    Raises:
        UnknownConfigurationKeyError: there is no such setting.
        GenericError: a setting is missing, given twice, or has a value that is not understood; a credentials file cannot
            be read.
        ImportError: the credentials given need google-auth, which is not installed.
        TypeError, ValueError: an argument or option is wrong.
    """

    __module__ = "obstore.store"  # where users find it
    _keys = GCS_KEYS
    _scheme = "gcs"
    _client_defaults: ClassVar[Mapping[str, str]] = {"allow_http": "true"}

    def __init__(
        self,
        bucket: str | None = None,
        *,
        prefix: str | None = None,
        config: GCSConfig | dict[str, Any] | None = None,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
        credential_provider: GCSCredentialProvider | None = None,
        **kwargs: Any,
    ) -> None:
        self._configure(bucket, prefix, config, client_options, retry_config, credential_provider, kwargs)

    @classmethod
    def _connect(
        cls, merged: MergedSettings, client: ClientOptions, prefix: str | None, credential_provider: Any
    ) -> tuple[str, Dialect, Any]:
        settings = GCSSettings.build(merged)
        source, base_url = choose(settings, credential_provider, _client_factory(client))
        dialect = GCSDialect(
            settings,
            crc32c=crc32c,
            default_headers=client.default_headers,
            default_content_type=client.default_content_type,
            prefix=prefix,
            base_url=base_url or GOOGLE_URL,
        )
        return settings.bucket, dialect, source

    @classmethod
    def from_url(
        cls,
        url: str | SupportsAsUri,
        *,
        config: GCSConfig | dict[str, Any] | None = None,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
        credential_provider: GCSCredentialProvider | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store from ``gs://bucket/prefix``.

        Settings given win over what the URL implies; ``prefix`` goes with a URL that has none.

        Raises:
            ValueError: it is no URL.
            GenericError: it is not one of Google Cloud Storage.
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
        return f'GCSStore(bucket="{self._identity}"{prefix})'

    @property
    def credential_provider(self) -> GCSCredentialProvider | None:
        """The credential provider as given, or ``None``."""
        provider: GCSCredentialProvider | None = self._credential_provider
        return provider


def _client_factory(options: ClientOptions) -> Callable[[str, bool], ClientHandle]:
    """Makes the connection options for requests to where credentials come from."""
    made: dict[tuple[str, bool], ClientHandle] = {}

    def client_for(url: str, metadata: bool) -> ClientHandle:
        scheme, _, rest = url.partition("://")
        origin = f"{scheme}://{rest.partition('/')[0]}"
        handle = made.get((origin, metadata))
        if handle is None:
            own = options._replace(timeout_s=_TOKEN_TIMEOUT_S, default_headers=(), max_connections=0)
            if metadata:
                own = own._replace(
                    allow_http=True,
                    connect_timeout_s=_METADATA_TIMEOUT_S,
                    proxy_url=None,
                    proxy_excludes="*",
                )
            handle = made[origin, metadata] = ClientHandle(own, origin)
        return handle

    return client_for
