"""What Azure's Blob service says when it refuses; `Failures` makes exceptions of it."""

from __future__ import annotations

from obstore import exceptions
from obstore._dialect import azure_errors, errors
from obstore._dialect.azure_request import own
from obstore._dialect.base import Verdict
from obstore._dialect.failures import CLASS_OF_STATUS, Failures, date_of
from obstore._dialect.request import ObjectRequest
from obstore._effects import Request, Response
from obstore._types import Buffer

__all__ = ["AzureFailures"]

# The clock may be off by 15 minutes before Azure refuses.
_MAX_SKEW_SECONDS = 15 * 60


class AzureFailures(Failures):
    """The half of `AzureDialect` that reads failures."""

    _custom_endpoint: bool

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict:
        """What to do about an answer that is not a success."""
        request = own(request)
        error = azure_errors.read_error(response, bytes(body))
        status, code = response.status, error.code
        if code in azure_errors.THROTTLE_CODES or status in (429, 503):
            return "throttled"
        if status in (401, 403) and request.signed:
            date = date_of(response)
            if date is not None and abs(date - request.signed_at) > _MAX_SKEW_SECONDS:
                return "clock"
            # A SAS that has run out is told from a wrong one by the text only: one more with a fresh one, if there is any.
            if status == 401 or code in azure_errors.EXPIRED_CODES or code == "AuthenticationFailed":
                return "expired"
        return "retry" if azure_errors.is_transient(error) else "fatal"

    def ok_body_is_error(self, request: Request, body: Buffer) -> bool:
        """Never: Azure sends its status when it is done."""
        del request, body
        return False

    def follow(self, request: Request, response: Response, body: Buffer) -> bool:
        """Never: an account is at one address."""
        del request, response, body
        return False

    def _read_error(self, response: Response, body: bytes) -> errors.ServiceError:
        return azure_errors.read_error(response, body)

    def _hint(self, request: ObjectRequest, found: errors.ServiceError, verdict: Verdict) -> str | None:
        if verdict == "clock":
            return "set this machine's clock"
        # Azure hides what exists: anonymous requests to private containers find nothing.
        if request.signed is False and found.status in (401, 403, 404, 409) and found.code != "BlobNotFound":
            return "the request was anonymous: give credentials, or check that the container is public"
        if request.operation == "token" and found.status == 403:
            return "to sign URLs the identity needs the role Storage Blob Delegator, or one that contains it"
        if hint := azure_errors.hint_of_code(found.code):
            return hint
        return errors.hint_for(
            found,
            method=request.method,
            skewed=False,
            signed=request.signed,
            region="",
            custom_endpoint=self._custom_endpoint,
        )

    def _class_of(
        self, request: ObjectRequest, found: errors.ServiceError, status: int, verdict: Verdict
    ) -> type[exceptions.BaseError]:
        if verdict == "throttled":
            return exceptions.ThrottledError
        if request.operation in ("list", "bulk_delete") or found.code in azure_errors.CONFLICTS:
            return exceptions.GenericError
        if request.condition == "create" and status in (409, 412):
            if request.operation == "copy" and status == 412:
                return exceptions.PreconditionError
            return exceptions.AlreadyExistsError
        if request.condition == "update" and status == 404:
            return exceptions.PreconditionError
        return CLASS_OF_STATUS.get(status, exceptions.GenericError)
