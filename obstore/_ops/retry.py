"""When a failed attempt is made again: budget, backoff, and what is remembered of each try."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from obstore._dialect.base import parse_http_date
from obstore.exceptions import Attempt

if TYPE_CHECKING:
    from obstore._config.retry import RetryPolicy
    from obstore._effects import AttemptFailed, Request, Response

# Failures of an attempt before the server can have acted on the request: repeated whatever the request is.
_UNSENT = frozenset({"connect", "dns", "parked"})
# Failures after which it may have acted: repeated only if that does no harm.
_UNSURE = frozenset({"timeout", "stall", "interrupted"})
_KEPT_ATTEMPTS = 100


class Retry:
    """The retries of one operation; shared by its first request and all resumptions of its body.

    The window of ``retry_timeout`` counts time without progress: bytes received open it anew and forgive earlier failures,
    so a large body may break as often as it moves forward.
    """

    __slots__ = ("attempts", "policy", "progress_at", "retries", "started", "tries")

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self.started = self.progress_at = time.monotonic()
        self.retries = 0
        self.tries = 0
        self.attempts: list[Attempt] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the operation began."""
        return time.monotonic() - self.started

    def progressed(self) -> None:
        """Bytes arrived: the window opens anew."""
        self.progress_at = time.monotonic()
        self.retries = 0

    def delay(self, *, minimum: float = 0.0) -> float | None:
        """Seconds to wait before the next try, or ``None`` when the budget is used up.

        Args:
            minimum: what the server asked for (Retry-After); obeyed as long as it fits the window.
        """
        policy = self.policy
        waited = time.monotonic() - self.progress_at
        if self.retries >= policy.max_retries or waited > policy.retry_timeout_s:
            return None
        if minimum > policy.retry_timeout_s - waited:
            return None
        ceiling = min(policy.max_backoff_s, policy.init_backoff_s * policy.base ** min(self.retries, 64))
        self.retries += 1
        # Full jitter; on top of what the server asked for, or all that it asked would come back together.
        return minimum + random.uniform(0.0, ceiling)  # noqa: S311 - not cryptography

    def note_response(self, response: Response, wait: float) -> None:
        """Remember a try that was answered, but not as wished."""
        self._note(status=response.status, wait=wait, timing=_timing(response))

    def note_lost(self) -> None:
        """Remember a try whose answer was lost, and which libcurl repeated by itself."""
        self._note(error="interrupted", wait=0.0, timing=None)

    def name_last(self, code: str | None, request_id: str | None) -> None:
        """Add what the service called the last try."""
        self.attempts[-1] = self.attempts[-1]._replace(code=code, request_id=request_id)

    def note_failure(self, failure: AttemptFailed, wait: float) -> None:
        """Remember a try that had no answer."""
        self._note(error=failure.kind, wait=wait, received=failure.received, timing=failure.timing)

    def _note(
        self,
        *,
        status: int | None = None,
        error: str | None = None,
        wait: float,
        received: int = 0,
        timing: Any,
    ) -> None:
        self.tries += 1
        if len(self.attempts) >= _KEPT_ATTEMPTS:
            del self.attempts[1]  # the first and the latest tell the story
        self.attempts.append(
            Attempt(
                number=self.tries,
                status=status,
                error=error,
                wait_seconds=wait,
                elapsed_seconds=0.0 if timing is None else timing.total,
                bytes_received=received,
            )
        )


def may_repeat(request: Request, failure: AttemptFailed) -> bool:
    """Whether a request that got no answer may be sent again."""
    if failure.kind in _UNSENT or not failure.sent:
        return failure.kind in _UNSENT or failure.kind in _UNSURE
    return failure.kind in _UNSURE and request.idempotent


def is_unclear(attempt: Attempt) -> bool:
    """Whether a try that failed may have been carried out. A success that told of a failure in its body is one of them."""
    return attempt.error is not None or attempt.status is None or not 300 <= attempt.status < 500


def retry_after(response: Response) -> float:
    """Seconds that the server asks to wait (RFC 9110, section 10.2.3); 0 where it does not."""
    text = response.header("retry-after")
    if text is None:
        return 0.0
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        return max(0.0, (parse_http_date(text) - datetime.now(UTC)).total_seconds())
    except ValueError:
        return 0.0


def _timing(response: Any) -> Any:
    timing = getattr(response, "timing", None)
    return timing() if callable(timing) else None
