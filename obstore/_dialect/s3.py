"""The S3 protocol: requests out of operations, values and exceptions out of answers."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from obstore import exceptions
from obstore._auth.sigv4 import UNSIGNED, Signer, content_md5, encode_query, payload_hash, quote_key
from obstore._dialect import errors, xml
from obstore._dialect.attributes import STANDARD, encode_tags
from obstore._dialect.base import (
    EPOCH,
    CopyCreate,
    Verdict,
    format_http_date,
    format_range,
    parse_content_range,
    parse_http_date,
    parse_length,
    resolve_range,
)
from obstore._effects import AttemptFailed, Request, Response
from obstore._types import Buffer, GetSpec, ListPage, ObjectMeta, PutResult, PutSpec, Range

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["PartTag", "S3Dialect", "S3Request"]

Header = tuple[str, str]

_MIB = 1024 * 1024
_GIB = 1024 * _MIB

_EMPTY_HASH = payload_hash(None)
_METADATA = "x-amz-meta-"
_SSE = "x-amz-server-side-encryption"
_COPY_SSE = "x-amz-copy-source-server-side-encryption"
_HEADER_OF = {name: name.lower() for name in STANDARD} | {"Storage-Class": "x-amz-storage-class"}
# What answers say of an object. Its storage class is not among it: it is absent for the default class.
_READ_ATTRIBUTES = tuple((name, name.lower()) for name in STANDARD if name != "Storage-Class")

# The clock may be off by 15 minutes before S3 refuses.
_MAX_SKEW_SECONDS = 15 * 60
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,40}")


class S3Request(Request):
    """A `Request` and what signing and error reading have to remember of it.

    Attributes:
        payload_hash: SHA-256 of the body in hexadecimal or ``UNSIGNED-PAYLOAD``; ``None`` until it is computed.
        checksum: algorithm of a checksum header that `S3Dialect.prepare` has still to add, or ``None``.
        condition: ``"create"`` or ``"update"`` where the write is conditional, else ``None``.
        source: key that is copied from, or ``None``.
        signed: whether the last attempt was signed; ``None`` before the first.
        token: whether the last attempt carried a session token.
        signed_at: the time that the last attempt was signed for, in seconds since the epoch.
        region: the region that it was signed for.
    """

    __slots__ = ("checksum", "condition", "payload_hash", "region", "signed", "signed_at", "source", "token")

    def __init__(
        self,
        method: str,
        path: str,
        operation: str,
        query: Sequence[tuple[str, str | None]],
        headers: Sequence[Header],
        *,
        key: str | None,
        body: Sequence[Buffer] | None = None,
        payload_hash: str | None = None,
        idempotent: bool = True,
        slice_: tuple[int, int] | None = None,
        checksum: str | None = None,
        condition: str | None = None,
        source: str | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.operation = operation
        self.query = query
        self.headers = headers
        self.body = body
        self.idempotent = idempotent
        self.key = key
        self.slice_ = slice_
        self.sensitive = False
        self.payload_hash = payload_hash
        self.checksum = checksum
        self.condition = condition
        self.source = source
        self.signed: bool | None = None
        self.token = False
        self.signed_at = 0.0
        self.region = ""


class PartTag(NamedTuple):
    """What finishing an upload has to know of a part: its ETag and, where the server returned one, its checksum."""

    e_tag: str
    checksum: str | None


class _Site(NamedTuple):
    """Where requests go. Replaced as a whole when the bucket turns out to live elsewhere."""

    origin: str
    host: str
    region: str


class S3Dialect:
    """The S3 protocol for one bucket. Safe to share between threads.

    Args:
        settings: the store's configuration.
        default_headers: sent, and signed, with every request; names in lower case. A request's own headers win.
        default_content_type: content type of objects put without one; ``None`` sends none.
        prefix: of all keys, without slashes at its ends; ``None`` or empty for none.
        crc64nvme: ``crc64nvme(buffer, value) -> int``, continuing ``value``; needed for that checksum algorithm only.

    Raises:
        GenericError: the encryption or copy settings make no sense.
    """

    name = "S3"
    delete_concurrency = 20
    missing_is_error = False
    max_parts = 10_000
    min_part_bytes = 5 * _MIB
    max_part_bytes = 5 * _GIB
    max_copy_bytes = 5 * _GIB

    def __init__(
        self,
        settings: S3Settings,
        *,
        default_headers: Iterable[Header] = (),
        default_content_type: str | None = None,
        prefix: str | None = None,
        crc64nvme: Callable[[Buffer, int], int] | None = None,
    ) -> None:
        if settings.checksum_algorithm == "CRC64NVME" and crc64nvme is None:
            raise TypeError("checksum_algorithm CRC64NVME needs crc64nvme=")
        self._settings = settings
        self._crc64nvme = crc64nvme
        self._signer = Signer("s3")
        self.clock_offset = 0.0
        self.delete_batch = 1 if settings.disable_bulk_delete else 1000
        self.default_content_type = default_content_type
        self.list_strip = f"{prefix}/" if prefix else ""
        self.copy_create, self._copy_header, self._copy_exists_status = _parse_copy_create(settings.copy_if_not_exists)

        self._bucket = quote_key(settings.bucket)
        self._custom_endpoint = settings.endpoint is not None
        self._site, base = self._place(settings.region)
        self._list_path = base or "/"
        self._object_path = f"{base}/{quote_key(self.list_strip)}"
        self._copy_source = f"{self._bucket}/{quote_key(self.list_strip)}"

        # Headers that do not depend on the request, put together once.
        own = list(default_headers)
        if settings.request_payer:
            own.append(("x-amz-request-payer", "requester"))
        self._common = tuple(own)
        write_sse, customer = _encryption(settings)
        self._write_sse = write_sse
        self._part_sse = customer
        self._copy_sse = tuple((name.replace(_SSE, _COPY_SSE), value) for name, value in customer)
        self._read_headers = self._headers(customer)
        self._bodyless_hash = UNSIGNED if settings.unsigned_payload else _EMPTY_HASH

    # ---- addressing ---------------------------------------------------------------------------------------------

    def _place(self, region: str) -> tuple[_Site, str]:
        """Where the bucket is in ``region``, and the path that its keys begin with."""
        settings = self._settings
        if settings.endpoint is not None:
            origin, path = _split_endpoint(settings.endpoint)
            base = path if settings.virtual_hosted_style else f"{path}/{self._bucket}"
        else:
            domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
            if settings.virtual_hosted_style:
                origin, base = f"https://{settings.bucket}.s3.{region}.{domain}", ""
            else:
                origin, base = f"https://s3.{region}.{domain}", f"/{self._bucket}"
        return _Site(origin, _host_header(origin), region), base

    @property
    def endpoint(self) -> str:
        """``scheme://host[:port]`` that requests go to."""
        return self._site.origin

    @property
    def host(self) -> str:
        """The ``Host`` value, as it is signed."""
        return self._site.host

    @property
    def region(self) -> str:
        """The region in use: the configured one, or the one that the bucket was found in."""
        return self._site.region

    # ---- builders -----------------------------------------------------------------------------------------------

    def _headers(self, extra: Iterable[Header]) -> tuple[Header, ...]:
        extra = tuple(extra)
        if not self._common:
            return extra
        names = {name for name, _ in extra}
        return (*(header for header in self._common if header[0] not in names), *extra)

    def _path(self, key: str) -> str:
        return self._object_path + quote_key(key)

    def _full(self, key: str) -> str:
        return self.list_strip + key

    def build_get(self, key: str, spec: GetSpec) -> S3Request:
        """GET of an object or a range of it; HEAD where ``spec.head``."""
        own: list[Header] = []
        if spec.range is not None and not spec.head:
            own.append(("range", format_range(spec.range)))
        if spec.if_match is not None:
            own.append(("if-match", spec.if_match))
        if spec.if_none_match is not None:
            own.append(("if-none-match", spec.if_none_match))
        if spec.if_modified_since is not None:
            own.append(("if-modified-since", format_http_date(spec.if_modified_since)))
        if spec.if_unmodified_since is not None:
            own.append(("if-unmodified-since", format_http_date(spec.if_unmodified_since)))
        return S3Request(
            "HEAD" if spec.head else "GET",
            self._object_path + quote_key(key),
            "head" if spec.head else "get",
            () if spec.version is None else (("versionId", spec.version),),
            (*self._read_headers, *own) if own else self._read_headers,
            key=self.list_strip + key,
            payload_hash=self._bodyless_hash,
        )

    def build_range(self, key: str, start: int, end: int) -> S3Request:
        """GET of bytes ``start`` to ``end`` (exclusive)."""
        return S3Request(
            "GET",
            self._object_path + quote_key(key),
            "get",
            (),
            (*self._read_headers, ("range", f"bytes={start}-{end - 1}")),
            key=self.list_strip + key,
            payload_hash=self._bodyless_hash,
            slice_=(start, end - start),
        )

    def build_resume(self, request: Request, start: int, end: int | None, e_tag: str | None) -> S3Request:
        """The GET for the rest, from ``start``, of what ``request`` asked for.

        A weak ETag never satisfies If-Match, so there the original conditions stay, and `check_resume` compares.
        """
        headers = [header for header in request.headers if header[0] != "range"]
        headers.append(("range", f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"))
        if e_tag is not None and not e_tag.startswith("W/"):
            headers = [header for header in headers if not header[0].startswith("if-")]
            headers.append(("if-match", e_tag))
        return S3Request(
            "GET",
            request.path,
            "get",
            request.query,
            headers,
            key=request.key,
            payload_hash=self._bodyless_hash,
        )

    def build_head(self, key: str, version: str | None) -> S3Request:
        """HEAD of an object."""
        return S3Request(
            "HEAD",
            self._path(key),
            "head",
            () if version is None else (("versionId", version),),
            self._read_headers,
            key=self._full(key),
            payload_hash=self._bodyless_hash,
        )

    def build_put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> S3Request:
        """PUT of a whole object.

        Raises:
            GenericError: an update without an ETag.
            NotSupportedError: a conditional put while ``conditional_put`` is disabled.
        """
        return S3Request(
            "PUT",
            self._path(key),
            "put",
            (),
            self._headers((*self._describe(spec), *self._write_sse, *self._condition(spec, key))),
            key=self._full(key),
            body=body,
            payload_hash=self._body_hash(body),
            # Repeating a conditional put that did succeed would report its own object as the conflict.
            idempotent=spec.mode == "overwrite",
            checksum=self._settings.checksum_algorithm,
            condition=None if spec.mode == "overwrite" else spec.mode,
        )

    def build_list(self, prefix: str, offset: str | None, delimiter: bool, cursor: str | None) -> S3Request:
        """One page of ListObjectsV2. ``prefix`` and ``offset`` are relative to the store's prefix."""
        query: list[tuple[str, str | None]] = []
        if cursor is not None:
            query.append(("continuation-token", cursor))
        if delimiter:
            query.append(("delimiter", "/"))
        # Without it, keys that XML cannot hold break the whole page.
        query.append(("encoding-type", "url"))
        query.append(("list-type", "2"))
        if full := self.list_strip + prefix:
            query.append(("prefix", full))
        if offset is not None and cursor is None:  # a continuation token stands for it
            query.append(("start-after", self.list_strip + offset))
        return S3Request(
            "GET", self._list_path, "list", query, self._common, key=None, payload_hash=self._bodyless_hash
        )

    def build_start(self, key: str, spec: PutSpec) -> S3Request:
        """Start of a multipart upload. A condition in ``spec`` is for `build_finish`."""
        own = [*self._describe(spec), *self._write_sse]
        if self._settings.checksum_algorithm is not None:
            own.append(("x-amz-checksum-algorithm", self._settings.checksum_algorithm))
        return S3Request(
            "POST",
            self._path(key),
            "start",
            (("uploads", ""),),
            self._headers(own),
            key=self._full(key),
            body=(),
            payload_hash=self._bodyless_hash,
        )

    def build_part(self, key: str, upload_id: str, number: int, body: Sequence[Buffer]) -> S3Request:
        """PUT of part ``number`` (from 1)."""
        return S3Request(
            "PUT",
            self._path(key),
            "part",
            (("partNumber", str(number)), ("uploadId", upload_id)),
            self._headers(self._part_sse),
            key=self._full(key),
            body=body,
            payload_hash=self._body_hash(body),
            checksum=self._settings.checksum_algorithm,
        )

    def build_part_copy(
        self, from_: str, key: str, upload_id: str, number: int, span: tuple[int, int] | None
    ) -> S3Request:
        """Part ``number`` out of bytes ``span`` (end exclusive) of another object; ``None`` takes all of it."""
        own = [("x-amz-copy-source", self._copy_source + quote_key(from_))]
        if span is not None:
            own.append(("x-amz-copy-source-range", f"bytes={span[0]}-{span[1] - 1}"))
        return S3Request(
            "PUT",
            self._path(key),
            "part",
            (("partNumber", str(number)), ("uploadId", upload_id)),
            self._headers((*own, *self._part_sse, *self._copy_sse)),
            key=self._full(key),
            body=(),
            payload_hash=self._bodyless_hash,
            source=self._full(from_),
        )

    def build_finish(self, key: str, upload_id: str, parts: Sequence[tuple[int, PartTag]], spec: PutSpec) -> S3Request:
        """Completion of a multipart upload out of ``parts``, in order of their numbers."""
        algorithm = self._settings.checksum_algorithm
        texts = ["<CompleteMultipartUpload>"]
        for number, tag in parts:
            checksum = (
                f"<Checksum{algorithm}>{xml.escape(tag.checksum)}</Checksum{algorithm}>"
                if algorithm is not None and tag.checksum is not None
                else ""
            )
            texts.append(
                f"<Part><ETag>{xml.escape(tag.e_tag)}</ETag><PartNumber>{number}</PartNumber>{checksum}</Part>"
            )
        texts.append("</CompleteMultipartUpload>")
        body = "".join(texts).encode()
        own = [("content-type", "application/xml"), *self._condition(spec, key)]
        if algorithm is not None:  # S3 asks for the customer's key again where parts have checksums
            own.extend(self._part_sse)
        return S3Request(
            "POST",
            self._path(key),
            "finish",
            (("uploadId", upload_id),),
            self._headers(own),
            key=self._full(key),
            body=(body,),
            payload_hash=self._body_hash((body,)),
            idempotent=spec.mode == "overwrite",
            condition=None if spec.mode == "overwrite" else spec.mode,
        )

    def build_abort(self, key: str, upload_id: str) -> S3Request:
        """Removal of a multipart upload and its parts."""
        return S3Request(
            "DELETE",
            self._path(key),
            "abort",
            (("uploadId", upload_id),),
            self._common,
            key=self._full(key),
            payload_hash=self._bodyless_hash,
        )

    def build_copy(self, from_: str, to: str, overwrite: bool) -> S3Request:
        """Server-side copy of an object of at most ``max_copy_bytes``.

        Raises:
            NotSupportedError: ``overwrite`` is false and ``copy_create`` is not ``"header"``.
        """
        own = [("x-amz-copy-source", self._copy_source + quote_key(from_)), *self._write_sse, *self._copy_sse]
        if not overwrite:
            if self._copy_header is None:
                raise exceptions.NotSupportedError.of(
                    self.name, "S3 does not support copy-if-not-exists", key=self._full(to), hint=_COPY_HINT
                )
            own.append(self._copy_header)
        return S3Request(
            "PUT",
            self._path(to),
            "copy",
            (),
            self._headers(own),
            key=self._full(to),
            body=(),
            payload_hash=self._bodyless_hash,
            idempotent=overwrite,
            condition=None if overwrite else "create",
            source=self._full(from_),
        )

    def build_delete_one(self, key: str) -> S3Request:
        """DELETE of one object. Repeating it does no harm: a missing key is no failure."""
        return S3Request(
            "DELETE",
            self._path(key),
            "delete",
            (),
            self._common,
            key=self._full(key),
            payload_hash=self._bodyless_hash,
        )

    def build_delete(self, keys: Sequence[str]) -> S3Request:
        """Bulk delete of up to ``delete_batch`` keys. Its body is always hashed: the service demands a checksum."""
        strip = self.list_strip
        objects = "".join(f"<Object><Key>{xml.escape(strip + key)}</Key></Object>" for key in keys)
        body = (f"<Delete>{objects}</Delete>".encode(),)
        digest = payload_hash(body)
        return S3Request(
            "POST",
            self._list_path,
            "bulk_delete",
            (("delete", None),),
            self._headers(
                (
                    ("content-type", "application/xml"),
                    ("content-md5", content_md5(body)),
                    ("x-amz-checksum-sha256", _base64_of_hex(digest)),
                )
            ),
            key=None,
            body=body,
            payload_hash=digest,
        )

    def _describe(self, spec: PutSpec) -> list[Header]:
        """Attributes and tags as headers."""
        headers = []
        for name, value in spec.attributes.items():
            headers.append((_HEADER_OF.get(name) or _METADATA + name.lower(), value))
        if self.default_content_type is not None and "Content-Type" not in spec.attributes:
            headers.append(("content-type", self.default_content_type))
        if spec.tags and not self._settings.disable_tagging:
            headers.append(("x-amz-tagging", encode_tags(spec.tags)))
        return headers

    def _condition(self, spec: PutSpec, key: str) -> tuple[Header, ...]:
        if spec.mode == "overwrite":
            return ()
        if self._settings.conditional_put == "disabled":
            raise exceptions.not_implemented(
                "put_opts", f"S3Store({self._settings.bucket}) with conditional_put disabled"
            )
        if spec.mode == "create":
            return (("if-none-match", "*"),)
        if spec.e_tag is None:
            raise exceptions.GenericError.of(self.name, "ETag required for conditional put", key=self._full(key))
        return (("if-match", spec.e_tag),)

    def _body_hash(self, body: Sequence[Buffer]) -> str | None:
        """The hash where it is known without work; ``None`` leaves it to `prepare`."""
        return self._bodyless_hash if self._settings.unsigned_payload or not body else None

    # ---- signing ------------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> None:
        """Hash the body and add its checksum header. May take milliseconds and may run on any thread."""
        assert isinstance(request, S3Request)
        body = request.body or ()
        algorithm = request.checksum
        if algorithm == "SHA256":
            digest = payload_hash(body)
            request.headers = (*request.headers, ("x-amz-checksum-sha256", _base64_of_hex(digest)))
            if request.payload_hash is None:
                request.payload_hash = digest
        elif algorithm == "CRC64NVME":
            assert self._crc64nvme is not None
            crc = 0
            for buffer in body:
                crc = self._crc64nvme(buffer, crc)
            checksum = base64.b64encode(crc.to_bytes(8, "big")).decode("ascii")
            request.headers = (*request.headers, ("x-amz-checksum-crc64nvme", checksum))
        request.checksum = None
        if request.payload_hash is None:
            request.payload_hash = payload_hash(body)

    def sign(self, request: Request, credential: Any, now: float) -> tuple[str, Sequence[Header]]:
        """The URL and all headers to send but ``host``.

        Args:
            request: built by this dialect.
            credential: with ``access_key_id``, ``secret_access_key``, ``token``; ``None`` sends anonymously.
            now: seconds since the epoch by the local clock.
        """
        assert isinstance(request, S3Request)
        if request.payload_hash is None or request.checksum is not None:
            self.prepare(request)
        site = self._site  # once: another thread may be moving us to another region
        path = request.path
        url = site.origin + path
        if request.query:
            url = f"{url}?{encode_query(request.query)}"
        request.region = site.region
        request.signed_at = now = now + self.clock_offset
        if credential is None:
            request.signed = request.token = False
            return url, request.headers
        token = credential.token
        request.signed = True
        request.token = token is not None
        return url, self._signer.sign(
            request.method,
            site.host,
            path,
            request.query,
            request.headers,
            request.payload_hash,
            credential.access_key_id,
            credential.secret_access_key,
            token,
            site.region,
            now,
        )

    # ---- readers of success -------------------------------------------------------------------------------------

    def _unreadable(self, detail: str, response: Response | None = None, key: str | None = None) -> Exception:
        """A success that does not say what it must."""
        if response is None:
            return exceptions.GenericError.of(self.name, detail, key=key)
        return exceptions.GenericError.of(
            self.name,
            detail,
            status=response.status,
            request_id=response.header("x-amz-request-id"),
            host_id=response.header("x-amz-id-2"),
            key=None if key is None else self._full(key),
        )

    def read_get(
        self, response: Response, key: str, spec: GetSpec, sliced: bool = False
    ) -> tuple[ObjectMeta, tuple[int, int], dict[str, str]]:
        """What a successful answer to `build_get` says.

        Args:
            response: status 200 or 206.
            key: as given to `build_get`.
            spec: as given to `build_get`.
            sliced: whether the engine cuts the range out of a whole object that comes instead.

        Returns:
            The object's meta with its whole size, the range of bytes that the body holds, and the attributes.

        Raises:
            GenericError: the answer is not to what was asked, or lacks what it must have.
        """
        headers = dict(response.headers())
        wanted = None if spec.head else spec.range
        if wanted is None:
            if response.status == 206:
                raise self._unreadable("Received partial response when whole object requested", response, key)
            size = parse_length(headers.get("content-length"))
            if size is None:
                raise self._unreadable("Content-Length Header missing from response", response, key)
            span = (0, size)
        else:
            span, size = self._read_range(
                response, headers.get("content-range"), headers.get("content-length"), wanted, sliced, key
            )
        return self._meta(response, headers, key, size), span, _attributes(headers)

    def _read_range(
        self,
        response: Response,
        content_range: str | None,
        length: str | None,
        wanted: Range,
        sliced: bool,
        key: str | None,
    ) -> tuple[tuple[int, int], int]:
        """The bytes that the body holds, and the object's whole size."""
        if response.status != 206:
            size = parse_length(length)
            if size is not None:
                span = resolve_range(wanted, size)
                # The whole object is the right answer if it is what the range means: such is the suffix of an
                # empty object, which no Content-Range can express.
                if span == (0, size) or (sliced and span[0] < span[1]):
                    return span, size
                if sliced:
                    raise self._unreadable(_past_end(span[0], size), response, key)
            raise self._unreadable("Received non-partial response when range requested", response, key)
        if content_range is None:
            raise self._unreadable("Content-Range header not present in partial response", response, key)
        found = parse_content_range(content_range)
        if found is None:
            raise self._unreadable(f'Failed to parse value for CONTENT_RANGE header: "{content_range}"', response, key)
        start, end, size = found
        expected = resolve_range(wanted, size)
        if expected != (start, end):
            raise self._unreadable(f"Requested {expected[0]}..{expected[1]}, got {start}..{end}", response, key)
        return expected, size

    def check_range(self, response: Response, start: int, end: int, sliced: bool = False) -> tuple[int, int]:
        """The range that the answer to `build_range` holds: ``end`` is clipped at the object's end.

        Raises:
            GenericError: it holds other bytes.
        """
        content_range = response.header("content-range")
        if (
            response.status == 206
            and content_range is not None
            and content_range.startswith(f"bytes {start}-{end - 1}/")
        ):
            return start, end
        return self._read_range(
            response, content_range, response.header("content-length"), Range(start, end), sliced, None
        )[0]

    def check_resume(self, response: Response, start: int, end: int | None, e_tag: str | None) -> None:
        """See that the answer to `build_resume` is the rest of the same object, from ``start``.

        Raises:
            GenericError: it is not, or does not say.
        """
        self._read_range(
            response,
            response.header("content-range"),
            response.header("content-length"),
            Range(start, end),
            False,
            None,
        )
        if e_tag is None or response.header("etag") != e_tag:
            raise self._unreadable("the object changed while it was read", response)

    def unsatisfied_suffix(self, spec: GetSpec, response: Response) -> bool:
        """Whether a 416 only says that the last bytes of the object are none: it is empty, or none were wanted.

        The result is empty then, not an error; the answer lacks the object's meta, which takes a HEAD.
        """
        return response.status == 416 and spec.range is not None and spec.range.suffix is not None

    def read_head(self, response: Response, key: str) -> ObjectMeta:
        """The object's meta. Raises GenericError where the answer does not say its size."""
        headers = dict(response.headers())
        size = parse_length(headers.get("content-length"))
        if size is None:
            raise self._unreadable("Content-Length Header missing from response", response, key)
        return self._meta(response, headers, key, size)

    def _meta(self, response: Response, headers: dict[str, str], key: str, size: int) -> ObjectMeta:
        return {
            "path": key,
            "last_modified": self._modified(response, headers.get("last-modified"), key),
            "size": size,
            "e_tag": headers.get("etag"),
            "version": headers.get("x-amz-version-id"),
        }

    def _modified(self, response: Response, text: str | None, key: str) -> datetime:
        if text is None:
            return EPOCH
        try:
            return parse_http_date(text)
        except ValueError:
            raise self._unreadable(f'Failed to parse value for LAST_MODIFIED header: "{text}"', response, key) from None

    def read_attributes(self, response: Response) -> dict[str, str]:
        """The object's attributes, canonically named; user metadata in lower case."""
        return _attributes(dict(response.headers()))

    def read_put(self, response: Response) -> PutResult:
        """Raises GenericError where the answer has no ETag."""
        e_tag = response.header("etag")
        if e_tag is None:
            raise self._unreadable("ETag Header missing from response", response)
        return {"e_tag": e_tag, "version": response.header("x-amz-version-id")}

    def read_start(self, body: Buffer) -> str:
        """The upload id. Raises GenericError where there is none."""
        upload_id = self._document(body, "InitiateMultipartUploadResult", "CreateMultipartUpload").find("UploadId")
        if not upload_id:
            raise self._unreadable("Got invalid CreateMultipartUpload response: missing field `UploadId`")
        return upload_id

    def read_part(self, response: Response) -> PartTag:
        """Raises GenericError where the answer has no ETag."""
        e_tag = response.header("etag")
        if e_tag is None:
            raise self._unreadable("ETag Header missing from response", response)
        algorithm = self._settings.checksum_algorithm
        return PartTag(e_tag, None if algorithm is None else response.header(f"x-amz-checksum-{algorithm.lower()}"))

    def read_part_copy(self, body: Buffer) -> PartTag:
        """Raises GenericError where the answer has no ETag."""
        result = self._document(body, "CopyPartResult", "UploadPartCopy")
        e_tag = result.find("ETag")
        if not e_tag:
            raise self._unreadable("Got invalid UploadPartCopy response: missing field `ETag`")
        algorithm = self._settings.checksum_algorithm
        return PartTag(e_tag, None if algorithm is None else result.find(f"Checksum{algorithm}"))

    def read_finish(self, response: Response, body: Buffer) -> PutResult:
        """Raises GenericError where the answer has no ETag."""
        e_tag = self._document(body, "CompleteMultipartUploadResult", "CompleteMultipartUpload").find("ETag")
        if not e_tag:
            raise self._unreadable("Got invalid CompleteMultipartUpload response: missing field `ETag`", response)
        return {"e_tag": e_tag, "version": response.header("x-amz-version-id")}

    def read_delete(self, body: Buffer, keys: Sequence[str]) -> list[Exception | None]:
        """What became of each key, in the order of ``keys``: ``None`` is deleted, or was not there."""
        outcomes: dict[str, Exception | None] = {}
        for entry in self._document(body, "DeleteResult", "DeleteObjects").children:
            key = entry.find("Key")
            if entry.name == "Deleted" and key is not None:
                outcomes[key] = None
            elif entry.name == "Error":
                outcomes[key or ""] = self._delete_error(key or "", entry)
        if not outcomes:
            raise self._unreadable("Got invalid DeleteObjects response: missing field `Deleted`")
        results: list[Exception | None] = []
        for key in keys:
            full = self._full(key)
            if full in outcomes:
                results.append(outcomes[full])
            else:
                results.append(self._unreadable(f"Got invalid DeleteObjects response: missing key {full}", key=full))
        return results

    def _delete_error(self, key: str, entry: xml.Element) -> Exception:
        code, message = entry.find("Code") or "", entry.find("Message") or ""
        if code in ("NoSuchKey", "NoSuchVersion"):
            return exceptions.NotFoundError.of(key, f"{code}: {message}", status=404, code=code, key=key)
        return exceptions.GenericError.of(
            self.name,
            f"DeleteObjects request failed for key {key}: {message} (code: {code})",
            status=errors.STATUS_OF_CODE.get(code),
            code=code,
            key=key,
            retryable=_transient(code) is not None,
        )

    def read_list(self, page: Any) -> ListPage:
        """A page out of the engine's list parser, which has taken ``list_strip`` off the keys."""
        # Servers that know no tokens (ListObjects V1) are not asked: an empty token ends the listing.
        return ListPage(page.objects, page.prefixes, page.token or None)

    def _document(self, body: Buffer, root: str, operation: str) -> xml.Element:
        try:
            document = xml.parse(bytes(body))
        except xml.XmlError as error:
            raise self._unreadable(f"Got invalid {operation} response: {error}") from None
        if document.name != root:
            raise self._unreadable(f"Got invalid {operation} response: <{document.name}> instead of <{root}>")
        return document

    # ---- readers of failure -------------------------------------------------------------------------------------

    def failed(self, request: Request, response: Response, body: Buffer) -> Verdict:
        """What to do about an answer that is not a success, or about a 200 that `ok_body_is_error`."""
        assert isinstance(request, S3Request)
        error = errors.read_error(response, bytes(body))
        status, code = response.status, error.code
        if code is not None:
            if code in errors.EXPIRED_CODES:
                return "expired" if request.signed else "fatal"
            if code in errors.CLOCK_CODES:
                return "clock"
            if (verdict := _transient(code)) is not None:
                return verdict
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
                found[1].decode("ascii") in errors.THROTTLE_CODES | errors.RETRY_CODES
                for found in _CODE_ELEMENT.finditer(text)
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

    def follow(self, request: Request, response: Response, body: Buffer) -> bool:
        """Sign for, and without a custom endpoint go to, the region that the answer names.

        Returns:
            False where it names none, or the one that ``request`` went to.
        """
        assert isinstance(request, S3Request)
        region = self._region_elsewhere(request, errors.read_error(response, bytes(body)))
        if region is None:
            return False
        if region != self._site.region:
            self._site, _ = self._place(region)
        return True

    def _region_elsewhere(self, request: S3Request, error: errors.ServiceError) -> str | None:
        """The region that the bucket lives in, if it is another than ``request`` went to.

        Only the name of a region is believed, never an address: signed requests go to no host of a server's choice.
        """
        region = error.region
        if region is None or region == request.region or _REGION.fullmatch(region) is None:
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
        assert isinstance(request, S3Request)
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
        subject = request.key or ""
        if kind is exceptions.NotFoundError and request.source is not None:
            subject = request.source
        elif issubclass(kind, exceptions.GenericError):
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
            key=request.key,
            attempts=attempts,
            retryable=verdict in ("retry", "throttled"),
            hint=errors.hint_for(
                found,
                signed=request.signed,
                region=request.region or self.region,
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


# ---- settings -----------------------------------------------------------------------------------------------------

_COPY_HINT = "configure copy_if_not_exists: 'multipart', or a header that this service honours"


def _parse_copy_create(setting: str | None) -> tuple[CopyCreate, Header | None, int]:
    """How to copy without overwriting, the header that does it, and the status that says the object exists."""
    if setting is None:
        return "unsupported", None, 412
    kind, _, rest = (part.strip() for part in setting.partition(":"))
    if kind == "multipart" and not rest:
        return "multipart", None, 412
    if kind == "header":
        name, _, value = (part.strip() for part in rest.partition(":"))
        if name and value:
            return "header", (name.lower(), value), 412
    if kind == "header-with-status":
        fields, _, status = (part.strip() for part in rest.rpartition(":"))
        name, _, value = (part.strip() for part in fields.partition(":"))
        if name and value and status.isdigit():
            return "header", (name.lower(), value), int(status)
    raise exceptions.GenericError.of("Config", f'Failed to parse "{setting}" as S3CopyIfNotExists')


def _encryption(settings: S3Settings) -> tuple[tuple[Header, ...], tuple[Header, ...]]:
    """Headers of requests that make objects, and of those that touch the bytes of an object (SSE-C only)."""
    kind = settings.server_side_encryption
    if kind is None:
        return (), ()
    if kind == "sse-c":
        try:
            secret = base64.b64decode(settings.sse_customer_key_base64 or "", validate=True)
        except binascii.Error:
            secret = b""
        if not secret:
            raise exceptions.GenericError.of("S3", "sse-c encryption needs sse_customer_key_base64, a key in base64")
        digest = hashlib.md5(secret, usedforsecurity=False).digest()
        customer = (
            (f"{_SSE}-customer-algorithm", "AES256"),
            (f"{_SSE}-customer-key", base64.b64encode(secret).decode("ascii")),
            (f"{_SSE}-customer-key-md5", base64.b64encode(digest).decode("ascii")),
        )
        return customer, customer
    if kind not in ("AES256", "aws:kms", "aws:kms:dsse"):
        raise exceptions.GenericError.of(
            "S3", f'Invalid encryption type: {kind}. Must be one of "AES256", "sse-c", "aws:kms" or "aws:kms:dsse".'
        )
    headers = [(_SSE, kind)]
    if settings.sse_kms_key_id is not None:
        headers.append((f"{_SSE}-aws-kms-key-id", settings.sse_kms_key_id))
    if settings.sse_bucket_key_enabled is not None:
        headers.append((f"{_SSE}-bucket-key-enabled", "true" if settings.sse_bucket_key_enabled else "false"))
    return tuple(headers), ()


def _split_endpoint(endpoint: str) -> tuple[str, str]:
    """``scheme://host[:port]`` and the path without trailing slashes."""
    scheme, separator, rest = endpoint.strip().partition("://")
    authority, slash, path = rest.partition("/")
    if not separator or not authority or scheme.lower() not in ("http", "https"):
        raise exceptions.GenericError.of("S3", f"endpoint is no http or https URL: {exceptions.redact_url(endpoint)}")
    if "@" in authority or "?" in rest or "#" in rest:
        raise exceptions.GenericError.of("S3", "endpoint must not hold a user name, a query or a fragment")
    return f"{scheme.lower()}://{authority.lower()}", (slash + path).rstrip("/")


def _host_header(origin: str) -> str:
    scheme, _, authority = origin.partition("://")
    return authority.removesuffix(":443" if scheme == "https" else ":80")


# ---- readers' helpers ---------------------------------------------------------------------------------------------

_CLASS_OF_STATUS: dict[int, type[exceptions.BaseError]] = {
    304: exceptions.NotModifiedError,
    401: exceptions.UnauthenticatedError,
    403: exceptions.PermissionDeniedError,
    404: exceptions.NotFoundError,
    409: exceptions.AlreadyExistsError,
    412: exceptions.PreconditionError,
}
_CODE_ELEMENT = re.compile(rb"<(?:[\w.-]+:)?Code>\s*([A-Za-z]+)\s*</")


def _transient(code: str) -> Verdict | None:
    if code in errors.THROTTLE_CODES:
        return "throttled"
    return "retry" if code in errors.RETRY_CODES else None


def _attributes(headers: dict[str, str]) -> dict[str, str]:
    found = {name: headers[header] for name, header in _READ_ATTRIBUTES if header in headers}
    for name, value in headers.items():
        if name.startswith(_METADATA):
            found[name[len(_METADATA) :]] = value
    return found


def _date_of(response: Response) -> float | None:
    text = response.header("date")
    if text is None:
        return None
    try:
        return parse_http_date(text).timestamp()
    except ValueError:
        return None


def _past_end(start: int, size: int) -> str:
    return f"Invalid range: Wanted range starting at {start}, but object was only {size} bytes long"


def _base64_of_hex(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode("ascii")
