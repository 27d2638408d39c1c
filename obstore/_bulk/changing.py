"""``delete_many`` and ``copy_many``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from obstore._auth.cache import credential
from obstore._bulk.download import limited
from obstore._bulk.options import Options
from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, Failure
from obstore._bulk.select import Pages
from obstore._bulk.window import Window, in_window
from obstore._effects import Cancel, Fork, Op
from obstore._ops.forks import begin_upload, settle
from obstore._ops.remote import RemoteBackend
from obstore._types import Backend, GetSpec, PutSpec
from obstore.exceptions import NotFoundError, PermissionDeniedError

_PARTS_AT_ONCE = 4


def delete_many(backend: Backend, pages: Pages, options: Options, result: BulkResult, meter: Meter) -> Op[None]:
    """Delete what is selected, in as few requests as the service allows. What is not there counts as deleted."""
    backend = limited(backend, options)
    window = Window(BulkResult(), meter, min(options.connections, backend.delete_concurrency), options.memory)

    def batch(keys: list[str]) -> Op[int]:
        try:
            outcomes = yield from backend.delete(keys)
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: BLE001 - of all of them
            outcomes = [error] * len(keys)
        for key, outcome in zip(keys, outcomes, strict=True):
            if outcome is None or isinstance(outcome, NotFoundError):
                result.objects += 1
            else:
                result.failures.append(Failure(key, outcome.with_traceback(None)))
        meter.sample(result)
        return 0

    def feed() -> Op[None]:
        while page := (yield from pages.next()):
            keys = [item if isinstance(item, str) else item["path"] for item in page]
            for start in range(0, len(keys), backend.delete_batch):
                part = keys[start : start + backend.delete_batch]
                yield from window.start(part[0], batch(part))

    return in_window(window, feed)


class Copying:
    """Copies objects between two stores: by the service where it can, else through memory, a few parts at a time.

    Args:
        source, target: the stores.
        pages: of the source.
        rename: the key at the target for the key at the source.
        options: limits and wishes.
        result, meter: count and show.
    """

    def __init__(
        self,
        source: Backend,
        target: Backend,
        pages: Pages,
        rename: Callable[[str], str],
        options: Options,
        result: BulkResult,
        meter: Meter,
    ) -> None:
        self._source = limited(source, options)
        self._target = self._source if source is target else limited(target, options)
        self._pages = pages
        self._rename = rename
        self._options = options
        self._window = Window(result, meter, options.connections, options.memory)
        self._server: Any = None

    def run(self) -> Op[None]:
        """Do it all."""
        return in_window(self._window, self._feed)

    def _feed(self) -> Op[None]:
        self._server = yield from server_side(self._source, self._target)
        piece = self._options.piece
        while page := (yield from self._pages.next()):
            for item in page:
                key, size = (item, None) if isinstance(item, str) else (item["path"], item["size"])
                weight = _PARTS_AT_ONCE * piece if size is None or size > piece else size
                yield from self._window.start(key, self._one(key, size), 0 if self._server else weight)

    def _one(self, key: str, size: int | None) -> Op[int]:
        to = self._rename(key)
        server = self._server
        if server is not None and (server.is_same or size is None or size <= server.dialect.max_copy_bytes):
            try:
                yield from server.backend.copy(key, to, overwrite=self._options.overwrite)
            except PermissionDeniedError:
                if server.is_same:
                    raise
                self._server = None  # this credential may read there, but the service may not copy from there
            else:
                return size or 0
        return (yield from stream_copy(self._source, self._target, key, to, self._options))


class _Server:
    """A backend that copies from one store to another by the service."""

    def __init__(self, backend: RemoteBackend, *, is_same: bool) -> None:
        self.backend = backend
        self.dialect = backend.dialect
        self.is_same = is_same


def server_side(source: Backend, target: Backend) -> Op[Any]:
    """What copies by the service, or ``None`` where it cannot: other services, other credentials."""
    if not isinstance(source, RemoteBackend) or not isinstance(target, RemoteBackend):
        return None
    if source is target:
        return _Server(target, is_same=True)
    make = getattr(target.dialect, "copying_from", None)
    dialect = None if make is None else make(source.dialect)
    if dialect is None:
        return None
    theirs = source.source.current(time.time()) or (yield from credential(source.source))
    ours = target.source.current(time.time()) or (yield from credential(target.source))
    if getattr(theirs, "access_key_id", None) != getattr(ours, "access_key_id", None):
        return None
    return _Server(target.variant(dialect=dialect), is_same=False)


def stream_copy(source: Backend, target: Backend, key: str, to: str, options: Options) -> Op[int]:
    """An object through memory: `_PARTS_AT_ONCE` pieces of it at a time."""
    opened = yield from source.get(key, GetSpec())
    try:
        size: int = opened.meta["size"]
        # Files and HTTP servers keep no attributes.
        keeps = target.name not in ("LocalFileSystem", "HTTP")
        spec = PutSpec(
            attributes=dict(opened.attributes) if keeps else {}, mode="overwrite" if options.overwrite else "create"
        )
        if size <= options.piece or not options.overwrite:
            body = yield from opened.collect()
            yield from target.put(to, [body] if len(body) else [], spec)
            return size
        yield from _copy_parts(opened, target, to, spec, size, options)
        return size
    finally:
        opened.close()


def _copy_parts(opened: Any, target: Backend, to: str, spec: PutSpec, size: int, options: Options) -> Op[None]:
    part_size = max(options.piece, -(-size // 9_900))
    upload = yield from begin_upload(target.start_upload(to, spec))
    running: list[Any] = []
    window = min(_PARTS_AT_ONCE, upload.max_parallel or _PARTS_AT_ONCE)
    try:
        part_size = max(part_size, upload.min_part_bytes)
        number, held, count = 1, [], 0
        while True:
            chunk = yield from opened.read(part_size - count)
            if len(chunk):
                held.append(chunk)
                count += len(chunk)
            if not held or (len(chunk) and count < part_size):
                if not held:
                    break
                continue
            running.append((yield Fork(upload.part(number, held))))
            number, held, count = number + 1, [], 0
            yield from settle(running, window)
            if not len(chunk):
                break
        yield from settle(running, 1)
        yield from upload.finish()
    except GeneratorExit:
        raise
    except BaseException:
        yield Cancel(running)
        yield from upload.abort()
        raise
