"""Requests of Google Cloud Storage that are alike but for key and body."""

from __future__ import annotations

import json
import secrets
from typing import Any

from obstore._auth.sigv4 import encode_query
from obstore._auth.sigv4_form import MARK_CHECK, MARK_KEY
from obstore._dialect.bulk import RequestForm, is_clean
from obstore._dialect.gcs_request import GCSRequest
from obstore._dialect.request import Header
from obstore._types import Buffer, PutSpec

__all__ = ["GCSBulk"]


class GCSBulk:
    """The part of `GCSDialect` that makes forms."""

    endpoint: str
    _object_path: str
    _media_headers: tuple[Header, ...]

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        raise NotImplementedError

    def build_put(self, key: str, body: list[Buffer], spec: PutSpec) -> GCSRequest:
        raise NotImplementedError

    def read_form(self, credential: Any, now: float, *, verify: bool) -> RequestForm | None:  # noqa: ARG002 - the service sends checksums unasked
        """What GETs of whole objects have in common; see `S3Bulk.read_form`."""
        return RequestForm(
            "GET", self.endpoint, self._object_path, "?alt=media", False, _with(self._media_headers, credential)
        )

    def range_form(self, credential: Any, now: float) -> RequestForm | None:
        """The same for ranges, each with a header ``range``."""
        return self.read_form(credential, now, verify=False)

    def write_form(self, credential: Any, now: float, spec: PutSpec) -> RequestForm | None:  # noqa: ARG002 - tokens do not depend on it
        """The same for POSTs of whole objects: description, with the key and a checksum, and content in one body."""
        request = self.build_put("", [], spec)
        resource = request.resource or {}
        attributes = [*spec.attributes.items(), *((str(resource["name"]), str(resource["contentType"])),)]
        if not is_clean(text for pair in attributes for text in pair):
            return None
        resource["name"] = f"{resource['name']}{MARK_KEY}"
        resource["crc32c"] = MARK_CHECK
        text = json.dumps(resource)
        for mark in (MARK_KEY, MARK_CHECK):  # as they are: the C core looks for them
            text = text.replace(json.dumps(mark)[1:-1], mark)
        boundary = secrets.token_hex(16)  # long enough not to be in an object
        head = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{text}\r\n"
            f"--{boundary}\r\ncontent-type: {resource['contentType']}\r\n\r\n"
        )
        headers = self._headers((("content-type", f"multipart/related; boundary={boundary}"),))
        return RequestForm(
            "POST",
            self.endpoint,
            request.path,
            f"?{encode_query(request.query)}",
            False,
            _with(headers, credential),
            body=(head, f"\r\n--{boundary}--\r\n"),
            check="CRC32C",
        )


def _with(headers: tuple[Header, ...], credential: Any) -> tuple[Header, ...]:
    return headers if credential is None else (*headers, ("authorization", credential.header))
