"""A store behind HTTP: requests with their retries, and what the store does by them.

What a request looks like and what its answer means is the dialect's; here is when it is sent, and how often. What takes a sequence of
requests has a file of its own: `resume`, and the others that begin with ``remote_``.
"""

from __future__ import annotations

import copy
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
    STREAM,
    AttemptFailed,
    Call,
    Formed,
    Op,
    Outcome,
    Request,
    Response,
    Send,
    Sleep,
)
from obstore._ops import remote_change, remote_list
from obstore._ops.formed import Signed, SignedForms
from obstore._ops.remote_list import Ahead
from obstore._ops.remote_object import RemoteObject
from obstore._ops.remote_upload import start_upload
from obstore._ops.resumable import ResumableUpload
from obstore._ops.resume import BodyBroke, fetch_rest, short_body
from obstore._ops.retry import Retry, may_repeat, retry_after
from obstore._types import (
    PLAIN_GET,
    Buffer,
    GetSpec,
    ListPage,
    ObjectMeta,
    Opened,
    Pin,
    PostSpec,
    PresignedPost,
    PutResult,
    PutSpec,
    Range,
    SignSpec,
    Upload,
)
from obstore.exceptions import BaseError, GenericError, NotFoundError, PreconditionError

if TYPE_CHECKING:
    from obstore._config.retry import RetryPolicy
    from obstore._dialect.base import Dialect

# Bodies above this are hashed off the event loop: half a millisecond of SHA-256.
_HASH_INLINE_BYTES = 1 << 20
# How often an object may change between two requests that must see the same one.
_CHANGES = 5
# Kinds of requests whose success may be an error all the same, as the body tells.
_CHECKED = frozenset({"bulk_delete", "collection", "copy", "delete", "finish", "part", "rename"})
# Failures that leave open whether the server acted.
_PERHAPS_DONE = frozenset({500, 502, 504})
# Refusals that an earlier try of the same request may be the reason of: it made or changed what the request is about ...
_OWN_DOING = frozenset({304, 409, 412})
# ... or, where it is of one of these kinds, took it away.
_TAKING_AWAY = frozenset({"delete", "finish", "rename"})
# Failures that teach something about the requests to come.
_LEARNING = frozenset({"adapt", "clock", "expired", "redirect"})


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
        self._repeated = [0]  # requests; shared by variants of this backend
        self._forms = SignedForms()

    @property
    def delete_batch(self) -> int:
        """Keys per delete request; may fall to 1 when the service turns out to have no other."""
        return self.dialect.delete_batch

    def variant(self, *, dialect: Dialect | None = None, client: Any = None) -> RemoteBackend:
        """This backend with another protocol or other connection options; the requests that were repeated are counted together."""
        clone = copy.copy(self)
        if dialect is not None:
            clone.dialect = dialect
        if client is not None:
            clone.client = client
        clone._forms = SignedForms()  # noqa: SLF001 - of the same class
        return clone

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
            if unclear and not request.idempotent and _may_be_own_doing(request, status):
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
            if verdict in _LEARNING:
                self._forms.drop()
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

    def _sent(self, request: Request, signed: Signed | None, transfer: Any) -> Ahead | None:
        """A request that was made of a form and did not go well, as one that was built, signed and sent ahead; ``None``: none was made."""
        if signed is None or transfer is None:
            return None
        cred = signed.cred
        url, _ = self.dialect.sign(request, None if cred is ANONYMOUS else cred, signed.at)
        return Ahead(request, url, cred, time.time(), None, transfer)

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
        dialect = self.dialect
        request = retry = None
        signed = self._forms.current(self, "whole") if spec is PLAIN_GET else None
        response: Any = None if signed is None else (yield Formed(self.client, signed.form, key, STREAM))
        if response is None or not response.answered:
            wants_suffix = spec.range is not None and spec.range.suffix is not None
            request = dialect.build_get(key, spec)
            retry = Retry(self.policy)
            response = yield from self.request(
                request,
                COLLECT if spec.head else STREAM,
                retry=retry,
                accept=_is_unsatisfied if wants_suffix else None,
                ahead=self._sent(request, signed, response),
            )
        if response.status == 416:
            # The last bytes of an empty object are none; only its meta is missing from the answer.
            meta = yield from self.head(key, spec.version)
            if meta["size"] and spec.range is not None and spec.range.suffix:
                raise GenericError.of(self.name, "the object changed while its range was read", key=key)
            return RemoteObject(self, request, response, retry, key, (meta["size"], meta["size"]), (meta, {}))
        # What is known of an object is read from the headers once somebody asks: most reads want the bytes only.
        size = dialect.whole_size(response) if spec is PLAIN_GET else None
        if size is not None:
            check = dialect.read_checksum(response)
            return RemoteObject(self, request, response, retry, key, (0, size), None, check=check)
        try:
            meta, span, attributes = dialect.read_get(response, key, spec, sliced=response.sliced)
        except BaseException:
            response.cancel()
            raise
        if spec.head:
            span = (0, meta["size"])
        check = None if spec.head or spec.range is not None else dialect.read_checksum(response)
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
        dialect = self.dialect
        broke: BodyBroke | None = None
        signed = self._forms.current(self, "range") if into is None else None
        response: Any = None
        if signed is not None:
            response = yield Formed(self.client, signed.form, key, COLLECT, (start, end))
        if response is None or not response.answered:
            request = dialect.build_range(key, start, end)
            retry = Retry(self.policy)
            sink, ahead = COLLECT if into is None else INTO, self._sent(request, signed, response)
            try:
                response = yield from self.request(request, sink, into=into, retry=retry, resumable=True, ahead=ahead)
            except BodyBroke as exc:
                broke = exc.with_traceback(None)
        if pin is not None:
            pin.check(self.name, key, (response if broke is None else broke.response).header("etag"))
        if broke is not None:
            response = broke.response
            start, end = dialect.check_range(response, start, end, sliced=response.sliced)
            e_tag = response.header("etag")
            del response
            pieces = yield from fetch_rest(self, request, start, end, e_tag, broke, retry, into)
            return b"".join(pieces) if into is None else end - start
        first, last = dialect.check_range(response, start, end, sliced=response.sliced)
        if into is not None:
            if response.received != last - first:
                raise short_body(self.name, key, response.received, last - first)
            return last - first
        body = response.body()
        if len(body) != last - first:
            raise short_body(self.name, key, len(body), last - first)
        return body

    def head(self, key: str, version: str | None) -> Op[ObjectMeta]:
        """The object's meta."""
        response = yield from self.request(self.dialect.build_head(key, version))
        return self.dialect.read_head(response, key)

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        """One page of a listing."""
        return remote_list.fetch_page(self, prefix, offset, delimiter, cursor)

    def begin_list(self, prefix: str, offset: str | None, cursor: Any) -> Op[Ahead | None]:
        """Ask for a page before it is needed; ``None`` where that cannot be done at once."""
        return remote_list.begin_page(self, prefix, offset, cursor)

    def finish_list(self, ahead: Ahead, cursor: Any) -> Op[ListPage]:
        """The page that `begin_list` asked for; tried again where the first try failed."""
        return remote_list.finish_page(self, ahead, cursor)

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
        signed = self._forms.current(self, "put") if spec.is_plain and _is_small(body) else None
        response: Any = None
        if signed is not None:
            response = yield Formed(self.client, signed.form, key, COLLECT, None, body[0])
        if response is None or not response.answered:
            request = self.dialect.build_put(key, body, spec)
            response = yield from self.request(request, ahead=self._sent(request, signed, response))
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
        return (yield from start_upload(self, key, spec))

    def delete(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Delete up to ``delete_batch`` keys: one outcome each."""
        return remote_change.delete(self, keys)

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Copy inside the store, by the service."""
        return remote_change.copy(self, from_, to, overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Copy, then delete the source."""
        yield from self.copy(from_, to, overwrite=overwrite)
        for outcome in (yield from self.delete([from_])):
            if outcome is not None:
                raise outcome


def _is_small(body: Sequence[Buffer]) -> bool:
    """Whether it is one buffer that may be hashed here and now."""
    return len(body) == 1 and memoryview(body[0]).nbytes <= _HASH_INLINE_BYTES


def _body_if_checked(request: Request, response: Any) -> Any:
    """The body of a 200 or 207 whose kind of request may carry an error there; empty for all others."""
    return response.body() if request.operation in _CHECKED else b""


def _answer_lost(status: int) -> AttemptFailed:
    """What becomes of a request that must not be repeated, but was, or failed in a way that leaves open what it did."""
    text = f"the answer to the first try was lost, and {status} to the next one may be what the first did"
    return AttemptFailed("interrupted", text, sent=True)


def _may_be_own_doing(request: Request, status: int) -> bool:
    return status in _OWN_DOING or (status == 404 and request.operation in _TAKING_AWAY)


def _is_unsatisfied(response: Response) -> bool:
    return response.status == 416


def _size(body: Sequence[Buffer]) -> int:
    return sum(memoryview(buffer).nbytes for buffer in body)
