"""What the stores of the clouds have in common: settings by many names, credentials, retries, pickling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from obstore._auth.sources import describe_source
from obstore._config.client import ClientOptions
from obstore._config.keys import KeyTable, MergedSettings
from obstore._config.paths import parse_key, parse_prefix
from obstore._config.retry import RetryConfig, RetryPolicy
from obstore._config.url import Scheme, split_url
from obstore._dialect.base import Dialect
from obstore._methods import ObjectStoreMethods
from obstore._ops.remote import RemoteBackend
from obstore._run import ClientHandle
from obstore._stores.rebuild import added_attributes, rebuild
from obstore._types import SupportsAsUri

__all__ = ["CloudStore"]


class CloudStore(ObjectStoreMethods):
    """A bucket or container of a cloud: the base of `S3Store` and its like.

    A class below names its keys and says, in `_connect`, which protocol and which credentials its settings mean.
    """

    _keys: ClassVar[KeyTable]
    _scheme: ClassVar[Scheme]
    _backend: RemoteBackend
    # For the repr of a store whose constructor failed: tools print the variables of its frame.
    _identity: str = ""
    _prefix: str | None = None
    _client_defaults: ClassVar[Mapping[str, str]] = {}
    _own = frozenset(
        {
            "_backend",
            "_client_options",
            "_credential_provider",
            "_identity",
            "_merged",
            "_policy",
            "_prefix",
            "_retry_given",
        }
    )

    def _configure(
        self,
        identity: str | None,
        prefix: str | None,
        config: Any,
        client_options: Any,
        retry_config: Any,
        credential_provider: Any,
        kwargs: Mapping[str, Any],
    ) -> None:
        """Check all arguments of the constructor and make the backend out of them."""
        merged = self._keys.merge(
            identity, config=config, kwargs=kwargs, provider=getattr(credential_provider, "config", None)
        )
        self._merged = merged
        self._prefix = parse_prefix(prefix)
        self._client_options = merged.client(client_options, defaults=self._defaults_for(merged))
        self._retry_given = retry_config is not None
        self._policy = RetryPolicy.parse(retry_config)
        self._credential_provider = credential_provider
        self._identity, dialect, source = self._connect(merged, self._client_options, self._prefix, credential_provider)
        self._backend = RemoteBackend(
            dialect, ClientHandle(self._client_options, dialect.endpoint), source, self._policy, parse_key
        )

    @classmethod
    def _defaults_for(cls, merged: MergedSettings) -> Mapping[str, str]:
        """Client options where nothing says otherwise."""
        del merged
        return cls._client_defaults

    @classmethod
    def _connect(
        cls, merged: MergedSettings, client: ClientOptions, prefix: str | None, credential_provider: Any
    ) -> tuple[str, Dialect, Any]:
        """Name of the bucket or container, its protocol, and the source of credentials. Sends nothing."""
        raise NotImplementedError

    @classmethod
    def from_env(cls, *args: Any, **kwargs: Any) -> Self:
        """The same as the constructor, which reads the environment too."""
        make: Any = cls  # each class below has arguments of its own
        store: Self = make(*args, **kwargs)
        return store

    @classmethod
    def _from_url(
        cls, url: str | SupportsAsUri, config: Any, kwargs: Mapping[str, Any], prefix: str | None, **options: Any
    ) -> Self:
        location = split_url(url, cls._scheme)
        if prefix is not None and location.prefix:
            raise ValueError("prefix: the URL has a prefix already")
        make: Any = cls
        store: Self = make(
            prefix=location.prefix if prefix is None else prefix,
            config=cls._keys.with_url(location.config, config, kwargs),
            **options,
            **kwargs,
        )
        return store

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CloudStore) or other._keys is not self._keys:
            return NotImplemented
        return (
            self._merged.reads_like(other._merged)
            and self._prefix == other._prefix
            and self._client_options.reads_like(other._client_options)
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

    def describe(self) -> dict[str, Any]:
        """What the store is set to and what it has learnt of its service, for people and bug reports; without secrets.

        Under ``learnt`` stands what differs from the settings because the service's answers said so: the region that the
        bucket was found in, the difference of its clock, requests that it does not know and that are done otherwise.
        """
        backend = self._backend
        return {
            "store": type(self).__name__,
            self._keys.identity: self._identity,
            "prefix": self._prefix,
            "credentials": describe_source(backend.source),
            **backend.dialect.describe(),
        }

    @property
    def retry_config(self) -> RetryConfig | None:
        """The retry options with their defaults filled in, or ``None`` where none were given."""
        return self._policy.as_dict() if self._retry_given else None

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
        arguments["config"] = {**self._client_options.ours, **arguments["config"]}
        base = next(kind for kind in type(self).__mro__ if kind.__module__ == "obstore.store")
        return rebuild, (type(self), base, arguments, added_attributes(self, self._own))
