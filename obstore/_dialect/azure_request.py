"""A request of Azure's Blob service, and what signing it has to know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obstore._dialect.request import Header, ObjectRequest
from obstore._effects import Request
from obstore._types import Buffer

__all__ = ["AzureRequest", "own"]


class AzureRequest(ObjectRequest):
    """A request of Azure.

    Attributes:
        batch: paths of the objects that a batch deletes, or ``None``; its body, which holds signatures, is made by signing.
        copy_path: path of the object that is copied from, or ``None``; its URL may take a signature of its own.
        credential: used instead of the store's where it is not ``None``.
    """

    __slots__ = ("batch", "copy_path", "credential")

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
        batch: Sequence[str] | None = None,
        copy_path: str | None = None,
        credential: Any = None,
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
        self.batch = batch
        self.copy_path = copy_path
        self.credential = credential


def own(request: Request) -> AzureRequest:
    """``request`` as one that the Azure dialect built. Raises TypeError if it is not."""
    if isinstance(request, AzureRequest):
        return request
    raise TypeError(f"not built by the Azure dialect: {type(request).__name__}")
