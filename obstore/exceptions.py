"""Every exception that the library raises on purpose.

::

    BaseError(Exception)
     +-- GenericError                                whatever has no class of its own
     |    +-- RequestTimeoutError(TimeoutError)      nothing arrived for too long, after all retries
     |    +-- ConnectionFailedError(ConnectionError) no connection, no address, or cut off midway, after all retries
     |    +-- ThrottledError                         the service asked to slow down, after all retries
     |    +-- IntegrityError                         the bytes that arrived are not the bytes that were stored
     +-- NotFoundError(FileNotFoundError)
     +-- AlreadyExistsError(FileExistsError)
     +-- PermissionDeniedError(PermissionError)      the service knows the caller and refuses
     +-- UnauthenticatedError                        the service does not know the caller
     +-- PreconditionError                           if_match, a put's mode, ... did not hold
     +-- NotModifiedError                            if_none_match, if_modified_since did not hold
     +-- NotSupportedError(NotImplementedError)
     +-- InvalidPathError(ValueError)
     +-- UnknownConfigurationKeyError(ValueError)
     +-- JoinError                                   a piece of work done beside the caller was lost

Wrong arguments raise the builtin ``TypeError``, ``ValueError`` or ``OverflowError``.

``str(exc)`` is one line of bounded length and never holds a secret. What a program needs to decide with is in the
attributes, see `BaseError`. All exceptions survive ``copy`` and ``pickle`` with their attributes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar, NamedTuple, Self, TypedDict, Unpack
from urllib.parse import unquote_plus

__all__ = [
    "AlreadyExistsError",
    "Attempt",
    "BaseError",
    "ConnectionFailedError",
    "GenericError",
    "IntegrityError",
    "InvalidPathError",
    "JoinError",
    "NotFoundError",
    "NotModifiedError",
    "NotSupportedError",
    "PermissionDeniedError",
    "PreconditionError",
    "RequestTimeoutError",
    "ThrottledError",
    "UnauthenticatedError",
    "UnknownConfigurationKeyError",
]

MAX_MESSAGE = 600
MAX_HINT = 300


class Attempt(NamedTuple):
    """One try of a request.

    Attributes:
        number: 1 for the first try.
        status: HTTP status, or ``None`` where no response came.
        code: the service's error code, such as ``SlowDown``.
        request_id: the service's name for this try.
        error: what went wrong below HTTP: ``connect``, ``dns``, ``timeout``, ``stall``, ``interrupted``, ``tls``, ...
        wait_seconds: pause before the next try; 0 after the last one.
        elapsed_seconds: duration of this try.
        bytes_received: body bytes that arrived.
    """

    number: int
    status: int | None = None
    code: str | None = None
    request_id: str | None = None
    error: str | None = None
    wait_seconds: float = 0.0
    elapsed_seconds: float = 0.0
    bytes_received: int = 0


class About(TypedDict, total=False):
    """Keyword arguments that every exception takes; see `BaseError`."""

    status: int | None
    code: str | None
    request_id: str | None
    host_id: str | None
    url: str | None
    key: str | None
    attempts: Iterable[Attempt]
    retryable: bool
    hint: str | None


class BaseError(Exception):
    """Base of all exceptions of this package.

    Attributes:
        status: HTTP status of the last response, or ``None``.
        code: the service's error code, such as ``NoSuchKey``.
        request_id: the service's name for the request; quote it to the provider's support.
        host_id: the service's second name for it (``x-amz-id-2``).
        url: of the request, without user information and with secret parameters redacted.
        key: full key of the object that the request was about, store prefix included.
        attempts: every try, oldest first; empty where nothing was sent.
        retryable: whether the same call may succeed later without any change.
        hint: what to do about it, where the library can tell. Also the end of ``str(exc)``.
    """

    status: int | None
    code: str | None
    request_id: str | None
    host_id: str | None
    url: str | None
    key: str | None
    attempts: list[Attempt]
    retryable: bool
    hint: str | None

    # The published wording; {subject} is the object's key unless the class says otherwise.
    _template: ClassVar[str] = "{detail}"

    def __init__(
        self,
        message: str = "",
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        host_id: str | None = None,
        url: str | None = None,
        key: str | None = None,
        attempts: Iterable[Attempt] = (),
        retryable: bool = False,
        hint: str | None = None,
    ) -> None:
        # A single argument: with two or more, OSError takes them for errno and strerror.
        super().__init__(_compose(message, hint))
        self.status = status
        self.code = code
        self.request_id = request_id
        self.host_id = host_id
        self.url = None if url is None else redact_url(url)
        self.key = key
        self.attempts = list(attempts)
        self.retryable = retryable
        self.hint = hint

    @classmethod
    def of(cls, subject: str, detail: str, **about: Unpack[About]) -> Self:
        """Build the exception with the published wording of its class.

        Args:
            subject: the object's key; for `GenericError` and its kinds the store's name (``S3``, ``Config`` ...);
                for `UnknownConfigurationKeyError` the configuration key; unused by classes that name no subject.
            detail: what happened; for `UnknownConfigurationKeyError` the store's name.
            **about: attributes of `BaseError`.
        """
        return cls(cls._template.format(subject=subject, detail=detail), **about)


class GenericError(BaseError):
    """A failure that has no class of its own."""

    _template = "Generic {subject} error: {detail}"


class RequestTimeoutError(GenericError, TimeoutError):
    """The service did not answer, or a transfer stalled, for longer than the store's timeouts allow."""


class ConnectionFailedError(GenericError, ConnectionError):
    """No connection could be made, the name has no address, or the connection broke midway."""


class ThrottledError(GenericError):
    """The service asked to slow down (429, 503 ``SlowDown`` ...) until the retries were used up."""


class IntegrityError(GenericError):
    """Length or checksum of what arrived differs from what the service says it stored."""


class NotFoundError(BaseError, FileNotFoundError):
    """There is no such object."""

    _template = "Object at location {subject} not found: {detail}"


class AlreadyExistsError(BaseError, FileExistsError):
    """The object exists and was not to be overwritten."""

    _template = "Object at location {subject} already exists: {detail}"


class PreconditionError(BaseError):
    """A condition of the request did not hold."""

    _template = "Request precondition failure for path {subject}: {detail}"


class NotModifiedError(BaseError):
    """The object is still the one that the caller has."""

    _template = "Object at location {subject} not modified: {detail}"


class PermissionDeniedError(BaseError, PermissionError):
    """The caller is known to the service and not allowed to do this."""

    _template = "The operation lacked the necessary privileges to complete for path {subject}: {detail}"


class UnauthenticatedError(BaseError):
    """The service does not accept the credentials, or there are none."""

    _template = "The operation lacked valid authentication credentials for path {subject}: {detail}"


class NotSupportedError(BaseError, NotImplementedError):
    """The store cannot do this."""

    _template = "Operation not supported: {detail}"


class InvalidPathError(BaseError, ValueError):
    """A key that cannot be used as a path."""

    _template = "Encountered object with invalid path: {detail}"


class UnknownConfigurationKeyError(BaseError, ValueError):
    """A store was given a configuration key that it does not know."""

    _template = "Configuration key: '{subject}' is not valid for store '{detail}'."


class JoinError(BaseError):
    """A piece of work done beside the caller ended without a result."""

    _template = "Error joining spawned task: {detail}"


def not_implemented(operation: str, store: str) -> NotSupportedError:
    """`NotSupportedError` for an operation that a kind of store lacks altogether."""
    return NotSupportedError(f"Operation {operation} not yet implemented by {store}.")


def http_detail(
    method: str,
    url: str | None,
    elapsed: float,
    cause: str,
    *,
    retries: int = 0,
    max_retries: int = 0,
    retry_timeout: float = 0.0,
) -> str:
    """Describe a failed HTTP request, for use as an exception's detail.

    Args:
        method: HTTP method.
        url: of the request; ``None`` where it must not be shown at all. Secret parameters are redacted here.
        elapsed: seconds since the first try.
        cause: what happened to the last try.
        retries: tries after the first one.
        max_retries: how many the store allows; shown only if there were retries.
        retry_timeout: seconds that the store allows for retrying; shown only if there were retries.
    """
    where = "REDACTED" if url is None else redact_url(url)
    after = ""
    if retries:
        window = _seconds(retry_timeout)
        after = f", after {retries} retries, max_retries: {max_retries}, retry_timeout: {window}"
    return f"Error performing {method} {where} in {_seconds(elapsed)}{after} - {cause}"


# ---- secrets in URLs ------------------------------------------------------------------------------------

_SCHEME = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?[/\\]*")
_AUTHORITY = re.compile(r"[^/\\?#]*")
_HOST_PORT = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?")
_PARAMETER = re.compile(r"([?&;#])([^=&;#]*)=([^&;#]*)")
_CONTAINER_SCHEMES = ("az:", "adl:", "azure:", "abfs:", "abfss:")

_SECRET_NAMES = frozenset(
    {
        "accesskey",
        "access_key",
        "account_key",
        "api_key",
        "apikey",
        "assertion",
        "auth",
        "authorization",
        "awsaccesskeyid",
        "code",
        "googleaccessid",
        "key",
        "passwd",
        "pwd",
        "samlassertion",
        "sig",
        "upload_id",
    }
)
_SECRET_WORDS = ("credential", "password", "secret", "signature", "token")
_HARMLESS_NAMES = frozenset({"continuation-token", "next-continuation-token", "nextpagetoken", "pagetoken"})


def redact_url(url: str) -> str:
    """Return ``url`` without user information and with ``REDACTED`` for the values of secret parameters.

    Takes any text: a URL that does not parse often holds a password with an unescaped slash. The ``container@`` of
    Azure URLs stays, it is a name.
    """
    scheme = _SCHEME.match(url)
    start = scheme.end() if scheme else 0
    authority_match = _AUTHORITY.match(url, start)
    end = authority_match.end() if authority_match else start
    authority = url[start:end]
    if "@" in authority:
        at = authority.rindex("@")
        names_container = url.lstrip().lower().startswith(_CONTAINER_SCHEMES) and ":" not in authority[:at]
        if not names_container:
            url = url[:start] + authority[at + 1 :] + url[end:]
    elif not _HOST_PORT.fullmatch(authority) and "@" in url[end:]:
        url = url[:start] + url[url.rindex("@") + 1 :]
    return _PARAMETER.sub(_redact_parameter, url)


def _redact_parameter(match: re.Match[str]) -> str:
    name = unquote_plus(match[2]).lower()
    secret = name in _SECRET_NAMES or (name not in _HARMLESS_NAMES and any(word in name for word in _SECRET_WORDS))
    return f"{match[1]}{match[2]}=REDACTED" if secret else match[0]


# ---- one line of bounded length -------------------------------------------------------------------------

_CONTROL = re.compile(r" ?[\x00-\x1f\x7f-\x9f\u2028\u2029][\x00-\x20\x7f-\x9f\u2028\u2029]*")


def _compose(message: str, hint: str | None) -> str:
    """One line from both; applied to its own result it changes nothing, which unpickling relies on."""
    ending = ""
    if hint:
        ending = "; " + _shorten(_one_line(hint), MAX_HINT)
    return _shorten(_one_line(message), MAX_MESSAGE - len(ending)) + ending


def _one_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip(" ")


def _shorten(text: str, limit: int) -> str:
    """Cut out the middle: what happened stands at the start, why at the end."""
    if len(text) <= limit:
        return text
    head = (limit - 5) * 2 // 3
    return f"{text[:head]} ... {text[len(text) - (limit - 5 - head) :]}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.6g}s" if seconds >= 1 else f"{seconds * 1e3:.6g}ms"
