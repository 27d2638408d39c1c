"""What services say when they refuse: reading it, and what a person can do about it.

An error body is read for a handful of named fields. Everything else in it is ignored on purpose: S3 echoes access key
ids, string-to-sign and session tokens there.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from obstore._dialect import xml
from obstore._effects import Response

__all__ = [
    "CLOCK_CODES",
    "EXPIRED_CODES",
    "REDIRECT_CODES",
    "RETRY_CODES",
    "STATUS_OF_CODE",
    "THROTTLE_CODES",
    "TRANSIENT_CODES",
    "ServiceError",
    "hint_for",
    "hint_for_failure",
    "read_code",
    "read_error",
    "reason",
]

# ---- codes --------------------------------------------------------------------------------------------------------

# The service is too busy; whatever the status.
THROTTLE_CODES = frozenset(
    {
        "BandwidthLimitExceeded",
        "Busy",
        "EC2ThrottledException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "ServerBusy",
        "SlowDown",
        "SlowDownRead",
        "SlowDownWrite",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "TooManyRequestsException",
    }
)
# It may go well next time, although the status does not say so.
RETRY_CODES = frozenset({"IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable"})
EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
TRANSIENT_CODES = THROTTLE_CODES | RETRY_CODES
CLOCK_CODES = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
REDIRECT_CODES = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect", "Redirect"})

# The status that a code has when it is not sent inside a 200 answer.
STATUS_OF_CODE = {
    "AccessDenied": 403,
    "ConditionalRequestConflict": 409,
    "ExpiredToken": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NoSuchVersion": 404,
    "OperationAborted": 409,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
}


# ---- reading ------------------------------------------------------------------------------------------------------


class ServiceError:
    """What is known of a refusal.

    Attributes:
        status: HTTP status.
        code: the service's code, or ``None``.
        message: what it says, in one line without secrets; empty where it says nothing.
        request_id, host_id: the service's names for the request, or ``None``.
        region: where the bucket lives, where the service says so.
        endpoint: the host it wants to be asked at, where it says so.
    """

    __slots__ = ("code", "endpoint", "host_id", "message", "region", "request_id", "status")

    def __init__(
        self,
        status: int,
        code: str | None = None,
        message: str = "",
        *,
        request_id: str | None = None,
        host_id: str | None = None,
        region: str | None = None,
        endpoint: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.host_id = host_id
        self.region = region
        self.endpoint = endpoint

    def __str__(self) -> str:
        """``Code: message``, or the one of both that is known."""
        return ": ".join(part for part in (self.code, self.message) if part)


def read_error(
    response: Response,
    body: bytes,
    *,
    request_id_header: str = "x-amz-request-id",
    host_id_header: str = "x-amz-id-2",
    region_header: str = "x-amz-bucket-region",
) -> ServiceError:
    """Read an error body: XML, else JSON, else a page or text of some proxy between us and the service."""
    error = _read_xml(body) or _read_json(body) or ServiceError(0, None, _page_text(body))
    error.status = response.status
    if error.code is None and not error.message:  # MinIO says in headers what a HEAD answer has no body for
        error.code = read_code(response.header("x-minio-error-code"))
        error.message = response.header("x-minio-error-desc") or ""
    error.request_id = response.header(request_id_header) or error.request_id
    error.host_id = response.header(host_id_header) or error.host_id
    region = response.header(region_header) or error.region
    error.region = region if region and _REGION.fullmatch(region) else None
    if error.message == reason(error.status):  # what a proxy's page says is often only that
        error.message = ""
    error.message = _scrub(error.message)
    return error


def _read_xml(body: bytes) -> ServiceError | None:
    if xml.root_name(body) in (None, "html", "HTML"):
        return None
    try:
        document = xml.parse(body)
    except xml.XmlError:
        return None
    # S3 has <Error> at the root, the query APIs wrap it, a delete result has one for each key.
    refusals = [element for element in document.descendants() if element.name == "Error"]
    if not refusals:
        return None
    # Of several, the one that passes decides: then the whole batch is worth repeating.
    found = next((element for element in refusals if element.find("Code") in TRANSIENT_CODES), refusals[0])
    return ServiceError(
        0,
        read_code(found.find("Code")),
        found.find("Message") or "",
        request_id=_id(found.find("RequestId") or document.find("RequestId")),
        host_id=_id(found.find("HostId")),
        region=found.find("Region"),
        endpoint=found.find("Endpoint"),
    )


def _read_json(body: bytes) -> ServiceError | None:
    if not body.lstrip().startswith(b"{"):
        return None
    import json

    try:
        document: Any = json.loads(body)
    except ValueError:
        return None
    inner = document.get("error", document)
    if isinstance(inner, str):
        return ServiceError(0, read_code(inner), _text(document.get("error_description") or document.get("message")))
    if not isinstance(inner, dict):
        return None
    fields = {name.lower(): value for name, value in inner.items()}
    code = fields.get("code", fields.get("__type"))
    return ServiceError(0, read_code(str(code)) if code else None, _text(fields.get("message")))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


_CODE = re.compile(r"[A-Za-z0-9_.#:-]{1,80}")
_REGION = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")  # no dot or slash: it becomes part of a host name
_ID = re.compile(r"[\x21-\x7e]{1,200}")


def read_code(text: str | None) -> str | None:
    """A code as programs compare it; anything that does not look like one is none."""
    return text if text and _CODE.fullmatch(text) else None


def _id(text: str | None) -> str | None:
    return text if text and _ID.fullmatch(text) else None


_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.DOTALL | re.IGNORECASE)
_UNSEEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
MAX_PAGE_TEXT = 200
_MAX_PAGE = 8192  # a proxy's page says it in its first lines


def _page_text(body: bytes) -> str:
    """What a proxy's error page says: its title, else its text."""
    text = body[:_MAX_PAGE].decode("utf-8", "replace")
    if "\0" in text or text.count("\ufffd") * 8 > len(text):
        return ""  # no text
    if "<" in text:
        import html

        title = _TITLE.search(text)
        text = html.unescape(title[1] if title else _TAG.sub(" ", _UNSEEN.sub(" ", text)))
    text = " ".join(text.split())
    return text if len(text) <= MAX_PAGE_TEXT else text[:MAX_PAGE_TEXT] + "..."


# Services and proxies echo requests. What looks like a key id, a signature or a token never reaches a message.
@cache  # compiled with the first error, not with the import: they cost 2 ms
def _secrets() -> tuple[tuple[re.Pattern[str], str], ...]:
    return (
        (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b"), "REDACTED"),
        (
            re.compile(
                r"(?i)\b(authorization|signature|credential|x-amz-security-token|x-amz-signature|x-amz-credential"
                r"|awsaccesskeyid|aws_access_key_id|aws_secret_access_key|access_?key(?:_?id)?|secret(?:_?access)?_?key"
                r"|session_?token|security_?token|stringtosign|canonicalrequest)"
                r"(\"?\s*[=:]\s*)(?:(?:AWS4-HMAC-SHA256|AWS|Bearer|Basic)\s+)?[^\s,&;]+"
            ),
            r"\1\2REDACTED",
        ),
        (re.compile(r"\bAWS4-HMAC-SHA256\s.*", re.DOTALL), "AWS4-HMAC-SHA256 REDACTED"),
        (re.compile(r"\b[0-9a-fA-F]{64}\b"), "REDACTED"),
    )


def _scrub(text: str) -> str:
    text = " ".join(text.split())
    for pattern, replacement in _secrets():
        text = pattern.sub(replacement, text)
    return text


# RFC 9110's names where Python's differ between its versions.
_PHRASES = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def reason(status: int) -> str:
    """``404 Not Found``; the number alone where the status has no registered name."""
    from http import HTTPStatus

    try:
        return f"{status} {_PHRASES.get(status) or HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


# ---- hints --------------------------------------------------------------------------------------------------------

_DENIALS = frozenset({"AccessDenied", "AllAccessDisabled", "Forbidden", "Unauthorized"})
_HINTS = {
    "BucketAlreadyOwnedByYou": "the bucket is there already; nothing needs to be done",
    "EntityTooLarge": "the object is larger than one request may carry; upload it with use_multipart=True",
    "EntityTooSmall": "all parts but the last must have at least 5 MiB; raise chunk_size",
    "ExpiredToken": "the session token has expired; renew the credentials, or use a credential provider that does",
    "InvalidAccessKeyId": "the service does not know access_key_id; check that it belongs to this endpoint, and that "
    "temporary credentials come with their session_token",
    "InvalidObjectState": "the object is archived; restore it first",
    "InvalidToken": "session_token does not belong to access_key_id; leave it out for permanent keys",
    "KMS.DisabledException": "the KMS key of this object is disabled",
    "QuotaExceeded": "the bucket or its owner has reached a quota of the service",
    "NoSuchBucket": "check the bucket's name, and that endpoint and region are those it was created with",
    "NoSuchUpload": "the multipart upload was completed or aborted meanwhile, perhaps by a lifecycle rule",
    "RequestTimeTooSkewed": "set this machine's clock",
    "SignatureDoesNotMatch": "check secret_access_key for missing or additional characters, and that no proxy "
    "changes the request",
    "SlowDown": "lower the number of parallel requests, or spread keys over more prefixes",
    "XAmzContentSHA256Mismatch": "the body changed while it was sent; do not write to a buffer before the put is done",
    "BadDigest": "the body changed while it was sent; do not write to a buffer before the put is done",
}


def hint_for(
    error: ServiceError, *, method: str, skewed: bool, signed: bool | None, region: str, custom_endpoint: bool
) -> str | None:
    """What to do about a refusal, or ``None`` where its text says it all.

    Args:
        error: the refusal.
        method: of the request.
        skewed: whether the clocks are known to differ too much.
        signed: whether the request carried a signature; ``None`` where that is unknown.
        region: the one in use.
        custom_endpoint: whether the user chose the endpoint.
    """
    code, status = error.code, error.status
    if error.region and error.region != region and (code in REDIRECT_CODES or status in (301, 307, 400, 403)):
        return f"the bucket is in region {error.region}, not {region}: set region={error.region!r}"
    if code in _HINTS:
        return _HINTS[code]
    if code in THROTTLE_CODES or status == 429:
        return _HINTS["SlowDown"]
    if code in EXPIRED_CODES:
        return _HINTS["ExpiredToken"]
    if skewed:
        return _HINTS["RequestTimeTooSkewed"]
    if code == "AuthorizationHeaderMalformed":
        return f"the service expects another region than {region}: set region to the bucket's"
    if status in (301, 302, 303, 307, 308):
        if custom_endpoint:
            return "the service answers at another address: check endpoint (scheme, host and path) and the addressing style"
        return f"the bucket is not in region {region}: set region to the bucket's"
    # Some servers find an anonymous request malformed rather than forbidden.
    if signed is False and (code in _DENIALS or (status in (400, 401, 403) and not code)):
        return "the request was anonymous: give credentials, or check that the object is public"
    if code in _DENIALS or (status in (401, 403) and not code and not error.message):
        return "these credentials may not do this; for public data try skip_signature=True"
    if status in (405, 501) or code == "NotImplemented":
        return "this server does not implement the request or one of its headers"
    if method == "HEAD" and status == 400 and not code:
        return "answers to HEAD carry no reason: the credentials may have expired or the region may be wrong"
    if error.message and not code and status < 500:
        return "this does not look like the answer of an object store: check endpoint and proxies"
    return None


# What libcurl says of an HTTP proxy (tinyproxy's status is 401) and of a SOCKS proxy.
_PROXY_WANTS_PASSWORD = (
    "connect tunnel failed, response 407",
    "connect tunnel failed, response 401",
    "no authentication method was acceptable",
    "rejected by the socks",
)


def hint_for_failure(kind: str, message: str, url: str) -> str | None:
    """What to do about a transfer that ended without an answer."""
    text = message.lower()
    if any(word in text for word in _PROXY_WANTS_PASSWORD):
        return "the proxy wants a user and a password (proxy_url='http://user:password@host:port'), or those given are wrong"
    if "connect tunnel failed" in text:
        return "the proxy does not let requests to this host and port through: set proxy_excludes or NO_PROXY to go without it"
    if url.startswith("http:") and kind in ("protocol", "engine") and ("protocol" in text or "allow_http" in text):
        return "set allow_http=True in client_options to use an unencrypted endpoint"
    if kind == "tls":
        if any(word in text for word in ("wrong version", "unknown protocol", "packet length", "http request")):
            return "the endpoint does not speak TLS there: check its port, or use http:// with allow_http=True"
        if any(word in text for word in ("does not match", "no alternative certificate", "subject name")):
            return (
                "the certificate is for another host name: check endpoint; a bucket name with dots needs "
                "virtual_hosted_style_request=False"
            )
        return "if the endpoint's certificate is private, give its CA as root_certificate (last resort: allow_invalid_certificates=True)"
    if kind == "dns":
        return "check the host name in endpoint, the region and the bucket's name"
    if kind == "connect":
        return "check endpoint and port, and that no firewall or proxy is in between"
    return None
