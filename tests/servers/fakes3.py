"""A small S3 in memory on top of the scripted server, with faults to order.

It knows path-style GET, PUT, HEAD, DELETE, copy, list v2, bulk delete and multipart uploads, with ranges and
conditions; it checks no signature. What it is for are the faults::

    with FakeS3() as s3:
        s3.inject(cut(after=1000), times=3, when=gets)
        s3.inject(status(503, retry_after=1), times=2)
        s3.rate_limit(50)

Real servers judge whether requests are right (``tests/contract``); this one judges what the client does about trouble.
"""

from __future__ import annotations

import dataclasses
import email.utils
import hashlib
import itertools
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import escape

from tests.servers.scripted import Gone, Reply, Request, ScriptedServer

BUCKET = "bucket"

# A fault stands before the store like a middleware: it may ask the store for the answer, or not.
Fault = Callable[[Request, Callable[[], Reply]], Reply]
Predicate = Callable[[Request], bool]

_KEPT = ("content-type", "content-disposition", "content-encoding", "content-language", "cache-control")


# ---- faults ---------------------------------------------------------------------------------------------


def status(code: int, *, retry_after: float | str | None = None, error: str | None = None) -> Fault:
    """Answer ``code`` with an S3 error document instead; the store sees nothing of the request."""

    def apply(request: Request, proceed: Callable[[], Reply]) -> Reply:
        replaced = error_reply(code, error or {503: "SlowDown", 500: "InternalError"}.get(code, "Error"))
        if retry_after is not None:
            replaced.headers = [*replaced.headers, ("retry-after", str(retry_after))]
        return replaced

    return apply


def faulty(**fields: Any) -> Fault:
    """Set fields of `Reply` on what would have been answered: ``faulty(cut_after=10, reset=True)``."""
    return lambda request, proceed: dataclasses.replace(proceed(), **fields)


def dropped(*, reset: bool = False) -> Fault:
    """End the connection without an answer; the store sees nothing of the request."""
    return lambda request, proceed: Reply(drop=True, reset=reset)


def cut(after: int, *, reset: bool = False) -> Fault:
    """End the connection after so many body bytes."""
    return faulty(cut_after=after, reset=reset)


def stall(after: int, seconds: float) -> Fault:
    """Send nothing for so long after so many body bytes."""
    return faulty(stall_after=after, stall=seconds)


def flip_bit(at: int) -> Fault:
    """Change one bit of the body."""

    def apply(request: Request, proceed: Callable[[], Reply]) -> Reply:
        reply = proceed()
        body = bytearray(reply.body)
        body[at] ^= 1
        return dataclasses.replace(reply, body=bytes(body))

    return apply


def gets(request: Request) -> bool:
    """Matches reads of objects."""
    return request.method == "GET" and "list-type" not in request.query


def puts(request: Request) -> bool:
    """Matches PUTs, of objects and of parts."""
    return request.method == "PUT"


@dataclass(slots=True)
class _Injected:
    fault: Fault
    times: float
    when: Predicate
    after: int


# ---- the store ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stored:
    """An object as the fake keeps it."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=time.time)
    e_tag: str = ""

    def __post_init__(self) -> None:
        self.e_tag = self.e_tag or f'"{hashlib.md5(self.body).hexdigest()}"'  # noqa: S324 - S3's ETag


@dataclass(slots=True)
class _Upload:
    key: str
    headers: dict[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


def error_reply(code: int, name: str, message: str = "as the test ordered") -> Reply:
    """An S3 error answer."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{name}</Code><Message>{message}</Message>'
        "<RequestId>REQ123</RequestId><HostId>HOST456</HostId></Error>"
    )
    headers = [("content-type", "application/xml"), ("x-amz-request-id", "REQ123"), ("x-amz-id-2", "HOST456")]
    return Reply(code, headers, body.encode())


def store_config(url: str, **extra: Any) -> dict[str, Any]:
    """Keyword arguments of ``S3Store`` for `BUCKET` at ``url``; ``extra`` wins, ``client_options`` are merged."""
    client = {"allow_http": True, **extra.pop("client_options", {})}
    return {
        "bucket": BUCKET,
        "endpoint": url,
        "access_key_id": "AKIDTEST",
        "secret_access_key": "SECRETTEST",
        "region": "us-east-1",
        "client_options": client,
        **extra,
    }


class FakeS3(ScriptedServer):
    """The fake; bucket `BUCKET` exists from the start.

    Attributes:
        objects: key to `Stored`; tests may put, change and remove objects here.
        uploads: multipart uploads under way, by id.
        aborted: ids of uploads that were aborted.
        taken: requests in the order in which they were acted on, one after the other.
        given_up: requests whose client had hung up before their turn came: as if they had never been sent.
        page: keys per page of a listing.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(self._handle, **options)
        self.objects: dict[str, Stored] = {}
        self.uploads: dict[str, _Upload] = {}
        self.aborted: list[str] = []
        self.taken: list[Request] = []
        self.given_up: list[Request] = []
        self.page = 1000
        self._state = threading.RLock()
        self._injected: list[_Injected] = []
        self._ids = itertools.count(1)
        self._rate: float | None = None
        self._tokens = 0.0
        self._filled = 0.0

    # ---- for the test -----------------------------------------------------------------------------------

    def config(self, **extra: Any) -> dict[str, Any]:
        """Keyword arguments of ``S3Store`` for this server; see `store_config`."""
        return store_config(self.url, **extra)

    def add(self, key: str, body: bytes, **headers: str) -> Stored:
        """Store an object; ``headers`` as in ``content_type="text/plain"``."""
        stored = Stored(body, {name.replace("_", "-"): value for name, value in headers.items()})
        with self._state:
            self.objects[key] = stored
        return stored

    def inject(self, fault: Fault, *, times: float = 1, when: Predicate | None = None, after: int = 0) -> None:
        """Apply ``fault`` to the next ``times`` answers that match.

        Args:
            fault: changes the answer.
            times: how often; ``float("inf")`` for ever.
            when: which requests; default all.
            after: how many matching requests pass unharmed first.
        """
        with self._state:
            self._injected.append(_Injected(fault, times, when or (lambda request: True), after))

    def rate_limit(self, per_second: float | None) -> None:
        """Answer 503 SlowDown to what exceeds so many requests a second; None: no limit."""
        with self._state:
            self._rate, self._tokens, self._filled = per_second, 1.0, time.monotonic()

    # ---- dispatch ---------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Reply:
        with self._state:
            # On a busy machine its turn may come late: an attempt that was repeated meanwhile would undo what was done since.
            if request.hung_up():
                self.given_up.append(request)
                raise Gone
            self.taken.append(request)
            if self._over_rate():
                return error_reply(503, "SlowDown")
            chosen = next(
                (entry for entry in self._injected if entry.times > 0 and self._matches(entry, request)), None
            )
            if chosen is None:
                return self._route(request)
            chosen.times -= 1
            return chosen.fault(request, lambda: self._route(request))

    def _matches(self, entry: _Injected, request: Request) -> bool:
        if not entry.when(request):
            return False
        if entry.after > 0:
            entry.after -= 1
            return False
        return True

    def _over_rate(self) -> bool:
        if self._rate is None:
            return False
        now = time.monotonic()
        # Up to a tenth of a second's worth may be saved up.
        self._tokens = min(max(1.0, self._rate / 10), self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

    def _route(self, request: Request) -> Reply:
        bucket, _, raw_key = request.path[1:].partition("/")
        key, query = urllib.parse.unquote(raw_key), request.query
        if bucket != BUCKET:
            return error_reply(404, "NoSuchBucket")
        if not key:
            if request.method == "POST" and "delete" in query:
                return self._delete_many(request)
            if request.method == "GET" and "list-type" in query:
                return self._list(query)
            return error_reply(501, "NotImplemented")
        if "uploads" in query or "uploadId" in query:
            return self._multipart(request, key, query)
        if request.method in ("GET", "HEAD"):
            return self._get(request, key)
        if request.method == "PUT":
            return self._copy(request, key) if "x-amz-copy-source" in request.headers else self._put(request, key)
        if request.method == "DELETE":
            self.objects.pop(key, None)
            return Reply(204)
        return error_reply(501, "NotImplemented")

    # ---- reading ----------------------------------------------------------------------------------------

    def _get(self, request: Request, key: str) -> Reply:
        stored = self.objects.get(key)
        if stored is None:
            return error_reply(404, "NoSuchKey")
        refused = _refused(request.headers, stored)
        if refused is not None:
            return refused
        headers = {
            "etag": stored.e_tag,
            "last-modified": email.utils.formatdate(stored.modified, usegmt=True),
            "accept-ranges": "bytes",
            "x-amz-request-id": "REQ123",
            **stored.headers,
        }
        wanted = request.headers.get("range")
        if wanted is None:
            return Reply(200, headers, stored.body)
        span = _span(wanted, len(stored.body))
        if span is None:
            return error_reply(416, "InvalidRange")
        start, end = span
        headers["content-range"] = f"bytes {start}-{end - 1}/{len(stored.body)}"
        return Reply(206, headers, stored.body[start:end])

    def _list(self, query: dict[str, str]) -> Reply:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        url_encoded = query.get("encoding-type") == "url"

        def text(value: str) -> str:
            return urllib.parse.quote(value, safe="/") if url_encoded else escape(value)

        objects: list[str] = []
        prefixes: list[str] = []
        last = ""
        truncated = False
        for key in sorted(self.objects, key=str.encode):
            if not key.startswith(prefix):
                continue
            cut_at = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key[: cut_at + len(delimiter)] if cut_at >= 0 else key
            if name.encode() <= after.encode() or (cut_at >= 0 and name in prefixes):
                continue
            if len(objects) + len(prefixes) == self.page:
                truncated = True
                break
            last = name
            if cut_at >= 0:
                prefixes.append(name)
            else:
                stored = self.objects[key]
                stamp = datetime.fromtimestamp(stored.modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
                objects.append(
                    f"<Contents><Key>{text(key)}</Key><LastModified>{stamp}</LastModified><ETag>{escape(stored.e_tag)}"
                    f"</ETag><Size>{len(stored.body)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                )
        more = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>" if truncated else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{text(prefix)}</Prefix><KeyCount>{len(objects) + len(prefixes)}</KeyCount>"
            f"<MaxKeys>{self.page}</MaxKeys>{'<EncodingType>url</EncodingType>' if url_encoded else ''}"
            f"<IsTruncated>{str(truncated).lower()}</IsTruncated>{more}{''.join(objects)}"
            + "".join(f"<CommonPrefixes><Prefix>{text(name)}</Prefix></CommonPrefixes>" for name in prefixes)
            + "</ListBucketResult>"
        )
        return Reply(200, {"content-type": "application/xml"}, body.encode())

    # ---- writing ----------------------------------------------------------------------------------------

    def _put(self, request: Request, key: str) -> Reply:
        refused = _refused_write(request.headers, self.objects.get(key))
        if refused is not None:
            return refused
        stored = Stored(request.body, _attributes(request.headers))
        self.objects[key] = stored
        return Reply(200, {"etag": stored.e_tag})

    def _copy(self, request: Request, key: str) -> Reply:
        source = urllib.parse.unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]
        found = self.objects.get(source)
        if found is None:
            return error_reply(404, "NoSuchKey")
        stored = Stored(found.body, dict(found.headers), e_tag=found.e_tag)
        self.objects[key] = stored
        stamp = datetime.fromtimestamp(stored.modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        return _xml(
            f"<CopyObjectResult><LastModified>{stamp}</LastModified><ETag>{escape(stored.e_tag)}</ETag></CopyObjectResult>"
        )

    def _delete_many(self, request: Request) -> Reply:
        results = []
        for node in ET.fromstring(request.body).iter():
            if node.tag.rpartition("}")[2] == "Key":
                self.objects.pop(node.text or "", None)
                results.append(f"<Deleted><Key>{escape(node.text or '')}</Key></Deleted>")
        return _xml(f"<DeleteResult>{''.join(results)}</DeleteResult>")

    def _multipart(self, request: Request, key: str, query: dict[str, str]) -> Reply:
        if request.method == "POST" and "uploads" in query:
            upload_id = f"upload-{next(self._ids)}"
            self.uploads[upload_id] = _Upload(key, _attributes(request.headers))
            return _xml(
                f"<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )
        upload = self.uploads.get(query.get("uploadId", ""))
        if upload is None:
            return error_reply(404, "NoSuchUpload")
        if request.method == "PUT":
            upload.parts[int(query["partNumber"])] = request.body
            return Reply(200, {"etag": Stored(request.body).e_tag})
        if request.method == "DELETE":
            self.aborted.append(query["uploadId"])
            del self.uploads[query["uploadId"]]
            return Reply(204)
        refused = _refused_write(request.headers, self.objects.get(key))
        if refused is not None:
            return refused
        return self._complete(request, key, query["uploadId"], upload)

    def _complete(self, request: Request, key: str, upload_id: str, upload: _Upload) -> Reply:
        bodies: list[bytes] = []
        for part in ET.fromstring(request.body):
            fields = {node.tag.rpartition("}")[2]: node.text or "" for node in part}
            body = upload.parts.get(int(fields["PartNumber"]))
            if body is None or Stored(body).e_tag.strip('"') != fields["ETag"].strip('"'):
                return error_reply(400, "InvalidPart")
            bodies.append(body)
        digests = b"".join(hashlib.md5(body).digest() for body in bodies)  # noqa: S324 - S3's ETag
        e_tag = f'"{hashlib.md5(digests).hexdigest()}-{len(bodies)}"'  # noqa: S324
        self.objects[key] = Stored(b"".join(bodies), upload.headers, e_tag=e_tag)
        del self.uploads[upload_id]
        return _xml(
            f"<CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{escape(key)}</Key>"
            f"<ETag>{escape(e_tag)}</ETag></CompleteMultipartUploadResult>"
        )


def _xml(body: str) -> Reply:
    return Reply(200, {"content-type": "application/xml"}, ('<?xml version="1.0" encoding="UTF-8"?>' + body).encode())


def _attributes(headers: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in headers.items() if k in _KEPT or k.startswith("x-amz-meta-")}


def _matches_tag(wanted: str, e_tag: str) -> bool:
    tags: Sequence[str] = [tag.strip() for tag in wanted.split(",")]
    return "*" in tags or e_tag in tags or e_tag.strip('"') in tags


def _refused(headers: dict[str, str], stored: Stored) -> Reply | None:
    """The answer to a read whose conditions do not hold."""

    def date(name: str) -> float | None:
        return email.utils.parsedate_to_datetime(headers[name]).timestamp() if name in headers else None

    modified = int(stored.modified)
    if "if-match" in headers:
        if not _matches_tag(headers["if-match"], stored.e_tag):
            return error_reply(412, "PreconditionFailed")
    elif (limit := date("if-unmodified-since")) is not None and modified > limit:
        return error_reply(412, "PreconditionFailed")
    if "if-none-match" in headers:
        if _matches_tag(headers["if-none-match"], stored.e_tag):
            return Reply(304, {"etag": stored.e_tag})
    elif (limit := date("if-modified-since")) is not None and modified <= limit:
        return Reply(304, {"etag": stored.e_tag})
    return None


def _refused_write(headers: dict[str, str], stored: Stored | None) -> Reply | None:
    """The answer to a write whose conditions do not hold."""
    if headers.get("if-none-match") == "*" and stored is not None:
        return error_reply(412, "PreconditionFailed")
    if "if-match" in headers:
        if stored is None:
            return error_reply(404, "NoSuchKey")
        if not _matches_tag(headers["if-match"], stored.e_tag):
            return error_reply(412, "PreconditionFailed")
    return None


def _span(wanted: str, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of a Range header, or None where it lies outside the object."""
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    return (start, end) if start < end else None
