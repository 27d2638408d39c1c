"""Uploads in parts to a store behind HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from obstore._effects import Call, Op, Request
from obstore._ops.forks import perform
from obstore._ops.retry import is_unclear
from obstore._types import Buffer, PartPair, PutResult, PutSpec
from obstore.exceptions import BaseError, NotFoundError

if TYPE_CHECKING:
    from obstore._ops.remote import RemoteBackend


def start_upload(backend: RemoteBackend, key: str, spec: PutSpec) -> Op[RemoteUpload]:
    """Begin an upload in parts."""
    request = backend.dialect.build_start(key, spec)
    body: Buffer = b""
    if request is not None:
        response = yield from backend.request(request)
        body = response.body()
    return RemoteUpload(backend, key, backend.dialect.read_start(body), spec)


class RemoteUpload:
    """A multipart upload; see ``Upload``."""

    max_parallel: int | None = None

    def __init__(self, backend: RemoteBackend, key: str, upload_id: str, spec: PutSpec) -> None:
        self._backend = backend
        self._key = key
        self._spec = spec
        self._tags: dict[int, Any] = {}
        self.upload_id = upload_id
        self.max_parts: int | None = backend.dialect.max_parts
        self.min_part_bytes = backend.dialect.min_part_bytes
        self.part_pair: PartPair | None = None if backend.dialect.prepare_pair is None else self._part_pair

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:
        """Send part ``number``, from 1."""
        request = self._backend.dialect.build_part(self._key, self.upload_id, number, body)
        yield from self._send_part(number, request)

    def _part_pair(self, number: int, first: Sequence[Buffer], second: Sequence[Buffer]) -> Op[None]:
        """Send parts ``number`` and ``number + 1``, prepared together."""
        dialect = self._backend.dialect
        requests = [
            dialect.build_part(self._key, self.upload_id, number + index, body)
            for index, body in enumerate((first, second))
        ]
        assert dialect.prepare_pair is not None
        yield Call(dialect.prepare_pair, *requests)
        sending = (self._send_part(number + index, each, is_prepared=True) for index, each in enumerate(requests))
        yield from perform(sending, len(requests) + 1)

    def _send_part(self, number: int, request: Request, *, is_prepared: bool = False) -> Op[None]:
        response = yield from self._backend.request(request, is_prepared=is_prepared)
        self._tags[number] = self._backend.dialect.read_part(response)

    def copied_part(self, number: int, request: Request) -> Op[None]:
        """Have the service make part ``number`` from another object."""
        response = yield from self._backend.request(request)
        self._tags[number] = self._backend.dialect.read_part_copy(response.body())

    def adopt(self, parts: dict[int, Any]) -> None:
        """These parts are there already, from an earlier run."""
        self._tags.update(parts)

    def finish(self) -> Op[PutResult]:
        """Make the object out of the parts."""
        dialect = self._backend.dialect
        request = dialect.build_finish(self._key, self.upload_id, sorted(self._tags.items()), self._spec)
        try:
            response = yield from self._backend.request(request)
        except NotFoundError as error:
            made = yield from self._made_before(error)
            if made is None:
                raise
            return made
        result = dialect.read_finish(response, response.body())
        if dialect.head_after_finish:
            result["e_tag"] = yield from self._e_tag(result["version"])
        return result

    def _made_before(self, error: NotFoundError) -> Op[PutResult | None]:
        """What a try made whose answer was lost: many services know nothing of the upload afterwards. ``None``: nothing."""
        e_tag = self._backend.dialect.made_of([tag for _, tag in sorted(self._tags.items())])
        if e_tag is None or not any(is_unclear(each) for each in error.attempts[:-1]):
            return None
        try:
            found = yield from self._backend.head(self._key, None)
        except BaseError:
            return None
        return {"e_tag": found["e_tag"], "version": found["version"]} if found["e_tag"] == e_tag else None

    def _e_tag(self, version: str | None) -> Op[str | None]:
        """The new object's ETag; ``None`` where it cannot be read: the upload itself went well."""
        try:
            return (yield from self._backend.head(self._key, version))["e_tag"]
        except BaseError:
            return None

    def abort(self) -> Op[None]:
        """Remove the parts. Failures are left to the service's lifecycle rules: what made us abort is what counts."""
        request = self._backend.dialect.build_abort(self._key, self.upload_id)
        if request is None:
            return
        try:
            yield from self._backend.request(request)
        except Exception:  # noqa: BLE001 - also what the user's credential provider raises
            return
