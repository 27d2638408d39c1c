"""`S3Store`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NotRequired, Self, TypeAlias, TypedDict

from obstore._auth.aws import default_source
from obstore._config.client import ClientConfig, ClientOptions
from obstore._config.keys import S3_KEYS, MergedSettings
from obstore._config.retry import RetryConfig
from obstore._config.s3 import S3Config, S3Settings
from obstore._dialect.base import Dialect
from obstore._dialect.s3 import S3Dialect
from obstore._engine import lifecycle
from obstore._engine._core import crc32c, crc64nvme
from obstore._stores.remote import CloudStore
from obstore._types import SupportsAsUri

if TYPE_CHECKING:
    from obstore._stores.aws_configured import Configured

__all__ = ["S3Credential", "S3CredentialProvider", "S3Store"]


class S3Credential(TypedDict):
    """What a credential provider returns.

    Attributes:
        access_key_id: the public half of the key.
        secret_access_key: the secret half.
        token: session token of temporary credentials.
        expires_at: aware datetime until which they hold; ``None``: for ever. Asked for again some minutes before.
    """

    access_key_id: str
    secret_access_key: str
    token: NotRequired[str | None]
    expires_at: datetime | None


S3CredentialProvider: TypeAlias = Callable[[], S3Credential | Awaitable[S3Credential]]


class S3Store(CloudStore):
    """A bucket of Amazon S3 or of a service that speaks its protocol.

    Args:
        bucket: its name; also ``AWS_BUCKET``.
        prefix: of all keys: paths are relative to it, and results too.
        config: settings by name, see `S3Config`; in any case, with or without ``aws_``.
        client_options: how requests are sent, see `ClientConfig`.
        retry_config: how often and how patiently they are repeated, see `RetryConfig`.
        credential_provider: called for credentials: a callable, ``async`` or not, returning a dict of
            ``access_key_id``, ``secret_access_key``, optionally ``token``, and ``expires_at`` (aware datetime or ``None``).
        **kwargs: settings, as in ``config``: ``region``, ``endpoint``, ``access_key_id``, ``secret_access_key``,
            ``skip_signature`` ...

    What is not given is taken from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and the other
    ``AWS_`` variables), then from the profile in ``~/.aws``: credentials, region and endpoint as the AWS command line finds them,
    containers and instances included. Credentials are looked for when the first request needs them.

    Raises:
        UnknownConfigurationKeyError: there is no such setting.
        GenericError: a setting is missing, given twice, or has a value that is not understood.
        TypeError, ValueError: an argument or option is wrong.
    """

    __module__ = "obstore.store"  # where users find it
    _keys = S3_KEYS
    _scheme = "s3"

    def __init__(
        self,
        bucket: str | None = None,
        *,
        prefix: str | None = None,
        config: S3Config | dict[str, Any] | None = None,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
        credential_provider: S3CredentialProvider | None = None,
        **kwargs: Any,
    ) -> None:
        self._configure(bucket, prefix, config, client_options, retry_config, credential_provider, kwargs)

    @classmethod
    def _connect(
        cls, merged: MergedSettings, client: ClientOptions, prefix: str | None, credential_provider: Any
    ) -> tuple[str, Dialect, Any]:
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            merged = merged.without_environment("endpoint", "endpoint_url_s3", "endpoint_url_sts")
        region = endpoint = chain = None
        if not (_named(merged, "region", "default_region") and _named(merged, "endpoint", "endpoint_url_s3")):
            region, endpoint = _configured(merged)
        settings = S3Settings.build(
            merged,
            credential_provider=credential_provider is not None,
            configured_region=region,
            configured_endpoint=endpoint,
        )
        if credential_provider is None and settings.access_key_id is None:
            known = settings.region if settings.region_known else None
            chain = _surroundings().chain(merged, known, client)
        source = default_source(
            {
                "access_key_id": settings.access_key_id,
                "secret_access_key": settings.secret_access_key,
                "session_token": settings.session_token,
                "skip_signature": settings.skip_signature,
            },
            credential_provider,
            chain,
        )
        dialect = S3Dialect(
            settings,
            default_headers=client.default_headers,
            default_content_type=client.default_content_type,
            prefix=prefix,
            crcs={"CRC32C": crc32c, "CRC64NVME": crc64nvme},
        )
        if settings.s3_express and settings.express_sessions and not settings.skip_signature:
            source = _surroundings().sessions(source, dialect, client)
        return settings.bucket, dialect, source

    @classmethod
    def from_url(
        cls,
        url: str | SupportsAsUri,
        *,
        config: S3Config | dict[str, Any] | None = None,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
        credential_provider: S3CredentialProvider | None = None,
        prefix: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store from ``s3://bucket/prefix`` or an ``https://`` address of a bucket.

        Settings given win over what the URL implies; ``prefix`` goes with a URL that has none.

        Raises:
            ValueError: it is no URL.
            GenericError: it is not one of S3.
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
        return f'S3Store(bucket="{self._identity}"{prefix})'

    @property
    def credential_provider(self) -> S3CredentialProvider | None:
        """The credential provider as given, or ``None``."""
        provider: S3CredentialProvider | None = self._credential_provider
        return provider


def _named(merged: MergedSettings, *keys: str) -> bool:
    return any(merged.text(key) for key in keys)


def _configured(merged: MergedSettings) -> Configured:
    """Region and endpoint by the files of the command line."""
    with lifecycle.setting_up():
        from obstore._stores.aws_configured import configured
    return configured(merged)


def _surroundings() -> Any:
    """The module that looks around; it and all that it imports are imported where no fork can come in between."""
    with lifecycle.setting_up():
        from obstore._stores import aws
    return aws
