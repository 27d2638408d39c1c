"""An upload that the service takes piece by piece, in order, and remembers how far it came.

Where an answer is lost, the service is asked what it has, and the rest is sent from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from obstore._effects import Call, Op, Request, Response, Sleep
from obstore._ops.retry import Retry
from obstore._types import Buffer, PartPair, PutResult
from obstore.exceptions import BaseError, GenericError, IntegrityError

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend

# All pieces but the last one are multiples of this.
_QUANTUM = 256 << 10
# Checksums of larger pieces are computed off the event loop.
_HASH_INLINE_BYTES = 1 << 20


class ResumableUpload:
    """See ``obstore._types.Upload``. Parts are sent in order, one at a time; only whole quanta go before the end is known.

    Args:
        backend: the store.
        key: of the object.
        session: what the dialect knows the upload by.
    """

    max_parts: int | None = None
    min_part_bytes: int = 0
    max_parallel: int | None = 1
    part_pair: PartPair | None = None

    def __init__(self, backend: RemoteBackend, key: str, session: Any) -> None:
        self._backend = backend
        self._key = key
        self._session = session
        self._retry = Retry(backend.policy)
        self._next_part = 1
        self._sent = 0  # bytes that the service has
        # Bytes that wait for what comes after them. At least one does, so that the last piece is never empty.
        self._held = b""
        self._checksum = 0
        self._done: Response | None = None

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        """Send part ``number``, from 1, as far as it makes whole quanta."""
        if number != self._next_part:
            raise RuntimeError(f"part {number} of a resumable upload came before part {self._next_part} was sent")
        self._next_part += 1
        size = sum(memoryview(buffer).nbytes for buffer in body)
        if size > _HASH_INLINE_BYTES:
            self._checksum = yield Call(self._backend.dialect.checksum, body, self._checksum)
        else:
            self._checksum = self._backend.dialect.checksum(body, self._checksum)
        pieces = _Pieces([self._held, *body])
        whole = max(0, pieces.size - 1) // _QUANTUM * _QUANTUM
        if whole:
            yield from self._send(pieces, whole, None)
        self._held = b"".join(pieces.between(whole, pieces.size))

    def finish(self) -> Op[PutResult]:
        """Send what is left and make the object."""
        pieces = _Pieces([self._held])
        total = self._sent + pieces.size
        yield from self._send(pieces, pieces.size, total)
        assert self._done is not None
        return (yield from self._check_made(self._done, total))

    def _check_made(self, response: Response, size: int) -> Op[PutResult]:
        """The result; an object of other bytes than were sent is removed again."""
        backend = self._backend
        result = backend.dialect.read_put(response)
        problem = backend.dialect.differs(response, size, self._checksum)
        if problem is None:
            return result
        try:
            yield from backend.request(backend.dialect.build_delete_one(self._key, result["version"]))
        except BaseError:
            problem = f"{problem}; it could not be removed"
        raise IntegrityError.of(backend.name, problem, key=self._key, retryable=True)

    def abort(self) -> Op[None]:
        """Have the service forget the bytes; failures are left to it, which does so after a week."""
        try:
            yield from self._backend.request(
                self._backend.dialect.build_cancel(self._key, self._session), accept=_is_cancelled
            )
        except Exception:  # noqa: BLE001 - also what the user's credential provider raises
            return

    def _send(self, pieces: _Pieces, size: int, total: int | None) -> Op[None]:
        """Send the first ``size`` bytes of ``pieces``, in as many requests as it takes."""
        self._retry.progressed()  # the program may have taken its time since the last piece
        start, end = self._sent, self._sent + size
        dialect = self._backend.dialect
        while True:
            body = pieces.between(self._sent - start, size)
            request = dialect.build_chunk(self._key, self._session, self._sent, total, body, end - self._sent)
            response = yield from self._backend.request(
                request, accept=_is_unfinished, retry=self._retry, recover=self._state
            )
            if response.status != 308:
                self._done = response
                if total is None:
                    detail = "the service ended the upload before its last bytes"
                    raise GenericError.of(self._backend.name, detail, key=self._key)
                self._sent = end
                return
            reached = _persisted(response)
            if not self._sent <= reached <= end:
                detail = f"the service has {reached} bytes of the upload, which can be {self._sent} to {end}"
                raise GenericError.of(self._backend.name, detail, key=self._key)
            if reached > self._sent:
                self._retry.progressed()
            else:
                pause = self._retry.delay()
                if pause is None:
                    detail = f"the service takes no more than {reached} bytes of the upload"
                    raise GenericError.of(self._backend.name, detail, key=self._key, retryable=True)
                yield Sleep(pause)
            self._sent = reached
            if self._sent == end and total is None:
                return
            if self._sent == end:
                pieces, start, size = _Pieces([]), end, 0

    def _state(self) -> Op[Response]:
        """What the service has of the upload."""
        request: Request = self._backend.dialect.build_chunk(self._key, self._session, 0, None, (), 0)
        response: Response = yield from self._backend.request(request, accept=_is_unfinished)
        return response


class _Pieces:
    """Buffers seen as one."""

    def __init__(self, buffers: Sequence[Buffer]) -> None:
        views = [memoryview(buffer) for buffer in buffers]
        self._views = [view.cast("B") for view in views if view.nbytes]
        self.size = sum(len(view) for view in self._views)

    def between(self, start: int, end: int) -> list[Buffer]:
        """Views of the bytes from ``start`` to ``end``."""
        found: list[Buffer] = []
        for view in self._views:
            piece = view[max(0, start) : max(0, end)]
            if len(piece):
                found.append(piece)
            start -= len(view)
            end -= len(view)
        return found


def _is_unfinished(response: Response) -> bool:
    return response.status == 308


def _is_cancelled(response: Response) -> bool:
    return response.status == 499


def _persisted(response: Response) -> int:
    """How many bytes the service has: ``Range: bytes=0-41`` means 42, no such header none."""
    text = response.header("range")
    last = "" if text is None else text.removeprefix("bytes=0-")
    return int(last) + 1 if last.isascii() and last.isdigit() else 0
