"""What becomes of a body that broke: the rest of it is fetched, of the same version of the object, as often as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from obstore._effects import COLLECT, INTO, AttemptFailed, Op, Request
from obstore._ops.retry import Retry
from obstore._types import Scatter
from obstore.exceptions import IntegrityError

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend


class BodyBroke(Exception):  # noqa: N818 - a signal between a request and the code that resumes its body
    """A successful response broke midway; ``received`` bytes of its body are good."""

    def __init__(self, response: Any, received: int, failure: AttemptFailed) -> None:
        super().__init__(failure.message)
        self.response = response
        self.received = received
        self.failure = failure


def fetch_rest(
    backend: RemoteBackend,
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
        backend: the store.
        request: what the body was asked for with.
        start, end: the whole span; ``broke`` says how much of it arrived.
        e_tag: of the object; all pieces must be of the same.
        broke: the first break.
        retry: the operation's budget.
        into: memory for the whole span, or ``None`` to collect pieces.

    Returns:
        The pieces, the first included; empty where they went ``into`` memory.
    """
    dialect = backend.dialect
    position = start
    pieces: list[Any] = []
    try:
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
                return pieces
            yield from before_resume(backend, request, e_tag, broke.failure, retry)
            follow_up = dialect.build_resume(request, position, end, e_tag)
            again: BodyBroke | None = None
            try:
                response = yield from backend.request(
                    follow_up,
                    COLLECT if into is None else INTO,
                    into=_behind(into, position - start, end - start),
                    retry=retry,
                    resumable=True,
                )
            except BodyBroke as exc:
                again = exc.with_traceback(None)
                response = exc.response
            dialect.check_resume(response, position, end, e_tag)
            if again is not None:
                broke = again
                continue
            if response.received != end - position:
                raise short_body(backend.name, request.key or "", position - start + response.received, end - start)
            if into is None:
                pieces.append(response.body())
            return pieces
    except BaseException:
        pieces.clear()  # the error keeps this frame
        raise


def before_resume(
    backend: RemoteBackend, request: Request, e_tag: str | None, failure: AttemptFailed, retry: Retry
) -> Op[None]:
    """Wait before a resumption, or raise where there can be none."""
    url = backend.dialect.endpoint + request.path
    if e_tag is None:
        retry.note_failure(failure, 0.0)
        failure.response = None
        raise backend.dialect.error_for_failure(
            request, failure, url=url, elapsed=retry.elapsed, attempts=retry.attempts
        ) from None
    yield from backend.after_failure(request, failure, retry, url)


def short_body(store: str, key: str, got: int, wanted: int) -> IntegrityError:
    """The error of a body that ended early without a failure."""
    return IntegrityError.of(store, f"{got} bytes of {wanted} arrived of {key}", key=key, retryable=True)


def _behind(into: memoryview | Scatter | None, done: int, size: int) -> memoryview | Scatter | None:
    """What is left of the memory for a span once ``done`` of its ``size`` bytes are there."""
    if into is None:
        return None
    return into.behind(done) if isinstance(into, Scatter) else into[done:size]
