"""The refusals that ``answers.txt`` describes, as real services and the proxies before them give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from obstore._dialect.s3 import PartTag, S3Dialect, S3Request
from obstore._types import GetSpec, PutSpec
from tests.unit.golden import CREDENTIAL, NOW, SESSION, Answer, dialect

# In the bodies below as services echo them; none of it may come out again.
SECRETS = (
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "FwoGZXIvYXdz",
    "9f1cb0a1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d",
    "41 57 53 34 2d 48",
    "20130524/us-east-1/s3/aws4_request",
)

Build = Callable[[S3Dialect], S3Request]


def get(d: S3Dialect) -> S3Request:
    return d.build_get("dir/k", GetSpec())


def head(d: S3Dialect) -> S3Request:
    return d.build_head("dir/k", None)


def put(d: S3Dialect) -> S3Request:
    return d.build_put("k", [b"x"], PutSpec())


def create(d: S3Dialect) -> S3Request:
    return d.build_put("k", [b"x"], PutSpec(mode="create"))


def update(d: S3Dialect) -> S3Request:
    return d.build_put("k", [b"x"], PutSpec(mode="update", e_tag='"e"'))


def list_(d: S3Dialect) -> S3Request:
    return d.build_list("", None, False, None)


def start(d: S3Dialect) -> S3Request:
    return d.build_start("k", PutSpec())


def part(d: S3Dialect) -> S3Request:
    return d.build_part("k", "u", 1, [b"x"])


def finish(d: S3Dialect) -> S3Request:
    return d.build_finish("k", "u", [(1, PartTag('"e"', None))], PutSpec())


def finish_create(d: S3Dialect) -> S3Request:
    return d.build_finish("k", "u", [(1, PartTag('"e"', None))], PutSpec(mode="create"))


def copy(d: S3Dialect) -> S3Request:
    return d.build_copy("from", "to", True)


def copy_create(d: S3Dialect) -> S3Request:
    return d.build_copy("from", "to", False)


def delete(d: S3Dialect) -> S3Request:
    return d.build_delete(["a", "b"])


@dataclass
class Case:
    build: Build
    status: int
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    credential: Any = CREDENTIAL
    settings: dict[str, Any] = field(default_factory=dict)


XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
AWS = {"x-amz-request-id": "4442587FB7D0A2F9", "x-amz-id-2": "vlR7PnpV2Ce81l0PRw6jlUpck7Jo5ZsQ==", "server": "AmazonS3"}
ENDPOINT = {"endpoint": "https://gate.example"}
SKEW = {**AWS, "date": "Fri, 24 May 2013 01:00:00 GMT"}


def aws(code: str, message: str, more: str = "") -> str:
    return (
        f"{XML}<Error><Code>{code}</Code><Message>{message}</Message>{more}"
        "<RequestId>4442587FB7D0A2F9</RequestId><HostId>vlR7PnpV2Ce81l0PRw6jlUpck7Jo5ZsQ==</HostId></Error>"
    )


MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
ECHO = (
    "<AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId>"
    "<StringToSign>AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
    "9f1cb0a1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d</StringToSign>"
    "<SignatureProvided>9f1cb0a1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d</SignatureProvided>"
    "<StringToSignBytes>41 57 53 34 2d 48</StringToSignBytes>"
    "<CanonicalRequest>GET\n/bk/k\n\nhost:s3\nx-amz-security-token:FwoGZXIvYXdz\n</CanonicalRequest>"
)
BRIEFED = "The specified key does not exist."
NGINX = (
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    "<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
)
SQUID = (
    "<!DOCTYPE html PUBLIC '-//W3C//DTD HTML 4.01//EN'><html><head><style>body{}</style><title>ERROR: Access\n Denied"
    "</title></head><body><p>Access control configuration prevents your request.</p></body></html>"
)
ECHOING_PROXY = (
    "blocked by policy: GET /bk/k Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/"
    "aws4_request, SignedHeaders=host, Signature=9f1cb0a1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d "
    "X-Amz-Security-Token: FwoGZXIvYXdz"
)

CASES: dict[str, Case] = {
    # AWS
    "AWS missing key": Case(get, 404, aws("NoSuchKey", BRIEFED, "<Key>dir/k</Key>"), AWS),
    "AWS missing key under a prefix": Case(get, 404, aws("NoSuchKey", BRIEFED), AWS, settings={"prefix": "p"}),
    "AWS missing key, HEAD": Case(head, 404, "", AWS),
    "AWS missing bucket": Case(
        put, 404, aws("NoSuchBucket", "The specified bucket does not exist", "<BucketName>bk</BucketName>"), AWS
    ),
    "AWS missing bucket, list": Case(list_, 404, aws("NoSuchBucket", "The specified bucket does not exist"), AWS),
    "AWS denied": Case(get, 403, aws("AccessDenied", "Access Denied"), AWS),
    "AWS denied to anonymous": Case(get, 403, aws("AccessDenied", "Access Denied"), AWS, credential=None),
    "AWS denied, list": Case(
        list_,
        403,
        aws(
            "AccessDenied",
            "User: arn:aws:iam::111122223333:user/ann is not authorized to perform: s3:ListBucket on resource: "
            "&quot;arn:aws:s3:::bk&quot; because no identity-based policy allows the s3:ListBucket action",
        ),
        AWS,
    ),
    "AWS denied, HEAD": Case(head, 403, "", AWS),
    "AWS wrong secret": Case(get, 403, aws("SignatureDoesNotMatch", MISMATCH, ECHO), AWS),
    "AWS unknown key id": Case(
        get,
        403,
        aws(
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist in our records.",
            "<AWSAccessKeyId>AKIAIOSFODNN7EXAMPLE</AWSAccessKeyId>",
        ),
        AWS,
    ),
    "AWS expired token": Case(
        get,
        400,
        aws("ExpiredToken", "The provided token has expired.", "<Token-0>FwoGZXIvYXdz</Token-0>"),
        AWS,
        SESSION,
    ),
    "AWS expired token, HEAD": Case(head, 400, "", AWS, SESSION),
    "AWS bad request, HEAD without token": Case(head, 400, "", AWS),
    "AWS bad token": Case(
        get,
        400,
        aws(
            "InvalidToken",
            "The provided token is malformed or otherwise invalid.",
            "<Token-0>FwoGZXIvYXdz</Token-0><AWSAccessKeyId>ASIAIOSFODNN7EXAMPLE</AWSAccessKeyId>",
        ),
        AWS,
        SESSION,
    ),
    "AWS skewed clock": Case(
        get,
        403,
        aws(
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
            "<RequestTime>20130524T000000Z</RequestTime><MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds>",
        ),
        SKEW,
    ),
    "AWS skewed clock, HEAD": Case(head, 403, "", SKEW),
    "AWS other region": Case(
        get,
        301,
        aws(
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all "
            "future requests to this endpoint.",
            "<Endpoint>bk.s3.eu-west-1.amazonaws.com</Endpoint><Bucket>bk</Bucket>",
        ),
        {**AWS, "x-amz-bucket-region": "eu-west-1"},
    ),
    "AWS other region, HEAD": Case(head, 400, "", {**AWS, "x-amz-bucket-region": "eu-west-1"}),
    "AWS other region, signature": Case(
        list_,
        400,
        aws(
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-west-1'",
            "<Region>eu-west-1</Region>",
        ),
        AWS,
    ),
    "AWS other region without a name": Case(get, 301, "", AWS),
    "AWS other region at a custom endpoint": Case(
        get, 301, "", {**AWS, "x-amz-bucket-region": "eu-west-1"}, settings=ENDPOINT
    ),
    "AWS region that is no name": Case(get, 301, "", {**AWS, "x-amz-bucket-region": "evil.example/"}),
    "AWS slow down": Case(get, 503, aws("SlowDown", "Please reduce your request rate."), AWS),
    "AWS internal error": Case(
        put, 500, aws("InternalError", "We encountered an internal error. Please try again."), AWS
    ),
    "AWS request timeout": Case(
        put,
        400,
        aws(
            "RequestTimeout",
            "Your socket connection to the server was not read from or written to within the timeout period. Idle "
            "connections will be closed.",
        ),
        AWS,
    ),
    "AWS archived": Case(
        get,
        403,
        aws(
            "InvalidObjectState",
            "The operation is not valid for the object's storage class",
            "<StorageClass>GLACIER</StorageClass>",
        ),
        AWS,
    ),
    "AWS range past the end": Case(
        get,
        416,
        aws("InvalidRange", "The requested range is not satisfiable", "<ActualObjectSize>3</ActualObjectSize>"),
        {**AWS, "content-range": "bytes */3"},
    ),
    "AWS not modified": Case(get, 304, "", AWS),
    "AWS condition failed": Case(
        get,
        412,
        aws(
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold",
            "<Condition>If-Match</Condition>",
        ),
        AWS,
    ),
    "AWS create of what exists": Case(
        create, 412, aws("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"), AWS
    ),
    "AWS create during a delete": Case(
        create,
        409,
        aws(
            "ConditionalRequestConflict",
            "The conditional request cannot succeed due to a conflicting operation against this resource.",
        ),
        AWS,
    ),
    "AWS update of what changed": Case(
        update, 412, aws("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"), AWS
    ),
    "AWS update of what is gone": Case(update, 404, aws("NoSuchKey", BRIEFED), AWS),
    "AWS part of an aborted upload": Case(
        part,
        404,
        aws(
            "NoSuchUpload",
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or "
            "completed.",
        ),
        AWS,
    ),
    "AWS small part": Case(
        finish,
        400,
        aws("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size"),
        AWS,
    ),
    "AWS finish fails after 200": Case(
        finish, 200, aws("InternalError", "We encountered an internal error. Please try again."), AWS
    ),
    "AWS finish conflicts after 200": Case(
        finish_create,
        200,
        aws("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
        AWS,
    ),
    "AWS finish conflicts": Case(
        finish_create,
        409,
        aws("ConditionalRequestConflict", "The conditional request cannot succeed due to a conflicting operation."),
        AWS,
    ),
    "AWS copy slows down after 200": Case(copy, 200, aws("SlowDown", "Please reduce your request rate."), AWS),
    "AWS copy of a missing source": Case(copy, 404, aws("NoSuchKey", BRIEFED, "<Key>from</Key>"), AWS),
    "AWS copy onto what exists": Case(
        copy_create,
        412,
        aws("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
        AWS,
        settings={"copy_if_not_exists": "header: if-none-match: *"},
    ),
    "copy onto what exists, own status": Case(
        copy_create,
        409,
        "",
        settings={"copy_if_not_exists": "header-with-status: x-no-overwrite: 1: 409", **ENDPOINT},
    ),
    "AWS delete fails for a moment": Case(
        delete,
        200,
        XML
        + '<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Error><Key>a</Key><Code>AccessDenied</Code>'
        "<Message>Access Denied</Message></Error><Error><Key>b</Key><Code>SlowDown</Code><Message>Please reduce your "
        "request rate.</Message></Error></DeleteResult>",
        AWS,
    ),
    "AWS missing content MD5": Case(
        delete, 400, aws("InvalidRequest", "Missing required header for this request: Content-MD5"), AWS
    ),
    "AWS STS style": Case(
        get,
        403,
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code>'
        "<Message>Not authorized</Message></Error><RequestId>8e3c0c1f-1</RequestId></ErrorResponse>",
    ),
    # other services
    "Ceph missing key": Case(
        get,
        404,
        XML
        + "<Error><Code>NoSuchKey</Code><Message></Message><BucketName>bk</BucketName><RequestId>tx00000b6-0065-1-default"
        "</RequestId><HostId>1-default-default</HostId></Error>",
        settings=ENDPOINT,
    ),
    "Ceph wrong secret": Case(
        get,
        403,
        XML
        + "<Error><Code>SignatureDoesNotMatch</Code><RequestId>tx00000b7-0065-1-default</RequestId><HostId>1-default"
        "</HostId></Error>",
        {"x-amz-request-id": "tx00000b7-0065-1-default"},
        settings=ENDPOINT,
    ),
    "Ceph quota": Case(
        put, 403, XML + "<Error><Code>QuotaExceeded</Code><RequestId>tx1</RequestId></Error>", settings=ENDPOINT
    ),
    "Swift wrong secret": Case(
        get,
        403,
        "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>SignatureDoesNotMatch</Code><Message>"
        f"{MISMATCH}</Message><RequestId>txb0f8c1-0065</RequestId></Error>",
        {"x-amz-id-2": "txb0f8c1-0065", "x-amz-request-id": "txb0f8c1-0065"},
        settings=ENDPOINT,
    ),
    "Swift anonymous": Case(
        get,
        400,
        "<html><h1>Bad Request</h1><p>The server could not comply with the request since it is either malformed or "
        "otherwise incorrect.</p></html>",
        {"x-trans-id": "tx3"},
        None,
        ENDPOINT,
    ),
    "Swift conditional update": Case(
        update,
        501,
        "<?xml version='1.0' encoding='UTF-8'?>\n<Error><Code>NotImplemented</Code><Message>A header you provided implies "
        "functionality that is not implemented.</Message><RequestId>tx2</RequestId></Error>",
        settings=ENDPOINT,
    ),
    "Swift without SLO": Case(
        start,
        405,
        "<html><h1>Method Not Allowed</h1><p>The method is not allowed for this resource.</p></html>",
        settings=ENDPOINT,
    ),
    "MinIO missing key": Case(
        get,
        404,
        XML
        + "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message><Key>dir/k</Key><BucketName>bk"
        "</BucketName><Resource>/bk/dir/k</Resource><RequestId>17A0C7A7B6A0B7C8</RequestId><HostId>dd9025ba</HostId></Error>",
        {"x-amz-request-id": "17A0C7A7B6A0B7C8", "x-amz-id-2": "dd9025ba", "server": "MinIO"},
        settings=ENDPOINT,
    ),
    "MinIO denied, HEAD": Case(
        head,
        403,
        "",
        {"x-minio-error-code": "AccessDenied", "x-minio-error-desc": '"Access Denied."', "server": "MinIO"},
        settings=ENDPOINT,
    ),
    "MinIO read slow down": Case(
        get,
        503,
        XML
        + "<Error><Code>SlowDownRead</Code><Message>Resource requested is unreadable, please reduce your request rate"
        "</Message></Error>",
        settings=ENDPOINT,
    ),
    "MinIO other region": Case(
        get,
        400,
        XML
        + "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region is "
        "wrong; expecting 'earth'.</Message><Region>earth</Region></Error>",
        settings=ENDPOINT,
    ),
    "R2 unauthorized": Case(
        get,
        401,
        XML + "<Error><Code>Unauthorized</Code><Message>Unauthorized</Message></Error>",
        settings=ENDPOINT,
    ),
    "R2 JSON": Case(
        get,
        400,
        '{"success":false,"errors":[{"code":10002}],"error":{"code":10002,"message":"Please enable R2 through the '
        'dashboard."}}',
        settings=ENDPOINT,
    ),
    "token service JSON": Case(
        get, 401, '{"error":"invalid_token","error_description":"The access token expired"}', settings=ENDPOINT
    ),
    # proxies and what is not S3 at all
    "nginx": Case(get, 502, NGINX, {"server": "nginx/1.22.1"}, settings=ENDPOINT),
    "squid": Case(get, 403, SQUID, settings=ENDPOINT),
    "proxy that echoes": Case(get, 403, ECHOING_PROXY, settings=ENDPOINT),
    "load balancer": Case(get, 504, "upstream request timeout\n", settings=ENDPOINT),
    "CDN": Case(get, 521, "error code: 521", settings=ENDPOINT),
    "too many requests": Case(get, 429, "", {"retry-after": "3"}, settings=ENDPOINT),
    "redirect to another scheme": Case(get, 308, "", {"location": "https://gate.example/bk/dir/k"}, settings=ENDPOINT),
    "binary": Case(get, 500, "\x00\x01\x02\ufffd" * 300, settings=ENDPOINT),
    "cut short": Case(get, 403, aws("AccessDenied", "Access Denied")[:90], AWS),
    "document type": Case(
        get,
        400,
        '<?xml version="1.0"?><!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]><Error><Code>&x;</Code></Error>',
        settings=ENDPOINT,
    ),
    "empty": Case(put, 400, "", settings=ENDPOINT),
}


def judge(heading: str) -> tuple[str, Exception]:
    """The verdict on a refusal, and the exception that it becomes."""
    case = CASES[heading]
    subject = dialect(**case.settings)
    request = case.build(subject)
    url, _ = subject.sign(request, case.credential, NOW)
    answer = Answer(case.status, case.headers)
    body = case.body.encode()
    return subject.failed(request, answer, body), subject.error(request, answer, body, url=url, elapsed=0.0123)


def render(heading: str) -> str:
    verdict, error = judge(heading)
    fields = ("status", "code", "request_id", "host_id", "key", "retryable")
    lines = [f"{type(error).__name__}: {error}", f"verdict: {verdict}"]
    lines += [f"{name}: {getattr(error, name)}" for name in fields]
    return "\n".join(lines)
