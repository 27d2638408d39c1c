"""Ranges of an object as they arrive, synchronously or not."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Self

from obstore._engine import Bytes
from obstore._faces import AsyncFace, SyncFace, first_done
from obstore._ops.get import RANGES_CONCURRENCY, RangePlan
from obstore._run import run, start

if TYPE_CHECKING:
    from obstore._effects import Op


class RangeStream:
    """The ranges that ``get_ranges(..., stream=True)`` fetches, each as soon as it is there.

    For use with ``for`` or ``async for``: yields pairs of a range's number in ``starts`` and its `Bytes`, or with ``into`` the number
    of bytes written. Up to ten requests are under way; where one fails, the rest is given up and its error is raised.
    """

    def __init__(self, plan: RangePlan) -> None:
        self._plan = plan
        self._waiting = deque(range(len(plan.merged)))
        self._running: list[Any] = []
        self._ready: deque[tuple[int, Any]] = deque()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give up what has not arrived."""
        self._waiting.clear()
        running, self._running = self._running, []
        for job in running:
            job.cancel()

    def _launch(self, face: Any) -> Op[Any] | None:
        """Start as much as may be under way. Returns an operation that nothing but waiting for it can run."""
        while self._waiting and len(self._running) < RANGES_CONCURRENCY:
            op = self._plan.fetch(self._waiting[0])
            job = face.launch(op)
            if job is None:
                if self._running:
                    return None
                self._waiting.popleft()
                return op
            self._waiting.popleft()
            self._running.append(job)
        return None

    def _collect(self) -> None:
        for job in [job for job in self._running if job.done()]:
            self._running.remove(job)
            self._keep(job.result())

    def _keep(self, found: list[tuple[int, Any]]) -> None:
        for number, body in found:
            is_done = isinstance(body, (Bytes, int))
            self._ready.append((number, body if is_done else Bytes(body)))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[int, Any]:
        try:
            while not self._ready:
                op = self._launch(SyncFace(self._plan.backend))
                if op is not None:
                    self._keep(run(op))
                elif self._running:
                    from concurrent.futures import FIRST_COMPLETED, wait

                    wait(self._running, return_when=FIRST_COMPLETED)
                    self._collect()
                else:
                    raise StopIteration
        except BaseException:
            self.close()
            raise
        return self._ready.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[int, Any]:
        try:
            while not self._ready:
                op = self._launch(AsyncFace(self._plan.backend))
                if op is not None:
                    self._keep(await start(op))
                elif self._running:
                    await first_done(self._running)
                    self._collect()
                else:
                    raise StopAsyncIteration
        except BaseException:
            self.close()
            raise
        return self._ready.popleft()
