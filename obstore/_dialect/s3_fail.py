"""What S3 says when it refuses, and what to do about it; `Failures` makes exceptions of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from obstore import exceptions
from obstore._dialect import errors, xml
from obstore._dialect.base import Verdict
from obstore._dialect.failures import CLASS_OF_STATUS, Failures, date_of
from obstore._dialect.request import ObjectRequest
from obstore._dialect.s3_read import CHECKSUM_MODE
from obstore._dialect.s3_request import S3Request, Site, own
from obstore._effects import Request, Response
from obstore._types import Buffer

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["S3Failures"]

# The clock may be off by 15 minutes before S3 refuses.
_MAX_SKEW_SECONDS = 15 * 60

_CODE_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?Code>\s*([A-Za-z]+)\s*</")


class S3Failures(Failures):
    """The half of `S3Dialect` that reads failures."""

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
        unknown = code == "NotImplemented" or (status == 501 and code is None)
        if unknown and CHECKSUM_MODE in request.headers:
            return "adapt"
        if status in (429, 503, 509):
            return "throttled"
        if status == 408 or (status >= 500 and status not in (501, 505)):
            return "retry"
        if status == 409 and request.operation == "put" and request.condition == "update":
            return "retry"
        if request.method == "HEAD" and request.signed and status in (400, 403):
            # Without a body, guess: S3 answers 403 to a skewed clock and 400 to an expired token.
            if (date := date_of(response)) is not None and abs(date - request.signed_at) > _MAX_SKEW_SECONDS:
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

    def _read_error(self, response: Response, body: bytes) -> errors.ServiceError:
        return errors.read_error(response, body)

    def _hint(self, request: ObjectRequest, found: errors.ServiceError, verdict: Verdict) -> str | None:
        return errors.hint_for(
            found,
            method=request.method,
            skewed=verdict == "clock",
            signed=request.signed,
            region=own(request).region or self._site.region,
            custom_endpoint=self._custom_endpoint,
        )

    def _class_of(
        self,
        request: ObjectRequest,
        found: errors.ServiceError,  # noqa: ARG002 - the status says it
        status: int,
        verdict: Verdict,
    ) -> type[exceptions.BaseError]:
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
        return CLASS_OF_STATUS.get(status, exceptions.GenericError)
