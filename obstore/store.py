"""The stores: where objects live. Each class says how to reach one bucket, directory or piece of memory.

Building a store checks its arguments and does nothing else: no request is sent, no library loaded.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired, Self, TypeAlias, TypedDict

from obstore._auth.aws import default_source
from obstore._config.client import ClientConfig
from obstore._config.keys import S3_KEYS
from obstore._config.paths import parse_key, parse_prefix
from obstore._config.retry import BackoffConfig, RetryConfig, RetryPolicy
from obstore._config.s3 import S3ChecksumAlgorithm, S3Config, S3EncryptionAlgorithm, S3Regions, S3Settings
from obstore._config.url import split_url
from obstore._dialect.s3 import S3Dialect
from obstore._engine._core import crc64nvme
from obstore._local import LocalBackend
from obstore._memory import MemoryBackend
from obstore._methods import ObjectStoreMethods
from obstore._ops.remote import RemoteBackend
from obstore._run import ClientHandle
from obstore.exceptions import BaseError, NotSupportedError

__all__ = [
    "BackoffConfig",
    "BaseError",
    "ClientConfig",
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
    "from_url",
]


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


class S3Store(ObjectStoreMethods):
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

    What is not given is taken from the environment: ``AWS_ACCESS_KEY_ID``, ``AWS_REGION``, ``AWS_ENDPOINT_URL`` and the other
    ``AWS_`` variables.

    Raises:
        UnknownConfigurationKeyError: there is no such setting.
        GenericError: a setting is missing, given twice, or has a value that is not understood.
        TypeError, ValueError: an argument or option is wrong.
    """

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
        merged = S3_KEYS.merge(
            bucket, config=config, kwargs=kwargs, provider=getattr(credential_provider, "config", None)
        )
        settings = S3Settings.build(merged, credential_provider=credential_provider is not None)
        if settings.s3_express:
            raise NotSupportedError.of("S3", "directory buckets (s3_express) are not available in this version")
        client = merged.client(client_options)
        source = default_source(
            {
                "access_key_id": settings.access_key_id,
                "secret_access_key": settings.secret_access_key,
                "session_token": settings.session_token,
                "skip_signature": settings.skip_signature,
            },
            credential_provider,
        )
        self._merged = merged
        self._bucket = settings.bucket
        self._prefix = parse_prefix(prefix)
        self._client_options = client
        self._retry_given = retry_config is not None
        self._policy = RetryPolicy.parse(retry_config)
        self._credential_provider = credential_provider
        dialect = S3Dialect(
            settings,
            default_headers=client.default_headers,
            default_content_type=client.default_content_type,
            prefix=self._prefix,
            crc64nvme=crc64nvme,
        )
        self._backend = RemoteBackend(
            dialect, ClientHandle(client, dialect.endpoint), source, self._policy, _parse_remote_key
        )

    @classmethod
    def from_env(cls, bucket: str | None = None, **kwargs: Any) -> Self:
        """The same as the constructor, which reads the environment too."""
        return cls(bucket, **kwargs)

    @classmethod
    def from_url(
        cls,
        url: str,
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
        location = split_url(url, "s3")
        if prefix is not None and location.prefix:
            raise ValueError("prefix: the URL has a prefix already")
        return cls(
            prefix=location.prefix if prefix is None else prefix,
            config=S3_KEYS.with_url(location.config, config, kwargs),
            client_options=client_options,
            retry_config=retry_config,
            credential_provider=credential_provider,
            **kwargs,
        )

    def __repr__(self) -> str:
        prefix = "" if self._prefix is None else f', prefix="{self._prefix}"'
        return f'S3Store(bucket="{self._bucket}"{prefix})'

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, S3Store):
            return NotImplemented
        return (
            self._merged == other._merged
            and self._prefix == other._prefix
            and self._client_options == other._client_options
            and self.retry_config == other.retry_config
            and self._credential_provider == other._credential_provider
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def prefix(self) -> str | None:
        """What all keys are relative to, without slashes at its ends."""
        return self._prefix

    @property
    def config(self) -> dict[str, str]:
        """The settings given by the program, by canonical name; a new dict. Holds secrets if they were given."""
        return self._merged.public()

    @property
    def client_options(self) -> dict[str, Any] | None:
        """The client options as given, or ``None``."""
        return self._client_options.published()

    @property
    def retry_config(self) -> RetryConfig | None:
        """The retry options with their defaults filled in, or ``None`` where none were given."""
        return self._policy.as_dict() if self._retry_given else None

    @property
    def credential_provider(self) -> S3CredentialProvider | None:
        """The credential provider as given, or ``None``."""
        return self._credential_provider

    def __getnewargs_ex__(self) -> tuple[tuple[()], dict[str, Any]]:
        """What another library rebuilds the store from; holds only what the Rust library knows."""
        arguments = {
            "prefix": self._prefix,
            "config": self.config,
            "client_options": self.client_options,
            "retry_config": self.retry_config,
            "credential_provider": self._credential_provider,
        }
        return (), {name: value for name, value in arguments.items() if value is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = self.__getnewargs_ex__()[1]
        arguments["config"] = {**arguments["config"], **self._merged.ours()}
        if self._client_options.max_connections and "max_connections" not in arguments["config"]:
            arguments["config"]["max_connections"] = str(self._client_options.max_connections)
        return _rebuild, (type(self), S3Store, arguments, _own_attributes(self, S3Store))


class LocalStore(ObjectStoreMethods):
    """Files below a directory.

    Args:
        prefix: the directory; ``None`` for the whole file system.
        automatic_cleanup: whether deleting also removes the directories that it empties.
        mkdir: whether to make the directory if it does not exist.

    Keys are relative paths. Nothing outside the directory can be reached, by ``..`` or by symbolic links. Objects appear by
    atomic rename. Attributes and conditional updates are not supported, tags are ignored.

    Raises:
        GenericError: the directory does not exist.
    """

    def __init__(
        self, prefix: str | os.PathLike[str] | None = None, *, automatic_cleanup: bool = False, mkdir: bool = False
    ) -> None:
        if prefix is not None and not isinstance(prefix, (str, os.PathLike)):
            raise TypeError(f"prefix: '{type(prefix).__name__}' object is not an instance of 'str' or 'Path'")
        for name, value in (("automatic_cleanup", automatic_cleanup), ("mkdir", mkdir)):
            if not isinstance(value, bool):
                raise TypeError(f"{name}: '{type(value).__name__}' object is not an instance of 'bool'")
        self._prefix = None if prefix is None else Path(prefix)
        self._automatic_cleanup = automatic_cleanup
        self._mkdir = mkdir
        self._backend = LocalBackend(self._prefix, automatic_cleanup=automatic_cleanup, mkdir=mkdir)

    @classmethod
    def from_url(cls, url: str, *, automatic_cleanup: bool = False, mkdir: bool = False) -> Self:
        """A store from ``file:///directory``.

        Raises:
            ValueError: it is no ``file://`` URL.
        """
        location = split_url(url, "local")
        return cls(location.path, automatic_cleanup=automatic_cleanup, mkdir=mkdir)

    def __repr__(self) -> str:
        return "LocalStore" if self._prefix is None else f'LocalStore("{self._prefix}")'

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LocalStore):
            return NotImplemented
        return self.__getnewargs_ex__() == other.__getnewargs_ex__()

    __hash__ = None  # type: ignore[assignment]

    @property
    def prefix(self) -> Path | None:
        """The directory as given, or ``None``."""
        return self._prefix

    def __getnewargs_ex__(self) -> tuple[tuple[Path | None], dict[str, Any]]:
        return (self._prefix,), {"automatic_cleanup": self._automatic_cleanup, "mkdir": self._mkdir}

    def __reduce__(self) -> tuple[Any, ...]:
        (prefix,), flags = self.__getnewargs_ex__()
        return _rebuild, (type(self), LocalStore, {"prefix": prefix, **flags}, _own_attributes(self, LocalStore))


class MemoryStore(ObjectStoreMethods):
    """Objects in the memory of this process; for tests and scratch. Equal to itself only.

    Pickling copies all objects.
    """

    def __init__(self) -> None:
        self._backend = MemoryBackend()

    def __repr__(self) -> str:
        return "MemoryStore"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_memory, (type(self), self._backend, _own_attributes(self, MemoryStore))


ObjectStore: TypeAlias = S3Store | LocalStore | MemoryStore
"""Any store; works with ``isinstance``."""


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

    Such as ``s3://bucket/prefix``, ``https://bucket.s3.region.amazonaws.com``, ``file:///directory``, ``memory:///``.

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


def _parse_remote_key(path: str, argument: str) -> str:
    return parse_key(path, argument)


def _rebuild(kind: Any, base: Any, arguments: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """Make a store, of a subclass possibly, from what `__reduce__` kept."""
    store = kind.__new__(kind)
    base.__init__(store, **arguments)
    store.__dict__.update(attributes)
    return store


def _rebuild_memory(kind: type[MemoryStore], backend: MemoryBackend, attributes: dict[str, Any]) -> MemoryStore:
    store = kind.__new__(kind)
    store._backend = backend  # noqa: SLF001 - its own class
    store.__dict__.update(attributes)
    return store


_OWN = {
    S3Store: (
        "_backend",
        "_bucket",
        "_client_options",
        "_credential_provider",
        "_merged",
        "_policy",
        "_prefix",
        "_retry_given",
    ),
    LocalStore: ("_automatic_cleanup", "_backend", "_mkdir", "_prefix"),
    MemoryStore: ("_backend",),
}


def _own_attributes(store: Any, base: type[Any]) -> dict[str, Any]:
    """Attributes that the user, or a subclass, added to a store."""
    return {name: value for name, value in store.__dict__.items() if name not in _OWN[base]}
