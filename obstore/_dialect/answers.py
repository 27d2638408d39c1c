"""What successful answers about objects say, as all services in front of HTTP semantics say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from obstore import exceptions
from obstore._dialect import xml
from obstore._dialect.attributes import STANDARD
from obstore._dialect.base import EPOCH, parse_content_range, parse_http_date, parse_length, resolve_range
from obstore._dialect.checksums import Checksum
from obstore._effects import Request, Response
from obstore._types import Buffer, GetSpec, ObjectMeta, PutResult, PutSpec, Range

__all__ = ["READ_ATTRIBUTES", "ObjectReaders", "past_end"]

# What answers say of an object, and the header that says it. The storage class is not among it: services leave it out
# for their default class.
READ_ATTRIBUTES = tuple((name, name.lower()) for name in STANDARD if name != "Storage-Class")


class ObjectReaders:
    """Reads objects, parts of them and their heads; dialects inherit it and say how their service names things.

    Attributes:
        name: the store as messages name it.
        list_strip: the store's prefix with its slash: what full keys begin with.
        request_id_header, host_id_header: the service's names for a request.
        version_header: the object's version.
        metadata_prefix: of headers with user metadata.
        resumable, head_after_finish, update_by_version: see `Dialect`.
    """

    name: str
    list_strip: str
    request_id_header: str
    host_id_header: str | None = None
    version_header: str
    metadata_prefix: str
    lists_after = True
    resumable = False
    head_after_finish = False
    update_by_version = False
    delete_batch_min = 1
    prepare_pair: Callable[[Any, Any], None] | None = None
    copy_pause_s = 0.0
    offset_inclusive = False
    suffix_ranges = True

    def _unreadable(self, detail: str, response: Response | None = None, key: str | None = None) -> Exception:
        """A success that does not say what it must."""
        if response is None:
            return exceptions.GenericError.of(self.name, detail, key=key)
        return exceptions.GenericError.of(
            self.name,
            detail,
            status=response.status,
            request_id=response.header(self.request_id_header),
            host_id=None if self.host_id_header is None else response.header(self.host_id_header),
            key=None if key is None else self.list_strip + key,
        )

    def read_checksum(self, response: Response) -> Checksum | None:  # noqa: ARG002 - for services that have none
        """What the whole body must come to; ``None`` where the service does not say."""
        return None

    def made_of(self, parts: Sequence[Any]) -> str | None:  # noqa: ARG002 - for services whose ETags tell nothing
        """The ETag that the object made of these parts has; ``None`` where that cannot be told from them."""
        return None

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
        return self._meta(response, headers, key, size), span, self._attributes(headers)

    def whole_size(self, response: Response) -> int | None:
        """The object's size, where the answer to a plain `build_get` says all that it must: the rest can be read later.

        ``None``: `read_get` finds out what is wrong with it.
        """
        modified = response.header("last-modified")
        if response.status != 200 or modified is None:
            return None
        try:
            parse_http_date(modified)
        except ValueError:
            return None
        return parse_length(response.header("content-length"))

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
                    raise self._unreadable(past_end(span[0], size), response, key)
            raise self._unreadable("Received non-partial response when range requested", response, key)
        if content_range is None:
            raise self._unreadable("Content-Range header not present in partial response", response, key)
        found = parse_content_range(content_range)
        if found is None:
            start = wanted.start
            if start is not None and content_range == f"bytes {start}-{start - 1}/{start}":
                raise self._unreadable(past_end(start, start), response, key)  # Azurite's way to say so
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
            "version": headers.get(self.version_header),
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
        return self._attributes(dict(response.headers()))

    def _attributes(self, headers: dict[str, str]) -> dict[str, str]:
        found = {name: headers[header] for name, header in READ_ATTRIBUTES if header in headers}
        prefix = self.metadata_prefix
        for name, value in headers.items():
            if name.startswith(prefix):
                found[name[len(prefix) :]] = value
        return found

    def read_put(self, response: Response) -> PutResult:
        """Raises GenericError where the answer has no ETag."""
        e_tag = response.header("etag")
        if e_tag is None:
            raise self._unreadable("ETag Header missing from response", response)
        return {"e_tag": e_tag, "version": response.header(self.version_header)}

    # ---- what only some services have: they replace it

    def continue_copy(self, request: Request, response: Response) -> Request | None:
        """See `Dialect.continue_copy`: here copies are done when they are answered."""
        del request, response
        return None

    def build_session(self, key: str, spec: PutSpec) -> Request:
        """See `Dialect.build_session`."""
        raise NotImplementedError

    def read_session(self, response: Response) -> Any:
        """See `Dialect.read_session`."""
        raise NotImplementedError

    def build_chunk(
        self, key: str, session: Any, start: int, total: int | None, body: Sequence[Buffer], size: int
    ) -> Request:
        """See `Dialect.build_chunk`."""
        raise NotImplementedError

    def build_cancel(self, key: str, session: Any) -> Request:
        """See `Dialect.build_cancel`."""
        raise NotImplementedError

    def checksum(self, body: Sequence[Buffer], value: int) -> int:
        """See `Dialect.checksum`."""
        raise NotImplementedError

    def differs(self, response: Response, size: int, checksum: int) -> str | None:
        """See `Dialect.differs`."""
        raise NotImplementedError

    def _document(self, body: Buffer, roots: Sequence[str], operation: str) -> xml.Element:
        try:
            document = xml.parse(bytes(body))
        except xml.XmlError as error:
            raise self._unreadable(f"Got invalid {operation} response: {error}") from None
        if document.name not in roots:
            raise self._unreadable(f"Got invalid {operation} response: <{document.name}> instead of <{roots[0]}>")
        return document


def past_end(start: int, size: int) -> str:
    return f"Invalid range: Wanted range starting at {start}, but object was only {size} bytes long"
