"""The same transfer on many workers: threads, processes, or machines, by any ``concurrent.futures.Executor``.

What is to be done is listed here and handed out in units of a few hundred objects. A worker gets a share of the connections, the
memory and the rate, so that all together keep within the limits; what it did comes back and is counted here.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any, NamedTuple, Protocol

from obstore._bulk.options import Options
from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, ExecutorBrokenError, Failure
from obstore._effects import Call, Op

# A unit is what is lost with a worker, and what a worker goes on with after Ctrl-C: seconds of work, but enough of it that handing it
# out costs nothing.
UNIT_OBJECTS = 200
UNIT_BYTES = 256 << 20
_POLL_SECONDS = 0.05
_STOP_SECONDS = 0.08


class Done(NamedTuple):
    """What a worker returns.

    Attributes:
        result: of its unit.
        place: name of the `WorkerDestination`, where it had one.
    """

    result: BulkResult
    place: str = ""


class Task(Protocol):
    """What workers do with a unit. It and its units go to them by pickle, unless they are threads."""

    def __call__(self, unit: list[Any]) -> Done:
        """Do it."""

    def path(self, item: Any) -> str:
        """What failures of an item of a unit name."""

    def stop(self) -> None:
        """Give up; as far as the workers are in this process."""


class Crew:
    """The workers of an executor.

    Args:
        executor: whose ``submit`` is called.
        workers: how many it has; ``None``: it tells.

    Raises:
        TypeError: it is no executor.
    """

    def __init__(self, executor: Any, workers: int | None) -> None:
        if isinstance(executor, type) or not callable(getattr(executor, "submit", None)):
            raise TypeError(f"executor: a concurrent.futures.Executor is required, not '{type(executor).__name__}'")
        self._executor = executor
        self._workers = workers
        self._ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._running: dict[Any, tuple[Task, list[Any]]] = {}
        self._at_once = 1
        self._has_succeeded = False

    def share(self, options: Options) -> Op[Options]:
        """What each worker may use of what all together may; asks the executor how many there are.

        Raises:
            ValueError: it does not tell.
        """
        own = yield Call(worker_count, self._executor)
        count = self._workers or own
        if count is None:
            raise ValueError("workers: this executor does not tell how many it has; give their number")
        count = min(count, options.connections)
        # One unit more for each worker, for it to begin with at once; not where there are more workers than may work.
        self._at_once = 2 * count if own is not None and own <= count else count
        return options.shared(count)

    def run(
        self,
        units: Callable[[], Op[list[Any]]],
        task: Task,
        result: BulkResult,
        meter: Meter,
        on_done: Callable[[Done], None] | None = None,
    ) -> Op[None]:
        """Have all units done.

        Args:
            units: an operation that gives the next one; an empty one is the end.
            task: what is done with them.
            result, meter: count and show.
            on_done: told of each that is done.

        Raises:
            ExecutorBrokenError: the workers are gone.
            Exception: what a worker raised before any of them did a thing: it concerns all.
        """
        try:
            while unit := (yield from units()):
                yield Call(self._submit, task, unit, result)
                while len(self._running) >= self._at_once:
                    yield from self._take(result, meter, on_done)
            while self._running:
                yield from self._take(result, meter, on_done)
        except GeneratorExit:
            self._stop(task)
            raise
        except BaseException:
            result.stopped = True
            self._stop(task)
            yield Call(self._wait_for_threads)
            raise

    def _submit(self, task: Task, unit: list[Any], result: BulkResult) -> None:
        try:
            future = self._executor.submit(task, unit)
        except BrokenExecutor as error:
            raise ExecutorBrokenError(result) from error
        self._running[future] = (task, unit)
        future.add_done_callback(self._ready.put)

    def _take(self, result: BulkResult, meter: Meter, on_done: Callable[[Done], None] | None) -> Op[None]:
        """Wait a little, and count what came."""
        for future in (yield Call(self._next)):
            task, unit = self._running.pop(future)
            try:
                done: Done = future.result()
            except BrokenExecutor as error:
                raise ExecutorBrokenError(result) from error
            except Exception as error:
                if not self._has_succeeded:
                    raise
                result.failures += [Failure(task.path(item), error) for item in unit]
            else:
                self._has_succeeded = True
                result.add(done.result)
                if on_done is not None:
                    on_done(done)
        meter.sample(result)

    def _next(self) -> list[Any]:
        """Futures that are done, after `_POLL_SECONDS` at most: Ctrl-C, cancellation and progress want their turn."""
        done: list[Any] = []
        try:
            done.append(self._ready.get(timeout=_POLL_SECONDS))
            while True:
                done.append(self._ready.get_nowait())
        except queue.Empty:
            return done

    def _stop(self, task: Task) -> None:
        task.stop()
        for future in self._running:
            future.cancel()

    def _wait_for_threads(self) -> None:
        """Those of this process stop at once; others finish what they have in hand."""
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and not all(future.done() for future in self._running):
            time.sleep(0.005)


class Units:
    """Cuts pages into units.

    Args:
        pages: an operation that gives the next page; an empty one is the end.
        size_of: an item's bytes; 0 where unknown.
        objects: of a unit at most.
        most: bytes of a unit, unless one item has more.
    """

    def __init__(
        self,
        pages: Callable[[], Op[Sequence[Any]]],
        size_of: Callable[[Any], int],
        *,
        objects: int = UNIT_OBJECTS,
        most: int = UNIT_BYTES,
    ) -> None:
        self._pages = pages
        self._size_of = size_of
        self._objects = objects
        self._most = most
        self._page: Sequence[Any] = ()
        self._at = 0

    def next(self) -> Op[list[Any]]:
        """The next unit."""
        if self._at == len(self._page):
            self._page, self._at = (yield from self._pages()), 0
        unit: list[Any] = []
        size = 0
        while self._at < len(self._page) and len(unit) < self._objects:
            item = self._page[self._at]
            size += max(0, self._size_of(item))
            if unit and size > self._most:
                break
            unit.append(item)
            self._at += 1
        return unit


def worker_count(executor: Any) -> int | None:
    """How many workers an executor has, if it tells."""
    for name in ("_max_workers", "num_workers"):  # threads, processes, loky; MPI
        count = getattr(executor, name, None)
        if isinstance(count, int):
            return count
    client = getattr(executor, "_client", None)  # of Dask
    if client is not None and hasattr(client, "ncores"):
        cores: dict[str, int] = client.ncores()
        return max(1, sum(cores.values()))
    return None
