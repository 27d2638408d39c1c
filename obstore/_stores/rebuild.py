"""Pickling of stores: subclasses and the attributes that users add to a store travel with it."""

from __future__ import annotations

from typing import Any

__all__ = ["added_attributes", "rebuild"]


def rebuild(kind: Any, base: Any, arguments: dict[str, Any], attributes: dict[str, Any]) -> Any:
    """Make a store, of a subclass possibly, from what its ``__reduce__`` kept.

    Args:
        kind: class of the store.
        base: the class of ours whose constructor takes ``arguments``.
        arguments: keyword arguments.
        attributes: see `added_attributes`.
    """
    store = kind.__new__(kind)
    base.__init__(store, **arguments)
    store.__dict__.update(attributes)
    return store


def added_attributes(store: Any, own: frozenset[str]) -> dict[str, Any]:
    """Attributes of a store that the user, or a subclass, added to our ``own``."""
    return {name: value for name, value in store.__dict__.items() if name not in own}
