"""What Azure's Blob service says when it agrees, beyond what `ObjectReaders` read."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from obstore import exceptions
from obstore._dialect import azure_errors
from obstore._dialect.answers import ObjectReaders
from obstore._dialect.azure_batch import Answered, read_batch
from obstore._dialect.errors import reason
from obstore._effects import Response
from obstore._types import Buffer, GetSpec, ListPage, ObjectMeta, PutResult

__all__ = ["METADATA", "AzureReaders", "copy_state"]

METADATA = "x-ms-meta-"


class AzureReaders(ObjectReaders):
    """The half of `AzureDialect` that reads successes."""

    request_id_header = "x-ms-request-id"
    version_header = "x-ms-version-id"
    metadata_prefix = METADATA

    def read_get(
        self, response: Response, key: str, spec: GetSpec, sliced: bool = False
    ) -> tuple[ObjectMeta, tuple[int, int], dict[str, str]]:
        """As `ObjectReaders.read_get`; a directory of a hierarchical namespace is not found."""
        self._see_that_it_is_a_file(response, key)
        return super().read_get(response, key, spec, sliced)

    def whole_size(self, response: Response) -> int | None:
        """As `ObjectReaders.whole_size`; `read_get` says that a directory is not found."""
        return super().whole_size(response) if response.header("x-ms-resource-type") in (None, "file") else None

    def read_head(self, response: Response, key: str) -> ObjectMeta:
        """As `ObjectReaders.read_head`; a directory of a hierarchical namespace is not found."""
        self._see_that_it_is_a_file(response, key)
        return super().read_head(response, key)

    def _see_that_it_is_a_file(self, response: Response, key: str) -> None:
        kind = response.header("x-ms-resource-type")
        if kind is not None and kind != "file":
            full = self.list_strip + key
            raise exceptions.NotFoundError.of(
                full,
                f"Not a file, got x-ms-resource-type: {kind}",
                status=response.status,
                request_id=response.header(self.request_id_header),
                key=full,
            )

    def read_start(self, body: Buffer) -> str:
        """A name of our own: an upload begins with its first block, and blocks of two uploads must not be confused."""
        del body
        return secrets.token_hex(8)

    def read_part(self, response: Response) -> None:
        """Nothing has to be known of a block but its id, which is ours."""

    def read_part_copy(self, body: Buffer) -> None:
        """Nothing, as of `read_part`."""

    def read_finish(self, response: Response, body: Buffer) -> PutResult:
        """Raises GenericError where the answer has no ETag."""
        del body
        return self.read_put(response)

    def read_delete(self, response: Response, body: Buffer, keys: Sequence[str]) -> list[Exception | None]:
        """What became of each key, in the order of ``keys``: ``None`` is deleted.

        Raises:
            GenericError: the answer does not say, or refuses the batch as a whole.
        """
        try:
            answers = read_batch(response.header("content-type"), bytes(body))
        except ValueError as error:
            raise self._unreadable(f"Got invalid bulk delete response: {error}", response) from None
        in_order = len(answers) == len(keys) and all(each.index is None for each in answers)
        found: dict[int, Answered] = {}
        for place, each in enumerate(answers):
            index = place if in_order else each.index
            if index is None or index >= len(keys):  # an answer to the batch as a whole
                problem = azure_errors.read_error(each, each.body)
                raise self._unreadable(f"Bulk delete request failed due to invalid input: {problem}", response)
            found[index] = each
        return [self._outcome(response, self.list_strip + key, found.get(index)) for index, key in enumerate(keys)]

    def _outcome(self, response: Response, key: str, answer: Answered | None) -> Exception | None:
        if answer is None:
            return self._unreadable(f"Got invalid bulk delete response: missing key {key}", response)
        if 200 <= answer.status < 300:
            return None
        error = azure_errors.read_error(answer, answer.body)
        status, code = answer.status, error.code
        kind: type[exceptions.BaseError] = exceptions.GenericError
        subject = self.name
        if status == 404:
            kind, subject = exceptions.NotFoundError, key
        return kind.of(
            subject,
            f"Bulk delete request failed for key {key}: {reason(status)} (code: {code})",
            status=status,
            code=code,
            request_id=error.request_id,
            key=key,
            retryable=azure_errors.is_transient(error),
            hint=azure_errors.hint_of_code(code),
        )

    def read_list(self, page: Any) -> ListPage:
        """A page out of the engine's list parser, which has taken ``list_strip`` off the keys."""
        return ListPage(page.objects, page.prefixes, page.token or None)


def copy_state(response: Response) -> str:
    """``success``, ``pending``, ``failed`` or ``aborted``: how far the last copy onto this object is."""
    return (response.header("x-ms-copy-status") or "success").lower()
