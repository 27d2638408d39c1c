"""HTTP as any web server speaks it (RFC 9110), and WebDAV (RFC 4918): requests out of operations, values out of answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from obstore import exceptions
from obstore._dialect.answers import ObjectReaders, past_end
from obstore._dialect.attributes import STANDARD
from obstore._dialect.base import EPOCH, condition_headers, format_range, parse_http_date, parse_length, slice_of
from obstore._dialect.http_fail import HttpFailures
from obstore._dialect.http_request import HttpRequest, is_foreign, own_http, quote_path, resolve
from obstore._dialect.request import Header
from obstore._effects import Request, Response
from obstore._types import Buffer, GetSpec, ObjectMeta, PutResult, PutSpec, Range

__all__ = ["HttpDialect", "HttpRequest"]

_MAX_OFFSET = 2**63 - 1
_NO_TOTAL = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/\*")
_SENT_ATTRIBUTES = frozenset(STANDARD) - {"Storage-Class"}
_PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/><D:getcontentlength/>'
    b"<D:getlastmodified/><D:getetag/></D:prop></D:propfind>"
)
# Of a file, which has no members, it means the same as infinity. Of a collection servers refuse it where it would make
# the request act on all below: a key names an object, never a tree of them.
_FILE_ONLY: Header = ("depth", "0")


class HttpDialect(ObjectReaders, HttpFailures):
    """HTTP for the resources below one URL. Safe to share between threads.

    Args:
        url: http or https, in normal form (`obstore._config.url.normalise_http_url`); its query goes with every request.
        authorization: value of the ``Authorization`` header, or ``None``. One among ``default_headers`` wins.
        default_headers: sent with every request; names in lower case. A request's own headers win.
        default_content_type: content type of objects put without one; ``None`` sends none.

    Raises:
        GenericError: a default header is ``host``.
    """

    name = "HTTP"
    delete_batch = 1
    delete_concurrency = 10
    missing_is_error = True
    splits_lists = False
    clock_offset = 0.0
    request_id_header = "x-request-id"
    version_header = ""  # HTTP has no versions
    metadata_prefix = "\n"  # nor user metadata

    def __init__(
        self,
        url: str,
        *,
        authorization: str | None = None,
        default_headers: Iterable[Header] = (),
        default_content_type: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._base_path = parts.path
        self._object_path = parts.path.rstrip("/") + "/"
        self._query = f"?{parts.query}" if parts.query else ""
        # Errors name keys as they are; the parser of listings strips this path itself.
        self.list_strip = ""
        self.collection_path = unquote(self._object_path, errors="surrogateescape")
        self.default_content_type = default_content_type
        common = list(default_headers)
        if any(name == "host" for name, _ in common):
            raise exceptions.GenericError.of(self.name, "default_headers must not hold host: it belongs to the URL")
        if authorization is not None and all(name != "authorization" for name, _ in common):
            common.append(("authorization", authorization))
        self._common = tuple(common)

    # ---- addressing ---------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """``scheme://host[:port]`` that requests go to."""
        return self._origin

    @property
    def host(self) -> str:
        """The ``Host`` value."""
        return self._host

    def path_of(self, key: str) -> str:
        """The URL's path of a key; that of the store's own URL for the empty one."""
        return self._object_path + quote_path(key) if key else self._base_path

    def path_of_collection(self, key: str) -> str:
        """The URL's path of a collection: ``dir/``, or the empty key for the store's own."""
        return self._object_path + quote_path(key)

    # ---- builders -----------------------------------------------------------------------------------------------

    def build_get(self, key: str, spec: GetSpec) -> HttpRequest:
        """GET of an object or a range of it; HEAD where ``spec.head``."""
        own: list[Header] = []
        if spec.range is not None and not spec.head:
            own.append(("range", format_range(spec.range)))
        own += condition_headers(spec)
        return HttpRequest(
            "HEAD" if spec.head else "GET",
            self.path_of(key),
            "head" if spec.head else "get",
            own,
            self._common,
            key=key,
            slice_=None if spec.head or spec.range is None else slice_of(spec.range),
        )

    def build_range(self, key: str, start: int, end: int) -> HttpRequest:
        """GET of bytes ``start`` to ``end`` (exclusive); cut out of the whole where the server knows no ranges."""
        return HttpRequest(
            "GET",
            self.path_of(key),
            "get",
            (("range", f"bytes={start}-{end - 1}"),),
            self._common,
            key=key,
            slice_=(start, end - start),
        )

    def build_resume(self, request: Request, start: int, end: int | None, e_tag: str | None) -> HttpRequest:
        """The GET for the rest, from ``start``, of what ``request`` asked for; from where that was sent first.

        A weak ETag never satisfies If-Match, so there the original conditions stay, and `check_resume` compares.
        """
        own = [header for header in own_http(request).own if header[0] != "range"]
        own.append(("range", f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"))
        if e_tag is not None and not e_tag.startswith("W/"):
            own = [header for header in own if not header[0].startswith("if-")]
            own.append(("if-match", e_tag))
        slice_ = (start, (_MAX_OFFSET if end is None else end) - start)
        return HttpRequest("GET", request.path, "get", own, self._common, key=request.key, slice_=slice_)

    def build_head(self, key: str, version: str | None) -> HttpRequest:  # noqa: ARG002 - there are no versions
        """HEAD of an object."""
        return HttpRequest("HEAD", self.path_of(key), "head", (), self._common, key=key)

    def build_probe(self, key: str, spec: GetSpec) -> HttpRequest:
        """GET of an object's first byte, which tells what HEAD would where HEAD is refused."""
        return self.build_get(key, spec.with_(head=False, range=Range(0, 1)))

    def build_put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> HttpRequest:
        """PUT of a whole object. A condition is sent for updates only: servers ignore ``If-None-Match: *`` here."""
        own = [(name.lower(), value) for name, value in spec.attributes.items() if name in _SENT_ATTRIBUTES]
        if self.default_content_type is not None and "Content-Type" not in spec.attributes:
            own.append(("content-type", self.default_content_type))
        if spec.mode == "update" and spec.e_tag is not None:
            own.append(("if-match", spec.e_tag))
        return HttpRequest(
            "PUT",
            self.path_of(key),
            "put",
            own,
            self._common,
            key=key,
            body=body,
            idempotent=spec.mode == "overwrite",
            condition="update" if spec.mode == "update" else None,
        )

    def build_delete_one(self, key: str) -> HttpRequest:
        """DELETE of one object."""
        return HttpRequest("DELETE", self.path_of(key), "delete", (_FILE_ONLY,), self._common, key=key)

    def build_transfer(
        self, method: str, from_: str, to: str, *, overwrite: bool, may_exist: bool, file_only: bool = True
    ) -> HttpRequest:
        """COPY or MOVE of one object.

        Args:
            method: ``COPY`` or ``MOVE``.
            from_, to: the keys.
            overwrite: whether the server is to replace what is at ``to``, whatever it is.
            may_exist: whether the caller minds if something is there; decides only what a refusal is called.
            file_only: whether to have collections refused.
        """
        own: list[Header] = [("destination", self._origin + self.path_of(to)), ("overwrite", "T" if overwrite else "F")]
        if file_only:
            own.append(_FILE_ONLY)
        return HttpRequest(
            method,
            self.path_of(from_),
            "copy" if method == "COPY" else "rename",
            own,
            self._common,
            key=to,
            source=from_,
            idempotent=overwrite and method == "COPY",
            condition=None if may_exist else "create",
        )

    def build_collection(self, path: str) -> HttpRequest:
        """MKCOL of a collection; ``path`` is a URL's. Repeating it finds the collection there."""
        return HttpRequest("MKCOL", path, "collection", (), self._common, key=None)

    def build_properties(self, path: str, depth: str) -> HttpRequest:
        """PROPFIND of what is at a URL's path.

        Args:
            path: with a slash at its end for a collection.
            depth: ``"0"``, ``"1"`` for the members too, or ``"infinity"`` for all below.
        """
        own = (("depth", depth), ("content-type", "application/xml; charset=utf-8"))
        return HttpRequest("PROPFIND", path, "list", own, self._common, key=None, body=(_PROPERTIES,))

    # ---- sending ------------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> None:
        """Nothing: bodies are neither hashed nor signed."""

    def sign(
        self,
        request: Request,
        credential: Any,  # noqa: ARG002 - credentials are headers of the user's
        now: float,
    ) -> tuple[str, Sequence[Header]]:
        """The URL and all headers to send."""
        request = own_http(request)
        request.signed_at = now
        if request.target is not None:
            return request.target, request.own if request.foreign else request.headers
        return self._origin + request.path + self._query, request.headers

    def follow(self, request: Request, response: Response, body: Buffer) -> bool:  # noqa: ARG002 - all is in a header
        """Send ``request`` where the answer's Location says. Another origin gets the dialect's own headers only.

        Returns:
            False where it leads nowhere, or was followed often enough.
        """
        request = own_http(request)
        here = request.target or self._origin + request.path + self._query
        target = resolve(here, response.header("location") or "")
        if target is None or request.redirects >= self.max_redirects:
            return False
        request.redirects += 1
        request.target = target
        request.slashed = request.slashed or target.partition("?")[0] == here.partition("?")[0] + "/"
        # Once it has left, coming back does not bring the credentials back: the way went through foreign hands.
        request.foreign = request.foreign or is_foreign(self._origin, target)
        return True

    # ---- readers ------------------------------------------------------------------------------------------------

    def tells_size(self, response: Response) -> bool:
        """Whether an answer to GET says how large the object is."""
        return (
            response.header("content-range") is not None or parse_length(response.header("content-length")) is not None
        )

    def read_probe(self, response: Response, key: str) -> tuple[ObjectMeta, dict[str, str]]:
        """Meta and attributes out of an answer to `build_probe`, 206, 200 or 416.

        Raises:
            NotSupportedError: it does not say how large the object is.
        """
        headers = dict(response.headers())
        total = headers.get("content-range", "").rpartition("/")[2]
        size = parse_length(total)
        if response.status == 416:
            size = 0 if size is None else size
        elif size is None and response.status == 200:
            size = parse_length(headers.get("content-length"))
        if size is None:
            raise exceptions.NotSupportedError.of(
                self.name,
                f"the server does not say how large {key or 'the object'} is",
                status=response.status,
                key=key,
                hint="read it with get(), which finds out by reading",
            )
        return self._meta(response, headers, key, size), self._attributes(headers)

    def read_whole(self, response: Response, key: str, size: int) -> tuple[ObjectMeta, dict[str, str]]:
        """Meta and attributes out of an answer that was read to its end, whose size it did not say."""
        headers = dict(response.headers())
        return self._meta(response, headers, key, size), self._attributes(headers)

    def check_range(self, response: Any, start: int, end: int, sliced: bool = False) -> tuple[int, int]:
        """As `ObjectReaders.check_range`; the object's size may stay unknown."""
        content_range = response.header("content-range")
        if content_range is None:
            if sliced and parse_length(response.header("content-length")) is None:
                if not response.received:
                    raise self._unreadable(past_end(start, 0).partition(",")[0], response)
                return start, start + response.received
        elif (found := _NO_TOTAL.fullmatch(content_range)) is not None:
            first, last = int(found[1]), int(found[2]) + 1
            if first != start or not start < last <= end:
                raise self._unreadable(f"Requested {start}..{end}, got {first}..{last}", response)
            return first, last
        return super().check_range(response, start, end, sliced)

    def check_resume(self, response: Any, start: int, end: int | None, e_tag: str | None) -> None:
        """As `ObjectReaders.check_resume`; the rest may be cut out of the whole."""
        self._read_range(
            response,
            response.header("content-range"),
            response.header("content-length"),
            Range(start, end),
            response.sliced,
            None,
        )
        if e_tag is None or response.header("etag") != e_tag:
            raise self._unreadable("the object changed while it was read", response)

    def _modified(self, response: Response, text: str | None, key: str) -> datetime:  # noqa: ARG002 - it never fails
        """A date that cannot be read counts as none: the object is good all the same."""
        try:
            return EPOCH if text is None else parse_http_date(text)
        except ValueError:
            return EPOCH

    def read_put(self, response: Response) -> PutResult:
        """Many servers tell no ETag here."""
        return {"e_tag": response.header("etag"), "version": None}
