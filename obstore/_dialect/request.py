"""A request of a service for objects, and what the reading of its failure has to remember of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from obstore._effects import Request
from obstore._types import Buffer

__all__ = ["Header", "ObjectRequest", "own_object"]

Header: TypeAlias = tuple[str, str]


class ObjectRequest(Request):
    """A `Request` that a dialect built.

    Attributes:
        condition: ``"create"`` or ``"update"`` where the write is conditional, else ``None``.
        source: key that is copied from, or ``None``.
        signed: whether the last attempt carried a credential; ``None`` before the first.
        signed_at: the time that the last attempt was signed for, in seconds since the epoch.
    """

    __slots__ = ("condition", "signed", "signed_at", "source")

    def __init__(
        self,
        method: str,
        path: str,
        operation: str,
        query: Sequence[tuple[str, str | None]],
        headers: Sequence[Header],
        *,
        key: str | None,
        body: Sequence[Buffer] | None = None,
        idempotent: bool = True,
        slice_: tuple[int, int] | None = None,
        condition: str | None = None,
        source: str | None = None,
    ) -> None:
        # Assigned here rather than by the base class: one call less for each request.
        self.method = method
        self.path = path
        self.operation = operation
        self.query = query
        self.headers = headers
        self.body = body
        self.idempotent = idempotent
        self.key = key
        self.slice_ = slice_
        self.sensitive = False
        self.condition = condition
        self.source = source
        self.signed: bool | None = None
        self.signed_at = 0.0


def own_object(request: Request) -> ObjectRequest:
    """``request`` as one that a dialect built. Raises TypeError if it is not."""
    if isinstance(request, ObjectRequest):
        return request
    raise TypeError(f"not built by a dialect: {type(request).__name__}")
