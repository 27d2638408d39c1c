"""Tokens: what identifies the data behind a store, the same in every process, and without anything secret."""

from __future__ import annotations

import os
import weakref
from typing import Any

__all__ = ["token_of"]

# Settings that say where the data is. All others say how to get at it: two programs with keys of their own read the same.
_WHERE = ("account_name", "base_url", "bucket", "container_name", "endpoint", "region", "use_emulator")
_memories: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()


def token_of(store: Any) -> tuple[Any, ...]:
    """The token of a store. Memory stores differ from each other and from their copies."""
    name = f"{type(store).__module__}.{type(store).__qualname__}"
    url = getattr(store, "url", None)
    if url is not None:
        return name, str(url)
    config = getattr(store, "config", None)
    if config is not None:
        where = tuple((key, str(config[key])) for key in _WHERE if key in config)
        return name, where, store.prefix
    if hasattr(store, "prefix"):
        return name, None if store.prefix is None else str(store.prefix)
    backend = store._backend  # noqa: SLF001 - every store has one
    return name, _memories.setdefault(backend, os.urandom(16).hex())
