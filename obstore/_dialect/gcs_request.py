"""A request of Google Cloud Storage, and what sending it has to remember of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obstore._dialect.request import Header, ObjectRequest
from obstore._effects import Request
from obstore._types import Buffer

__all__ = ["GCSRequest", "own"]


class GCSRequest(ObjectRequest):
    """An `ObjectRequest` whose body may still have to be put together.

    Attributes:
        resource: the object's description, which goes before its bytes in one body; ``None`` where there is none, or once
            `GCSDialect.prepare` has put it there.
        hashed: whether the checksum of the body is still to be sent in a header.
        origin: ``scheme://host[:port]`` where it is not that of the store.
    """

    __slots__ = ("hashed", "origin", "resource")

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
        resource: dict[str, Any] | None = None,
        hashed: bool = False,
    ) -> None:
        super().__init__(
            method,
            path,
            operation,
            query,
            headers,
            key=key,
            body=body,
            idempotent=idempotent,
            slice_=slice_,
            condition=condition,
            source=source,
        )
        self.resource = resource
        self.hashed = hashed
        self.origin: str | None = None


def own(request: Request) -> GCSRequest:
    """``request`` as one that the GCS dialect built. Raises TypeError if it is not."""
    if isinstance(request, GCSRequest):
        return request
    raise TypeError(f"not built by the GCS dialect: {type(request).__name__}")
