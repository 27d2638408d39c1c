"""The stores: where objects live. Each class says how to reach one bucket, directory or piece of memory.

Building a store checks its arguments and does nothing else: no request is sent, no library loaded.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from obstore._config.azure import AzureConfig, AzureCredentialType
from obstore._config.client import ClientConfig
from obstore._config.gcs import GCSConfig
from obstore._config.retry import BackoffConfig, RetryConfig
from obstore._config.s3 import S3ChecksumAlgorithm, S3Config, S3EncryptionAlgorithm, S3Regions
from obstore._config.url import split_url
from obstore._methods import ObjectStoreMethods
from obstore._stores.azure import (
    AzureAccessKey,
    AzureBearerToken,
    AzureCredential,
    AzureCredentialProvider,
    AzureSASToken,
    AzureStore,
)
from obstore._stores.gcs import GCSCredential, GCSCredentialProvider, GCSStore
from obstore._stores.http import HTTPStore
from obstore._stores.local import LocalStore
from obstore._stores.memory import MemoryStore
from obstore._stores.s3 import S3Credential, S3CredentialProvider, S3Store
from obstore.exceptions import BaseError, NotSupportedError

__all__ = [
    "AzureAccessKey",
    "AzureBearerToken",
    "AzureConfig",
    "AzureCredential",
    "AzureCredentialProvider",
    "AzureCredentialType",
    "AzureSASToken",
    "AzureStore",
    "BackoffConfig",
    "BaseError",
    "ClientConfig",
    "GCSConfig",
    "GCSCredential",
    "GCSCredentialProvider",
    "GCSStore",
    "HTTPStore",
    "LocalStore",
    "MemoryStore",
    "ObjectStore",
    "ObjectStoreMethods",
    "RetryConfig",
    "S3ChecksumAlgorithm",
    "S3Config",
    "S3Credential",
    "S3CredentialProvider",
    "S3EncryptionAlgorithm",
    "S3Regions",
    "S3Store",
    "SignCapableStore",
    "from_url",
]


ObjectStore: TypeAlias = AzureStore | GCSStore | S3Store | HTTPStore | LocalStore | MemoryStore
"""Any store; works with ``isinstance``."""

SignCapableStore: TypeAlias = AzureStore | GCSStore | S3Store
"""The stores that `obstore.sign` signs URLs for; works with ``isinstance``."""


def from_url(
    url: str,
    *,
    config: Any = None,
    client_options: ClientConfig | dict[str, Any] | None = None,
    retry_config: RetryConfig | dict[str, Any] | None = None,
    credential_provider: Any = None,
    **kwargs: Any,
) -> ObjectStore:
    """The store that a URL names.

    Such as ``s3://bucket/prefix``, ``gs://bucket``, ``https://bucket.s3.region.amazonaws.com``, ``file:///directory``, ``memory:///``.

    Args:
        url: of the bucket, directory ...
        config, client_options, retry_config, credential_provider, **kwargs: as for the store's class; local stores take
            ``automatic_cleanup`` and ``mkdir``, memory stores nothing.

    Raises:
        ValueError: it is no URL.
        GenericError: no store has such URLs.
        NotSupportedError: it names a kind of store that is not there yet.
        BaseError: the store takes no such arguments.
    """
    location = split_url(url)
    if location.scheme == "s3":
        return S3Store.from_url(
            url,
            config=config,
            client_options=client_options,
            retry_config=retry_config,
            credential_provider=credential_provider,
            **kwargs,
        )
    if location.scheme == "gcs":
        return GCSStore.from_url(
            url,
            config=config,
            client_options=client_options,
            retry_config=retry_config,
            credential_provider=credential_provider,
            **kwargs,
        )
    if location.scheme == "azure":
        return AzureStore.from_url(
            url,
            config=config,
            client_options=client_options,
            retry_config=retry_config,
            credential_provider=credential_provider,
            **kwargs,
        )
    if location.scheme == "http":
        if config or kwargs or credential_provider is not None:
            raise BaseError("HTTPStore does not accept any configuration")
        return HTTPStore.from_url(url, client_options=client_options, retry_config=retry_config)
    if location.scheme == "local":
        if credential_provider is not None:
            raise BaseError("LocalStore does not accept a credential_provider")
        flags = {name: value for name, value in kwargs.items() if name in ("automatic_cleanup", "mkdir")}
        return LocalStore.from_url(url, **flags)
    if location.scheme == "memory":
        if config or kwargs or credential_provider is not None:
            raise BaseError("MemoryStore does not accept any configuration")
        return MemoryStore()
    raise NotSupportedError.of("", f"{location.scheme} stores are not available in this version")
