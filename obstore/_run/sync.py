"""Synchronous face: the calling thread steps the operation itself and sleeps in the completion queue.

Each thread has a runner of its own (a second one while the user's code, called from an operation, calls us again). The wait is
without the GIL and looks at signals, so Ctrl-C cancels the operation at once; its clean-up gets `SHIELD_SECONDS`.
"""

from __future__ import annotations

import heapq
import os
import sys
import threading
import time
from collections import deque
from typing import Any, TypeVar

from obstore._effects import Await, Call, Op
from obstore._engine import Queue
from obstore._run.runner import SHIELD_SECONDS, Runner, Task, resume_posted

T = TypeVar("T")

_WAKE = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; a pipe takes it as well


class _Timer:
    __slots__ = ("due", "task")

    def __init__(self, due: float, task: Task) -> None:
        self.due = due
        self.task: Task | None = task

    def __lt__(self, other: _Timer) -> bool:
        return self.due < other.due


class SyncRunner(Runner):
    """Runs operations on the calling thread."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = False
        self.timers: list[_Timer] = []
        self.posted: deque[tuple[Task, Any, BaseException | None]] = deque()

    def open_queue(self) -> Queue:
        return Queue()

    def sleep(self, task: Task, seconds: float) -> _Timer:
        timer = _Timer(time.monotonic() + seconds, task)
        heapq.heappush(self.timers, timer)
        return timer

    def call(self, task: Task, effect: Call) -> None:
        task.result = effect.fn(*effect.args)

    def wait_for(self, task: Task, effect: Await) -> Any:  # noqa: ARG002 - there is nobody to wake
        close = getattr(effect.awaitable, "close", None)
        if close is not None:
            close()  # a coroutine that is never awaited would warn
        raise RuntimeError("no running event loop: an asynchronous callable needs the *_async functions")

    def forget(self, task: Task) -> bool:
        task.waiting.task = None
        return True

    def post(self, task: Task, value: Any, error: BaseException | None) -> None:
        self.posted.append((task, value, error))
        if self.queue is None:
            self.queue = self.open_queue()
        os.write(self.queue.fileno(), _WAKE)

    def run(self, op: Op[T]) -> T:
        """Run one operation to its end."""
        self.busy = True
        interrupt: BaseException | None = None
        give_up = 0.0
        root = Task(op, self, None, None)
        turn = self._begin
        while not root.done:
            try:
                turn(root)
                turn = self._turn
            except BaseException as exc:  # noqa: BLE001 - a signal handler raised: cancel, clean up, raise
                turn = self._turn
                if interrupt is not None:
                    break  # a second Ctrl-C: no more patience
                interrupt = exc
                give_up = time.monotonic() + SHIELD_SECONDS
                self.cancel(root, exc)
            if interrupt is not None and time.monotonic() > give_up:
                break
        if not root.done:
            # Left behind: nothing of it may ever be resumed on this thread.
            if self.queue is not None:
                self.queue.close()
            _local.runner = None
        self.busy = False
        if interrupt is not None:
            raise interrupt
        if root.error is not None:
            try:
                raise root.error
            finally:
                del root  # the traceback would hold the task, and through it the error
        return root.result  # type: ignore[no-any-return]

    def _begin(self, root: Task) -> None:
        self.step(root)

    def _turn(self, _root: Task) -> None:
        posted = self.posted
        while posted:
            resume_posted(*posted.popleft())
            if _root.done:
                return
        timers = self.timers
        timeout = -1.0
        while timers:
            timer = timers[0]
            if timer.task is None:
                heapq.heappop(timers)
                continue
            timeout = timer.due - time.monotonic()
            if timeout > 0:
                break
            heapq.heappop(timers)
            task, timer.task = timer.task, None
            if task.waiting is timer:
                self.step(task)
            return
        if self.ready:
            self.pump()
            return
        queue = self.queue
        if queue is None:
            queue = self.queue = self.open_queue()
        if queue.wait(timeout):
            self.pump()


_local = threading.local()


def run(op: Op[T]) -> T:
    """Run an operation on the calling thread and return its result, or raise its error."""
    runner: SyncRunner | None = getattr(_local, "runner", None)
    if runner is None or runner.busy or (runner.queue is not None and not runner.queue.usable):
        nested = runner is not None and runner.busy
        runner = SyncRunner()
        if not nested:
            _local.runner = runner
    return runner.run(op)
