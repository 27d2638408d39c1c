"""Uploads for servers that take an object in one request only: what comes in parts is gathered first."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from obstore._effects import Call, Op
from obstore._types import Buffer, PartPair, PutResult

# Up to so many bytes are kept in memory; what comes after them in a file without a name.
_MEMORY_BYTES = 16 << 20


class SpooledUpload:
    """An upload that gathers its parts and sends them as one body; see ``Upload``.

    The file is ours alone and has no name: nobody can shorten it while it is mapped, and it goes with the process.

    Args:
        put: makes the object of the gathered buffers.
    """

    max_parts: int | None = None
    min_part_bytes = 0
    max_parallel: int | None = None
    part_pair: PartPair | None = None

    def __init__(self, put: Callable[[Sequence[Buffer]], Op[PutResult]]) -> None:
        self._put = put
        self._memory: list[bytes] = []
        self._in_memory = 0
        self._file: Any = None
        self._in_file = 0

    def part(self, number: int, body: Sequence[Buffer]) -> Op[None]:  # noqa: ARG002 - they begin in order
        """Keep a copy of ``body``. Its place is taken before anything is waited for, so that parts may overlap."""
        size = sum(memoryview(buffer).nbytes for buffer in body)
        if self._file is None and self._in_memory + size <= _MEMORY_BYTES:
            self._in_memory += size
            self._memory.extend(bytes(buffer) for buffer in body)
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - see _close()
        at = self._in_file
        self._in_file += size
        yield Call(_write, self._file.fileno(), body, at)

    def finish(self) -> Op[PutResult]:
        """Send what was gathered."""
        mapped: mmap.mmap | None = None
        try:
            buffers: list[Buffer] = list(self._memory)
            if self._file is not None and self._in_file:
                mapped = mmap.mmap(self._file.fileno(), self._in_file, access=mmap.ACCESS_READ)
                buffers.append(mapped)
            return (yield from self._put(buffers))
        finally:
            buffers = []
            if mapped is not None:
                with contextlib.suppress(BufferError):  # given up midway: the transfer lets go of it last
                    mapped.close()
            self._close()

    def abort(self) -> Op[None]:
        """Forget what was gathered: nothing was sent yet."""
        self._close()
        yield from ()

    def _close(self) -> None:
        self._memory = []
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _write(descriptor: int, body: Sequence[Buffer], at: int) -> None:
    for buffer in body:
        view = memoryview(buffer).cast("B")
        while view:
            written = os.pwrite(descriptor, view, at)
            at += written
            view = view[written:]
