"""The stores: where objects live. Each class says how to reach one bucket, directory or piece of memory.

Building a store checks its arguments and does nothing else: no request is sent, no library loaded.
"""

from __future__ import annotations

import functools
import operator
import sys
from typing import TYPE_CHECKING, Any

from obstore import _lazy
from obstore._config.client import ClientConfig
from obstore._config.retry import BackoffConfig, RetryConfig
from obstore._config.url import split_url
from obstore._methods import ObjectStoreMethods
from obstore.exceptions import BaseError

if TYPE_CHECKING:
    from typing import TypeAlias

    from obstore._config.azure import AzureConfig, AzureCredentialType
    from obstore._config.gcs import GCSConfig
    from obstore._config.s3 import S3ChecksumAlgorithm, S3Config, S3EncryptionAlgorithm, S3Regions
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
    from obstore._types import SupportsAsUri

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


if TYPE_CHECKING:
    ObjectStore: TypeAlias = AzureStore | GCSStore | S3Store | HTTPStore | LocalStore | MemoryStore
    """Any store; works with ``isinstance``."""

    SignCapableStore: TypeAlias = AzureStore | GCSStore | S3Store
    """The stores that `obstore.sign` signs URLs for; works with ``isinstance``."""

else:
    # A program uses one or two kinds of store: each is imported when it is first asked for.
    _HOME = {
        **dict.fromkeys(
            (
                "AzureAccessKey",
                "AzureBearerToken",
                "AzureCredential",
                "AzureCredentialProvider",
                "AzureSASToken",
                "AzureStore",
            ),
            "obstore._stores.azure",
        ),
        **dict.fromkeys(("GCSCredential", "GCSCredentialProvider", "GCSStore"), "obstore._stores.gcs"),
        **dict.fromkeys(("S3Credential", "S3CredentialProvider", "S3Store"), "obstore._stores.s3"),
        "HTTPStore": "obstore._stores.http",
        "LocalStore": "obstore._stores.local",
        "MemoryStore": "obstore._stores.memory",
        **dict.fromkeys(("AzureConfig", "AzureCredentialType"), "obstore._config.azure"),
        "GCSConfig": "obstore._config.gcs",
        **dict.fromkeys(
            ("S3ChecksumAlgorithm", "S3Config", "S3EncryptionAlgorithm", "S3Regions"), "obstore._config.s3"
        ),
    }
    _UNIONS = {
        "ObjectStore": ("AzureStore", "GCSStore", "S3Store", "HTTPStore", "LocalStore", "MemoryStore"),
        "SignCapableStore": ("AzureStore", "GCSStore", "S3Store"),
    }

    def __getattr__(name: str) -> Any:
        if name in _UNIONS:
            value: Any = functools.reduce(operator.or_, [getattr(_this, each) for each in _UNIONS[name]])
        elif name in _HOME:
            value = _lazy.value_of(_HOME[name], name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

    _this = sys.modules[__name__]


_CLOUDS = {"s3": "S3Store", "gcs": "GCSStore", "azure": "AzureStore"}


def from_url(
    url: str | SupportsAsUri,
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
        url: of the bucket, directory ...; or a path that has one: of ``pathlib``, universal_pathlib, cloudpathlib.
        config, client_options, retry_config, credential_provider, **kwargs: as for the store's class; local stores take
            ``automatic_cleanup`` and ``mkdir``, memory stores nothing.

    Raises:
        ValueError: it is no URL.
        GenericError: no store has such URLs.
        BaseError: the store takes no such arguments.
    """
    scheme = split_url(url).scheme
    if scheme in _CLOUDS:
        cloud: Any = getattr(sys.modules[__name__], _CLOUDS[scheme])
        store: ObjectStore = cloud.from_url(
            url,
            config=config,
            client_options=client_options,
            retry_config=retry_config,
            credential_provider=credential_provider,
            **kwargs,
        )
        return store
    if scheme == "http":
        from obstore._stores.http import HTTPStore

        if config or kwargs or credential_provider is not None:
            raise BaseError("HTTPStore does not accept any configuration")
        return HTTPStore.from_url(url, client_options=client_options, retry_config=retry_config)
    if scheme == "local":
        from obstore._stores.local import LocalStore

        if credential_provider is not None:
            raise BaseError("LocalStore does not accept a credential_provider")
        flags = {name: value for name, value in kwargs.items() if name in ("automatic_cleanup", "mkdir")}
        return LocalStore.from_url(url, **flags)
    from obstore._stores.memory import MemoryStore

    if config or kwargs or credential_provider is not None:
        raise BaseError("MemoryStore does not accept any configuration")
    return MemoryStore()
