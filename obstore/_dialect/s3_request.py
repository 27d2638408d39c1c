"""An S3 request, and the small records that travel with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from obstore._effects import Request
from obstore._types import Buffer

__all__ = ["Header", "PartTag", "S3Request", "Site", "own"]

Header: TypeAlias = tuple[str, str]


class S3Request(Request):
    """A `Request` and what signing and error reading have to remember of it.

    Attributes:
        payload_hash: SHA-256 of the body in hexadecimal or ``UNSIGNED-PAYLOAD``; ``None`` until it is computed.
        checksum: algorithm of a checksum header that `S3Dialect.prepare` has still to add, or ``None``.
        condition: ``"create"`` or ``"update"`` where the write is conditional, else ``None``.
        source: key that is copied from, or ``None``.
        signed: whether the last attempt was signed; ``None`` before the first.
        token: whether the last attempt carried a session token.
        signed_at: the time that the last attempt was signed for, in seconds since the epoch.
        region: the region that it was signed for.
    """

    __slots__ = ("checksum", "condition", "payload_hash", "region", "signed", "signed_at", "source", "token")

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
        self.payload_hash = payload_hash
        self.checksum = checksum
        self.condition = condition
        self.source = source
        self.signed: bool | None = None
        self.token = False
        self.signed_at = 0.0
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
