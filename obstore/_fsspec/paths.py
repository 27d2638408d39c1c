"""Which store holds a path of fsspec's, under which key, and how the keys of a store are shown as paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, unquote

from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import stringify_path

import obstore as obs
from obstore import store as stores
from obstore._config.fsspec import translate

SCHEMES = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "az": "azure",
    "adl": "azure",
    "azure": "azure",
    "abfs": "azure",
    "abfss": "azure",
    "http": "http",
    "https": "http",
    "file": "local",
    "memory": "memory",
}
SUPPORTED_PROTOCOLS = frozenset(SCHEMES)
OURS = "obstore+"


class StoreFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec is not typed
    """The paths of `FsspecStore`, whose parameters are explained there.

    Args:
        name: the protocol, without ``obstore+``.
        root: bucket, bucket and prefix, or directory that all paths are in; empty where they name it.
        store: the one that all paths are in.
        settings: as `translate` takes them.
        credential_provider: for the stores that are made.
        max_cache_size: stores kept.
        *args, **kwargs: fsspec's own.
    """

    def __init__(
        self,
        name: str,
        root: str,
        store: Any,
        settings: tuple[Mapping[str, Any], Any, Any, Any],
        credential_provider: Callable[[], Any] | None,
        max_cache_size: int,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._name = name
        self._scheme = SCHEMES[name]
        self._root = root if store is None else _root_of(store)
        self._store = store
        self._settings = settings
        self._credential_provider = credential_provider
        self._construct_store = lru_cache(maxsize=max_cache_size)(self._make_store)
        if self._root or store is not None:
            self.__dict__["_strip_protocol"] = self._strip_bound
        elif self._scheme == "http":
            self.__dict__["_strip_protocol"] = partial(_without_protocol, own=name)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return _without_protocol(path, cls.protocol.removeprefix(OURS) if isinstance(cls.protocol, str) else "")

    def _strip_bound(self, path: Any) -> Any:
        """Paths of a file system that is bound to a bucket, directory or store: with its root in front."""
        if isinstance(path, list):
            return [self._strip_bound(each) for each in path]
        root = self._root
        text = stringify_path(path)
        bare = text.rstrip("/") if "://" not in text else type(self)._strip_protocol(text)
        if bare == root or bare.startswith(f"{root}/") or not root:
            return bare
        return f"{root}/{bare.lstrip('/')}" if bare else root

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        name, _, rest = str(path).partition("://")
        if SCHEMES.get(name.removeprefix(OURS)) == "azure" and "@" in rest.partition("/")[0]:
            host = rest.partition("/")[0].partition("@")[2]
            return {"account_name": host.partition(".")[0]}
        return {}

    def _split_path(self, path: str) -> tuple[str, str]:
        """Bucket and key."""
        text = stringify_path(path)
        name, found, _ = text.partition("://")
        if found and SCHEMES.get(name.removeprefix(OURS)) != self._scheme:
            raise ValueError(f"Expected protocol to be {self._name}. Got {name}")
        if self._scheme == "local":
            return "", LocalFileSystem._strip_protocol(text) if not self._root else self._strip_protocol(text)
        bare = self._strip_protocol(text)
        if self._scheme == "memory":
            return "", bare
        bucket, _, key = bare.partition("/")
        return bucket, key

    def locate(self, path: str) -> tuple[Any, str]:
        """The store that holds a path, and its key there."""
        if self._store is not None:
            bare = self._strip_protocol(path)
            key = bare[len(self._root) :].removeprefix("/") if self._root else bare
            return self._store, _exact(key, self._scheme)
        if self._scheme == "http":
            return self._locate_url(path)
        bucket, key = self._split_path(path)
        return self._construct_store(bucket), _exact(key, self._scheme)

    def _locate_url(self, path: str) -> tuple[Any, str]:
        """The paths of http are as in URLs: percent-encoded, with a query where there is one."""
        bare, _, query = self._strip_protocol(path).partition("#")[0].partition("?")
        host, _, key = bare.partition("/")
        return self._construct_store(f"{host}?{query}" if query else host), _exact(unquote(key), self._scheme)

    def _make_store(self, bucket: str) -> Any:
        if self._scheme == "local":
            return stores.LocalStore(automatic_cleanup=True)
        if self._scheme == "memory":
            return shared_memory()
        if not bucket:
            raise ValueError(f"the path names no bucket; paths of {self._name} are bucket/key")
        found = translate(self._scheme, *self._settings)
        if self._name == "http":
            found.client.setdefault("allow_http", True)  # the protocol was asked for by its name
        arguments: dict[str, Any] = {
            "config": found.config or None,
            "client_options": found.client or None,
            "retry_config": found.retry or None,
        }
        if self._credential_provider is not None:
            arguments["credential_provider"] = self._credential_provider
        name = {"s3a": "s3", "gcs": "gs"}.get(self._name, self._name)
        return stores.from_url(f"{name}://{bucket}", **arguments)

    def _shown(self, path: str, key: str) -> str:
        """The path of a key that the store of ``path`` listed."""
        if self._store is not None:
            return f"{self._root}/{key}" if self._root else key
        if self._scheme == "local":
            return f"/{key}"
        bucket = self._split_path(path)[0]
        if self._scheme == "http":
            key = quote(key, safe="/~!$&'()*+,;=:@")
        return f"{bucket}/{key}" if bucket else key


def _without_protocol(path: Any, own: str) -> Any:
    """The path, or list of paths, without protocol. ``own``: that of the file system; empty where it has several."""
    if isinstance(path, list):
        return [_without_protocol(each, own) for each in path]
    text = stringify_path(path)
    name, found, rest = text.partition("://")
    if not found:
        if own == "file":
            return LocalFileSystem._strip_protocol(text)
        return text if "?" in text and own in ("http", "https") else text.rstrip("/")
    name = name.removeprefix(OURS)
    if name == "file":
        return LocalFileSystem._strip_protocol("file://" + rest)
    if SCHEMES.get(name) == "azure":
        container, at, host = rest.partition("@")
        if at and "/" not in container:
            rest = container + host[host.find("/") :] if "/" in host else container
    elif name == "memory":
        rest = rest.lstrip("/")
    elif "?" in rest:
        return rest if name in ("http", "https") else rest.rstrip("/")  # a query may end with a slash
    return rest.rstrip("/")


def _root_of(store: Any) -> str:
    """What stands in front of the keys of a store in the paths that are shown."""
    prefix = str(getattr(store, "prefix", None) or "").rstrip("/")
    if isinstance(store, stores.LocalStore):
        return os.path.abspath(prefix) if prefix else ""
    if isinstance(store, stores.MemoryStore):
        return ""
    url = getattr(store, "url", None)
    if url is not None:
        return str(url).partition("://")[2].rstrip("/")
    config = store.config
    bucket = config.get("bucket") or config.get("container_name") or getattr(store, "_bucket", "")
    return f"{bucket}/{prefix}" if prefix else str(bucket)


def _exact(key: str, scheme: str) -> str:
    """The key as it is. Local keys are relative to the root, others are not to be normalised."""
    if scheme == "local":
        return key.removeprefix("/")
    return obs.RawKey(key) if key else key


_shared_memory: list[Any] = []


def shared_memory() -> Any:
    """The memory store that all file systems of ``memory`` share, as those of fsspec's own do."""
    if not _shared_memory:
        _shared_memory.append(stores.MemoryStore())
    return _shared_memory[0]
