# ruff: noqa: SLF001 - dialects that copy from one another are of the same class
"""Requests of S3 that are alike but for key and body, and what else bulk transfers need: copies from other buckets, lists of parts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from obstore._auth.aws import AwsSession
from obstore._auth.sigv4 import UNSIGNED, Signer
from obstore._auth.sigv4_form import MARK_CHECK, MARK_HASH, signing_form
from obstore._dialect import xml
from obstore._dialect.bulk import RequestForm, is_clean
from obstore._dialect.s3_request import Header, PartTag, S3Request, Site
from obstore._dialect.s3_settings import COPY_SSE, SSE
from obstore._types import Buffer, PutSpec

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

# Default headers that are not signed: with one of them, every request is built by itself.
_UNSIGNED_NAMES = frozenset(
    ("authorization", "connection", "expect", "te", "traceparent", "tracestate", "user-agent", "x-amzn-trace-id")
)


class S3Bulk:
    """The part of `S3Dialect` that makes forms, and that bulk transfers use."""

    list_strip: str
    clock_offset: float
    _asks_checksums: bool
    _settings: S3Settings
    _signer: Signer
    _site: Site
    _custom_endpoint: bool
    _copy_source: str
    _copy_sse: tuple[Header, ...]
    _part_sse: tuple[Header, ...]
    _write_sse: tuple[Header, ...]
    _read_headers: tuple[Header, ...]
    _common: tuple[Header, ...]
    _bodyless_hash: str
    _object_path: str
    _list_path: str

    def _document(self, body: Buffer, roots: Sequence[str], operation: str) -> xml.Element:
        raise NotImplementedError

    def _path(self, key: str) -> str:
        raise NotImplementedError

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        raise NotImplementedError

    def _describe(self, spec: PutSpec) -> list[Header]:
        raise NotImplementedError

    def _condition(self, spec: PutSpec, key: str) -> tuple[Header, ...]:
        raise NotImplementedError

    def read_form(self, credential: Any, now: float, *, verify: bool) -> RequestForm | None:
        """What the GETs of whole objects have in common, signed from ``now`` on; ``None`` where each has to be built by itself.

        Args:
            credential: as for `S3Dialect.sign`.
            now: seconds since the epoch by the local clock.
            verify: ask for the checksums of objects.
        """
        headers = tuple(self._read_headers)
        if verify and self._asks_checksums:
            headers = (*headers, ("x-amz-checksum-mode", "ENABLED"))
        return self._form("GET", headers, self._bodyless_hash, credential, now)

    def range_form(self, credential: Any, now: float) -> RequestForm | None:
        """The same for GETs of ranges, each with a header ``range``, which is not signed."""
        return self._form("GET", tuple(self._read_headers), self._bodyless_hash, credential, now)

    def write_form(self, credential: Any, now: float, spec: PutSpec) -> RequestForm | None:
        """The same for PUTs of whole objects, whose attributes and condition are those of ``spec``."""
        algorithm = self._settings.checksum_algorithm
        headers = self._headers((*self._describe(spec), *self._write_sse, *self._condition(spec, "")))
        if not is_clean(value for _, value in headers):
            return None
        if algorithm is not None:
            headers = (*headers, (f"x-amz-checksum-{algorithm.lower()}", MARK_CHECK))
        payload_hash = UNSIGNED if self._settings.unsigned_payload else MARK_HASH
        form = self._form("PUT", headers, payload_hash, credential, now)
        return None if form is None else form._replace(check=algorithm)

    def _form(
        self, method: str, headers: tuple[Header, ...], payload_hash: str, credential: Any, now: float
    ) -> RequestForm | None:
        names = {name for name, _ in headers}
        if names & _UNSIGNED_NAMES or len(names) < len(headers):
            return None
        if self._signer.service != "s3" or type(credential) is AwsSession:  # the form is S3's own
            return None
        site = self._site
        if credential is None:
            return RequestForm(method, site.origin, self._object_path, "", True, headers)
        sent, form = signing_form(
            site.host,
            headers,
            payload_hash,
            credential.access_key_id,
            credential.secret_access_key,
            credential.token,
            site.region,
            now + self.clock_offset,
            method=method,
        )
        return RequestForm(method, site.origin, self._object_path, "", True, sent, form)

    def copying_from(self, other: Any) -> Self | None:
        """This dialect, but that copies come from the bucket of another one; ``None`` where the service could not reach it."""
        if not isinstance(other, S3Bulk) or other._custom_endpoint != self._custom_endpoint:
            return None
        if self._custom_endpoint and other._site.origin != self._site.origin:
            return None
        clone = copy.copy(self)
        clone._copy_source = other._copy_source
        clone._copy_sse = tuple((name.replace(SSE, COPY_SSE), value) for name, value in other._part_sse)
        return clone

    def build_list_uploads(self, key: str) -> S3Request:
        """Unfinished uploads whose keys begin with ``key``."""
        return self._listing(self._list_path, (("prefix", self.list_strip + key), ("uploads", "")), key)

    def build_list_parts(self, key: str, upload_id: str, after: int | None) -> S3Request:
        """A page of the parts of an upload, from the one after number ``after``."""
        query: list[tuple[str, str | None]] = [("uploadId", upload_id)]
        if after is not None:
            query.insert(0, ("part-number-marker", str(after)))
        return self._listing(self._path(key), query, key)

    def _listing(self, path: str, query: Sequence[tuple[str, str | None]], key: str) -> S3Request:
        return S3Request(
            "GET", path, "list", query, self._common, key=self.list_strip + key, payload_hash=self._bodyless_hash
        )

    def read_list_uploads(self, body: Buffer, key: str) -> str | None:
        """The id of the latest unfinished upload to ``key``, or ``None``."""
        latest: tuple[str, str] | None = None
        for entry in self._document(body, ("ListMultipartUploadsResult",), "ListMultipartUploads").children:
            upload_id = entry.find("UploadId")
            if entry.name == "Upload" and upload_id and entry.find("Key") == self.list_strip + key:
                found = (entry.find("Initiated") or "", upload_id)
                latest = found if latest is None else max(latest, found)
        return None if latest is None else latest[1]

    def read_list_parts(self, body: Buffer) -> tuple[dict[int, tuple[int, PartTag]], int | None]:
        """Size and tag of each part by its number, and what to list the next page after, or ``None``."""
        # moto calls it a response.
        document = self._document(body, ("ListPartsResult", "ListPartsResponse"), "ListParts")
        algorithm = self._settings.checksum_algorithm
        parts = {}
        for entry in document.children:
            number, size, e_tag = entry.find("PartNumber"), entry.find("Size"), entry.find("ETag")
            if entry.name == "Part" and number and size and e_tag:
                checksum = None if algorithm is None else entry.find(f"Checksum{algorithm}")
                parts[int(number)] = (int(size), PartTag(e_tag, checksum))
        marker = document.find("NextPartNumberMarker")
        more = (document.find("IsTruncated") or "").lower() == "true"
        return parts, int(marker) if more and marker else None
