"""A store behind HTTP: requests with retries, bodies that resume, uploads in parts.

What a request looks like and what its answer means is the dialect's; here is when it is sent, how often, and what is
done with its body.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from obstore._auth.cache import credential
from obstore._auth.sources import ANONYMOUS
from obstore._dialect.base import resolve_range
from obstore._effects import (
    COLLECT,
    INTO,
    LIST,
    STREAM,
    AttemptFailed,
    Begin,
    Call,
    Cancel,
    Fork,
    Op,
    Outcome,
    Request,
    Response,
    Send,
    Sleep,
)
from obstore._ops.forks import begin_upload, settle
from obstore._ops.remote_object import BodyBroke, RemoteObject, short_body
from obstore._ops.resumable import ResumableUpload
from obstore._ops.retry import Retry, may_repeat, retry_after
from obstore._types import (
    PLAIN_GET,
    Buffer,
    GetSpec,
    ListPage,
    ObjectMeta,
    Opened,
    PartPair,
    Pin,
    PostSpec,
    PresignedPost,
    PutResult,
    PutSpec,
    Range,
    Scatter,
    SignSpec,
    Upload,
)
from obstore.exceptions import Attempt, BaseError, GenericError, IntegrityError, NotFoundError, PreconditionError

if TYPE_CHECKING:
    from obstore._config.retry import RetryPolicy
    from obstore._dialect.base import Dialect

# Bodies above this are hashed off the event loop: half a millisecond of SHA-256.
_HASH_INLINE_BYTES = 1 << 20
# Copies of more than one request take parts of this size: 10,000 of them suffice for any object.
_COPY_PART_BYTES = 512 << 20
_COPY_CONCURRENCY = 8
# How often an object may change between two requests that must see the same one.
_CHANGES = 5
# Kinds of requests whose success may be an error all the same, as the body tells.
_CHECKED = frozenset({"bulk_delete", "collection", "copy", "delete", "finish", "part", "rename"})
# Failures that leave open whether the server acted.
_PERHAPS_DONE = frozenset({500, 502, 504})
# Refusals that an earlier try of the same request may be the reason of: it made, changed or moved what the request is about.
_OWN_DOING = frozenset({304, 404, 409, 412})


class Ahead:
    """A request sent before its answer was needed, by `RemoteBackend.begin_list`. Whoever does not finish it cancels it."""

    __slots__ = ("_transfer", "cred", "offset", "request", "sent_at", "url")

    def __init__(
        self, request: Request, url: str, cred: Any, sent_at: float, offset: str | None, transfer: Any
    ) -> None:
        self.request = request
        self.url = url
        self.cred = cred
        self.sent_at = sent_at
        self.offset = offset
        self._transfer = transfer

    def outcome(self) -> Outcome:
        """The effect that waits for the answer."""
        return Outcome(self._transfer, self.request.method, self.url)

    @property
    def usable(self) -> bool:
        """False in a child process for what its parent sent."""
        return bool(self._transfer.usable)

    @property
    def succeeded(self) -> bool:
        """Whether it is known already that the answer is here and is a success."""
        transfer = self._transfer
        return bool(transfer.ended and transfer.ok and 200 <= transfer.status < 300)

    def cancel(self) -> None:
        """Give it up. Any thread, any number of times."""
        self._transfer.cancel()


class RemoteBackend:
    """The ``Backend`` of every store that speaks HTTP.

    Args:
        dialect: the service's protocol.
        client: connection options; opaque here, the runner gives it to the engine.
        source: credentials.
        policy: retries.
    """

    single_put = False

    def __init__(
        self, dialect: Dialect, client: Any, source: Any, policy: RetryPolicy, parse_key: Callable[[str, str], str]
    ) -> None:
        self.dialect = dialect
        self.client = client
        self.source = source
        # Directory buckets take copies with the credentials that their sessions are made with.
        self.copy_source = getattr(source, "base", source)
        self.policy = policy
        self.parse_key = parse_key
        self.name = dialect.name
        self.missing_is_error = dialect.missing_is_error
        self.delete_concurrency = dialect.delete_concurrency
        self.splits_lists = dialect.splits_lists
        self._repeated = [0]  # requests; shared by copies of this backend

    @property
    def delete_batch(self) -> int:
        """Keys per delete request; may fall to 1 when the service turns out to have no other."""
        return self.dialect.delete_batch

    def stats(self) -> dict[str, int]:
        """What became of the requests so far."""
        return {**self.client.stats(), "retries": self._repeated[0]}

    # ---- one request ------------------------------------------------------------------------------------

    def request(
        self,
        request: Request,
        sink: int = COLLECT,
        *,
        into: Any = None,
        retry: Retry | None = None,
        resumable: bool = False,
        accept: Callable[[Any], bool] | None = None,
        recover: Callable[[], Op[Any]] | None = None,
        ahead: Ahead | None = None,
        is_prepared: bool = False,
    ) -> Op[Any]:
        """Send a request until it succeeds or must not be repeated; every attempt is signed afresh.

        Args:
            request: built by the dialect.
            sink: where the body goes.
            into: buffer of the INTO sink.
            retry: budget to draw on; a fresh one by default.
            resumable: raise `BodyBroke` where a body broke after its first bytes, instead of starting over.
            accept: takes an answer that is no success, and makes it the result by returning true.
            recover: instead of repeating the request, find out what became of it; its result is the response.
            ahead: the first attempt, where it was sent before.
            is_prepared: the body was hashed before.

        Returns:
            The response, status 2xx or accepted.
        """
        dialect = self.dialect
        source = self.copy_source if request.operation == "copy" else self.source
        if retry is None:
            retry = Retry(self.policy)
        refreshed = adjusted = unclear = False
        redirects = 0
        if request.body and not is_prepared and _size(request.body) > _HASH_INLINE_BYTES:
            yield Call(dialect.prepare, request)
        while True:
            attempt: Send | Outcome
            if ahead is None:
                now = time.time()
                cred = source.current(now)
                if cred is None:
                    cred = yield from credential(source)
                url, headers = dialect.sign(request, None if cred is ANONYMOUS else cred, now)
                attempt = Send(self.client, request.method, url, headers, request.body, sink, into, request.slice_)
                del headers  # they hold secrets, and tools print the variables of frames that failed
            else:
                now, cred, url, attempt = ahead.sent_at, ahead.cred, ahead.url, ahead.outcome()
                ahead = None
            failure: AttemptFailed | None = None
            try:
                response = yield attempt
            except AttemptFailed as exc:
                failure = exc.with_traceback(None)  # it leads to this frame, and this frame to it
            finally:
                del attempt
            if failure is not None:
                # Out here, where what is raised has no failure, and with it no body, in its context.
                if failure.kind == "file":
                    raise OSError(failure.response.oserrno, os.strerror(failure.response.oserrno))
                if resumable and failure.received and failure.response is not None:
                    raise BodyBroke(failure.response, failure.received, failure)
                yield from self.after_failure(request, failure, retry, url)
                if recover is not None:
                    return (yield from recover())
                continue
            status = response.status
            if 200 <= status < 300:
                if status not in (200, 207) or not dialect.ok_body_is_error(
                    request, _body_if_checked(request, response)
                ):
                    return response
            elif accept is not None and accept(response):
                return response
            body = response.body()
            verdict = dialect.failed(request, response, body)
            if response.resent:
                retry.note_lost()
            unclear = unclear or response.resent or status in _PERHAPS_DONE
            if unclear and not request.idempotent and status in _OWN_DOING:
                yield from self.after_failure(request, _answer_lost(status), retry, url)
            pause: float | None = None
            if verdict in ("retry", "throttled"):
                pause = retry.delay(minimum=retry_after(response))
            elif verdict == "expired" and not refreshed and cred is not ANONYMOUS:
                refreshed = True
                if source.renewable:
                    yield from credential(source, after=cred)
                    pause = 0.0
            elif verdict == "clock" and not adjusted:
                adjusted = True
                if dialect.note_clock(request, response, now):
                    pause = 0.0
            elif verdict == "adapt":
                if dialect.adapt(request):
                    pause = 0.0
            elif verdict == "redirect" and redirects < dialect.max_redirects:
                redirects += 1
                if dialect.follow(request, response, body):
                    pause = 0.0
            retry.note_response(response, pause or 0.0)
            error = dialect.error(
                request,
                response,
                body,
                url=url,
                elapsed=retry.elapsed,
                attempts=retry.attempts,
                max_retries=self.policy.max_retries,
                retry_timeout=self.policy.retry_timeout_s,
            )
            if isinstance(error, BaseError):
                retry.name_last(error.code, error.request_id)
                error.attempts = list(retry.attempts)
            if pause is None:
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame
            self._repeated[0] += 1
            if pause:
                yield Sleep(pause)
                if recover is not None:
                    return (yield from recover())

    def after_failure(self, request: Request, failure: AttemptFailed, retry: Retry, url: str) -> Op[None]:
        """Wait before the next try, or raise what the failure means."""
        # Our own doing, no fault of the server: its place was needed, or its event loop was closed. At once, and not counted.
        if failure.kind in ("parked", "cancelled"):
            return
        pause = retry.delay() if may_repeat(request, failure) else None
        retry.note_failure(failure, pause or 0.0)
        failure.response = None  # with the body; the frames that an error keeps keep the failure
        if pause is None:
            raise self.dialect.error_for_failure(
                request,
                failure,
                url=url,
                elapsed=retry.elapsed,
                attempts=retry.attempts,
                max_retries=self.policy.max_retries,
                retry_timeout=self.policy.retry_timeout_s,
            ) from None
        self._repeated[0] += 1
        yield Sleep(pause)

    # ---- reading ----------------------------------------------------------------------------------------

    def get(self, key: str, spec: GetSpec) -> Op[Opened]:
        """Open an object: resumes at its head, the body follows on demand."""
        if spec.range is not None and spec.range.suffix is not None and not self.dialect.suffix_ranges:
            return (yield from self._get_suffix(key, spec, spec.range))
        retry = Retry(self.policy)
        request = self.dialect.build_get(key, spec)
        wants_suffix = spec.range is not None and spec.range.suffix is not None
        response = yield from self.request(
            request,
            COLLECT if spec.head else STREAM,
            retry=retry,
            accept=_is_unsatisfied if wants_suffix else None,
        )
        if response.status == 416:
            # The last bytes of an empty object are none; only its meta is missing from the answer.
            meta = yield from self.head(key, spec.version)
            if meta["size"] and spec.range is not None and spec.range.suffix:
                raise GenericError.of(self.name, "the object changed while its range was read", key=key)
            return RemoteObject(self, request, response, retry, key, (meta["size"], meta["size"]), (meta, {}))
        # What is known of an object is read from the headers once somebody asks: most reads want the bytes only.
        size = self.dialect.whole_size(response) if spec is PLAIN_GET else None
        if size is not None:
            check = self.dialect.read_checksum(response)
            return RemoteObject(self, request, response, retry, key, (0, size), None, check=check)
        try:
            meta, span, attributes = self.dialect.read_get(response, key, spec, sliced=response.sliced)
        except BaseException:
            response.cancel()
            raise
        if spec.head:
            span = (0, meta["size"])
        check = None if spec.head or spec.range is not None else self.dialect.read_checksum(response)
        return RemoteObject(self, request, response, retry, key, span, (meta, attributes), empty=spec.head, check=check)

    def _get_suffix(self, key: str, spec: GetSpec, wanted: Range) -> Op[Opened]:
        """The last bytes, from a service that has to be told where they begin: its size first, then those of the same object."""
        for _ in range(_CHANGES):
            head = self.dialect.build_get(key, spec.with_(range=None, head=True))
            retry = Retry(self.policy)
            response = yield from self.request(head, retry=retry)
            meta = self.dialect.read_head(response, key)
            span = resolve_range(wanted, meta["size"])
            if span[0] >= span[1]:
                said = meta, self.dialect.read_attributes(response)
                return RemoteObject(self, head, response, retry, key, span, said, empty=True)
            pinned = spec.if_match is None and spec.version is None
            exact = spec.with_(range=Range(*span), if_match=meta["e_tag"] if pinned else spec.if_match)
            try:
                return (yield from self.get(key, exact))
            except PreconditionError:
                if not pinned:
                    raise
        raise GenericError.of(self.name, "the object keeps changing while its end is read", key=key, retryable=True)

    def get_range(self, key: str, start: int, end: int, into: Any, pin: Pin | None = None) -> Op[Any]:
        """Bytes ``start`` to ``end``, clipped; as ``Bytes``, or their number where they went ``into`` a buffer."""
        retry = Retry(self.policy)
        request = self.dialect.build_range(key, start, end)
        broke: BodyBroke | None = None
        try:
            response = yield from self.request(
                request, COLLECT if into is None else INTO, into=into, retry=retry, resumable=True
            )
        except BodyBroke as exc:
            broke = exc.with_traceback(None)
        if pin is not None:
            pin.check(self.name, key, (response if broke is None else broke.response).header("etag"))
        if broke is not None:
            return (yield from self._finish_range(request, start, end, into, broke, retry))
        first, last = self.dialect.check_range(response, start, end, sliced=response.sliced)
        if into is not None:
            if response.received != last - first:
                raise short_body(self.name, key, response.received, last - first)
            return last - first
        body = response.body()
        if len(body) != last - first:
            raise short_body(self.name, key, len(body), last - first)
        return body

    def _finish_range(
        self, request: Request, start: int, end: int, into: Any, broke: BodyBroke, retry: Retry
    ) -> Op[Any]:
        """Fetch what is missing of a range whose body broke."""
        response = broke.response
        start, end = self.dialect.check_range(response, start, end, sliced=response.sliced)
        e_tag = response.header("etag")
        del response
        if into is not None:
            yield from self.rest(request, start, end, e_tag, broke, retry, into)
            return end - start
        return b"".join((yield from self.rest(request, start, end, e_tag, broke, retry, None)))

    def rest(
        self,
        request: Request,
        start: int,
        end: int,
        e_tag: str | None,
        broke: BodyBroke,
        retry: Retry,
        into: memoryview | Scatter | None,
    ) -> Op[list[Any]]:
        """Fetch the rest of a body that broke, as often as it takes while it makes progress.

        Args:
            request: what the body was asked for with.
            start, end: the whole span; ``broke`` says how much of it arrived.
            e_tag: of the object; all pieces must be of the same.
            broke: the first break.
            retry: the operation's budget.
            into: memory for the whole span, or ``None`` to collect pieces.

        Returns:
            The pieces, the first included; empty where they went ``into`` memory.
        """
        pieces: list[Any] = []
        try:
            yield from self._rest(request, start, end, e_tag, broke, retry, into, pieces)
        except BaseException:
            pieces.clear()  # the error keeps this frame
            raise
        return pieces

    def _rest(
        self,
        request: Request,
        start: int,
        end: int,
        e_tag: str | None,
        broke: BodyBroke,
        retry: Retry,
        into: memoryview | Scatter | None,
        pieces: list[Any],
    ) -> Op[None]:
        position = start
        while True:
            if into is None:
                pieces.append(broke.response.take_body())
                got = len(pieces[-1])
            else:
                got = broke.received
            broke.response = broke.failure.response = None
            position += got
            if got:
                retry.progressed()
            if position >= end:
                return
            yield from self.before_resume(request, e_tag, broke.failure, retry)
            follow_up = self.dialect.build_resume(request, position, end, e_tag)
            again: BodyBroke | None = None
            try:
                response = yield from self.request(
                    follow_up,
                    COLLECT if into is None else INTO,
                    into=_behind(into, position - start, end - start),
                    retry=retry,
                    resumable=True,
                )
            except BodyBroke as exc:
                again = exc.with_traceback(None)
                response = exc.response
            self.dialect.check_resume(response, position, end, e_tag)
            if again is not None:
                broke = again
                continue
            if response.received != end - position:
                raise short_body(self.name, request.key or "", position - start + response.received, end - start)
            if into is None:
                pieces.append(response.body())
            return

    def before_resume(self, request: Request, e_tag: str | None, failure: AttemptFailed, retry: Retry) -> Op[None]:
        """Wait before a resumption, or raise where there can be none."""
        if e_tag is None:
            retry.note_failure(failure, 0.0)
            failure.response = None
            raise self.dialect.error_for_failure(
                request,
                failure,
                url=self.dialect.endpoint + request.path,
                elapsed=retry.elapsed,
                attempts=retry.attempts,
            ) from None
        yield from self.after_failure(request, failure, retry, self.dialect.endpoint + request.path)

    def head(self, key: str, version: str | None) -> Op[ObjectMeta]:
        """The object's meta."""
        response = yield from self.request(self.dialect.build_head(key, version))
        return self.dialect.read_head(response, key)

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        """One page of a listing."""
        response = yield from self.request(self.dialect.build_list(prefix, offset, delimiter, cursor), LIST)
        return self._read_page(response, offset, cursor)

    def begin_list(self, prefix: str, offset: str | None, cursor: Any) -> Op[Ahead | None]:
        """Ask for a page before it is needed; ``None`` where that cannot be done at once."""
        request = self.dialect.build_list(prefix, offset, False, cursor)
        now = time.time()
        cred = self.source.current(now)
        if cred is None:
            return None
        url, headers = self.dialect.sign(request, None if cred is ANONYMOUS else cred, now)
        begin = Begin(Send(self.client, request.method, url, headers, request.body, LIST))
        del headers
        return Ahead(request, url, cred, now, offset, (yield begin))

    def finish_list(self, ahead: Ahead, cursor: Any) -> Op[ListPage]:
        """The page that `begin_list` asked for; tried again where the first try failed."""
        response = yield from self.request(ahead.request, LIST, ahead=ahead)
        return self._read_page(response, ahead.offset, cursor)

    def _read_page(self, response: Any, offset: str | None, cursor: Any) -> ListPage:
        try:
            page = response.listing(self.dialect.list_strip)
        except ValueError as exc:
            raise GenericError.of(
                self.name,
                f"Got invalid list response: {exc}",
                status=response.status,
                request_id=response.header(self.dialect.request_id_header),
                hint="the endpoint may not speak this protocol",
            ) from None
        found = self.dialect.read_list(page)
        if offset is not None and not self.dialect.lists_after:
            found.objects = [meta for meta in found.objects if meta["path"] > offset]
        elif offset is not None and self.dialect.offset_inclusive:
            _leave_out(found, offset)
        if cursor is not None and found.cursor == cursor:
            raise GenericError.of(self.name, "the listing does not advance: the server repeats its continuation token")
        return found

    # ---- letting others in ------------------------------------------------------------------------------

    def sign(self, keys: Sequence[str], spec: SignSpec) -> Op[list[str]]:
        """URLs that do what ``spec`` says, one per key; with the store's credentials, also where it sends none itself."""
        return self.dialect.presign(keys, spec, self._signing_source(), self.request)

    def sign_post(self, key: str, spec: PostSpec) -> Op[PresignedPost]:
        """A form that uploads to ``key``."""
        return self.dialect.presign_post(key, spec, self._signing_source(), self.request)

    def _signing_source(self) -> Any:
        return getattr(self.source, "beneath", self.source)

    # ---- writing ----------------------------------------------------------------------------------------

    def put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]:
        """Write an object in one request."""
        if self.dialect.update_by_version and spec.mode == "update" and spec.version is None and spec.e_tag is not None:
            spec = yield from self._name_version(key, spec, spec.e_tag)
        response = yield from self.request(self.dialect.build_put(key, body, spec))
        return self.dialect.read_put(response)

    def _name_version(self, key: str, spec: PutSpec, e_tag: str) -> Op[PutSpec]:
        """The same update by the version that has this ETag, which the service can compare with when it writes."""
        try:
            meta = yield from self.head(key, None)
        except NotFoundError as error:
            raise PreconditionError.of(error.key or key, "there is no such object", status=404, key=error.key) from None
        if meta["e_tag"] != e_tag.strip('"'):
            raise PreconditionError.of(key, f"its ETag is {meta['e_tag']}", status=412, key=key)
        return PutSpec(mode="update", version=meta["version"], attributes=spec.attributes, tags=spec.tags)

    def start_upload(self, key: str, spec: PutSpec) -> Op[Upload]:
        """Begin an upload in parts."""
        if self.dialect.resumable:
            response = yield from self.request(self.dialect.build_session(key, spec))
            return ResumableUpload(self, key, self.dialect.read_session(response))
        return (yield from self._start_upload(key, spec))

    def _start_upload(self, key: str, spec: PutSpec) -> Op[RemoteUpload]:
        request = self.dialect.build_start(key, spec)
        body: Buffer = b""
        if request is not None:
            response = yield from self.request(request)
            body = response.body()
        return RemoteUpload(self, key, self.dialect.read_start(body), spec)

    def delete(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Delete up to ``delete_batch`` keys: one outcome each."""
        dialect = self.dialect
        if dialect.delete_batch > 1 and len(keys) >= dialect.delete_batch_min:
            try:
                return (yield from self._delete_batch(keys))
            except BaseError as exc:
                if not dialect.lacks_batches(exc):
                    raise
        if len(keys) == 1:
            return [(yield from self._delete_one(keys[0]))]
        outcomes: list[Exception | None] = [None] * len(keys)

        def one(index: int) -> Op[None]:
            outcomes[index] = yield from self._delete_one(keys[index])

        running: list[Any] = []
        try:
            for index in range(len(keys)):
                running.append((yield Fork(one(index))))
                yield from settle(running, self.delete_concurrency)
            yield from settle(running, 1)
        except GeneratorExit:
            raise
        except BaseException:
            yield Cancel(running)
            raise
        return outcomes

    def _delete_one(self, key: str) -> Op[Exception | None]:
        try:
            yield from self.request(self.dialect.build_delete_one(key))
        except NotFoundError as exc:
            # A try before this one may have deleted it, and its answer was lost.
            return None if any(_is_unclear(each) for each in exc.attempts[:-1]) else exc
        except BaseError as exc:
            return exc
        return None

    def _delete_batch(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Delete by one request, and by further ones what failed for a moment."""
        dialect = self.dialect
        retry = Retry(self.policy)
        outcomes: list[Exception | None] = [None] * len(keys)
        left = list(range(len(keys)))
        while True:
            wanted = [keys[index] for index in left]
            tries = retry.tries
            response = yield from self.request(dialect.build_delete(wanted), retry=retry)
            found = dialect.read_delete(response, response.body(), wanted)
            unclear = response.resent or any(_is_unclear(each) for each in retry.attempts[tries:])
            for index, outcome in zip(left, found, strict=True):
                # A try before this one may have deleted it, and its answer was lost.
                outcomes[index] = None if unclear and isinstance(outcome, NotFoundError) else outcome
            left = [index for index in left if getattr(outcomes[index], "retryable", False)]
            pause = retry.delay() if left else None
            if pause is None:
                return outcomes
            retry.note_response(response, pause)
            yield Sleep(pause)

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Copy inside the store, by the service."""
        dialect = self.dialect
        if not overwrite and dialect.copy_create == "multipart":
            meta = yield from self.head(from_, None)
            yield from self._copy_in_parts(from_, to, meta["size"], PutSpec(mode="create"))
            return
        request: Request | None = dialect.build_copy(from_, to, overwrite)
        size = 0
        try:
            while request is not None:
                response = yield from self.request(request)
                request = dialect.continue_copy(request, response)
                if request is not None and dialect.copy_pause_s:
                    yield Sleep(dialect.copy_pause_s)
        except BaseError as error:
            # One request copies at most 5 GiB, and only the refusal tells that the object is larger.
            if not overwrite or error.status != 400 or error.retryable:
                raise
            size = yield from self._size_of(from_)
            if size <= dialect.max_copy_bytes:
                raise
        if size:
            yield from self._copy_in_parts(from_, to, size, PutSpec())

    def check_made(self, key: str, response: Any, size: int, checksum: int) -> Op[PutResult]:
        """The result of a resumable upload; an object of other bytes than were sent is removed again.

        Raises:
            IntegrityError: it was such a one.
        """
        result = self.dialect.read_put(response)
        problem = self.dialect.differs(response, size, checksum)
        if problem is None:
            return result
        try:
            yield from self.request(self.dialect.build_delete_one(key, result["version"]))
        except BaseError:
            problem = f"{problem}; it could not be removed"
        raise IntegrityError.of(self.name, problem, key=key, retryable=True)

    def _size_of(self, key: str) -> Op[int]:
        """The object's size; 0 where it cannot be told."""
        try:
            return (yield from self.head(key, None))["size"]
        except BaseError:
            return 0

    def _copy_in_parts(self, from_: str, to: str, size: int, spec: PutSpec) -> Op[None]:
        dialect = self.dialect
        upload = yield from begin_upload(self._start_upload(to, spec))
        running: list[Any] = []
        try:
            spans: list[tuple[int, int] | None] = [
                (start, min(start + _COPY_PART_BYTES, size)) for start in range(0, size, _COPY_PART_BYTES)
            ]
            if len(spans) <= 1:
                spans = [None]  # the whole object, of whatever size
            for number, span in enumerate(spans, 1):
                request = dialect.build_part_copy(from_, to, upload.upload_id, number, span)
                running.append((yield Fork(upload.copied_part(number, request))))
                yield from settle(running, _COPY_CONCURRENCY)
            yield from settle(running, 1)
            yield from upload.finish()
        except GeneratorExit:
            raise
        except BaseException:
            yield Cancel(running)
            yield from upload.abort()
            raise

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Copy, then delete the source."""
        yield from self.copy(from_, to, overwrite=overwrite)
        for outcome in (yield from self.delete([from_])):
            if outcome is not None:
                raise outcome


class RemoteUpload:
    """A multipart upload; see ``Upload``."""

    max_parallel: int | None = None

    def __init__(self, backend: RemoteBackend, key: str, upload_id: str, spec: PutSpec) -> None:
        self._backend = backend
        self._key = key
        self._spec = spec
        self._tags: dict[int, Any] = {}
        self.upload_id = upload_id
        self.max_parts: int | None = backend.dialect.max_parts
        self.min_part_bytes = backend.dialect.min_part_bytes
        self.part_pair: PartPair | None = None if backend.dialect.prepare_pair is None else self._part_pair

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        """Send part ``number``, from 1."""
        request = self._backend.dialect.build_part(self._key, self.upload_id, number, body)
        yield from self._send_part(number, request)

    def _part_pair(self, number: int, first: Sequence[Buffer], second: Sequence[Buffer]) -> Op[None]:
        """Send parts ``number`` and ``number + 1``, prepared together."""
        dialect = self._backend.dialect
        requests = [
            dialect.build_part(self._key, self.upload_id, number + index, body)
            for index, body in enumerate((first, second))
        ]
        assert dialect.prepare_pair is not None
        yield Call(dialect.prepare_pair, *requests)
        running: list[Any] = []
        try:
            for index, request in enumerate(requests):
                running.append((yield Fork(self._send_part(number + index, request, is_prepared=True))))
            yield from settle(running, 1)
        except GeneratorExit:
            raise
        except BaseException:
            yield Cancel(running)
            raise

    def _send_part(self, number: int, request: Request, *, is_prepared: bool = False) -> Op[None]:
        response = yield from self._backend.request(request, is_prepared=is_prepared)
        self._tags[number] = self._backend.dialect.read_part(response)

    def copied_part(self, number: int, request: Request) -> Op[None]:
        """Have the service make part ``number`` from another object."""
        response = yield from self._backend.request(request)
        self._tags[number] = self._backend.dialect.read_part_copy(response.body())

    def adopt(self, parts: dict[int, Any]) -> None:
        """These parts are there already, from an earlier run."""
        self._tags.update(parts)

    def finish(self) -> Op[PutResult]:
        """Make the object out of the parts."""
        dialect = self._backend.dialect
        request = dialect.build_finish(self._key, self.upload_id, sorted(self._tags.items()), self._spec)
        try:
            response = yield from self._backend.request(request)
        except NotFoundError as error:
            made = yield from self._made_before(error)
            if made is None:
                raise
            return made
        result = dialect.read_finish(response, response.body())
        if dialect.head_after_finish:
            result["e_tag"] = yield from self._e_tag(result["version"])
        return result

    def _made_before(self, error: NotFoundError) -> Op[PutResult | None]:
        """What a try made whose answer was lost: many services know nothing of the upload afterwards. ``None``: nothing."""
        e_tag = self._backend.dialect.made_of([tag for _, tag in sorted(self._tags.items())])
        if e_tag is None or not any(_is_unclear(each) for each in error.attempts[:-1]):
            return None
        try:
            found = yield from self._backend.head(self._key, None)
        except BaseError:
            return None
        return {"e_tag": found["e_tag"], "version": found["version"]} if found["e_tag"] == e_tag else None

    def _e_tag(self, version: str | None) -> Op[str | None]:
        """The new object's ETag; ``None`` where it cannot be read: the upload itself went well."""
        try:
            return (yield from self._backend.head(self._key, version))["e_tag"]
        except BaseError:
            return None

    def abort(self) -> Op[None]:
        """Remove the parts. Failures are left to the service's lifecycle rules: what made us abort is what counts."""
        request = self._backend.dialect.build_abort(self._key, self.upload_id)
        if request is None:
            return
        try:
            yield from self._backend.request(request)
        except Exception:  # noqa: BLE001 - also what the user's credential provider raises
            return


def _body_if_checked(request: Request, response: Any) -> Any:
    """The body of a 200 or 207 whose kind of request may carry an error there; empty for all others."""
    return response.body() if request.operation in _CHECKED else b""


def _answer_lost(status: int) -> AttemptFailed:
    """What becomes of a request that must not be repeated, but was, or failed in a way that leaves open what it did."""
    text = f"the answer to the first try was lost, and {status} to the next one may be what the first did"
    return AttemptFailed("interrupted", text, sent=True)


def _is_unclear(attempt: Attempt) -> bool:
    """Whether a try that failed may have been carried out. A success that told of a failure in its body is one of them."""
    return attempt.error is not None or attempt.status is None or not 300 <= attempt.status < 500


def _leave_out(page: ListPage, offset: str) -> None:
    """What lies up to the offset, of a page of a service that begins with it, or does not know of it."""
    skip = 0
    for each in page.objects:  # in order: the first one behind it ends the search
        if each["path"] > offset:
            break
        skip += 1
    if skip:
        page.objects = page.objects[skip:]
    page.prefixes = [each for each in page.prefixes if f"{each}/" > offset or offset.startswith(f"{each}/")]


def _is_unsatisfied(response: Response) -> bool:
    return response.status == 416


def _behind(into: memoryview | Scatter | None, done: int, size: int) -> memoryview | Scatter | None:
    """What is left of the memory for a span once ``done`` of its ``size`` bytes are there."""
    if into is None:
        return None
    return into.behind(done) if isinstance(into, Scatter) else into[done:size]


def _size(body: Sequence[Buffer]) -> int:
    return sum(memoryview(buffer).nbytes for buffer in body)
