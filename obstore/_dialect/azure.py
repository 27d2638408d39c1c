"""The protocol of Azure's Blob service: requests out of operations, values and exceptions out of answers.

Source: "Blob service REST API", learn.microsoft.com/rest/api/storageservices.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from obstore import exceptions
from obstore._auth.azure import AccountKey, BearerToken, SasToken
from obstore._auth.shared_key import authorize, http_date
from obstore._auth.sigv4 import encode_query, quote_key
from obstore._dialect.attributes import STANDARD
from obstore._dialect.azure_batch import build_batch
from obstore._dialect.azure_bulk import AzureBulk
from obstore._dialect.azure_fail import AzureFailures
from obstore._dialect.azure_read import METADATA, AzureReaders, copy_state
from obstore._dialect.azure_request import AzureRequest, own
from obstore._dialect.azure_sas import AzurePresigner
from obstore._dialect.base import CopyCreate, condition_headers, format_range, slice_of
from obstore._dialect.request import Header
from obstore._effects import Request, Response
from obstore._types import Buffer, GetSpec, PutSpec

if TYPE_CHECKING:
    from obstore._config.azure import AzureSettings

__all__ = ["AzureDialect"]

VERSION = "2023-11-03"
# The first in which an object of a customer's key can be copied by its URL.
_ENCRYPTED_COPY_VERSION = "2026-02-06"
# How long the signature holds that lets the service read the source of such a copy.
_SOURCE_SAS_SECONDS = 3600
_COPY_PAUSE_SECONDS = 0.5

_MIB = 1024 * 1024
_HEADER_OF = {name: f"x-ms-blob-{name.lower()}" for name in STANDARD} | {"Storage-Class": "x-ms-access-tier"}


class AzureDialect(AzureReaders, AzureFailures, AzurePresigner, AzureBulk):
    """The Blob protocol for one container. Safe to share between threads.

    Args:
        settings: the store's configuration.
        default_headers: sent, and signed, with every request; names in lower case. A request's own headers win.
        default_content_type: content type of objects put without one; ``None`` sends none.
        prefix: of all keys, without slashes at its ends; ``None`` or empty for none.

    Raises:
        GenericError: a default header is ``host``.
    """

    name = "MicrosoftAzure"
    delete_batch = 256
    delete_batch_min = 2  # one by one errors say more, and a SAS for one object suffices
    delete_concurrency = 20
    missing_is_error = True
    max_parts = 50_000
    min_part_bytes = 1
    max_part_bytes = 4000 * _MIB
    max_copy_bytes = 2**63 - 1
    copy_create: CopyCreate = "header"
    copy_pause_s = _COPY_PAUSE_SECONDS
    offset_inclusive = True
    splits_lists = False  # not every service of the protocol begins where it is asked to
    suffix_ranges = False

    def __init__(
        self,
        settings: AzureSettings,
        *,
        default_headers: Iterable[Header] = (),
        default_content_type: str | None = None,
        prefix: str | None = None,
    ) -> None:
        self._settings = settings
        self.account = settings.account
        self.clock_offset = 0.0
        self.default_content_type = default_content_type
        self.list_strip = f"{prefix}/" if prefix else ""
        self.endpoint = settings.origin
        scheme, _, authority = settings.origin.partition("://")
        self.host = authority.removesuffix(":443" if scheme == "https" else ":80")
        self._custom_endpoint = not authority.endswith((".core.windows.net", ".fabric.microsoft.com"))
        self._list_path = f"{settings.base_path}/{quote_key(settings.container)}"
        self._object_path = f"{self._list_path}/{quote_key(self.list_strip)}"

        defaults = tuple(default_headers)
        if any(name == "host" for name, _ in defaults):
            raise exceptions.GenericError.of(self.name, "default_headers must not hold host: set endpoint instead")
        self._common = (*(pair for pair in defaults if pair[0] not in _OWN_HEADERS), ("x-ms-version", VERSION))
        self._customer_key = _customer_key(settings.encryption_key, "x-ms-encryption")
        self._source_key = _customer_key(settings.encryption_key, "x-ms-source-encryption")
        self._read_headers = self._headers(self._customer_key)
        if self._source_key:
            self.max_copy_bytes = 5000 * _MIB  # Put Blob From URL

    # ---- builders -----------------------------------------------------------------------------------------------

    def _headers(self, extra: tuple[Header, ...]) -> tuple[Header, ...]:
        """``extra`` after what every request carries, of which it replaces what it also names."""
        if not extra:
            return self._common
        if len(self._common) == 1:
            return (*self._common, *extra)
        names = {name for name, _ in extra}
        return (*(header for header in self._common if header[0] not in names), *extra)

    def _path(self, key: str) -> str:
        return self._object_path + quote_key(key)

    def _full(self, key: str) -> str:
        return self.list_strip + key

    def build_get(self, key: str, spec: GetSpec) -> AzureRequest:
        """Get Blob, or a range of it; Get Blob Properties where ``spec.head``. A suffix has to be resolved before."""
        extra = condition_headers(spec)
        if spec.range is not None and not spec.head:
            extra.append(("range", format_range(spec.range)))
        return AzureRequest(
            "HEAD" if spec.head else "GET",
            self._path(key),
            "head" if spec.head else "get",
            () if spec.version is None else (("versionid", spec.version),),
            self._headers((*self._customer_key, *extra)) if extra else self._read_headers,
            key=self._full(key),
            slice_=None if spec.head or spec.range is None else slice_of(spec.range),
        )

    def build_range(self, key: str, start: int, end: int) -> AzureRequest:
        """Get Blob of bytes ``start`` to ``end`` (exclusive)."""
        return AzureRequest(
            "GET",
            self._path(key),
            "get",
            (),
            (*self._read_headers, ("range", f"bytes={start}-{end - 1}")),
            key=self._full(key),
            slice_=(start, end - start),
        )

    def build_resume(self, request: Request, start: int, end: int | None, e_tag: str | None) -> AzureRequest:
        """The Get Blob for the rest, from ``start``, of what ``request`` asked for."""
        headers = [header for header in request.headers if header[0] != "range" and not header[0].startswith("if-")]
        headers.append(("range", f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"))
        if e_tag is not None:
            headers.append(("if-match", e_tag))
        return AzureRequest("GET", request.path, "get", request.query, headers, key=request.key)

    def build_head(self, key: str, version: str | None) -> AzureRequest:
        """Get Blob Properties."""
        return AzureRequest(
            "HEAD",
            self._path(key),
            "head",
            () if version is None else (("versionid", version),),
            self._read_headers,
            key=self._full(key),
        )

    def build_put(self, key: str, body: Sequence[Buffer], spec: PutSpec) -> AzureRequest:
        """Put Blob, a block blob.

        Raises:
            GenericError: an update without an ETag.
        """
        extra = (
            ("x-ms-blob-type", "BlockBlob"),
            *self._describe(spec),
            *self._customer_key,
            *self._condition(spec, key),
        )
        return AzureRequest(
            "PUT",
            self._path(key),
            "put",
            (),
            self._headers(extra),
            key=self._full(key),
            body=body,
            # Repeating a conditional put that did succeed would report its own object as the conflict.
            idempotent=spec.mode == "overwrite",
            condition=None if spec.mode == "overwrite" else spec.mode,
        )

    def build_list(self, prefix: str, offset: str | None, delimiter: bool, cursor: str | None) -> AzureRequest:
        """One page of List Blobs. ``prefix`` and ``offset`` are relative to the store's prefix.

        ``startFrom`` is inclusive, and unknown to the emulator: keys up to the offset are left out when the page is read.
        """
        query: list[tuple[str, str | None]] = [("restype", "container"), ("comp", "list")]
        if full := self.list_strip + prefix:
            query.append(("prefix", full))
        if delimiter:
            query.append(("delimiter", "/"))
        if cursor is not None:
            query.append(("marker", cursor))
        elif offset is not None and not self._settings.emulator:
            query.append(("startFrom", self.list_strip + offset))
        return AzureRequest("GET", self._list_path, "list", query, self._common, key=None)

    def build_start(self, key: str, spec: PutSpec) -> None:
        """Nothing: an upload begins with its first block. A condition is checked early, though."""
        self._condition(spec, key)

    def build_part(self, key: str, upload_id: str, number: int, body: Sequence[Buffer]) -> AzureRequest:
        """Put Block."""
        return AzureRequest(
            "PUT",
            self._path(key),
            "part",
            (("comp", "block"), ("blockid", _block_id(upload_id, number))),
            self._read_headers,
            key=self._full(key),
            body=body,
        )

    def build_part_copy(
        self, from_: str, key: str, upload_id: str, number: int, span: tuple[int, int] | None
    ) -> AzureRequest:
        """Put Block From URL: part ``number`` out of bytes ``span`` (end exclusive) of another object."""
        extra = [*self._customer_key, *self._source_key]
        if span is not None:
            extra.append(("x-ms-source-range", f"bytes={span[0]}-{span[1] - 1}"))
        if self._source_key:
            extra.append(("x-ms-version", _ENCRYPTED_COPY_VERSION))
        return AzureRequest(
            "PUT",
            self._path(key),
            "part",
            (("comp", "block"), ("blockid", _block_id(upload_id, number))),
            self._headers(tuple(extra)),
            key=self._full(key),
            body=(),
            source=self._full(from_),
            copy_path=self._path(from_),
        )

    def build_finish(self, key: str, upload_id: str, parts: Sequence[tuple[int, Any]], spec: PutSpec) -> AzureRequest:
        """Put Block List out of ``parts``, in order of their numbers."""
        blocks = "".join(f"<Uncommitted>{_block_id(upload_id, number)}</Uncommitted>" for number, _ in parts)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'.encode()
        extra = (
            ("content-type", "application/xml"),
            *self._describe(spec),
            *self._customer_key,
            *self._condition(spec, key),
        )
        return AzureRequest(
            "PUT",
            self._path(key),
            "finish",
            (("comp", "blocklist"),),
            self._headers(extra),
            key=self._full(key),
            body=(body,),
            idempotent=spec.mode == "overwrite",
            condition=None if spec.mode == "overwrite" else spec.mode,
        )

    def build_abort(self, key: str, upload_id: str) -> None:
        """Nothing: blocks that were not made an object vanish after a week, or with the next object of the name."""

    def build_copy(self, from_: str, to: str, overwrite: bool) -> AzureRequest:
        """Copy Blob; Put Blob From URL where a customer's key is in use, which Copy Blob does not know."""
        extra: list[Header] = [] if overwrite else [("if-none-match", "*")]
        if self._source_key:
            extra += [
                ("x-ms-blob-type", "BlockBlob"),
                *self._customer_key,
                *self._source_key,
                ("x-ms-version", _ENCRYPTED_COPY_VERSION),
            ]
        return AzureRequest(
            "PUT",
            self._path(to),
            "copy",
            (),
            self._headers(tuple(extra)),
            key=self._full(to),
            body=(),
            idempotent=overwrite,
            condition=None if overwrite else "create",
            source=self._full(from_),
            copy_path=self._path(from_),
        )

    def continue_copy(self, request: Request, response: Response) -> AzureRequest | None:
        """Get Blob Properties of the destination for as long as the service is copying.

        Raises:
            GenericError: the copy failed, or another one took its place.
        """
        state = copy_state(response)
        if state == "success":
            return None
        request = own(request)
        if state != "pending":
            detail = response.header("x-ms-copy-status-description") or "no reason given"
            raise exceptions.GenericError.of(
                self.name,
                f"The copy to {request.key} {state}: {detail}",
                status=response.status,
                request_id=response.header(self.request_id_header),
                key=request.key,
            )
        if request.operation == "head":
            return request
        return AzureRequest(
            "HEAD", request.path, "head", (), self._read_headers, key=request.key, source=request.source
        )

    def build_delete_one(self, key: str, version: str | None = None) -> AzureRequest:
        """Delete Blob. An earlier try may have deleted what a later one does not find: operations know."""
        return AzureRequest(
            "DELETE",
            self._path(key),
            "delete",
            () if version is None else (("versionid", version),),
            self._common,
            key=self._full(key),
        )

    def build_delete(self, keys: Sequence[str]) -> AzureRequest:
        """Blob Batch of up to ``delete_batch`` deletions."""
        return AzureRequest(
            "POST",
            self._list_path,
            "bulk_delete",
            (("restype", "container"), ("comp", "batch")),
            self._common,
            key=None,
            batch=[self._path(key) for key in keys],
        )

    def _describe(self, spec: PutSpec) -> list[Header]:
        """Attributes and tags as headers."""
        headers = [(_HEADER_OF.get(name) or METADATA + name.lower(), value) for name, value in spec.attributes.items()]
        if self.default_content_type is not None and "Content-Type" not in spec.attributes:
            headers.append(("x-ms-blob-content-type", self.default_content_type))
        if spec.tags and not self._settings.disable_tagging:
            headers.append(("x-ms-tags", urlencode(list(spec.tags.items()))))
        return headers

    def _condition(self, spec: PutSpec, key: str) -> tuple[Header, ...]:
        if spec.mode == "overwrite":
            return ()
        if spec.mode == "create":
            return (("if-none-match", "*"),)
        if spec.e_tag is None:
            raise exceptions.GenericError.of(self.name, "ETag required for conditional update", key=self._full(key))
        return (("if-match", spec.e_tag),)

    # ---- signing ------------------------------------------------------------------------------------------------

    def prepare(self, request: Request) -> None:
        """Nothing: signatures do not cover the body."""

    def sign(self, request: Request, credential: Any, now: float) -> tuple[str, Sequence[Header]]:
        """The URL and all headers to send but ``host``.

        Args:
            request: built by this dialect.
            credential: `AccountKey`, `SasToken` or `BearerToken`; ``None`` sends anonymously.
            now: seconds since the epoch by the local clock.
        """
        request = own(request)
        if request.credential is not None:
            credential = request.credential
        request.signed_at = now = now + self.clock_offset
        request.signed = credential is not None
        date = ("x-ms-date", http_date(now))
        headers = [*request.headers, date]
        if request.batch is not None:
            headers.append(self._fill_batch(request, request.batch, credential, date))
        elif request.copy_path is not None:
            headers += self._copy_source(request.copy_path, credential, now)
        query = request.query
        if type(credential) is AccountKey:
            headers.append(
                (
                    "authorization",
                    authorize(
                        credential.hmac,
                        request.method,
                        self._settings.account,
                        request.path,
                        query,
                        headers,
                        _length(request.body),
                    ),
                )
            )
        elif type(credential) is BearerToken:
            headers.append(("authorization", credential.header))
        elif type(credential) is SasToken:
            query = (*query, *credential.pairs)
        url = self.endpoint + request.path
        return (f"{url}?{encode_query(query)}" if query else url), headers

    def _copy_source(self, path: str, credential: Any, now: float) -> list[Header]:
        """Where to copy from, in a way that the service may read it.

        Inside an account Copy Blob reads the source by the credential of the request itself, unless that is a SAS. Requests
        that read from any URL need one of their own.
        """
        url = self.endpoint + path
        if type(credential) is SasToken:
            return [("x-ms-copy-source", f"{url}?{encode_query(credential.pairs)}")]
        if self._source_key and type(credential) is AccountKey:
            query = self.service_sas(path, "r", now + _SOURCE_SAS_SECONDS, credential)
            return [("x-ms-copy-source", f"{url}?{encode_query(query)}")]
        if self._source_key and type(credential) is BearerToken:
            return [("x-ms-copy-source", url), ("x-ms-copy-source-authorization", credential.header)]
        return [("x-ms-copy-source", url)]

    def _fill_batch(self, request: AzureRequest, paths: Sequence[str], credential: Any, date: Header) -> Header:
        """Make the body of a batch, each of its requests signed for itself; returns its content type."""
        boundary = f"batch_{secrets.token_hex(16)}"
        suffix = f"?{encode_query(credential.pairs)}" if type(credential) is SasToken else ""
        parts = []
        for path in paths:
            headers = [date]
            if type(credential) is AccountKey:
                signature = authorize(credential.hmac, "DELETE", self._settings.account, path, (), headers, 0)
                headers.append(("authorization", signature))
            elif type(credential) is BearerToken:
                headers.append(("authorization", credential.header))
            parts.append((path + suffix, headers))
        request.body = (build_batch(boundary, parts),)
        return "content-type", f"multipart/mixed; boundary={boundary}"


# Headers that signing adds.
_OWN_HEADERS = frozenset({"authorization", "x-ms-date", "x-ms-version"})


def _block_id(upload_id: str, number: int) -> str:
    """Ids of one upload must all be of one length; the service takes up to 64 bytes before base64."""
    return base64.b64encode(f"{upload_id}-{number:07}".encode()).decode("ascii")


def _customer_key(key: str | None, prefix: str) -> tuple[Header, ...]:
    if key is None:
        return ()
    secret = base64.b64decode(key)
    return (
        (f"{prefix}-key", base64.b64encode(secret).decode("ascii")),
        (f"{prefix}-key-sha256", base64.b64encode(hashlib.sha256(secret).digest()).decode("ascii")),
        (f"{prefix}-algorithm", "AES256"),
    )


def _length(body: Sequence[Buffer] | None) -> int:
    return sum(memoryview(buffer).nbytes for buffer in body) if body else 0
