"""An S3 request, and the small records that travel with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from obstore._dialect.request import Header, ObjectRequest
from obstore._effects import Request
from obstore._types import Buffer

__all__ = ["Header", "PartTag", "S3Request", "Site", "own"]


class S3Request(ObjectRequest):
    """A request of S3.

    Attributes:
        payload_hash: SHA-256 of the body in hexadecimal or ``UNSIGNED-PAYLOAD``; ``None`` until it is computed.
        checksum: algorithm of a checksum header that `S3Dialect.prepare` has still to add, or ``None``.
        token: whether the last attempt carried a session token.
        region: the region that it was signed for.
    """

    __slots__ = ("checksum", "payload_hash", "region", "token")

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
        payload_hash: str | None = None,
        idempotent: bool = True,
        slice_: tuple[int, int] | None = None,
        checksum: str | None = None,
        condition: str | None = None,
        source: str | None = None,
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
        self.payload_hash = payload_hash
        self.checksum = checksum
        self.token = False
        self.region = ""


class PartTag(NamedTuple):
    """What finishing an upload has to know of a part: its ETag and, where the server returned one, its checksum."""

    e_tag: str
    checksum: str | None


class Site(NamedTuple):
    """Where requests go. Replaced as a whole when the bucket turns out to live elsewhere."""

    origin: str
    host: str
    region: str


def own(request: Request) -> S3Request:
    """``request`` as one that the S3 dialect built. Raises TypeError if it is not."""
    if isinstance(request, S3Request):
        return request
    raise TypeError(f"not built by the S3 dialect: {type(request).__name__}")
