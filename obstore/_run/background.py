"""Operations that go on while the synchronous caller does something else: the next block of a file, the parts of an upload.

One daemon thread for the process runs them all. It is started by the first one and never by an event loop, which has its own way of
going on.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any

from obstore._effects import Cancelled, Op
from obstore._engine.lifecycle import after_fork_in_child
from obstore._run.runner import Task
from obstore._run.sync import WAKE, SyncRunner


class Job(Future[Any]):
    """An operation in the background. Wait for it with ``result()``; `cancel` asks it to end.

    A child after fork has none of its parent's jobs: they never end there, and `lost` says so.
    """

    def __init__(self, op: Op[Any], worker: _Worker) -> None:
        super().__init__()
        self._op: Op[Any] | None = op
        self._worker = worker
        self._task: Task | None = None

    @property
    def lost(self) -> bool:
        """Whether the process that runs it is another one."""
        return self._worker is not _worker

    def cancel(self) -> bool:
        """Cancel the operation, which cleans up behind itself; the job ends when it has. Any thread, any number of times."""
        if not self.lost:
            self._worker.post(self._stop)
        return False

    # ---- on the worker's thread -----------------------------------------------------------------------

    def begin(self) -> None:
        op, self._op = self._op, None
        assert op is not None, "begun twice"
        worker = self._worker
        worker.under_way += 1
        self._task = task = Task(op, worker.runner, self._settle, None)
        worker.runner.step(task)

    def _stop(self) -> None:
        if self._task is not None:
            self._worker.runner.cancel(self._task, Cancelled())

    def _settle(self, task: Task) -> None:
        self._task = None
        self._worker.under_way -= 1
        result, task.result = task.result, None
        error, task.error = task.error, None
        try:
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
        finally:
            error = None  # its traceback may hold this frame


class _Worker:
    """The thread, its runner, and what others want of it, in order.

    Attributes:
        runner: of the thread.
        under_way: jobs that have begun and not ended; the thread's own.
    """

    def __init__(self) -> None:
        self.runner = SyncRunner()
        self.runner.inline = False  # it does not wait for a single transfer, and not always in the queue
        self.under_way = 0
        self._wake = self.runner.usable_queue().fileno()
        self._wishes: SimpleQueue[Callable[[], None]] = SimpleQueue()
        threading.Thread(target=self._work, name="obstore-background", daemon=True).start()

    def post(self, wish: Callable[[], None]) -> None:
        """Have ``wish`` called on the thread. May be called by destructors, wherever they run."""
        self._wishes.put(wish)
        os.write(self._wake, WAKE)

    def _work(self) -> None:
        self.runner.busy = True
        for_ever = Task(_nothing(), self.runner, None, None)
        while True:
            # Without work it sleeps for good; with work it wakes for what completes and for what is posted.
            if not self.under_way:
                self._wishes.get()()
            while not self._wishes.empty():
                self._wishes.get()()
            if self.under_way:
                self.runner.turn(for_ever)


def _nothing() -> Op[None]:
    yield from ()


_worker: _Worker | None = None
_starting = threading.Lock()


def is_possible() -> bool:
    """Whether a thread of ours would be one: under gevent's patches it would be a greenlet, and hold up all others as it waits."""
    gevent = sys.modules.get("gevent.monkey")
    return gevent is None or not gevent.is_module_patched("threading")


def start_in_background(op: Op[Any]) -> Job:
    """Start an operation on the background thread."""
    global _worker  # noqa: PLW0603 - one for the process
    if _worker is None:
        with _starting:
            if _worker is None:
                _worker = _Worker()
    job = Job(op, _worker)
    _worker.post(job.begin)
    return job


def discard_in_background(op: Op[Any]) -> None:
    """Run clean-up of which nobody waits for the outcome, if the thread is there: for destructors."""
    if _worker is not None and not sys.is_finalizing():
        _worker.post(Job(op, _worker).begin)


def _forget_worker() -> None:
    global _worker, _starting  # noqa: PLW0603 - they belong to the parent
    _worker = None
    _starting = threading.Lock()


after_fork_in_child(_forget_worker)
