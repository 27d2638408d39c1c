"""What Google Cloud Storage says when it agrees.

The JSON API's ETags are used throughout, without quotes, as its documents have them: downloads send the same one as a header,
some servers in quotes. A version is the object's generation.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from obstore import exceptions
from obstore._dialect.answers import ObjectReaders, past_end
from obstore._dialect.attributes import STANDARD
from obstore._dialect.base import EPOCH
from obstore._dialect.checksums import Checksum
from obstore._effects import Response
from obstore._types import Buffer, GetSpec, ListPage, ObjectMeta, PutResult, Range

__all__ = ["FIELDS", "FIELD_OF", "GCSReaders", "bare_e_tag", "format_checksum"]

# What is asked for of an object's description.
FIELDS = "name,size,updated,etag,generation"
# Attributes in the JSON API's words.
FIELD_OF = {name: name[0].lower() + name[1:].replace("-", "") for name in STANDARD}
_READ_FIELDS = tuple((name, field) for name, field in FIELD_OF.items() if name != "Storage-Class")
# Generations are the microsecond of an object's making, as far as anybody has seen.
_FIRST_GENERATION = 1_262_304_000_000_000  # 2010-01-01: before that there was no service


class GCSReaders(ObjectReaders):
    """The half of `GCSDialect` that reads successes."""

    name = "GCS"
    request_id_header = "x-guploader-uploadid"
    version_header = "x-goog-generation"
    metadata_prefix = "x-goog-meta-"
    _crc32c: Callable[[Buffer, int], int]

    # ---- objects

    def read_get(
        self, response: Response, key: str, spec: GetSpec, sliced: bool = False
    ) -> tuple[ObjectMeta, tuple[int, int], dict[str, str]]:
        """What a successful answer to `build_get` says; see `ObjectReaders.read_get`.

        Raises:
            GenericError: the answer is not to what was asked, or lacks what it must have.
            PreconditionError, NotModifiedError: a condition does not hold, and the server did not look.
        """
        if spec.head:
            resource = self._resource(response, key)
            meta = self._meta_of(resource, key)
            found: tuple[ObjectMeta, tuple[int, int], dict[str, str]] = (
                meta,
                (0, meta["size"]),
                _attributes_of(resource),
            )
        else:
            found = super().read_get(response, key, spec, sliced)
        _check_conditions(found[0], self.list_strip + key, spec)
        return found

    def read_checksum(self, response: Response) -> Checksum | None:
        """The CRC32C of the object, unless the service unpacked what is stored compressed."""
        stored = response.header("x-goog-stored-content-encoding")
        if stored not in (None, "identity") and response.header("content-encoding") != stored:
            return None
        text = response.header("x-goog-hash")
        if text is None:
            return None
        crc = _crc32c_of(text)
        if crc is None:  # Google sends one header for each algorithm
            every = (_crc32c_of(value) for name, value in response.headers() if name == "x-goog-hash")
            crc = next((each for each in every if each is not None), None)
        return None if crc is None else Checksum("CRC32C", {"CRC32C": self._crc32c}, crc)

    def _read_range(
        self,
        response: Response,
        content_range: str | None,
        length: str | None,
        wanted: Range,
        sliced: bool,
        key: str | None,
    ) -> tuple[tuple[int, int], int]:
        if content_range == "bytes 0--1/0":  # fake-gcs-server's way to say that there is nothing in an empty object
            if wanted.suffix is None:
                raise self._unreadable(past_end(wanted.start or 0, 0), response, key)
            return (0, 0), 0
        return super()._read_range(response, content_range, length, wanted, sliced, key)

    def read_head(self, response: Response, key: str) -> ObjectMeta:
        """The object's meta. Raises GenericError where the answer does not say it."""
        return self._meta_of(self._resource(response, key), key)

    def _meta(self, response: Response, headers: dict[str, str], key: str, size: int) -> ObjectMeta:
        generation = headers.get(self.version_header)
        text = headers.get("last-modified")
        return {
            "path": key,
            "last_modified": _time_of(generation) if text is None else self._modified(response, text, key),
            "size": size,
            "e_tag": bare_e_tag(headers.get("etag")),
            "version": generation,
        }

    def _meta_of(self, resource: dict[str, Any], key: str) -> ObjectMeta:
        try:
            return {
                "path": key,
                "last_modified": datetime.fromisoformat(resource["updated"]).astimezone(UTC),
                "size": int(resource["size"]),
                "e_tag": resource.get("etag"),
                "version": resource.get("generation"),
            }
        except (KeyError, TypeError, ValueError):
            detail = "Got invalid object resource: size and updated are not what they should be"
            raise self._unreadable(detail, key=self.list_strip + key) from None

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
        if e_tag is None or bare_e_tag(response.header("etag")) != bare_e_tag(e_tag):
            raise self._unreadable("the object changed while it was read", response)

    # ---- writes

    def read_put(self, response: Any) -> PutResult:
        """Raises GenericError where the answer is no description of an object."""
        resource = self._resource(response, None)
        return {"e_tag": resource.get("etag"), "version": resource.get("generation")}

    def differs(self, response: Any, size: int, checksum: int) -> str | None:
        """What is wrong with an object just made; ``None`` where nothing is, or the answer does not say."""
        resource = self._resource(response, None)
        if "size" in resource and resource["size"] != str(size):
            return f"the object has {resource['size']} bytes, {size} were sent"
        if "crc32c" in resource and resource["crc32c"] != format_checksum(checksum):
            return f"the object has CRC32C {resource['crc32c']}, {format_checksum(checksum)} was sent"
        return None

    def read_delete(self, response: Response, body: Buffer, keys: Any) -> list[Exception | None]:
        """Never needed: objects are deleted one by one."""
        raise NotImplementedError

    def read_list(self, page: Any) -> ListPage:
        """A page out of the engine's list parser, which has taken ``list_strip`` off the keys."""
        return ListPage(page.objects, page.prefixes, page.token)

    def _resource(self, response: Any, key: str | None) -> dict[str, Any]:
        """The JSON document of an answer."""
        try:
            resource = json.loads(bytes(response.body()))
        except ValueError:
            resource = None
        if not isinstance(resource, dict):
            raise self._unreadable("Got invalid answer: it is no JSON object", response, key)
        return resource


def format_checksum(crc: int) -> str:
    """A CRC32C as the service writes it: base64 of its bytes, the most significant one first."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode("ascii")


def _crc32c_of(text: str) -> str | None:
    """The CRC32C in a value of ``x-goog-hash``, such as ``crc32c=n03x6A==,md5=...``."""
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        if name == "crc32c":
            return value
    return None


def bare_e_tag(e_tag: str | None) -> str | None:
    """An ETag without the quotes that headers may have."""
    if e_tag is None:
        return None
    return e_tag.removeprefix("W/").strip('"')


def _attributes_of(resource: dict[str, Any]) -> dict[str, str]:
    found = {name: resource[field] for name, field in _READ_FIELDS if isinstance(resource.get(field), str)}
    metadata = resource.get("metadata")
    if isinstance(metadata, dict):
        found.update((name.lower(), value) for name, value in metadata.items() if isinstance(value, str))
    return found


def _time_of(generation: str | None) -> datetime:
    """When an object was made, to go by its generation, where the answer does not say when it was modified."""
    if generation is None or not (generation.isascii() and generation.isdigit() and len(generation) < 18):
        return EPOCH
    micros = int(generation)
    if micros < _FIRST_GENERATION:
        return EPOCH
    return datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)


def _check_conditions(meta: ObjectMeta, key: str, spec: GetSpec) -> None:
    """Look again at what was asked for: the JSON API knows no dates, and emulators no conditions at all."""
    moment = meta["last_modified"].replace(microsecond=0)
    if spec.if_match is not None:
        if not _among(meta["e_tag"], spec.if_match):
            raise exceptions.PreconditionError.of(key, f"its ETag is {meta['e_tag']}", status=412, key=key)
    elif spec.if_unmodified_since is not None and moment > spec.if_unmodified_since:
        raise exceptions.PreconditionError.of(key, f"it was modified at {moment.isoformat()}", status=412, key=key)
    if spec.if_none_match is not None:
        if _among(meta["e_tag"], spec.if_none_match):
            raise exceptions.NotModifiedError.of(key, f"its ETag is {meta['e_tag']}", status=304, key=key)
    elif spec.if_modified_since is not None and moment <= spec.if_modified_since:
        raise exceptions.NotModifiedError.of(key, f"it was modified at {moment.isoformat()}", status=304, key=key)


def _among(e_tag: str | None, wanted: str) -> bool:
    """Whether ``wanted``, ``*`` or a list of ETags, names this one."""
    return wanted.strip() == "*" or any(bare_e_tag(each.strip()) == e_tag for each in wanted.split(","))
