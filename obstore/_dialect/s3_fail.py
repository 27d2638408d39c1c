"""What S3 says when it refuses, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from obstore import exceptions
from obstore._dialect import errors, xml
from obstore._dialect.base import Verdict, parse_http_date
from obstore._dialect.s3_request import S3Request, Site, own
from obstore._effects import AttemptFailed, Request, Response
from obstore._types import Buffer

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["S3Failures"]

# The clock may be off by 15 minutes before S3 refuses.
_MAX_SKEW_SECONDS = 15 * 60

_CLASS_OF_STATUS: dict[int, type[exceptions.BaseError]] = {
    304: exceptions.NotModifiedError,
    401: exceptions.UnauthenticatedError,
    403: exceptions.PermissionDeniedError,
    404: exceptions.NotFoundError,
    409: exceptions.AlreadyExistsError,
    412: exceptions.PreconditionError,
    501: exceptions.NotSupportedError,
}
_CODE_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?Code>\s*([A-Za-z]+)\s*</")


class S3Failures:
    """The half of `S3Dialect` that reads failures."""

    name: str
    clock_offset: float
    _custom_endpoint: bool
    _copy_exists_status = 412
    _settings: S3Settings
    _site: Site

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict:
        """What to do about an answer that is not a success, or about a 200 that `ok_body_is_error`."""
        request = own(request)
        error = errors.read_error(response, bytes(body))
        status, code = response.status, error.code
        if code is not None:
            if code in errors.EXPIRED_CODES:
                return "expired" if request.signed else "fatal"
            if code in errors.CLOCK_CODES:
                return "clock"
            if code in errors.THROTTLE_CODES:
                return "throttled"
            if code in errors.RETRY_CODES:
                return "retry"
            if code == "ConditionalRequestConflict" and request.operation == "put":
                return "retry"
        if self._region_elsewhere(request, error) is not None:
            return "redirect"
        if status in (429, 503, 509):
            return "throttled"
        if status == 408 or (status >= 500 and status not in (501, 505)):
            return "retry"
        if status == 409 and request.operation == "put" and request.condition == "update":
            return "retry"
        if request.method == "HEAD" and request.signed and status in (400, 403):
            # Without a body, guess: S3 answers 403 to a skewed clock and 400 to an expired token.
            if (date := _date_of(response)) is not None and abs(date - request.signed_at) > _MAX_SKEW_SECONDS:
                return "clock"
            if status == 400 and request.token:
                return "expired"
        return "fatal"

    def ok_body_is_error(self, request: Request, body: Buffer) -> bool:
        """Whether a 200 answer is a failure: S3 sends its status before copies, completions and deletes are done.

        A delete result that names keys which failed for a moment counts too: the whole batch is worth repeating.
        """
        operation = request.operation
        if operation == "bulk_delete":
            text = bytes(body)
            return xml.root_name(text) == "Error" or any(
                found[1].decode("ascii") in errors.TRANSIENT_CODES for found in _CODE_ELEMENT.finditer(text)
            )
        if operation in ("copy", "finish", "part"):
            return xml.root_name(bytes(body)) == "Error"
        return False

    def note_clock(self, response: Response, now: float) -> bool:
        """Correct ``clock_offset`` by the server's Date.

        Args:
            response: the answer that complained.
            now: seconds since the epoch by the local clock.

        Returns:
            Whether that changed anything: if not, signing again is in vain.
        """
        date = _date_of(response)
        if date is None or abs(date - now - self.clock_offset) < 60.0:
            return False
        self.clock_offset = date - now
        return True

    def _region_elsewhere(self, request: S3Request, error: errors.ServiceError) -> str | None:
        """The region that the bucket lives in, if it is another than ``request`` went to and the user named none.

        Only the name of a region is believed, never an address: signed requests go to no host of a server's choice.
        """
        region = error.region
        if region is None or region == request.region or self._settings.region_given:
            return None
        if self._custom_endpoint:
            return region if error.code == "AuthorizationHeaderMalformed" else None
        if error.code in errors.REDIRECT_CODES or error.status in (301, 307):
            return region
        return region if request.method == "HEAD" and error.status in (400, 403) else None

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
        request = own(request)
        found = errors.read_error(response, bytes(body))
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
        kind = self._class_of(request, status, verdict)
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
            hint=errors.hint_for(
                found,
                method=request.method,
                skewed=verdict == "clock",
                signed=request.signed,
                region=request.region or self._site.region,
                custom_endpoint=self._custom_endpoint,
            ),
        )

    def _class_of(self, request: S3Request, status: int, verdict: Verdict) -> type[exceptions.BaseError]:
        if verdict == "throttled":
            return exceptions.ThrottledError
        if request.operation in ("list", "bulk_delete"):
            return exceptions.GenericError
        if request.condition == "create":
            exists = (self._copy_exists_status,) if request.operation == "copy" else (304, 412)
            if status in exists:
                return exceptions.AlreadyExistsError
        elif request.condition == "update" and status == 404:
            return exceptions.PreconditionError
        return _CLASS_OF_STATUS.get(status, exceptions.GenericError)

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


def _date_of(response: Response) -> float | None:
    text = response.header("date")
    if text is None:
        return None
    try:
        return parse_http_date(text).timestamp()
    except ValueError:
        return None
