"""The same transfer on many workers: threads, processes, or machines, by any ``concurrent.futures.Executor``.

What is to be done is listed here and handed out a page at a time; a worker gets a share of the connections, so that all together
keep within the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from typing import Any

from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, Failure

_AHEAD = 2  # pages handed out per worker: one being worked on, one waiting


def worker_count(executor: Any, workers: int | None) -> int:
    """How many workers the executor has.

    Raises:
        TypeError: it is no executor.
        ValueError: it does not tell, and ``workers`` was not given.
    """
    if not callable(getattr(executor, "submit", None)):
        raise TypeError(f"executor: a concurrent.futures.Executor is required, not '{type(executor).__name__}'")
    if workers is not None:
        return workers
    count = getattr(executor, "_max_workers", None)  # threads, processes, loky
    if isinstance(count, int):
        return count
    client = getattr(executor, "_client", None)  # of Dask
    if client is not None and hasattr(client, "ncores"):
        cores: dict[str, int] = client.ncores()
        return max(1, sum(cores.values()))
    raise ValueError("workers: this executor does not tell how many it has; give their number")


def spread(
    executor: Executor,
    workers: int,
    pages: Iterator[list[Any]],
    task: Callable[[list[Any]], BulkResult],
    result: BulkResult,
    meter: Meter,
) -> None:
    """Run ``task(page)`` on the workers for all pages; results are counted as they come."""
    running: dict[Any, list[Any]] = {}
    try:
        for page in pages:
            while len(running) >= _AHEAD * workers:
                _reap(running, result, meter)
            running[executor.submit(task, page)] = page
        while running:
            _reap(running, result, meter)
    except BaseException:
        result.stopped = True
        for future in running:
            future.cancel()
        raise


def _reap(running: dict[Any, list[Any]], result: BulkResult, meter: Meter) -> None:
    # Dask's futures are not those of the standard library, but wait for one another in the same way; its executor's are.
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        page = running.pop(future)
        try:
            part = future.result()
        except Exception as error:  # noqa: BLE001 - a worker that died: its objects failed
            result.failures += [Failure(item if isinstance(item, str) else item["path"], error) for item in page]
        else:
            seconds, part.seconds = part.seconds, 0.0
            result.add(part)
            result.seconds = max(result.seconds, seconds)
    meter.sample(result)
