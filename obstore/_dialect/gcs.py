"""The protocol of Google Cloud Storage: its JSON API, and for uploads in parallel parts its XML API.

https://cloud.google.com/storage/docs/json_api/v1
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from obstore import exceptions
from obstore._auth.sigv4 import encode_query, quote_key
from obstore._config.gcs import GOOGLE_URL
from obstore._dialect.base import CopyCreate, format_http_date, format_range
from obstore._dialect.gcs_bulk import GCSBulk
from obstore._dialect.gcs_fail import GCSFailures
from obstore._dialect.gcs_read import FIELD_OF, FIELDS, GCSReaders, format_checksum
from obstore._dialect.gcs_request import GCSRequest, own
from obstore._dialect.gcs_sign import GCSPresigner
from obstore._dialect.gcs_upload import GCSUploads, PartTag
from obstore._dialect.request import Header
from obstore._effects import Request
from obstore._types import Buffer, GetSpec, PutSpec, Range

if TYPE_CHECKING:
    from obstore._config.gcs import GCSSettings

__all__ = ["GCSDialect", "PartTag"]

_MIB = 1024 * 1024
_MAX_OFFSET = 2**63 - 1
_JOINED_BYTES = 64 * 1024
_MEDIA = (("alt", "media"),)
# Without it, objects that are stored compressed arrive unpacked: with another length than the service says, and no ranges.
# https://cloud.google.com/storage/docs/transcoding
_AS_STORED = ("accept-encoding", "gzip")
_HEAD_FIELDS = ",".join((FIELDS, "metadata", *(field for name, field in FIELD_OF.items() if name != "Storage-Class")))


class GCSDialect(GCSReaders, GCSUploads, GCSPresigner, GCSFailures, GCSBulk):
    """The protocol for one bucket. Safe to share between threads.

    Args:
        settings: the store's configuration.
        crc32c: ``crc32c(buffer, value) -> int``, continuing ``value``.
        default_headers: sent with every request; names in lower case. A request's own headers win.
        default_content_type: content type of objects put without one; ``None``: ``application/octet-stream``.
        prefix: of all keys, without slashes at its ends; ``None`` or empty for none.
        base_url: of the service, where the settings have none.

    Raises:
        GenericError: a default header is ``host``.
    """

    name = "GCS"
    clock_offset = 0.0
    delete_batch = 1
    delete_concurrency = 32
    missing_is_error = True
    offset_inclusive = True
    max_parts = 10_000
    min_part_bytes = 5 * _MIB
    max_part_bytes = 5 * 1024 * _MIB
    max_copy_bytes = _MAX_OFFSET
    copy_create: CopyCreate = "header"
    head_after_finish = True
    update_by_version = True

    def __init__(
        self,
        settings: GCSSettings,
        *,
        crc32c: Callable[[Buffer, int], int],
        default_headers: Iterable[Header] = (),
        default_content_type: str | None = None,
        prefix: str | None = None,
        base_url: str = GOOGLE_URL,
    ) -> None:
        self._settings = settings
        self._crc32c = crc32c
        self.default_content_type = default_content_type
        self.list_strip = f"{prefix}/" if prefix else ""
        self.splits_lists = True
        scheme, _, rest = (settings.base_url or base_url).partition("://")
        authority, slash, path = rest.partition("/")
        self.host = authority.removesuffix(":443" if scheme == "https" else ":80")
        self.endpoint = f"{scheme}://{self.host}"
        self._base = f"{slash}{path}".rstrip("/")
        hostname = self.host.partition(":")[0]
        self._google = hostname == "googleapis.com" or hostname.endswith(".googleapis.com")
        self.resumable = not (self._google if settings.xml_multipart is None else settings.xml_multipart)

        self._bucket = quote_key(settings.bucket)
        self._list_path = f"{self._base}/storage/v1/b/{self._bucket}/o"
        self._object_path = f"{self._list_path}/{_quote(self.list_strip)}"
        self._upload_path = f"{self._base}/upload/storage/v1/b/{self._bucket}/o"
        common = list(default_headers)
        if any(name == "host" for name, _ in common):
            raise exceptions.GenericError.of(self.name, "default_headers must not hold host: set base_url instead")
        if settings.user_project is not None:
            common.append(("x-goog-user-project", settings.user_project))
        self._common = tuple(common)
        self._media_headers = self._headers((_AS_STORED,))

    # ---- builders -----------------------------------------------------------------------------------------------

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        """``extra`` after what every request carries, of which it replaces what it also names."""
        if not self._common:
            return extra
        names = {name for name, _ in extra}
        return (*(header for header in self._common if header[0] not in names), *extra)

    def _path(self, key: str) -> str:
        if not self.list_strip and key in (".", ".."):  # anybody on the way would resolve them
            return self._object_path + key.replace(".", "%2E")
        return self._object_path + _quote(key)

    def build_get(self, key: str, spec: GetSpec) -> GCSRequest:
        """GET of an object's bytes or a range of them; of its description where ``spec.head``."""
        extra: list[Header] = []
        if spec.if_match is not None:
            extra.append(("if-match", spec.if_match))
        if spec.if_none_match is not None:
            extra.append(("if-none-match", spec.if_none_match))
        if spec.if_modified_since is not None:
            extra.append(("if-modified-since", format_http_date(spec.if_modified_since)))
        if spec.if_unmodified_since is not None:
            extra.append(("if-unmodified-since", format_http_date(spec.if_unmodified_since)))
        version = () if spec.version is None else (("generation", spec.version),)
        if spec.head:
            return GCSRequest(
                "GET",
                self._path(key),
                "head",
                (("fields", _HEAD_FIELDS), *version),
                self._headers(tuple(extra)),
                key=self.list_strip + key,
            )
        if spec.range is not None:
            extra.append(("range", format_range(spec.range)))
        return GCSRequest(
            "GET",
            self._path(key),
            "get",
            (*_MEDIA, *version),
            self._headers((_AS_STORED, *extra)) if extra else self._media_headers,
            key=self.list_strip + key,
            slice_=None if spec.range is None else _slice_of(spec.range),
        )

    def build_range(self, key: str, start: int, end: int) -> GCSRequest:
        """GET of bytes ``start`` to ``end`` (exclusive)."""
        return GCSRequest(
            "GET",
            self._path(key),
            "get",
            _MEDIA,
            (*self._media_headers, ("range", f"bytes={start}-{end - 1}")),
            key=self.list_strip + key,
            slice_=(start, end - start),
        )

    def build_resume(self, request: Request, start: int, end: int | None, e_tag: str | None) -> GCSRequest:
        """The GET for the rest, from ``start``, of what ``request`` asked for."""
        headers = [header for header in request.headers if header[0] != "range"]
        headers.append(("range", f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"))
        if e_tag is not None:
            headers = [header for header in headers if not header[0].startswith("if-")]
            headers.append(("if-match", e_tag))
        return GCSRequest("GET", request.path, "get", request.query, headers, key=request.key)

    def build_head(self, key: str, version: str | None) -> GCSRequest:
        """GET of an object's description."""
        query = [("fields", FIELDS)] if version is None else [("fields", FIELDS), ("generation", version)]
        return GCSRequest("GET", self._path(key), "head", query, self._common, key=self.list_strip + key)

    def build_put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> GCSRequest:
        """POST of a whole object, its description and its bytes in one body.

        Raises:
            GenericError: an update without a version.
        """
        condition: tuple[tuple[str, str], ...] = ()
        if spec.mode == "create":
            condition = (("ifGenerationMatch", "0"),)
        elif spec.mode == "update":
            if spec.version is None:
                detail = "Version required for conditional update"
                raise exceptions.GenericError.of(self.name, detail, key=self.list_strip + key)
            condition = (("ifGenerationMatch", spec.version),)
        return GCSRequest(
            "POST",
            self._upload_path,
            "put",
            (("uploadType", "multipart"), ("fields", "etag,generation"), *condition),
            self._common,
            key=self.list_strip + key,
            body=body,
            # Repeating a conditional put that did succeed would report its own object as the conflict.
            idempotent=spec.mode == "overwrite",
            condition=None if spec.mode == "overwrite" else spec.mode,
            resource=self._resource_of(key, spec),
        )

    def _resource_of(self, key: str, spec: PutSpec) -> dict[str, object]:
        """The description of an object to be made."""
        resource: dict[str, object] = {"name": self.list_strip + key}
        metadata: dict[str, str] = {}
        for name, value in spec.attributes.items():
            if name in FIELD_OF:
                resource[FIELD_OF[name]] = value
            else:
                metadata[name.lower()] = value
        resource.setdefault("contentType", self.default_content_type or "application/octet-stream")
        if metadata:
            resource["metadata"] = metadata
        return resource

    def build_list(self, prefix: str, offset: str | None, delimiter: bool, cursor: str | None) -> GCSRequest:
        """One page of a listing. ``prefix`` and ``offset`` are relative to the store's prefix; ``offset`` is included."""
        fields = f"items({FIELDS}),prefixes,nextPageToken" if delimiter else f"items({FIELDS}),nextPageToken"
        query: list[tuple[str, str | None]] = [("fields", fields)]
        if delimiter:
            query.append(("delimiter", "/"))
        if cursor is not None:
            query.append(("pageToken", cursor))
        if full := self.list_strip + prefix:
            query.append(("prefix", full))
        if offset is not None:
            query.append(("startOffset", self.list_strip + offset))
        return GCSRequest("GET", self._list_path, "list", query, self._common, key=None)

    def build_copy(self, from_: str, to: str, overwrite: bool) -> GCSRequest:
        """Server-side copy of an object of any size; large ones may need `continue_copy`."""
        condition = () if overwrite else (("ifGenerationMatch", "0"),)
        target = _quote(self.list_strip + to)
        return GCSRequest(
            "POST",
            f"{self._path(from_)}/rewriteTo/b/{self._bucket}/o/{target}",
            "copy",
            (("fields", "done,rewriteToken"), *condition),
            self._common,
            key=self.list_strip + to,
            body=(),
            idempotent=overwrite,
            condition=None if overwrite else "create",
            source=self.list_strip + from_,
        )

    def continue_copy(self, request: Request, response: Any) -> GCSRequest | None:
        """The request that goes on with a copy which the last one did not finish, or ``None``."""
        state = self._resource(response, None)
        token = state.get("rewriteToken")
        if state.get("done") is not False or not isinstance(token, str):
            return None
        request = own(request)
        return GCSRequest(
            "POST",
            request.path,
            "copy",
            (*(pair for pair in request.query if pair[0] != "rewriteToken"), ("rewriteToken", token)),
            request.headers,
            key=request.key,
            body=(),
            idempotent=request.idempotent,
            condition=request.condition,
            source=request.source,
        )

    def build_delete_one(self, key: str, version: str | None = None) -> GCSRequest:
        """DELETE of one object. Whoever repeats it takes a missing object for a deleted one."""
        query = () if version is None else (("generation", version),)
        return GCSRequest("DELETE", self._path(key), "delete", query, self._common, key=self.list_strip + key)

    def build_delete(self, keys: Sequence[str]) -> GCSRequest:
        """Never needed: objects are deleted one by one."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """See `Dialect.describe`."""
        return {
            "endpoint": self.endpoint + self._base,
            "emulator": self._settings.emulated,
            "large_objects": "resumable uploads" if self.resumable else "parallel parts",
            "user_project": self._settings.user_project,
            **super().describe(),
        }

    # ---- signing ------------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> None:
        """Compute checksums and put the body together. May take milliseconds and may run on any thread."""
        request = own(request)
        body = request.body or ()
        if request.hashed:
            request.hashed = False
            request.headers = (*request.headers, ("x-goog-hash", f"crc32c={format_checksum(self.checksum(body))}"))
        resource = request.resource
        if resource is None:
            return
        request.resource = None
        resource["crc32c"] = format_checksum(self.checksum(body))
        boundary = secrets.token_hex(16)  # long enough not to be in the object
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{json.dumps(resource)}\r\n"
            f"--{boundary}\r\ncontent-type: {resource['contentType']}\r\n\r\n"
        )
        parts = (head.encode(), *body, f"\r\n--{boundary}--\r\n".encode())
        # Small ones go into one buffer: that is cheaper than to hand over several.
        small = sum(memoryview(part).nbytes for part in parts) <= _JOINED_BYTES
        request.body = (b"".join(parts),) if small else parts
        kind = f"multipart/related; boundary={boundary}"
        request.headers = self._headers((("content-type", kind),))

    def checksum(self, body: Sequence[Buffer], value: int = 0) -> int:
        """CRC32C of what ``value`` is of and ``body`` after it."""
        for buffer in body:
            value = self._crc32c(buffer, value)
        return value

    def sign(self, request: Request, credential: Any, now: float) -> tuple[str, Sequence[Header]]:
        """The URL and all headers to send.

        Args:
            request: built by this dialect.
            credential: with ``header``, the value of ``authorization``; ``None`` sends anonymously.
            now: seconds since the epoch by the local clock.
        """
        request = own(request)
        if request.resource is not None or request.hashed:
            self.prepare(request)
        url = (request.origin or self.endpoint) + request.path
        if request.query:
            url = f"{url}?{encode_query(request.query)}"
        request.signed_at = now
        if credential is None:
            request.signed = False
            return url, request.headers
        request.signed = True
        return url, (*request.headers, ("authorization", credential.header))


def _quote(key: str) -> str:
    """A key, or the beginning of one, as one segment of a path."""
    return quote_key(key).replace("/", "%2F")


def _slice_of(wanted: Range) -> tuple[int, int] | None:
    """What the engine cuts out of a whole object that comes instead; a suffix only the answer could place."""
    if wanted.start is None:
        return None
    return wanted.start, (_MAX_OFFSET if wanted.end is None else wanted.end) - wanted.start
