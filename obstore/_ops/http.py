"""The store behind plain HTTP or WebDAV: what a server may lack, and how to do without it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from obstore._dialect.base import EPOCH, resolve_range
from obstore._dialect.http_request import HttpRequest
from obstore._effects import COLLECT, DISCARD, LIST, STREAM, AttemptFailed, Collect, Flight, Op
from obstore._ops.http_tree import STAGING, Walk, level, read_listing
from obstore._ops.remote import RemoteBackend
from obstore._ops.remote_object import RemoteObject
from obstore._ops.retry import Retry
from obstore._ops.spool import SpooledUpload
from obstore._serverless import check_conditions
from obstore._types import (
    PLAIN_GET,
    Buffer,
    GetSpec,
    ListPage,
    ObjectMeta,
    Opened,
    PostSpec,
    PresignedPost,
    PutResult,
    PutSpec,
    Range,
    SignSpec,
    Upload,
)
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotFoundError,
    NotSupportedError,
    PreconditionError,
)

if TYPE_CHECKING:
    from obstore._config.retry import RetryPolicy
    from obstore._dialect.http import HttpDialect

Accept = Callable[[Any], bool] | None
# Answers of servers, and of URLs signed for GET alone, to a HEAD that they do not take.
_HEAD_REFUSED = frozenset({400, 403, 405, 501})
# Answers to MKCOL where the collection is there already; some redirect to its path with the slash, which it has.
_IS_THERE = frozenset({200, 201, 204, 301, 302, 307, 308, 405})


class HttpBackend(RemoteBackend):
    """The ``Backend`` of `HTTPStore`.

    Attributes:
        http: the dialect.
        shallow: whether the server refuses to list whole trees; learnt.
    """

    single_put = True

    def __init__(
        self,
        dialect: HttpDialect,
        client: Any,
        source: Any,
        policy: RetryPolicy,
        parse_key: Callable[[str, str], str],
    ) -> None:
        # The dialect has nothing of what clouds do in parts or batches, and none of the methods left here ask for it.
        anything: Any = dialect
        super().__init__(anything, client, source, policy, parse_key)
        self.http = dialect
        self.shallow = False
        self._head_refused = False

    def learnt(self) -> dict[str, str]:
        """What the server does not do, and what is done instead."""
        found = {}
        if self._head_refused:
            found["head"] = "refused: a GET of one byte tells as much"
        if self.shallow:
            found["listing"] = "one collection at a time: whole trees are refused"
        return found

    # ---- reading ----------------------------------------------------------------------------------------

    def get(self, key: str, spec: GetSpec) -> Op[Opened]:
        """Open an object: resumes at its head, the body follows on demand."""
        retry = Retry(self.policy)
        if spec.head:
            return (yield from self._get_head(key, spec, retry))
        request = self.http.build_get(key, spec)
        wanted = spec.range
        suffix = None if wanted is None else wanted.suffix
        response = yield from self.request(
            request, STREAM, retry=retry, accept=None if suffix is None else _is_unsatisfied
        )
        if response.status == 416:
            # The last bytes of an empty object are none; only its meta is missing from the answer.
            return (yield from self._get_nothing(key, suffix or 0, request, response, retry))
        size = self.http.whole_size(response) if spec is PLAIN_GET else None
        if size is not None:
            return RemoteObject(self, request, response, retry, key, (0, size), None)
        if not self.http.tells_size(response):
            return (yield from self._get_whole(key, spec, request, response, retry))
        if suffix is not None and response.status == 200 and response.header("content-range") is None:
            size = int(response.header("content-length"))
            if suffix < size:
                # It knows no ranges, and where its last bytes begin is known only now.
                response.cancel()
                spec = spec.with_(range=Range(size - suffix, size) if suffix else Range(size - 1, size))
                request = self.http.build_get(key, spec)
                response = yield from self.request(request, STREAM, retry=retry)
        try:
            meta, span, attributes = self.http.read_get(response, key, spec, sliced=response.sliced)
        except BaseException:
            response.cancel()
            raise
        if suffix == 0:
            span = (meta["size"], meta["size"])
        self._hold(spec, meta, response)
        return RemoteObject(self, request, response, retry, key, span, (meta, attributes), empty=suffix == 0)

    def _hold(self, spec: GetSpec, meta: ObjectMeta, response: Any) -> None:
        """Hold the conditions against what came, as some servers ignore them; give the response up where they fail."""
        if spec.if_match is None and spec.if_none_match is None:
            if spec.if_modified_since is None and spec.if_unmodified_since is None:
                return
            if meta["last_modified"] == EPOCH:
                return  # the server did not say
        try:
            check_conditions(spec, meta)
        except BaseError:
            if response is not None:
                response.cancel()
            raise

    def _get_nothing(self, key: str, suffix: int, request: HttpRequest, response: Any, retry: Retry) -> Op[Opened]:
        meta = yield from self.head(key, None)
        if meta["size"] and suffix:
            raise GenericError.of(self.name, "the object changed while its range was read", key=key)
        return RemoteObject(self, request, response, retry, key, (meta["size"], meta["size"]), (meta, {}))

    def _get_head(self, key: str, spec: GetSpec, retry: Retry) -> Op[Opened]:
        request, response, meta, attributes = yield from self._head(key, spec)
        self._hold(spec, meta, None)
        return RemoteObject(self, request, response, retry, key, (0, meta["size"]), (meta, attributes), empty=True)

    def _get_whole(self, key: str, spec: GetSpec, request: HttpRequest, response: Any, retry: Retry) -> Op[Opened]:
        """An answer that does not say how long it is: its end tells, so it is read before anything is said of it."""
        if response.sliced:
            response.cancel()
            body: Any = None
        else:
            failure: AttemptFailed | None = None
            try:
                body = yield Collect(response)
            except AttemptFailed as exc:
                failure = exc.with_traceback(None)
                body = None
            if failure is not None:
                yield from self.after_failure(request, failure, retry, self.http.endpoint + request.path)
        if body is None:
            plain = self.http.build_get(key, spec.with_(range=None))
            response = yield from self.request(plain, COLLECT, retry=retry)
            body = response.body()
        meta, attributes = self.http.read_whole(response, key, len(body))
        self._hold(spec, meta, None)
        start, end = (0, len(body)) if spec.range is None else resolve_range(spec.range, len(body))
        if start >= end and not (spec.range is None or spec.range.suffix is not None):
            raise GenericError.of(
                self.name,
                f"Invalid range: Wanted range starting at {start}, but object was only {len(body)} bytes long",
                key=key,
            )
        return HeldObject(meta, attributes, body, start, end, response.timing())

    def head(self, key: str, version: str | None) -> Op[ObjectMeta]:  # noqa: ARG002 - there are no versions
        """The object's meta."""
        return (yield from self._head(key, GetSpec(head=True)))[2]

    def _head(self, key: str, spec: GetSpec) -> Op[tuple[HttpRequest, Any, ObjectMeta, dict[str, str]]]:
        """By HEAD; where that is refused or does not tell the size, by a GET of one byte."""
        if not self._head_refused:
            request = self.http.build_get(key, spec)
            response = yield from self.request(request, accept=_refuses_head)
            if response.status < 300 and self.http.tells_size(response):
                meta, _, attributes = self.http.read_get(response, key, spec)
                return request, response, meta, attributes
            refused = response.status >= 300
        else:
            refused = False
        request = self.http.build_probe(key, spec)
        response = yield from self.request(request, DISCARD, accept=_is_unsatisfied)
        meta, attributes = self.http.read_probe(response, key)
        if refused:
            self._head_refused = True
        return request, response, meta, attributes

    # ---- listing ----------------------------------------------------------------------------------------

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        """One page of a listing."""
        if delimiter:
            return (yield from level(self, prefix))
        walk = cursor if cursor is not None else Walk(self, prefix, offset)
        return (yield from walk.page())

    def begin_list(self, prefix: str, offset: str | None, cursor: Any) -> Op[None]:  # noqa: ARG002 - for none
        """Nothing: a walk asks for several collections at once by itself."""
        yield from ()

    def is_collection(self, key: str) -> Op[bool | None]:
        """Whether a collection has this name; ``None`` where the server does not tell."""
        return (yield from self._is_collection_at(self.http.path_of(key)))

    def _is_collection_at(self, path: str) -> Op[bool | None]:
        try:
            response = yield from self.request(self.http.build_properties(path, "0"), LIST, accept=_is_missing)
        except NotSupportedError:
            return None
        if response.status == 404:
            return False
        listing = read_listing(self, response, self.http.collection_path)
        return bool(listing.prefixes) and not listing.objects

    # ---- letting others in ------------------------------------------------------------------------------

    def sign(self, keys: Sequence[str], spec: SignSpec) -> Op[list[str]]:  # noqa: ARG002 - for none of them
        """Refuse: HTTP has no signed URLs."""
        raise NotSupportedError.of("", "HTTP has no URLs to sign", hint="the stores of the clouds have them")

    def sign_post(self, key: str, spec: PostSpec) -> Op[PresignedPost]:  # noqa: ARG002 - for none of them
        """Refuse: HTTP has no signed forms."""
        raise NotSupportedError.of("", "HTTP has no URLs to sign", hint="the stores of the clouds have them")

    # ---- writing ----------------------------------------------------------------------------------------

    def put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]:
        """Write an object, and the collections above it where they are missing."""
        if spec.mode == "create":
            return (yield from self._create(key, body, spec))
        if spec.mode == "update":
            yield from self._check_version(key, spec)
        return (yield from self._put(key, body, spec))

    def _put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]:
        response = yield from self._below_collections(
            key, lambda accept: self.request(self.http.build_put(key, body, spec), accept=accept)
        )
        return self.http.read_put(response)

    def _create(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> Op[PutResult]:
        """Servers ignore conditions on PUT that something must not exist, but they do not on MOVE."""
        try:
            yield from self.head(key, None)
        except NotFoundError:
            pass
        else:
            raise AlreadyExistsError.of(key, "it is there", key=key)
        staged = f"{key[: key.rfind('/') + 1]}{STAGING}{secrets.token_hex(8)}"
        try:
            result = yield from self._put(staged, body, PutSpec(attributes=spec.attributes))
            move = self.http.build_transfer("MOVE", staged, key, overwrite=False, may_exist=False, file_only=False)
            yield from self.request(move)  # where it is to go there are its collections
        except GeneratorExit:
            raise
        except BaseException:
            yield from self._forget(staged)
            raise
        return result

    def _forget(self, key: str) -> Op[None]:
        """Remove what is in nobody's way if it cannot be removed: what made us do so is what counts."""
        try:
            yield from self.request(self.http.build_delete_one(key))
        except BaseError:
            return

    def _check_version(self, key: str, spec: PutSpec) -> Op[None]:
        """Compare ETags before If-Match does: some servers ignore it."""
        if spec.e_tag is None:
            raise GenericError.of(self.name, "ETag required for conditional update", key=key)
        try:
            meta = yield from self.head(key, None)
        except NotFoundError as error:
            raise PreconditionError.of(key, "there is no such object", key=key, attempts=error.attempts) from None
        if meta["e_tag"] is None:
            raise NotSupportedError.of(
                self.name, "the server gives objects no ETags: updates cannot be conditional", key=key
            )
        if meta["e_tag"] != spec.e_tag:
            raise PreconditionError.of(key, f"{meta['e_tag']} is not {spec.e_tag}", key=key)

    def start_upload(self, key: str, spec: PutSpec) -> Op[Upload]:
        """Gather parts; HTTP takes an object in one request."""
        yield from ()
        return SpooledUpload(lambda body: self.put(key, body, spec))

    def delete(self, keys: Sequence[str]) -> Op[list[Exception | None]]:
        """Delete one object."""
        outcomes: list[Exception | None] = []
        for key in keys:
            if not self.http.path_of(key).rpartition("/")[2]:
                raise GenericError.of(
                    self.name, "the store's own URL is that of a collection: it is not deleted", key=key
                )
            try:
                yield from self.request(self.http.build_delete_one(key))
            except NotFoundError as error:
                # An earlier try whose answer was lost may have deleted it.
                outcomes.append(None if len(error.attempts) > 1 else error)
            except BaseError as error:
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    def copy(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Copy inside the store, by the server."""
        yield from self._transfer("COPY", from_, to, overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool) -> Op[None]:
        """Move inside the store, by the server."""
        yield from self._transfer("MOVE", from_, to, overwrite)

    def _transfer(self, method: str, from_: str, to: str, overwrite: bool) -> Op[None]:
        """COPY or MOVE. To overwrite a collection would be to delete all in it, so that is asked for with care."""
        http = self.http

        def send(accept: Accept, *, replace: bool, file_only: bool = True) -> Op[Any]:
            request = http.build_transfer(
                method, from_, to, overwrite=replace, may_exist=overwrite, file_only=file_only
            )
            return self.request(request, accept=accept)

        def attempt(accept: Accept, *, replace: bool) -> Op[Any]:
            try:
                return (yield from send(accept, replace=replace))
            except BaseError as error:
                # nginx takes no depth with MOVE.
                if error.status != 400 or method != "MOVE" or (yield from self.is_collection(from_)) is not False:
                    raise
            return (yield from send(accept, replace=replace, file_only=False))

        try:
            yield from self._below_collections(to, lambda accept: attempt(accept, replace=False), source=from_)
        except PreconditionError:
            if not overwrite:
                raise
        else:
            return
        if (yield from self.is_collection(to)):
            raise GenericError.of(self.name, f"{to} is a collection: it is not overwritten by an object", key=to)
        yield from attempt(None, replace=True)

    def _below_collections(self, key: str, send: Callable[[Accept], Op[Any]], source: str | None = None) -> Op[Any]:
        """``send()``; where the collections above ``key`` are missing, make them and send again.

        RFC 4918 has 409 for that; some servers say 404, and others (nginx to PUT, Apache to MOVE) 500.
        """
        try:
            response = yield from send(_is_internal)
        except BaseError as error:
            if error.status not in (404, 409):
                raise
            if error.status == 404 and source is not None:
                yield from self.head(source, None)  # raises where it is the source that is missing
            if not (yield from self._make_collections(key)):
                raise
        else:
            if response.status != 500:
                return response
            yield from self._make_collections(key)
        return (yield from send(None))

    def _make_collections(self, key: str) -> Op[bool]:
        """Make the collections above a key; one operation for all that need the same ones. False: none was missing."""
        above = _above(self.http.path_of(key)) if key else ""  # the store's own URL stands where it stands
        if not above:
            return False
        made: bool = yield Flight((id(self), above), lambda: self._make(above))
        return made

    def _make(self, path: str) -> Op[bool]:
        missing: list[str] = []
        above = path
        while above:
            response = yield from self.request(self.http.build_collection(above), accept=_answers_mkcol)
            if response.status == 501:
                return False
            if response.status not in (404, 409):
                yield from self._see_made(above, response)
                break
            missing.append(above)
            above = _above(above[:-1])
        if not above:
            return False
        for collection in reversed(missing):
            response = yield from self.request(self.http.build_collection(collection), accept=_answers_mkcol)
            yield from self._see_made(collection, response)
        return True

    def _see_made(self, path: str, response: Any) -> Op[None]:
        """The collection is there: made by us, or by others, which servers say in many ways while it happens."""
        if response.status in _IS_THERE or (yield from self._is_collection_at(path)):
            return
        yield from self.request(self.http.build_collection(path))


class HeldObject:
    """An object whose body had to be read before its size was known; see ``Opened``."""

    arrives = False

    __slots__ = ("_rest", "attributes", "meta", "range", "timing")

    def __init__(
        self, meta: ObjectMeta, attributes: dict[str, str], body: Any, start: int, end: int, timing: Any
    ) -> None:
        self.meta = meta
        self.attributes = attributes
        self.range = (start, end)
        self.timing = timing
        self._rest = body if start == 0 and end == len(body) else body[start:end]

    def ready(self) -> Any:
        """The same as `collect`."""
        rest, self._rest = self._rest, b""
        return rest

    def collect(self) -> Op[Any]:
        """All of the body that was not read yet."""
        yield from ()
        return self.ready()

    def read(self, size: int) -> Op[bytes]:  # noqa: ARG002 - all of it is at hand
        """All that is left."""
        yield from ()
        return bytes(self.ready())

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._rest)

    def read_into(self, view: memoryview) -> Op[int]:
        """Copy the next bytes to ``view``; fewer only at the end."""
        yield from ()
        size = min(len(view), len(self._rest))
        view[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """Let go of the bytes."""
        self._rest = b""


def _above(path: str) -> str:
    """``/a/b/`` of ``/a/b/c``; empty where that is the root, which nobody has to make."""
    return path[: path.rfind("/") + 1].rstrip("/") + "/" if path.rfind("/") > 0 else ""


def _is_internal(response: Any) -> bool:
    return response.status == 500  # type: ignore[no-any-return]


def _is_unsatisfied(response: Any) -> bool:
    return response.status == 416  # type: ignore[no-any-return]


def _is_missing(response: Any) -> bool:
    return response.status == 404  # type: ignore[no-any-return]


def _refuses_head(response: Any) -> bool:
    return response.status in _HEAD_REFUSED


def _answers_mkcol(response: Any) -> bool:
    return response.status in _IS_THERE or response.status in (403, 404, 409, 500, 501)
