"""Ray's cluster as an executor: Ray itself has tasks, but no ``concurrent.futures.Executor``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any


class RayExecutor(Executor):
    """Runs functions as tasks of Ray, in the cluster that ``ray.init`` connected to.

    A task whose worker dies is run again elsewhere, three times unless ``max_retries`` says otherwise.

    Args:
        workers: tasks at a time; the cluster's CPUs by default.
        **options: of ``ray.remote``: ``num_cpus``, ``max_retries``, ``runtime_env`` ...

    Raises:
        ImportError: Ray is not installed.
    """

    def __init__(self, workers: int | None = None, **options: Any) -> None:
        import ray

        if not ray.is_initialized():
            ray.init()
        self._max_workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._remote = ray.remote(**options)(_call) if options else ray.remote(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn(*args, **kwargs)`` on a worker."""
        future: Future[Any] = self._remote.remote(fn, args, kwargs).future()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing to end: the cluster goes on."""


def _call(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return fn(*args, **kwargs)
