"""How operations go on while nobody waits for them: reading ahead, parts that go up, ranges as they arrive.

Synchronous callers have a background thread for that, asynchronous ones their event loop.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

from obstore._effects import Await, Call, Op
from obstore._ops.file_read import JobLostError
from obstore._ops.file_write import FileWriter
from obstore._ops.remote import RemoteBackend
from obstore._run import in_trio, start
from obstore._types import Backend

if TYPE_CHECKING:
    from collections.abc import Callable

    from obstore._run.background import Job


class SyncFace:
    """The background thread; for stores behind HTTP only, since others have nothing to wait for."""

    def __init__(self, backend: Backend) -> None:
        self._is_remote = isinstance(backend, RemoteBackend)

    def launch(self, op: Op[Any]) -> Job | None:
        if not self._is_remote:
            return None
        from obstore._run import background

        return background.start_in_background(op) if background.is_possible() else None

    def discard(self, writer: FileWriter) -> None:
        background = sys.modules.get("obstore._run.background")
        if background is not None:  # else no part was ever sent on
            background.discard_in_background(writer.abandon())

    def wait(self, job: Job) -> Op[Any]:
        if job.lost:
            raise JobLostError("the file was opened before a fork, and what it had under way is in the parent process")
        return (yield Call(job.result))


class AsyncFace:
    """The event loop that runs: asyncio's or trio's."""

    def __init__(self, backend: Backend) -> None:
        self._is_remote = isinstance(backend, RemoteBackend)
        self._soon: Callable[[Callable[[], Any]], object] | None = None  # calls on the loop, from any thread

    def launch(self, op: Op[Any]) -> Any:
        if not self._is_remote:
            return None
        if in_trio():
            from trio.lowlevel import current_trio_token

            self._soon = current_trio_token().run_sync_soon
        else:
            from asyncio import get_running_loop

            self._soon = get_running_loop().call_soon_threadsafe
        return _unattended(op)

    def discard(self, writer: FileWriter) -> None:
        if self._soon is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the service's lifecycle rules are left
                self._soon(lambda: _unattended(writer.abandon()))

    def wait(self, job: Any) -> Op[Any]:
        if not _is_here(job):
            raise JobLostError(
                "the file is used on another event loop than before, and what it had under way is on that one"
            )
        return (yield Await(job))


async def first_done(jobs: list[Any]) -> None:
    """Wait until one of the jobs of the event loop that runs is done."""
    if in_trio():
        from obstore._run import trio

        await trio.first_done(jobs)
    else:
        from asyncio import FIRST_COMPLETED, wait

        await wait(jobs, return_when=FIRST_COMPLETED)


def _unattended(op: Op[Any]) -> Any:
    job: Any = start(op)
    if hasattr(job, "add_done_callback"):  # asyncio complains of errors that nobody asks for
        job.add_done_callback(_look_at_error)
    return job


def _look_at_error(job: Any) -> None:
    """Nobody may ever wait for what was fetched ahead."""
    if not job.cancelled():
        job.exception()


def _is_here(job: Any) -> bool:
    """Whether the job is one of the event loop that runs."""
    if in_trio():
        from obstore._run.trio import TrioOperation

        return isinstance(job, TrioOperation) and job.is_here()
    from asyncio import get_running_loop

    get_loop = getattr(job, "get_loop", None)
    return get_loop is not None and get_loop() is get_running_loop()
