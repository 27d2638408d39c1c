"""`MemoryStore`."""

from __future__ import annotations

from typing import Any

from obstore._memory import MemoryBackend
from obstore._methods import ObjectStoreMethods
from obstore._stores.rebuild import added_attributes

__all__ = ["MemoryStore"]


class MemoryStore(ObjectStoreMethods):
    """Objects in the memory of this process; for tests and scratch. Equal to itself only.

    Pickling copies all objects.
    """

    __module__ = "obstore.store"  # where users find it
    _own = frozenset({"_backend"})

    def __init__(self) -> None:
        self._backend = MemoryBackend()

    def __repr__(self) -> str:
        return "MemoryStore"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_memory, (type(self), self._backend, added_attributes(self, self._own))


def _rebuild_memory(kind: type[MemoryStore], backend: MemoryBackend, attributes: dict[str, Any]) -> MemoryStore:
    store = kind.__new__(kind)
    store._backend = backend  # noqa: SLF001 - its own class
    store.__dict__.update(attributes)
    return store
