"""Types shared by all rooms: the public value types, and the contract between operations and stores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, Protocol, TypeAlias, TypedDict, TypeVar

from obstore.exceptions import PreconditionError

if sys.version_info >= (3, 12):
    from collections.abc import Buffer
else:

    class Buffer(Protocol):
        """Any object that exports the buffer protocol (PEP 688)."""

        def __buffer__(self, flags: int, /) -> memoryview: ...


if TYPE_CHECKING:
    from types import CoroutineType

    from obstore._effects import Op
else:
    # What `async def` is to type checkers, so that obspec's protocols take ours; generic at run time since Python 3.14 only.
    from collections.abc import Coroutine as CoroutineType

__all__ = [
    "HTTP_METHOD",
    "Attribute",
    "Attributes",
    "Buffer",
    "CoroutineType",
    "GetOptions",
    "ListResult",
    "ObjectMeta",
    "OffsetRange",
    "PresignedPost",
    "PutMode",
    "PutResult",
    "RawKey",
    "StoreStats",
    "SuffixRange",
    "UpdateVersion",
]


class SupportsAsUri(Protocol):
    """A path that has a URL: of ``pathlib``, universal_pathlib or cloudpathlib."""

    def as_uri(self) -> str:
        """Its URL."""


Attribute: TypeAlias = (
    Literal[
        "Content-Disposition",
        "Content-Encoding",
        "Content-Language",
        "Content-Type",
        "Cache-Control",
        "Storage-Class",
    ]
    | str
)
Attributes: TypeAlias = dict[Attribute, str]


class RawKey(str):
    """An object key sent exactly as it is: no slash is stripped, nothing is normalised or refused.

    Listings return a ``RawKey`` where the plain string would name another object (``dir/``, ``a//b`` ...).
    """

    __slots__ = ()


class ObjectMeta(TypedDict):
    """What is known of one object."""

    path: str
    last_modified: datetime
    size: int
    e_tag: str | None
    version: str | None


class PutResult(TypedDict):
    """What the store said of an object just written."""

    e_tag: str | None
    version: str | None


class UpdateVersion(TypedDict, total=False):
    """The version that ``put(mode=...)`` expects to replace."""

    e_tag: str | None
    version: str | None


PutMode: TypeAlias = Literal["create", "overwrite"] | UpdateVersion


class OffsetRange(TypedDict):
    """From ``offset`` to the end."""

    offset: int


class SuffixRange(TypedDict):
    """The last ``suffix`` bytes."""

    suffix: int


class GetOptions(TypedDict, total=False):
    """Options of ``get``."""

    if_match: str | None
    if_none_match: str | None
    if_unmodified_since: datetime | None
    if_modified_since: datetime | None
    range: tuple[int, int] | Sequence[int] | OffsetRange | SuffixRange
    version: str | None
    head: bool


HTTP_METHOD: TypeAlias = Literal["GET", "PUT", "POST", "HEAD", "PATCH", "TRACE", "DELETE", "OPTIONS", "CONNECT"]
"""Methods that a URL can be signed for."""


class PresignedPost(TypedDict):
    """A form upload that was signed in advance.

    Attributes:
        url: where the form is posted to.
        fields: the form's fields, by name; the file comes after them, as the field ``file``.
    """

    url: str
    fields: dict[str, str]


ListChunkT_co = TypeVar("ListChunkT_co", covariant=True)


class ListResult(TypedDict, Generic[ListChunkT_co]):
    """One level of a listing: ``objects`` are a list of `ObjectMeta`, or an Arrow table."""

    common_prefixes: Sequence[str]
    objects: ListChunkT_co


class StoreStats(TypedDict):
    """What became of the HTTP requests of one store, retries included; all 0 for stores without HTTP.

    Attributes:
        requests: attempts made.
        succeeded: answered with a status below 400.
        failed: answered otherwise, or not at all.
        cancelled: given up by the program.
        parked: streams that nobody read, and whose connection another request needed.
        throttled: answered with 429 or 503; those are counted as failed, too.
        retries: attempts that followed a failed one.
        bytes_in, bytes_out: of bodies.
        connections_opened: made, not kept from before.
        in_flight: under way, or waiting for their turn.
        first_byte_p50, first_byte_p99: seconds until the first byte of the answer, in half and in 99 of 100 attempts; at most a fifth
            too long.
    """

    requests: int
    succeeded: int
    failed: int
    cancelled: int
    parked: int
    throttled: int
    retries: int
    bytes_in: int
    bytes_out: int
    connections_opened: int
    in_flight: int
    first_byte_p50: float
    first_byte_p99: float


# ---- the contract between _ops and the stores behind it -------------------------------------------------


class Range:
    """A normalised byte range: exactly one of the three forms.

    ``start``/``end`` (end exclusive), ``start`` with ``end is None``, or ``suffix``.
    """

    __slots__ = ("end", "start", "suffix")

    def __init__(self, start: int | None = None, end: int | None = None, suffix: int | None = None) -> None:
        self.start = start
        self.end = end
        self.suffix = suffix


class GetSpec:
    """`GetOptions`, checked and normalised; datetimes aware, in UTC."""

    __slots__ = ("head", "if_match", "if_modified_since", "if_none_match", "if_unmodified_since", "range", "version")

    def __init__(
        self,
        *,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        if_unmodified_since: datetime | None = None,
        range: Range | None = None,  # noqa: A002 - the published name
        version: str | None = None,
        head: bool = False,
    ) -> None:
        self.if_match = if_match
        self.if_none_match = if_none_match
        self.if_modified_since = if_modified_since
        self.if_unmodified_since = if_unmodified_since
        self.range = range
        self.version = version
        self.head = head

    def with_(self, **changes: Any) -> GetSpec:
        """A copy with other values."""
        return GetSpec(**{**{name: getattr(self, name) for name in GetSpec.__slots__}, **changes})


PLAIN_GET = GetSpec()
"""The whole object, whatever it is. Shared, and therefore never changed."""


class PutSpec:
    """Options of a put, checked.

    Attributes:
        mode: ``"overwrite"``, ``"create"`` or ``"update"``.
        e_tag, version: the version to replace; only with ``"update"``.
        attributes: canonical names (see ``_dialect.attributes``) to values.
        tags: in the caller's order.
    """

    __slots__ = ("attributes", "e_tag", "mode", "tags", "version")

    def __init__(
        self,
        *,
        mode: Literal["overwrite", "create", "update"] = "overwrite",
        e_tag: str | None = None,
        version: str | None = None,
        attributes: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.mode = mode
        self.e_tag = e_tag
        self.version = version
        self.attributes = attributes or {}
        self.tags = tags or {}

    @property
    def is_plain(self) -> bool:
        """Whether nothing was said of the object but its content."""
        return self.mode == "overwrite" and not self.attributes and not self.tags


class SignSpec:
    """What a URL is signed for, checked.

    Attributes:
        method: HTTP method in upper case.
        expires_s: whole seconds that the URL holds.
        query: further decoded parameters, in the caller's order.
        headers: that whoever uses the URL has to send, names in lower case.
        version: of the object, or ``None``.
        overrides: headers that the answer shall have, canonical names (``Content-Type`` ...) to values.
    """

    __slots__ = ("expires_s", "headers", "method", "overrides", "query", "version")

    def __init__(
        self,
        method: str,
        expires_s: int,
        *,
        query: Sequence[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
        version: str | None = None,
        overrides: dict[str, str] | None = None,
    ) -> None:
        self.method = method
        self.expires_s = expires_s
        self.query = query
        self.headers = headers
        self.version = version
        self.overrides = overrides or {}


class PostSpec:
    """What a form upload is signed for, checked.

    Attributes:
        expires_s: whole seconds that the form holds.
        fields: further fields of the form.
        conditions: of the policy, beside those that key, fields and signature bring along.
    """

    __slots__ = ("conditions", "expires_s", "fields")

    def __init__(
        self,
        expires_s: int,
        *,
        fields: dict[str, str] | None = None,
        conditions: Sequence[dict[str, str] | Sequence[str | int]] = (),
    ) -> None:
        self.expires_s = expires_s
        self.fields = fields or {}
        self.conditions = conditions


class Pin:
    """The version of an object that several requests have to agree on: that of the first of them."""

    __slots__ = ("e_tag",)

    def __init__(self) -> None:
        self.e_tag: str | None = None

    def check(self, store: str, key: str, e_tag: str | None) -> None:
        """Take note of the version that an answer is of.

        Raises:
            PreconditionError: it is another one than before. Answers without ETag agree with all.
        """
        if self.e_tag is None:
            self.e_tag = e_tag
        elif e_tag is not None and e_tag != self.e_tag:
            raise PreconditionError.of(
                key,
                f"the object in {store} changed while it was being read: it was {self.e_tag} and is {e_tag}",
                key=key,
            )


class Scatter:
    """Memory for the bytes of a span that are wanted in several places: what ``Backend.get_range`` takes as ``into``.

    Attributes:
        size: length of the span.
        pieces: pairs of an offset in the span and a writable view, by increasing offset. They may overlap, and leave gaps.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, size: int, pieces: list[tuple[int, memoryview]]) -> None:
        self.size = size
        self.pieces = pieces

    def behind(self, done: int) -> Scatter:
        """What is left of it once ``done`` bytes are there."""
        left: list[tuple[int, memoryview]] = []
        for at, view in self.pieces:
            if at >= done:
                left.append((at - done, view))
            elif at + len(view) > done:
                left.append((0, view[done - at :]))
        return Scatter(self.size - done, left)

    def clipped(self, size: int) -> list[tuple[int, memoryview]]:
        """Its pieces in the first ``size`` bytes."""
        return [(at, view[: size - at]) for at, view in self.pieces if at < size]


class ListPage:
    """A page of a listing: objects and common prefixes in key order, and the cursor of the next page or ``None``.

    ``objects`` are `ObjectMeta` dicts with paths relative to the store, in a list or made when they are looked at (the engine's
    ``Rows``); ``prefixes`` end without slash.
    """

    __slots__ = ("cursor", "objects", "prefixes")

    def __init__(self, objects: Sequence[ObjectMeta], prefixes: list[str], cursor: Any) -> None:
        self.objects = objects
        self.prefixes = prefixes
        self.cursor = cursor


class Body(Protocol):
    """A body that is read in pieces.

    Attributes:
        arrives: whether its bytes are on their way, so that those read into the reader's memory are copied once less.
    """

    arrives: bool

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""

    def read(self, size: int) -> Op[Any]:
        """At least ``size`` bytes (``bytes``), fewer only at the end, empty after it; ``size=0``: what is there, at least one byte."""

    def read_into(self, view: memoryview) -> Op[int]:
        """Fill ``view`` with the next bytes; returns how many there were: fewer only at the end."""

    def close(self) -> None:
        """Give up the rest; frees the connection. Callable from any thread, more than once."""


class Opened(Body, Protocol):
    """An object opened by ``Backend.get``: its head is known, its body not yet read."""

    range: tuple[int, int]

    @property
    def meta(self) -> ObjectMeta: ...
    @property
    def attributes(self) -> dict[str, str]: ...
    @property
    def timing(self) -> Any:
        """Of the attempt that answered; ``None`` where there was none."""

    def ready(self) -> Any:
        """What `collect` would give, where it is here already and nothing has to be waited for; else ``None``."""

    def collect(self) -> Op[Any]:
        """The whole body as ``Bytes``."""


class PartPair(Protocol):
    """Sends parts ``number`` and ``number + 1`` at less cost than ``Upload.part`` for each."""

    def __call__(self, number: int, first: Sequence[Buffer], second: Sequence[Buffer], /) -> Op[None]: ...


class Upload(Protocol):
    """A multipart upload under way. Parts may be sent concurrently; ``finish`` and ``abort`` end it."""

    max_parts: int | None
    min_part_bytes: int
    max_parallel: int | None  # parts that may be on their way at once; None: any number
    part_pair: PartPair | None

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        """Send part ``number`` (from 1), in order. Later parts may be larger than earlier ones, the last one smaller."""

    def finish(self) -> Op[PutResult]:
        """Make the object."""

    def abort(self) -> Op[None]:
        """Leave nothing behind."""


class Backend(Protocol):
    """What a store is to the operations in ``_ops``; all methods take normalised keys.

    Methods that return an ``Op`` are generators over ``obstore._effects``.
    """

    name: str  # as messages have it: S3, LocalFileSystem, InMemory ...
    missing_is_error: bool  # whether deleting a missing key fails by default
    delete_concurrency: int  # delete requests in flight
    single_put: bool  # every object goes up in one request, so that to cut a buffer into parts would only copy it

    @property
    def delete_batch(self) -> int:
        """Keys per delete request."""

    def parse_key(self, path: str, argument: str) -> str:
        """Normalise a path argument or raise TypeError/ValueError naming ``argument``."""

    def get(self, key: str, spec: GetSpec) -> Op[Opened]: ...

    def get_range(self, key: str, start: int, end: int, into: Any, pin: Pin | None = None) -> Op[Any]:
        """Bytes ``start`` to ``end`` (exclusive, clipped at the object's end) as ``Bytes``; or their number, once they are in ``into``.

        ``into`` is a writable buffer or a `Scatter`. Nothing is written there after the operation has ended, however it did.
        """

    def head(self, key: str, version: str | None) -> Op[ObjectMeta]: ...

    def put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]: ...

    def start_upload(self, key: str, spec: PutSpec) -> Op[Upload]: ...

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        """``prefix`` is a raw string prefix (segment semantics are the caller's: it appends the slash)."""

    def delete(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Delete up to ``delete_batch`` keys; one outcome per key. A missing key is ``NotFoundError`` where the service says so."""

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]: ...

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]: ...

    def sign(self, keys: Sequence[str], spec: SignSpec) -> Op[list[str]]:
        """URLs that do what ``spec`` says to whoever has them, one per key. Raises NotSupportedError where there are none."""

    def sign_post(self, key: str, spec: PostSpec) -> Op[PresignedPost]:
        """A form that uploads to ``key``. Raises NotSupportedError where there are none."""
