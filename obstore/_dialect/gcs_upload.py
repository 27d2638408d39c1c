"""How large objects get to Google Cloud Storage.

In parallel parts by the XML API (https://cloud.google.com/storage/docs/multipart-uploads), which only Google itself has; or
piece by piece by a resumable upload of the JSON API (https://cloud.google.com/storage/docs/performing-resumable-uploads),
which emulators know as well.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

from obstore._auth.sigv4 import quote_key
from obstore._dialect import xml
from obstore._dialect.answers import ObjectReaders
from obstore._dialect.attributes import STANDARD
from obstore._dialect.gcs_read import FIELDS
from obstore._dialect.gcs_request import GCSRequest
from obstore._dialect.request import Header
from obstore._effects import Request, Response
from obstore._types import Buffer, PutResult, PutSpec

__all__ = ["GCSUploads", "PartTag"]

_HEADER_OF = {name: name.lower() for name in STANDARD} | {"Storage-Class": "x-goog-storage-class"}


class PartTag(NamedTuple):
    """What finishing an upload has to know of a part."""

    e_tag: str


class GCSUploads(ObjectReaders):
    """The part of `GCSDialect` that uploads in more than one request."""

    metadata_prefix: str
    default_content_type: str | None
    _base: str
    _bucket: str
    _upload_path: str
    _common: tuple[Header, ...]

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        raise NotImplementedError

    def _resource_of(self, key: str, spec: PutSpec) -> dict[str, object]:
        raise NotImplementedError

    # ---- the XML API's multipart uploads

    def _xml_path(self, key: str) -> str:
        return f"{self._base}/{self._bucket}/{quote_key(self.list_strip + key)}"

    def build_start(self, key: str, spec: PutSpec) -> GCSRequest:
        """Start of a multipart upload."""
        extra = [(_HEADER_OF.get(n) or self.metadata_prefix + n.lower(), v) for n, v in spec.attributes.items()]
        if "Content-Type" not in spec.attributes:
            extra.append(("content-type", self.default_content_type or "application/octet-stream"))
        return GCSRequest(
            "POST",
            self._xml_path(key),
            "start",
            (("uploads", ""),),
            self._headers(tuple(extra)),
            key=self.list_strip + key,
            body=(),
        )

    def build_part(self, key: str, upload_id: str, number: int, body: Sequence[Buffer]) -> GCSRequest:
        """PUT of part ``number`` (from 1), with its checksum."""
        return GCSRequest(
            "PUT",
            self._xml_path(key),
            "part",
            (("partNumber", str(number)), ("uploadId", upload_id)),
            self._common,
            key=self.list_strip + key,
            body=body,
            hashed=True,
        )

    def build_finish(self, key: str, upload_id: str, parts: Sequence[tuple[int, PartTag]], spec: PutSpec) -> GCSRequest:
        """Completion of a multipart upload out of ``parts``, in order of their numbers."""
        del spec  # conditional objects go up in one request
        # Quotes of an ETag stay as they are: the service takes no &quot; for them.
        entries = []
        for number, tag in parts:
            e_tag = xml.escape(tag.e_tag).replace("&quot;", '"')
            entries.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{e_tag}</ETag></Part>")
        body = f"<CompleteMultipartUpload>{''.join(entries)}</CompleteMultipartUpload>".encode()
        return GCSRequest(
            "POST",
            self._xml_path(key),
            "finish",
            (("uploadId", upload_id),),
            self._headers((("content-type", "application/xml"),)),
            key=self.list_strip + key,
            body=(body,),
        )

    def build_abort(self, key: str, upload_id: str) -> GCSRequest:
        """Removal of a multipart upload and its parts."""
        return GCSRequest(
            "DELETE",
            self._xml_path(key),
            "abort",
            (("uploadId", upload_id),),
            self._common,
            key=self.list_strip + key,
        )

    def read_start(self, body: Buffer) -> str:
        """The upload id. Raises GenericError where there is none."""
        roots = ("InitiateMultipartUploadResult",)
        upload_id = self._document(body, roots, "CreateMultipartUpload").find("UploadId")
        if not upload_id:
            raise self._unreadable("Got invalid CreateMultipartUpload response: missing field `UploadId`")
        return upload_id

    def read_part(self, response: Response) -> PartTag:
        """Raises GenericError where the answer has no ETag."""
        e_tag = response.header("etag")
        if e_tag is None:
            raise self._unreadable("ETag Header missing from response", response)
        return PartTag(e_tag)

    def read_finish(self, response: Response, body: Buffer) -> PutResult:
        """The generation; the ETag would be the XML API's, which is another one than the JSON API's."""
        self._document(body, ("CompleteMultipartUploadResult",), "CompleteMultipartUpload")
        return {"e_tag": None, "version": response.header(self.version_header)}

    # ---- the JSON API's resumable uploads

    def build_session(self, key: str, spec: PutSpec) -> GCSRequest:
        """Start of a resumable upload."""
        resource = self._resource_of(key, spec)
        return GCSRequest(
            "POST",
            self._upload_path,
            "start",
            (("uploadType", "resumable"), ("name", self.list_strip + key), ("fields", FIELDS + ",crc32c")),
            self._headers((("content-type", "application/json; charset=UTF-8"),)),
            key=self.list_strip + key,
            body=(json.dumps(resource).encode(),),
        )

    def read_session(self, response: Response) -> Sequence[tuple[str, str | None]]:
        """What names the upload: the query of the address that the answer sends us to.

        Its host and path are ours: signed requests go to no host of a server's choice.

        Raises:
            GenericError: there is no such address in the answer.
        """
        location = response.header("location")
        query = [] if location is None else parse_qsl(urlsplit(location).query, keep_blank_values=True)
        if not any(name == "upload_id" for name, _ in query):
            raise self._unreadable("the answer to the start of a resumable upload names no upload_id", response)
        return tuple(query)

    def build_chunk(
        self,
        key: str,
        session: Sequence[tuple[str, str | None]],
        start: int,
        total: int | None,
        body: Sequence[Buffer],
        size: int,
    ) -> GCSRequest:
        """PUT of ``size`` bytes from ``start`` on; the last ones where ``total`` is known."""
        span = f"{start}-{start + size - 1}" if size else "*"
        return GCSRequest(
            "PUT",
            self._upload_path,
            "chunk",
            session,
            self._headers((("content-range", f"bytes {span}/{'*' if total is None else total}"),)),
            key=self.list_strip + key,
            body=body,
        )

    def build_cancel(self, key: str, session: Sequence[tuple[str, str | None]]) -> GCSRequest:
        """End of a resumable upload that is given up."""
        return GCSRequest(
            "DELETE", self._upload_path, "abort", session, self._common, key=self.list_strip + key, body=()
        )

    # ---- what only other services need

    def build_part_copy(
        self, from_: str, key: str, upload_id: str, number: int, span: tuple[int, int] | None
    ) -> Request:
        """Never needed: a rewrite copies an object of any size."""
        raise NotImplementedError

    def read_part_copy(self, body: Buffer) -> PartTag:
        """Never needed, as `build_part_copy`."""
        raise NotImplementedError
