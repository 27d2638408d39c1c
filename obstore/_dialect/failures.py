"""What becomes of answers that are no success: the exception for each, alike for all services."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from obstore import exceptions
from obstore._dialect import errors
from obstore._dialect.base import Verdict, parse_http_date
from obstore._dialect.request import ObjectRequest, own_object
from obstore._effects import AttemptFailed, Request, Response
from obstore._types import Buffer

__all__ = ["CLASS_OF_STATUS", "Failures", "date_of"]

_SAME_TIME_SECONDS = 60.0  # clocks that differ by less are taken to be right

CLASS_OF_STATUS: dict[int, type[exceptions.BaseError]] = {
    304: exceptions.NotModifiedError,
    401: exceptions.UnauthenticatedError,
    403: exceptions.PermissionDeniedError,
    404: exceptions.NotFoundError,
    409: exceptions.AlreadyExistsError,
    412: exceptions.PreconditionError,
    501: exceptions.NotSupportedError,
}


class Failures:
    """Turns failures into exceptions; dialects inherit it and say what their service means.

    Attributes:
        name: the store as messages name it.
        clock_offset: seconds to add to the local clock when signing.
        max_redirects: how often a request may be sent to another place.
    """

    name: str
    clock_offset: float
    max_redirects = 1

    # ---- what the service's dialect says

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict:
        """What to do about an answer that is not a success, or about a 200 that is none."""
        raise NotImplementedError

    def _read_error(self, response: Response, body: bytes) -> errors.ServiceError:
        raise NotImplementedError

    def _hint(self, request: ObjectRequest, found: errors.ServiceError, verdict: Verdict) -> str | None:
        """What a person can do about a refusal."""
        raise NotImplementedError

    def _class_of(
        self, request: ObjectRequest, found: errors.ServiceError, status: int, verdict: Verdict
    ) -> type[exceptions.BaseError]:
        """The exception's class; ``status`` is the code's own where the answer was a 200."""
        raise NotImplementedError

    def adapt(self, request: Request) -> bool:  # noqa: ARG002 - for services whose kind knows all that is sent
        """Take out of ``request``, and of all to come, what the service does not know."""
        return False

    def lacks_batches(self, error: exceptions.BaseError) -> bool:  # noqa: ARG002 - for services of which all have them
        """Whether the refusal of a batch of deletions means that the service has none."""
        return False

    def describe(self) -> dict[str, Any]:
        """Where requests go and what was learnt of the service, for people; without secrets."""
        return {"learnt": {"clock_offset": round(self.clock_offset, 1)} if self.clock_offset else {}}

    # ---- what is the same for all

    def note_clock(self, request: Request, response: Response, now: float) -> bool:
        """Correct ``clock_offset`` by the server's Date.

        Args:
            request: that was refused.
            response: the answer that complained.
            now: seconds since the epoch by the local clock, when it was signed.

        Returns:
            Whether it would be signed for another time now; another request may have brought that about. If not, signing again
            is in vain.
        """
        date = date_of(response)
        if date is None or abs(date - own_object(request).signed_at) < _SAME_TIME_SECONDS:
            return False
        if abs(date - now - self.clock_offset) >= _SAME_TIME_SECONDS:
            self.clock_offset = date - now
        return True

    def error(
        self,
        request: Request,
        response: Response,
        body: Buffer,
        *,
        url: str,
        elapsed: float,
        attempts: Sequence[exceptions.Attempt] = (),
        max_retries: int = 0,
        retry_timeout: float = 0.0,
    ) -> exceptions.BaseError:
        """The exception for an answer that is not a success.

        Args:
            request: what was asked.
            response: the last answer.
            body: its body, or the first part of it.
            url: as sent; secrets are redacted here.
            elapsed: seconds since the first try.
            attempts: all tries, the last included.
            max_retries: how many retries the store allows.
            retry_timeout: seconds that the store allows for retrying.
        """
        request = own_object(request)
        found = self._read_error(response, bytes(body))
        ok = 200 <= response.status < 300
        if ok:
            cause = f"Server returned error response: {found}"
        elif response.status in (301, 302, 303, 307, 308) and response.header("location") is None:
            cause = "Received redirect without LOCATION, this normally indicates an incorrectly configured region"
        else:
            cause = f"Server returned non-2xx status code: {errors.reason(response.status)}"
            if text := str(found):
                cause = f"{cause}: {text}"
        detail = exceptions.http_detail(
            request.method,
            url,
            elapsed,
            cause,
            retries=max(0, len(attempts) - 1),
            max_retries=max_retries,
            retry_timeout=retry_timeout,
        )
        verdict = self.failed(request, response, body)
        status = errors.STATUS_OF_CODE.get(found.code or "", 500) if ok else response.status
        kind = self._class_of(request, found, status, verdict)
        key = request.key
        if kind is exceptions.NotFoundError and request.source is not None:
            key = request.source
        subject = key or ""
        if issubclass(kind, exceptions.GenericError):
            subject = self.name
            if request.operation == "list":
                detail = f"Error performing list request: {detail}"
        return kind.of(
            subject,
            detail,
            status=response.status,
            code=found.code,
            request_id=found.request_id,
            host_id=found.host_id,
            url=url,
            key=key,
            attempts=attempts,
            retryable=verdict in ("retry", "throttled"),
            hint=self._hint(request, found, verdict),
        )

    def error_for_failure(
        self,
        request: Request,
        failure: AttemptFailed,
        *,
        url: str,
        elapsed: float,
        attempts: Sequence[exceptions.Attempt] = (),
        max_retries: int = 0,
        retry_timeout: float = 0.0,
    ) -> exceptions.BaseError:
        """The exception for a request that ended without a usable answer; arguments as of `error`."""
        kind = failure.kind
        if kind in ("timeout", "stall"):
            class_: type[exceptions.BaseError] = exceptions.RequestTimeoutError
        elif kind in ("connect", "dns", "interrupted"):
            class_ = exceptions.ConnectionFailedError
        else:
            class_ = exceptions.GenericError
        stage = "request or response body error" if failure.received else "error sending request"
        detail = exceptions.http_detail(
            request.method,
            url,
            elapsed,
            f"HTTP error: {stage}: {failure.message or kind}",
            retries=max(0, len(attempts) - 1),
            max_retries=max_retries,
            retry_timeout=retry_timeout,
        )
        if request.operation == "list":
            detail = f"Error performing list request: {detail}"
        return class_.of(
            self.name,
            detail,
            url=url,
            key=request.key,
            attempts=attempts,
            retryable=kind in ("connect", "dns", "timeout", "stall", "interrupted", "parked"),
            hint=errors.hint_for_failure(kind, failure.message, url),
        )


def date_of(response: Response) -> float | None:
    """The answer's Date in seconds since the epoch."""
    text = response.header("date")
    if text is None:
        return None
    try:
        return parse_http_date(text).timestamp()
    except ValueError:
        return None
