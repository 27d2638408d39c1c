"""What web and WebDAV servers say when they refuse, and what to do about it."""

from __future__ import annotations

from typing import Any

from obstore import exceptions
from obstore._dialect import errors, xml
from obstore._dialect.base import Verdict
from obstore._dialect.failures import CLASS_OF_STATUS, Failures
from obstore._dialect.http_request import own_http
from obstore._dialect.request import ObjectRequest
from obstore._effects import AttemptFailed, Request, Response
from obstore._types import Buffer

__all__ = ["REDIRECTS", "HttpFailures"]

REDIRECTS = (301, 302, 303, 307, 308)
# Repeating does not make a server learn something (501, 505, 510), nor does it make room (507).
_LASTING = frozenset({501, 505, 507, 508, 510, 511})
_READS = frozenset({"GET", "HEAD", "PROPFIND"})
_HINTS = {
    401: "give the credentials in the URL (https://user:password@host/), or as a header in client_options",
    409: "a collection above the object is missing and cannot be made, or a file has its name",
    423: "another client holds a WebDAV lock on it",
    507: "the server's disk is full, or a quota is used up",
}


class HttpFailures(Failures):
    """The half of `HttpDialect` that reads failures."""

    max_redirects = 10

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict:  # noqa: ARG002 - says nothing
        """What to do about an answer that is no success, or about a 207 that is none."""
        status = response.status
        if status in REDIRECTS:
            return "redirect" if self._may_follow(request, response) else "fatal"
        if status == 429:
            return "throttled"
        if status == 408 or (status >= 500 and status not in _LASTING):
            return "retry"
        return "fatal"

    def _may_follow(self, request: Request, response: Response) -> bool:
        """Only 307 and 308 promise that the same request, whatever it does, is meant for the other place."""
        if response.header("location") is None:
            return False
        return request.method in _READS or response.status in (307, 308)

    def ok_body_is_error(self, request: Request, body: Buffer) -> bool:
        """Whether a 207 tells of parts that failed: servers answer changes so where not all of them were made."""
        return (
            request.operation in ("copy", "rename", "delete", "collection")
            and xml.root_name(bytes(body)) == "multistatus"
        )

    def error(self, request: Request, response: Response, body: Buffer, *, url: str, **about: Any) -> Any:
        """As `Failures.error`; of the URL's query, which is often a credential as a whole, nothing is shown."""
        return super().error(request, response, body, url=_bare(url), **about)

    def error_for_failure(self, request: Request, failure: AttemptFailed, *, url: str, **about: Any) -> Any:
        """As `Failures.error_for_failure`; of the URL's query nothing is shown."""
        return super().error_for_failure(request, failure, url=_bare(url), **about)

    def _read_error(self, response: Response, body: bytes) -> errors.ServiceError:
        found = errors.read_error(response, body, request_id_header="x-request-id")
        if response.status == 207:
            found.message = _parts_failed(body)
        return found

    def _class_of(
        self,
        request: ObjectRequest,
        found: errors.ServiceError,  # noqa: ARG002 - servers have no codes
        status: int,
        verdict: Verdict,
    ) -> type[exceptions.BaseError]:
        if verdict == "throttled":
            return exceptions.ThrottledError
        if status in (405, 501):
            return exceptions.NotFoundError if request.method in ("GET", "HEAD") else exceptions.NotSupportedError
        if status == 403 and own_http(request).slashed:
            return exceptions.NotFoundError  # what must not be seen is the index of a collection
        if request.operation == "list" or status == 409:
            return exceptions.GenericError
        if status == 412 and request.condition == "create":
            return exceptions.AlreadyExistsError
        return CLASS_OF_STATUS.get(status, exceptions.GenericError)

    def _hint(self, request: ObjectRequest, found: errors.ServiceError, verdict: Verdict) -> str | None:
        status = found.status
        if status in REDIRECTS:
            if own_http(request).redirects >= self.max_redirects:
                return "the server redirects in a circle"
            return f"the server moved it; {request.method} is not sent to another address on status {status}"
        if status in (405, 501):
            if request.operation == "list":
                return "listing needs a WebDAV server (PROPFIND)"
            return f"the server takes no {request.method} here: it is no WebDAV server, or the key names a collection"
        if status == 400 and request.operation in ("copy", "delete", "rename"):
            return "perhaps the key names a collection: only single objects are deleted, copied and renamed"
        if verdict == "throttled":
            return "lower the number of parallel requests"
        return _HINTS.get(status)


def _bare(url: str) -> str:
    path, mark, _ = url.partition("?")
    return f"{path}?REDACTED" if mark else path


def _parts_failed(body: bytes) -> str:
    """The statuses in a multistatus that are none of success."""
    try:
        document = xml.parse(body)
    except xml.XmlError:
        return "the request was carried out in part"
    statuses = {
        element.text.strip().partition(" ")[2]
        for element in document.descendants()
        if element.name == "status" and element.text.strip().partition(" ")[2][:1] != "2"
    }
    return "carried out in part: " + ", ".join(sorted(statuses))[:100]
