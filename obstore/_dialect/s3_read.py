"""What S3 says when it agrees, beyond what `ObjectReaders` read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from obstore import exceptions
from obstore._dialect import errors, xml
from obstore._dialect.answers import ObjectReaders
from obstore._dialect.checksums import ALGORITHMS, Checksum, Crcs
from obstore._dialect.s3_request import PartTag
from obstore._effects import Response
from obstore._types import Buffer, ListPage, PutResult

if TYPE_CHECKING:
    from obstore._config.s3 import S3Settings

__all__ = ["CHECKSUM_MODE", "METADATA", "S3Readers"]

METADATA = "x-amz-meta-"
_MD5 = re.compile("[0-9a-fA-F]{32}")
# Makes the service send the checksum that it has of an object.
CHECKSUM_MODE = ("x-amz-checksum-mode", "ENABLED")


class S3Readers(ObjectReaders):
    """The half of `S3Dialect` that reads successes."""

    request_id_header = "x-amz-request-id"
    host_id_header = "x-amz-id-2"
    version_header = "x-amz-version-id"
    metadata_prefix = METADATA
    _settings: S3Settings
    _crcs: Crcs

    def read_checksum(self, response: Response) -> Checksum | None:
        """The checksum of the whole object, where the answer has one: a checksum of checksums of parts is none."""
        if response.header("x-amz-checksum-type") != "FULL_OBJECT":
            return None
        for algorithm in ALGORITHMS:
            value = response.header(f"x-amz-checksum-{algorithm.lower()}")
            if value is not None and (algorithm in self._crcs or algorithm in ("SHA256", "CRC32")):
                return Checksum(algorithm, self._crcs, value)
        return None

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
        return {"e_tag": e_tag or None, "version": response.header(self.version_header)}

    def made_of(self, parts: Sequence[PartTag]) -> str | None:
        """The ETag that the object made of these parts has, where those of parts are MD5 digests; ``None`` where they are not."""
        digests = [tag.e_tag.strip('"') for tag in parts]
        if not all(map(_MD5.fullmatch, digests)):
            return None
        from hashlib import md5  # it loads OpenSSL, and few ask for it

        return f'"{md5(bytes.fromhex("".join(digests)), usedforsecurity=False).hexdigest()}-{len(digests)}"'

    def read_delete(
        self,
        response: Response,  # noqa: ARG002 - all is in the body
        body: Buffer,
        keys: Sequence[str],
    ) -> list[Exception | None]:
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
