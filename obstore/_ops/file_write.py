"""Writing an object as a file: one request at the end where it is small, an upload in parts as it grows where it is not."""

from __future__ import annotations

from typing import Any

from obstore._effects import Cancel, Op
from obstore._ops.file_read import Face
from obstore._ops.forks import begin_upload
from obstore._ops.put import part_growth
from obstore._types import Backend, Buffer, PutResult, PutSpec, Upload

_PIECE_BYTES = 64 << 10  # smaller writes are gathered in one buffer; larger ones are kept as they are


class FileWriter:
    """An object being written from its front to its end.

    Args:
        backend, key, spec: what is written.
        buffer_size: bytes kept before anything is sent, and of each part.
        window: parts uploaded at the same time.
        face: how operations go on between writes.
    """

    def __init__(self, backend: Backend, key: str, spec: PutSpec, buffer_size: int, window: int, face: Face) -> None:
        self._backend = backend
        self._key = key
        self._spec = spec
        self._part_size = buffer_size
        self._window = window
        self._face = face
        self._pieces: list[Buffer] = []
        self._small = bytearray()
        self._held = 0
        self._upload: Upload | None = None
        self._number = 0
        self._running: list[Any] = []
        self.written = 0

    def let_go(self) -> None:
        """Nobody will finish it: have it aborted if anything of it was sent. For destructors: waits for nothing."""
        if self._upload is not None:
            self._face.discard(self)

    def add(self, data: Any) -> bool:
        """Keep a copy of ``data``. True: there is enough for a part, `send` it."""
        view = memoryview(data)
        size = view.nbytes
        if size < _PIECE_BYTES:
            self._small += view if view.c_contiguous else view.tobytes()
        else:
            self._close_small()
            self._pieces.append(data if type(data) is bytes else view.tobytes())
        self._held += size
        self.written += size
        return self._held >= self._part_size

    def send(self) -> Op[None]:
        """Send all whole parts. After a failure the upload is gone."""
        try:
            if self._upload is None:
                self._upload = yield from begin_upload(self._backend.start_upload(self._key, self._spec))
                self._part_size = max(self._part_size, self._upload.min_part_bytes)
                self._window = min(self._window, self._upload.max_parallel or self._window)
            while self._held >= self._part_size:
                yield from self._send_part(self._cut(self._part_size))
        except GeneratorExit:
            raise
        except BaseException:
            yield from self.abort()
            raise

    def finish(self) -> Op[PutResult]:
        """Send the rest and make the object. After a failure nothing of it is left."""
        rest = self._cut(self._held)
        upload = self._upload
        if upload is None:
            return (yield from self._backend.put(self._key, rest, self._spec))
        try:
            if rest:
                yield from self._send_part(rest)
            while self._running:
                yield from self._settle_first()
            result = yield from upload.finish()
        except GeneratorExit:
            raise
        except BaseException:
            yield from self.abort()
            raise
        self._upload = None
        return result

    def abort(self) -> Op[None]:
        """Leave nothing behind. Does nothing where nothing was begun."""
        self._pieces.clear()
        self._small = bytearray()
        self._held = 0
        yield Cancel(())  # from here on this operation cleans up, and is not interrupted
        running, self._running = self._running, []
        for job in running:
            job.cancel()
        for job in running:
            try:
                yield from self._face.wait(job)
            except BaseException:  # noqa: BLE001, S112 - parts that were called off, or failed: what made us abort is what counts
                continue
        upload, self._upload = self._upload, None
        if upload is not None:
            yield from upload.abort()

    def abandon(self) -> Op[None]:
        """Abort without waiting for the parts under way: they may be with the very thread that runs this."""
        running, self._running = self._running, []
        for job in running:
            job.cancel()
        upload, self._upload = self._upload, None
        if upload is not None:
            yield from upload.abort()

    def _close_small(self) -> None:
        if self._small:
            self._pieces.append(self._small)
            self._small = bytearray()

    def _cut(self, size: int) -> list[Buffer]:
        """The first ``size`` bytes of what is held."""
        self._close_small()
        body: list[Buffer] = []
        left = size
        taken = 0
        for piece in self._pieces:
            view = memoryview(piece)
            if len(view) > left:
                if left:
                    body.append(view[:left])
                    self._pieces[taken] = view[left:]
                break
            body.append(view)
            left -= len(view)
            taken += 1
        del self._pieces[:taken]
        self._held -= size
        return body

    def _send_part(self, body: list[Buffer]) -> Op[None]:
        upload = self._upload
        assert upload is not None
        self._number += 1
        if upload.max_parts is not None and part_growth(self._number + 1):
            self._part_size *= 2
        part = upload.part(self._number, body)
        job = self._face.launch(part)
        if job is None:
            yield from part
            return
        self._running.append(job)
        while len(self._running) >= self._window or (self._running and self._running[0].done()):
            yield from self._settle_first()

    def _settle_first(self) -> Op[None]:
        job = self._running.pop(0)
        try:
            yield from self._face.wait(job)
        except BaseException:
            self._running.insert(0, job)  # for abort() to see it ended
            raise
