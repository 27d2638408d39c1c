"""The S3 protocol: requests out of operations, values and exceptions out of answers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from obstore import exceptions
from obstore._auth.aws import AwsSession
from obstore._auth.sigv4 import (
    UNSIGNED,
    Signer,
    content_md5,
    encode_query,
    hashes_pairs,
    payload_hash,
    payload_hashes,
    quote_key,
)
from obstore._dialect import errors, xml
from obstore._dialect.attributes import STANDARD, encode_tags
from obstore._dialect.base import CopyCreate, condition_headers, format_range, slice_of
from obstore._dialect.checksums import Checksum, Crcs
from obstore._dialect.s3_bulk import S3Bulk
from obstore._dialect.s3_fail import S3Failures
from obstore._dialect.s3_read import CHECKSUM_MODE, METADATA, S3Readers
from obstore._dialect.s3_request import Header, PartTag, S3Request, own
from obstore._dialect.s3_settings import COPY_SSE, SSE, encryption, place
from obstore._dialect.s3_sign import S3Presigner
from obstore._effects import Request, Response
from obstore._types import Buffer, GetSpec, PutSpec

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["PartTag", "S3Dialect", "S3Request"]

_MIB = 1024 * 1024
_GIB = 1024 * _MIB

_EMPTY_HASH = payload_hash(None)
_COPY_HINT = "configure copy_if_not_exists: 'multipart', or a header that this service honours"
_HEADER_OF = {name: name.lower() for name in STANDARD} | {"Storage-Class": "x-amz-storage-class"}


class S3Dialect(S3Readers, S3Failures, S3Presigner, S3Bulk):
    """The S3 protocol for one bucket. Safe to share between threads.

    Args:
        settings: the store's configuration.
        default_headers: sent, and signed, with every request; names in lower case. A request's own headers win.
        default_content_type: content type of objects put without one; ``None`` sends none.
        prefix: of all keys, without slashes at its ends; ``None`` or empty for none.
        crcs: the CRCs that the standard library does not have; without them, bodies are compared with no checksum of
            that kind.

    Raises:
        GenericError: the endpoint is no URL that requests can go to, or a default header is ``host``.
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
        crcs: Crcs | None = None,
    ) -> None:
        self._crcs: Crcs = crcs or {}
        if settings.checksum_algorithm not in (None, "SHA256", "CRC32", *self._crcs):
            raise TypeError(f"checksum_algorithm {settings.checksum_algorithm} needs a function in crcs=")
        self._settings = settings
        access_point, express = settings.access_point, settings.express_zone is not None
        self._signer = Signer("s3express" if express else "s3" if access_point is None else access_point.service)
        self._session_signer = Signer("s3express", token_header="x-amz-s3session-token")  # noqa: S106 - a header's name
        self.lists_after = not express
        self.clock_offset = 0.0
        self.delete_batch = 1 if settings.disable_bulk_delete else 1000
        self.default_content_type = default_content_type
        self.list_strip = f"{prefix}/" if prefix else ""
        self.splits_lists = not settings.s3_express  # directory buckets list in no order
        rule = settings.copy_rule
        self.copy_create: CopyCreate = "unsupported"
        self._copy_header: Header | None = None
        if rule == "multipart":
            self.copy_create = "multipart"
        elif rule is not None:
            self.copy_create = "header"
            self._copy_header = (rule.name, rule.value)
            self._copy_exists_status = rule.status

        bucket = quote_key(settings.bucket)
        self._custom_endpoint = settings.endpoint is not None
        self._site, base = place(settings, settings.region)
        self._list_path = base or "/"
        self._object_path = f"{base}/{quote_key(self.list_strip)}"
        source = bucket if access_point is None else f"{bucket}/object"
        self._copy_source = f"{source}/{quote_key(self.list_strip)}"

        # Headers that do not depend on the request, put together once.
        common = list(default_headers)
        if any(name == "host" for name, _ in common):
            raise exceptions.GenericError.of(self.name, "default_headers must not hold host: set endpoint instead")
        if settings.request_payer:
            common.append(("x-amz-request-payer", "requester"))
        self._common = tuple(common)
        self._write_sse, self._part_sse = encryption(settings)
        self._copy_sse = tuple((name.replace(SSE, COPY_SSE), value) for name, value in self._part_sse)
        self._read_headers = self._headers(self._part_sse)
        self._whole_headers = self._headers((*self._part_sse, CHECKSUM_MODE))
        self._asks_checksums = settings.verify_downloads
        self._bodyless_hash = UNSIGNED if settings.unsigned_payload else _EMPTY_HASH
        self.prepare_pair = self._prepare_pair if hashes_pairs() and not settings.unsigned_payload else None

    # ---- addressing ---------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """``scheme://host[:port]`` that requests go to."""
        return self._site.origin

    @property
    def host(self) -> str:
        """The ``Host`` value, as it is signed."""
        return self._site.host

    @property
    def bucket_path(self) -> str:
        """The path of the bucket itself."""
        return self._list_path

    @property
    def region(self) -> str:
        """The region in use: the configured one, or the one that the bucket was found in."""
        return self._site.region

    # ---- builders -----------------------------------------------------------------------------------------------

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        """``extra`` after what every request carries, of which it replaces what it also names."""
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
        extra = condition_headers(spec)
        if spec.range is not None and not spec.head:
            extra.append(("range", format_range(spec.range)))
        whole = self._asks_checksums and spec.range is None and not spec.head
        if extra:
            headers = self._headers((*self._part_sse, *extra, *((CHECKSUM_MODE,) if whole else ())))
        else:
            headers = self._whole_headers if whole else self._read_headers
        return S3Request(
            "HEAD" if spec.head else "GET",
            self._object_path + quote_key(key),
            "head" if spec.head else "get",
            () if spec.version is None else (("versionId", spec.version),),
            headers,
            key=self.list_strip + key,
            payload_hash=self._bodyless_hash,
            slice_=None if spec.head or spec.range is None else slice_of(spec.range),
        )

    def build_range(self, key: str, start: int, end: int) -> S3Request:
        """GET of bytes ``start`` to ``end`` (exclusive)."""
        return S3Request(
            "GET",
            self._object_path + quote_key(key),
            "get",
            (),
            self._headers((*self._part_sse, ("range", f"bytes={start}-{end - 1}"))),
            key=self.list_strip + key,
            payload_hash=self._bodyless_hash,
            slice_=(start, end - start),
        )

    def build_resume(self, request: Request, start: int, end: int | None, e_tag: str | None) -> S3Request:
        """The GET for the rest, from ``start``, of what ``request`` asked for.

        A weak ETag never satisfies If-Match, so there the original conditions stay, and `check_resume` compares.
        """
        headers = [header for header in request.headers if header[0] not in ("range", CHECKSUM_MODE[0])]
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
            # Repeating a conditional put that did succeed would report its extra object as the conflict.
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
        if offset is not None and cursor is None and self.lists_after:  # a continuation token stands for it
            query.append(("start-after", self.list_strip + offset))
        return S3Request(
            "GET", self._list_path, "list", query, self._common, key=None, payload_hash=self._bodyless_hash
        )

    def build_start(self, key: str, spec: PutSpec) -> S3Request:
        """Start of a multipart upload. A condition in ``spec`` is for `build_finish`."""
        extra = [*self._describe(spec), *self._write_sse]
        algorithm = self._settings.checksum_algorithm
        if algorithm is not None:
            extra.append(("x-amz-checksum-algorithm", algorithm))
            if algorithm in ("CRC32", "CRC32C"):  # of all parts together, so that downloads can be compared with it
                extra.append(("x-amz-checksum-type", "FULL_OBJECT"))
        return S3Request(
            "POST",
            self._path(key),
            "start",
            (("uploads", ""),),
            self._headers(tuple(extra)),
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
        extra = [("x-amz-copy-source", self._copy_source + quote_key(from_))]
        if span is not None:
            extra.append(("x-amz-copy-source-range", f"bytes={span[0]}-{span[1] - 1}"))
        return S3Request(
            "PUT",
            self._path(key),
            "part",
            (("partNumber", str(number)), ("uploadId", upload_id)),
            self._headers((*extra, *self._part_sse, *self._copy_sse)),
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
        extra = [("content-type", "application/xml"), *self._condition(spec, key)]
        if algorithm is not None:  # S3 asks for the customer's key again where parts have checksums
            extra.extend(self._part_sse)
        return S3Request(
            "POST",
            self._path(key),
            "finish",
            (("uploadId", upload_id),),
            self._headers(tuple(extra)),
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
        extra = [("x-amz-copy-source", self._copy_source + quote_key(from_)), *self._write_sse, *self._copy_sse]
        if not overwrite:
            if self._copy_header is None:
                raise exceptions.NotSupportedError.of(
                    self.name, "S3 does not support copy-if-not-exists", key=self._full(to), hint=_COPY_HINT
                )
            extra.append(self._copy_header)
        return S3Request(
            "PUT",
            self._path(to),
            "copy",
            (),
            self._headers(tuple(extra)),
            key=self._full(to),
            body=(),
            payload_hash=self._bodyless_hash,
            idempotent=overwrite,
            condition=None if overwrite else "create",
            source=self._full(from_),
        )

    def build_delete_one(self, key: str, version: str | None = None) -> S3Request:
        """DELETE of one object. Repeating it does no harm: a missing key is no failure."""
        return S3Request(
            "DELETE",
            self._path(key),
            "delete",
            () if version is None else (("versionId", version),),
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
        express = self._settings.express_zone is not None
        return S3Request(
            "POST",
            self._list_path,
            "bulk_delete",
            (("delete", None),),
            self._headers(
                (
                    ("content-type", "application/xml"),
                    *(() if express else (("content-md5", content_md5(body)),)),  # directory buckets refuse it
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
            headers.append((_HEADER_OF.get(name) or METADATA + name.lower(), value))
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
        self._prepare(own(request))

    def _prepare_pair(self, first: Request, second: Request) -> None:
        """`prepare` both, their bodies hashed beside each other."""
        pair = own(first), own(second)
        if all(request.payload_hash is None and request.checksum != "SHA256" for request in pair):
            hashes = payload_hashes([request.body or () for request in pair])
            for request, digest in zip(pair, hashes, strict=True):
                request.payload_hash = digest
        for request in pair:
            self._prepare(request)

    def _prepare(self, request: S3Request) -> str:
        """The payload hash, after adding what headers need the body."""
        body = request.body or ()
        digest = request.payload_hash
        algorithm = request.checksum
        if algorithm == "SHA256":
            sha256 = payload_hash(body)
            digest = digest or sha256
            request.headers = (*request.headers, ("x-amz-checksum-sha256", _base64_of_hex(sha256)))
        elif algorithm is not None:
            checksum = Checksum.of(algorithm, self._crcs, body)
            request.headers = (*request.headers, (f"x-amz-checksum-{algorithm.lower()}", checksum))
        request.checksum = None
        request.payload_hash = digest = digest or payload_hash(body)
        return digest

    def sign(self, request: Request, credential: Any, now: float) -> tuple[str, Sequence[Header]]:
        """The URL and all headers to send but ``host``.

        Args:
            request: built by this dialect.
            credential: with ``access_key_id``, ``secret_access_key``, ``token``; ``None`` sends anonymously.
            now: seconds since the epoch by the local clock.
        """
        request = own(request)
        digest = request.payload_hash
        if digest is None or request.checksum is not None:
            digest = self._prepare(request)
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
        signer = self._session_signer if type(credential) is AwsSession else self._signer
        return url, signer.sign(
            request.method,
            site.host,
            path,
            request.query,
            request.headers,
            digest,
            credential.access_key_id,
            credential.secret_access_key,
            token,
            site.region,
            now,
        )

    def adapt(self, request: Request) -> bool:
        """Ask for checksums no more, see `Dialect.adapt`."""
        if CHECKSUM_MODE not in request.headers:
            return False
        self._asks_checksums = False
        request.headers = [header for header in request.headers if header != CHECKSUM_MODE]
        return True

    def lacks_batches(self, error: exceptions.BaseError) -> bool:
        """See `Dialect.lacks_batches`."""
        if error.status not in (405, 501) and error.code not in ("MethodNotAllowed", "NotImplemented"):
            return False
        self.delete_batch = 1
        return True

    def describe(self) -> dict[str, Any]:
        """See `Dialect.describe`."""
        settings = self._settings
        learnt = super().describe()["learnt"]
        if self._site.region != settings.region:
            learnt["region"] = self._site.region
        if self.delete_batch == 1 and not settings.disable_bulk_delete:
            learnt["bulk_delete"] = False
        if settings.verify_downloads and not self._asks_checksums:
            learnt["checksums"] = False
        if settings.access_point is not None:
            style = "access point"
        elif settings.express_zone is not None:
            style = "directory bucket"
        else:
            style = "virtual" if settings.virtual_hosted_style else "path"
        return {
            "endpoint": self.endpoint,
            "region": self._site.region,
            "region_given": settings.region_given,
            "addressing": style,
            "learnt": learnt,
        }

    def follow(self, request: Request, response: Response, body: Buffer) -> bool:
        """Sign for, and without a custom endpoint go to, the region that the answer names.

        Returns:
            False where it names none, or the one that ``request`` went to.
        """
        region = self._region_elsewhere(own(request), errors.read_error(response, bytes(body)))
        if region is None:
            return False
        if region != self._site.region:
            self._site, _ = place(self._settings, region)
        return True


def _base64_of_hex(digest: str) -> str:
    return base64.b64encode(bytes.fromhex(digest)).decode("ascii")
