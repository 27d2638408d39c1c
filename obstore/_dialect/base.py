"""What every HTTP dialect offers to the operations, and the HTTP grammar that all of them read.

A dialect turns one operation on one key into a `Request`, and the answer into values or a typed exception. It does
not send: ``obstore._ops`` decides what is sent, when, how often, and with which credential.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal, Protocol, TypeAlias

from obstore._dialect.checksums import Checksum
from obstore._effects import AttemptFailed, Op, Request, Response
from obstore._types import (
    Buffer,
    GetSpec,
    ListPage,
    ObjectMeta,
    PostSpec,
    PresignedPost,
    PutResult,
    PutSpec,
    Range,
    SignSpec,
)
from obstore.exceptions import Attempt, BaseError

# What to do about an answer that is not a success:
#   retry      the same request again, after a backoff
#   throttled  as retry, and slow down: the service asked for it
#   expired    fetch a fresh credential once, then again
#   clock      correct the clock (`Dialect.note_clock`), then again
#   adapt      do without something that the service does not know (`Dialect.adapt`), then again
#   redirect   move to where the container lives (`Dialect.follow`), then again
#   fatal      it is the answer: raise `Dialect.error`
Verdict: TypeAlias = Literal["retry", "throttled", "expired", "clock", "adapt", "redirect", "fatal"]

# How `copy(overwrite=False)` can be done: not at all, by a header of the copy request, or by a multipart copy
# whose finish is conditional.
CopyCreate: TypeAlias = Literal["unsupported", "header", "multipart"]

# Performs a request of the dialect's own; resumes with its `Response`.
SendRequest: TypeAlias = Callable[[Request], Op[Any]]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Dialect(Protocol):
    """One service's protocol.

    Keys are full normalised keys relative to the store; the dialect adds the store's prefix when it builds and strips
    it when it reads.

    Attributes:
        name: the store as messages name it.
        endpoint: ``scheme://host[:port]`` that requests go to.
        host: the ``Host`` value, as it is signed.
        clock_offset: seconds to add to the local clock when signing.
        delete_batch: keys per delete request.
        delete_batch_min: keys for which that is used; fewer are deleted one by one.
        delete_concurrency: delete requests in flight.
        missing_is_error: whether deleting a missing key fails by default.
        max_parts: parts of one upload.
        min_part_bytes: size of every part but the last, at least.
        max_part_bytes: size of a part, at most.
        max_copy_bytes: size of an object that one copy request can copy.
        lists_after: whether the service itself begins a listing after the offset; else what it lists is sorted out.
        list_strip: what every key of this store begins with on the server; the list parser takes it off.
        splits_lists: whether listings are in the order of UTF-8 bytes and can begin after any key (``build_list``'s offset), so
            that one can be made by several requests at a time.
        copy_create: how ``copy(overwrite=False)`` can be done.
        copy_pause_s: seconds between the requests of a copy that the service takes its time for.
        offset_inclusive: whether listings begin with the offset itself, or may not know of it.
        suffix_ranges: whether the service knows ranges that count from the end.
        request_id_header: in which answers carry the service's name for a request.
        resumable: whether large objects go up piece by piece: by `build_session`, `build_chunk` and `build_cancel`.
        update_by_version: whether an update is conditional on a version, and not on an ETag.
        head_after_finish: whether only the object itself knows the ETag that a multipart upload gave it.
        max_redirects: how often a request may be sent to another place.
        prepare_pair: `prepare` of two requests, where that takes less time than one after the other.
    """

    name: str
    clock_offset: float
    delete_batch: int
    delete_batch_min: int
    delete_concurrency: int
    missing_is_error: bool
    max_parts: int
    min_part_bytes: int
    max_part_bytes: int
    max_copy_bytes: int
    copy_create: CopyCreate
    list_strip: str
    lists_after: bool
    splits_lists: bool
    request_id_header: str
    resumable: bool
    head_after_finish: bool
    update_by_version: bool
    copy_pause_s: float
    offset_inclusive: bool
    suffix_ranges: bool
    max_redirects: int
    prepare_pair: Callable[[Any, Any], None] | None

    @property
    def endpoint(self) -> str: ...
    @property
    def host(self) -> str: ...

    # ---- builders

    def build_get(self, key: str, spec: GetSpec) -> Request: ...
    def build_range(self, key: str, start: int, end: int) -> Request: ...
    def build_resume(self, request: Request, start: int, end: int | None, e_tag: str | None) -> Request: ...
    def build_head(self, key: str, version: str | None) -> Request: ...
    def build_put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Request: ...
    def build_list(self, prefix: str, offset: str | None, delimiter: bool, cursor: Any) -> Request: ...
    def build_start(self, key: str, spec: PutSpec) -> Request | None:
        """``None`` where an upload begins with its first part; `read_start` then makes a name up."""

    def build_part(self, key: str, upload_id: str, number: int, body: Sequence[Buffer]) -> Request: ...
    def build_finish(self, key: str, upload_id: str, parts: Sequence[tuple[int, Any]], spec: PutSpec) -> Request: ...
    def build_abort(self, key: str, upload_id: str) -> Request | None:
        """``None`` where parts that belong to no object vanish by themselves."""

    def build_part_copy(
        self, from_: str, key: str, upload_id: str, number: int, span: tuple[int, int] | None
    ) -> Request: ...
    def build_copy(self, from_: str, to: str, overwrite: bool) -> Request: ...
    def continue_copy(self, request: Request, response: Response) -> Request | None:
        """What goes on with a copy that is not done yet, or ``None``: it is done."""

    def build_delete_one(self, key: str, version: str | None = None) -> Request: ...
    def build_delete(self, keys: Sequence[str]) -> Request: ...

    # ---- builders where ``resumable``

    def build_session(self, key: str, spec: PutSpec) -> Request: ...
    def read_session(self, response: Response) -> Any: ...
    def build_chunk(
        self, key: str, session: Any, start: int, total: int | None, body: Sequence[Buffer], size: int
    ) -> Request:
        """``size`` bytes from ``start`` on, the last ones where ``total`` is known. None of either asks what is there."""

    def build_cancel(self, key: str, session: Any) -> Request: ...
    def checksum(self, body: Sequence[Buffer], value: int) -> int:
        """Of the service's kind, continuing ``value``."""

    def differs(self, response: Response, size: int, checksum: int) -> str | None:
        """What is wrong with an object just made, to go by the answer; ``None`` where nothing is known to be."""

    # ---- signing

    def prepare(self, request: Request) -> None:
        """Hash the body. May take milliseconds and may run on any thread; `sign` does it where this was not called."""

    def sign(self, request: Request, credential: Any, now: float) -> tuple[str, Sequence[tuple[str, str]]]:
        """The URL and all headers to send. ``credential`` ``None``: anonymous. ``now``: seconds since the epoch."""

    def presign(self, keys: Sequence[str], spec: SignSpec, source: Any, send: SendRequest) -> Op[list[str]]:
        """URLs that do what ``spec`` says to whoever has them, one per key.

        Args:
            keys: as for the builders.
            spec: what for.
            source: where the credential comes from (`obstore._auth.cache.credential`), also of a store that sends
                its own requests unsigned.
            send: performs a request to the service, signed and with its retries, for signatures that take one.

        Raises:
            NotSupportedError: the service has no such URLs, or not for this.
        """

    def presign_post(self, key: str, spec: PostSpec, source: Any, send: SendRequest) -> Op[PresignedPost]:
        """A form that uploads an object to ``key``; arguments and errors as of `presign`."""

    # ---- readers of success

    def read_get(
        self, response: Response, key: str, spec: GetSpec, sliced: bool = False
    ) -> tuple[ObjectMeta, tuple[int, int], dict[str, str]]: ...
    def whole_size(self, response: Response) -> int | None:
        """The object's size, where the answer to a plain `build_get` is as it should be; ``None``: `read_get` is to judge."""

    def read_checksum(self, response: Response) -> Checksum | None:
        """What the whole body of an answer to `build_get` must come to; ``None`` where the service does not say."""

    def read_head(self, response: Response, key: str) -> ObjectMeta: ...
    def read_attributes(self, response: Response) -> dict[str, str]: ...
    def check_range(self, response: Response, start: int, end: int, sliced: bool = False) -> tuple[int, int]: ...
    def check_resume(self, response: Response, start: int, end: int | None, e_tag: str | None) -> None: ...
    def read_put(self, response: Response) -> PutResult: ...
    def read_start(self, body: Buffer) -> str: ...
    def read_part(self, response: Response) -> Any: ...
    def read_part_copy(self, body: Buffer) -> Any: ...
    def read_finish(self, response: Response, body: Buffer) -> PutResult: ...
    def made_of(self, parts: Sequence[Any]) -> str | None: ...
    def read_delete(self, response: Response, body: Buffer, keys: Sequence[str]) -> list[Exception | None]: ...
    def read_list(self, page: Any) -> ListPage: ...

    # ---- readers of failure

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict: ...
    def ok_body_is_error(self, request: Request, body: Buffer) -> bool: ...
    def note_clock(self, request: Request, response: Response, now: float) -> bool:
        """Set ``clock_offset`` from the server's Date and the local clock. False where signing ``request`` again is in vain."""

    def adapt(self, request: Request) -> bool:
        """Take out of ``request``, and of all to come, what the service does not know. False where there is nothing."""

    def lacks_batches(self, error: BaseError) -> bool:
        """Whether the refusal of a batch of deletions means that the service has none: then ``delete_batch`` is 1 from now on."""

    def describe(self) -> dict[str, Any]:
        """Where requests go and what was learnt of the service, for people; without secrets."""

    def follow(self, request: Request, response: Response, body: Buffer) -> bool:
        """Move to where the container lives. False where the answer does not say, or names where ``request`` went."""

    def error(
        self,
        request: Request,
        response: Response,
        body: Buffer,
        *,
        url: str,
        elapsed: float,
        attempts: Sequence[Attempt] = (),
        max_retries: int = 0,
        retry_timeout: float = 0.0,
    ) -> Exception: ...
    def error_for_failure(
        self,
        request: Request,
        failure: AttemptFailed,
        *,
        url: str,
        elapsed: float,
        attempts: Sequence[Attempt] = (),
        max_retries: int = 0,
        retry_timeout: float = 0.0,
    ) -> Exception: ...


# ---- HTTP grammar -------------------------------------------------------------------------------------------------

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)}


def format_http_date(moment: datetime) -> str:
    """``Sun, 06 Nov 1994 08:49:37 GMT``. Not ``strftime``, whose names follow the locale."""
    moment = moment.astimezone(UTC)
    return (
        f"{_DAYS[moment.weekday()]}, {moment.day:02} {_MONTHS[moment.month - 1]} {moment.year:04} "
        f"{moment.hour:02}:{moment.minute:02}:{moment.second:02} GMT"
    )


@lru_cache(maxsize=1024)  # objects written together share their second; a bulk read sees few different dates
def parse_http_date(text: str) -> datetime:
    """An HTTP date as an aware datetime in UTC. Raises ValueError if it is none.

    The fixed-width form of RFC 9110 is read directly; the forms that odd servers send (RFC 2822 zones, obsolete
    forms, RFC 3339) through the standard library.
    """
    if len(text) == 29 and text.endswith(" GMT") and text[3:5] == ", " and text[5:7].isdigit():
        return datetime(
            int(text[12:16]),
            _month(text[8:11]),
            int(text[5:7]),
            int(text[17:19]),
            int(text[20:22]),
            int(text[23:25]),
            tzinfo=UTC,
        )
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _month(name: str) -> int:
    try:
        return _MONTH_NUMBERS[name]
    except KeyError:
        raise ValueError(f"no month is called {name!r}") from None


def parse_content_range(text: str) -> tuple[int, int, int] | None:
    """``bytes 0-9/100`` as ``(0, 10, 100)``; ``None`` for anything else, an unknown total included."""
    unit, _, rest = text.strip().partition(" ")
    span, _, total = rest.partition("/")
    first, _, last = span.partition("-")
    if unit.lower() != "bytes":
        return None
    if not (_is_number(first) and _is_number(last) and _is_number(total)):
        return None
    start, end, size = int(first), int(last) + 1, int(total)
    return (start, end, size) if start < end <= size else None


def parse_length(text: str | None) -> int | None:
    """A Content-Length, or ``None`` where it is missing or no number."""
    return int(text) if text is not None and _is_number(text) else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def format_range(wanted: Range) -> str:
    """The value of a ``Range`` header."""
    if wanted.suffix is not None:
        return f"bytes=-{wanted.suffix}"
    if wanted.end is None:
        return f"bytes={wanted.start}-"
    return f"bytes={wanted.start}-{wanted.end - 1}"


def resolve_range(wanted: Range, size: int) -> tuple[int, int]:
    """The bytes that ``wanted`` means of an object of ``size`` bytes. Start may lie at or past the end."""
    if wanted.suffix is not None:
        return max(0, size - wanted.suffix), size
    start = wanted.start or 0
    return start, size if wanted.end is None else min(wanted.end, size)


def condition_headers(spec: GetSpec) -> list[tuple[str, str]]:
    """The conditions of a read, as HTTP has them."""
    headers = []
    if spec.if_match is not None:
        headers.append(("if-match", spec.if_match))
    if spec.if_none_match is not None:
        headers.append(("if-none-match", spec.if_none_match))
    if spec.if_modified_since is not None:
        headers.append(("if-modified-since", format_http_date(spec.if_modified_since)))
    if spec.if_unmodified_since is not None:
        headers.append(("if-unmodified-since", format_http_date(spec.if_unmodified_since)))
    return headers


_MAX_OFFSET = 2**63 - 1


def slice_of(wanted: Range) -> tuple[int, int] | None:
    """What the engine cuts out of a whole object that comes instead of a range; a suffix only the answer could place."""
    if wanted.start is None:
        return None
    return wanted.start, (_MAX_OFFSET if wanted.end is None else wanted.end) - wanted.start
