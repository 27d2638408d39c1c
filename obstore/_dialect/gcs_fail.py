"""What Google Cloud Storage says when it refuses, and what to do about it; `Failures` makes exceptions of it.

Which answers are worth repeating: https://cloud.google.com/storage/docs/retry-strategy (408, 429 and 5xx).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from obstore import exceptions
from obstore._dialect import errors, xml
from obstore._dialect.base import Verdict
from obstore._dialect.failures import CLASS_OF_STATUS, Failures
from obstore._dialect.gcs_request import own
from obstore._dialect.request import ObjectRequest
from obstore._effects import Request, Response
from obstore._types import Buffer

if TYPE_CHECKING:
    from obstore._config.gcs import GCSSettings

__all__ = ["GCSFailures"]

# Reasons of a 403 that only ask for patience.
_THROTTLES = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})


class GCSFailures(Failures):
    """The half of `GCSDialect` that reads failures."""

    request_id_header: str
    _settings: GCSSettings
    _google: bool

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict:
        """What to do about an answer that is not a success, or about a 200 that `ok_body_is_error`."""
        status = response.status
        if status in (429, 503):
            return "throttled"
        if status == 408 or (status >= 500 and status not in (501, 505)):
            return "retry"
        if status == 401 and own(request).signed:
            return "expired"
        if status in (200, 403):
            code = self._read_error(response, bytes(body)).code
            if code in _THROTTLES or code in errors.THROTTLE_CODES:
                return "throttled"
            if status == 200 and code in errors.RETRY_CODES:
                return "retry"
        return "fatal"

    def ok_body_is_error(self, request: Request, body: Buffer) -> bool:
        """Whether a 200 answer is a failure: the XML API sends its status before a completion is done."""
        return request.operation == "finish" and xml.root_name(bytes(body)) == "Error"

    def follow(self, request: Request, response: Response, body: Buffer) -> bool:
        """Buckets of Google do not move."""
        del request, response, body
        return False

    def _read_error(self, response: Response, body: bytes) -> errors.ServiceError:
        found = errors.read_error(response, body, request_id_header=self.request_id_header)
        if found.code is None or found.code.isdigit():
            found.code = _reason(body)  # what the JSON API calls a code is the status once more
        return found

    def _hint(self, request: ObjectRequest, found: errors.ServiceError, verdict: Verdict) -> str | None:
        status = found.status
        if verdict == "throttled":
            return "lower the number of parallel requests; one object can be written about once a second"
        if status in (401, 403) and not request.signed:
            return "the request was anonymous: give credentials, or check that the object is public"
        if status == 401:
            return "the access token is invalid or has expired; renew it, or use credentials that renew themselves"
        if status == 403:
            return (
                "this account may not do this: check its roles on the bucket; for public data try skip_signature=True"
            )
        if found.code == "UserProjectMissing" or "user project" in found.message.lower():
            return "the requester pays for this bucket: set user_project"
        if status == 404 and "bucket" in found.message.lower():
            return "check the bucket's name"
        if status in (405, 501):
            return "this server does not implement the request"
        if status in (301, 302, 303, 307, 308):
            return "the service answers at another address: check base_url"
        if found.message and not found.code and status == 400 and not self._google:
            return "this does not look like the answer of Google Cloud Storage: check base_url and proxies"
        return None

    def _class_of(
        self,
        request: ObjectRequest,
        found: errors.ServiceError,  # noqa: ARG002 - the status says it
        status: int,
        verdict: Verdict,
    ) -> type[exceptions.BaseError]:
        if verdict == "throttled":
            return exceptions.ThrottledError
        if request.operation == "list":
            return exceptions.GenericError
        if request.condition == "create" and status in (304, 412):
            return exceptions.AlreadyExistsError
        if request.condition == "update" and status in (304, 404, 412):
            return exceptions.PreconditionError
        return CLASS_OF_STATUS.get(status, exceptions.GenericError)


def _reason(body: bytes) -> str | None:
    """The reason that an error of the JSON API gives, such as ``conditionNotMet``."""
    if not body.lstrip().startswith(b"{"):
        return None
    try:
        document: Any = json.loads(body)
        reason = document["error"]["errors"][0]["reason"]
    except (ValueError, LookupError, TypeError):
        return None
    return reason if isinstance(reason, str) and reason.isascii() and reason.isalnum() and len(reason) < 80 else None
