"""What S3 says when it agrees."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from obstore import exceptions
from obstore._dialect import errors, xml
from obstore._dialect.attributes import STANDARD
from obstore._dialect.base import EPOCH, parse_content_range, parse_http_date, parse_length, resolve_range
from obstore._dialect.s3_request import PartTag
from obstore._effects import Response
from obstore._types import Buffer, GetSpec, ListPage, ObjectMeta, PutResult, Range

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["METADATA", "S3Readers"]

METADATA = "x-amz-meta-"
# What answers say of an object. Its storage class is not among it: it is absent for the default class.
_READ_ATTRIBUTES = tuple((name, name.lower()) for name in STANDARD if name != "Storage-Class")


class S3Readers:
    """The half of `S3Dialect` that reads successes."""

    name: str
    list_strip: str
    _settings: S3Settings

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
            key=None if key is None else self.list_strip + key,
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
        # Some servers send a part with its Content-Range, and call it 200.
        if response.status != 206 and content_range is None:
            size = parse_length(length)
            if size is not None:
                span = resolve_range(wanted, size)
                # The whole object is the right answer where it is what the range means; so is nothing where the
                # suffix of an empty object was wanted, which no Content-Range can express.
                whole = span == (0, size) and (size > 0 or wanted.suffix is not None)
                if whole or (sliced and span[0] < span[1]):
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
        if content_range is not None and content_range.startswith(f"bytes {start}-{end - 1}/"):
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
        # rclone's server leaves "Result" off the name.
        roots = ("InitiateMultipartUploadResult", "InitiateMultipartUpload")
        upload_id = self._document(body, roots, "CreateMultipartUpload").find("UploadId")
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
        result = self._document(body, ("CopyPartResult",), "UploadPartCopy")
        e_tag = result.find("ETag")
        if not e_tag:
            raise self._unreadable("Got invalid UploadPartCopy response: missing field `ETag`")
        algorithm = self._settings.checksum_algorithm
        return PartTag(e_tag, None if algorithm is None else result.find(f"Checksum{algorithm}"))

    def read_finish(self, response: Response, body: Buffer) -> PutResult:
        """Raises GenericError where the answer has no ETag; one that is empty, as Ceph sends it, is none."""
        e_tag = self._document(body, ("CompleteMultipartUploadResult",), "CompleteMultipartUpload").find("ETag")
        if e_tag is None:
            raise self._unreadable("Got invalid CompleteMultipartUpload response: missing field `ETag`", response)
        return {"e_tag": e_tag or None, "version": response.header("x-amz-version-id")}

    def read_delete(self, body: Buffer, keys: Sequence[str]) -> list[Exception | None]:
        """What became of each key, in the order of ``keys``: ``None`` is deleted, or was not there."""
        outcomes: dict[str, Exception | None] = {}
        for entry in self._document(body, ("DeleteResult",), "DeleteObjects").children:
            key = entry.find("Key")
            if entry.name == "Deleted" and key is not None:
                outcomes[key] = None
            elif entry.name == "Error":
                outcomes[key or ""] = self._delete_error(key or "", entry)
        if not outcomes:
            raise self._unreadable("Got invalid DeleteObjects response: missing field `Deleted`")
        results: list[Exception | None] = []
        for key in keys:
            full = self.list_strip + key
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
            retryable=code in errors.TRANSIENT_CODES,
        )

    def read_list(self, page: Any) -> ListPage:
        """A page out of the engine's list parser, which has taken ``list_strip`` off the keys.

        Raises:
            GenericError: the server ignores ``list-type=2``, or gives no token although there is more: the listing would
                end too early.
        """
        token = page.token or None  # some servers end with an empty one
        if token is None and page.marker:
            raise self._unreadable("the server answers ListObjects, not ListObjectsV2: cannot list past its first page")
        if token is None and page.truncated:
            raise self._unreadable("the page is said to be truncated, but there is no token to continue with")
        return ListPage(page.objects, page.prefixes, token)

    def _document(self, body: Buffer, roots: Sequence[str], operation: str) -> xml.Element:
        try:
            document = xml.parse(bytes(body))
        except xml.XmlError as error:
            raise self._unreadable(f"Got invalid {operation} response: {error}") from None
        if document.name not in roots:
            raise self._unreadable(f"Got invalid {operation} response: <{document.name}> instead of <{roots[0]}>")
        return document


def _attributes(headers: dict[str, str]) -> dict[str, str]:
    found = {name: headers[header] for name, header in _READ_ATTRIBUTES if header in headers}
    for name, value in headers.items():
        if name.startswith(METADATA):
            found[name[len(METADATA) :]] = value
    return found


def _past_end(start: int, size: int) -> str:
    return f"Invalid range: Wanted range starting at {start}, but object was only {size} bytes long"
