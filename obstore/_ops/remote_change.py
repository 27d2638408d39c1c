"""Deletions from a store behind HTTP, in batches where the service has them, and copies inside it, by the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from obstore._effects import Cancel, Fork, Op, Request, Sleep
from obstore._ops.forks import begin_upload, perform, settle
from obstore._ops.remote_upload import start_upload
from obstore._ops.retry import Retry, is_unclear
from obstore._types import PutSpec
from obstore.exceptions import BaseError, NotFoundError

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend

# Copies of more than one request take parts of this size: 10,000 of them suffice for any object.
_COPY_PART_BYTES = 512 << 20
_COPY_CONCURRENCY = 8


def delete(backend: RemoteBackend, keys: Sequence[str]) -> Op[list[Exception | None]]:
    """Delete up to ``delete_batch`` keys: one outcome each."""
    dialect = backend.dialect
    if dialect.delete_batch > 1 and len(keys) >= dialect.delete_batch_min:
        try:
            return (yield from _delete_batch(backend, keys))
        except BaseError as exc:
            if not dialect.lacks_batches(exc):
                raise
    if len(keys) == 1:
        return [(yield from _delete_one(backend, keys[0]))]
    outcomes: list[Exception | None] = [None] * len(keys)

    def one(index: int) -> Op[None]:
        outcomes[index] = yield from _delete_one(backend, keys[index])

    yield from perform((one(index) for index in range(len(keys))), backend.delete_concurrency)
    return outcomes


def _delete_one(backend: RemoteBackend, key: str) -> Op[Exception | None]:
    try:
        yield from backend.request(backend.dialect.build_delete_one(key))
    except NotFoundError as exc:
        # A try before this one may have deleted it, and its answer was lost.
        return None if any(is_unclear(each) for each in exc.attempts[:-1]) else exc
    except BaseError as exc:
        return exc
    return None


def _delete_batch(backend: RemoteBackend, keys: Sequence[str]) -> Op[list[Exception | None]]:
    """Delete by one request, and by further ones what failed for a moment."""
    dialect = backend.dialect
    retry = Retry(backend.policy)
    outcomes: list[Exception | None] = [None] * len(keys)
    left = list(range(len(keys)))
    while True:
        wanted = [keys[index] for index in left]
        tries = retry.tries
        response = yield from backend.request(dialect.build_delete(wanted), retry=retry)
        found = dialect.read_delete(response, response.body(), wanted)
        unclear = response.resent or any(is_unclear(each) for each in retry.attempts[tries:])
        for index, outcome in zip(left, found, strict=True):
            # A try before this one may have deleted it, and its answer was lost.
            outcomes[index] = None if unclear and isinstance(outcome, NotFoundError) else outcome
        left = [index for index in left if getattr(outcomes[index], "retryable", False)]
        pause = retry.delay() if left else None
        if pause is None:
            return outcomes
        retry.note_response(response, pause)
        yield Sleep(pause)


def copy(backend: RemoteBackend, from_: str, to: str, overwrite: bool) -> Op[None]:
    """Copy inside the store, by the service."""
    dialect = backend.dialect
    if not overwrite and dialect.copy_create == "multipart":
        meta = yield from backend.head(from_, None)
        yield from _copy_in_parts(backend, from_, to, meta["size"], PutSpec(mode="create"))
        return
    request: Request | None = dialect.build_copy(from_, to, overwrite)
    size = 0
    try:
        while request is not None:
            response = yield from backend.request(request)
            request = dialect.continue_copy(request, response)
            if request is not None and dialect.copy_pause_s:
                yield Sleep(dialect.copy_pause_s)
    except BaseError as error:
        # One request copies at most 5 GiB, and only the refusal tells that the object is larger.
        if not overwrite or error.status != 400 or error.retryable:
            raise
        size = yield from _size_of(backend, from_)
        if size <= dialect.max_copy_bytes:
            raise
    if size:
        yield from _copy_in_parts(backend, from_, to, size, PutSpec())


def _size_of(backend: RemoteBackend, key: str) -> Op[int]:
    """The object's size; 0 where it cannot be told."""
    try:
        return (yield from backend.head(key, None))["size"]
    except BaseError:
        return 0


def _copy_in_parts(backend: RemoteBackend, from_: str, to: str, size: int, spec: PutSpec) -> Op[None]:
    dialect = backend.dialect
    upload = yield from begin_upload(start_upload(backend, to, spec))
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
