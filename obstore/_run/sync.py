"""Synchronous face: the calling thread steps the operation itself and sleeps in the completion queue.

Each thread has a runner of its own (more while the user's code, called from an operation, calls us again). The wait is without
the GIL and looks at signals, so Ctrl-C cancels the operation at once; its clean-up gets `SHIELD_SECONDS`.
"""

from __future__ import annotations

import heapq
import math
import os
import sys
import threading
import time
from collections import deque
from typing import Any, TypeVar

from obstore._effects import Await, Call, Op
from obstore._engine import Queue
from obstore._run import observe
from obstore._run.runner import SHIELD_SECONDS, Runner, Task, ground, resume_posted

T = TypeVar("T")

WAKE = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; a pipe takes it as well


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
        super().__init__(inline=True)
        self.busy = False
        self.timers: list[_Timer] = []
        self.posted: deque[tuple[Any, Any, BaseException | None]] = deque()

    def open_queue(self) -> Queue:
        return Queue()

    def sleep(self, task: Task, seconds: float) -> _Timer:
        timer = _Timer(time.monotonic() + seconds, task)
        heapq.heappush(self.timers, timer)
        return timer

    def call(self, task: Task, effect: Call) -> None:
        if self.queue is not None:
            self.queue.leave()  # the user's code may take its time
        task.result = effect.fn(*effect.args)

    def wait_for(self, task: Task, effect: Await) -> Any:  # noqa: ARG002 - there is nobody to wake
        close = getattr(effect.awaitable, "close", None)
        if close is not None:
            close()  # a coroutine that is never awaited would warn
        raise RuntimeError("no running event loop: an asynchronous callable needs the *_async functions")

    def forget(self, task: Task) -> bool:
        task.waiting.task = None
        return True

    def lost(self, task: Task) -> bool:
        # Signal handlers raise anywhere, also between a generator's yield and the wait that was to follow it.
        return not task.op.gi_running  # type: ignore[attr-defined]

    def post(self, boarded: Any, value: Any, error: BaseException | None) -> None:
        self.posted.append((boarded, value, error))
        if self.queue is not None:  # made before anybody could learn of us
            os.write(self.queue.fileno(), WAKE)

    def run(self, op: Op[T]) -> T:
        """Run one operation to its end."""
        self.busy = True
        root = Task(op, self, None, None)
        try:
            interrupt = self._drive(root)
        finally:
            if not root.done:
                self._abandon()
            elif self.queue is not None:
                self.queue.leave()
            self.busy = False
        error, root.error = interrupt or root.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error, interrupt  # the traceback holds this frame
        return root.result  # type: ignore[no-any-return]

    def _drive(self, root: Task) -> BaseException | None:
        """Turn until the operation is done; returns what interrupted it.

        A signal handler that raises, Ctrl-C above all, cancels the operation, which may clean up for `SHIELD_SECONDS`. A second
        interrupt ends the patience at once.
        """
        interrupt: BaseException | None = None
        give_up = math.inf
        begun = False
        while not root.done:
            try:
                if begun:
                    self._turn(root, give_up)
                else:
                    begun = True
                    self.step(root)
                if time.monotonic() < give_up:
                    continue
                break
            except BaseException as exc:  # noqa: BLE001 - raised again once everything is cleaned up
                if interrupt is not None:
                    break
                interrupt = exc
            try:
                give_up = time.monotonic() + SHIELD_SECONDS
                self.cancel(root, interrupt)
            except BaseException:  # noqa: BLE001 - the second interrupt: the first one is raised
                break
        return interrupt

    def _abandon(self) -> None:
        """The operation is left behind: nothing of it may ever be resumed on this thread."""
        if self in _runners():
            _runners().remove(self)
        ground(self)
        if self.queue is not None:
            self.queue.close()

    def _turn(self, root: Task, give_up: float) -> None:
        """Do what is due, or wait for it, until ``give_up`` at the latest."""
        posted = self.posted
        while posted:
            resume_posted(*posted.popleft())
            if root.done:
                return
        timers = self.timers
        due = give_up
        while timers:
            timer = timers[0]
            if timer.task is None:
                heapq.heappop(timers)
                continue
            if timer.due > time.monotonic():
                due = min(due, timer.due)
                break
            heapq.heappop(timers)
            task, timer.task = timer.task, None
            if task.waiting is timer:
                self.step(task)
            return
        if self.ready:
            self.pump()
            return
        if _wait(self.usable_queue(), -1.0 if due == math.inf else max(0.0, due - time.monotonic())):
            self.pump()


def _wait(queue: Queue, seconds: float) -> bool:
    """Sleep until the queue has something, at most ``seconds`` (negative: no limit). Whether it may have."""
    if "gevent.monkey" in sys.modules:
        from obstore._run import gevent

        if gevent.patched():
            queue.leave()  # greenlets watch descriptors, and none of them may keep the others from running
            return gevent.wait(queue, seconds)
    return queue.wait(seconds)


_local = threading.local()


def _runners() -> list[SyncRunner]:
    """This thread's runners: one, and one more for every level at which the user's code, called by us, calls us again."""
    try:
        return _local.runners  # type: ignore[no-any-return]
    except AttributeError:
        _local.runners = []
        return _local.runners  # type: ignore[no-any-return]


def run(op: Op[T]) -> T:
    """Run an operation on the calling thread and return its result, or raise its error."""
    if observe.watching():
        op = observe.watched(op, sys._getframe(1))  # noqa: SLF001 - names the operation
    runners = _runners()
    for runner in runners:
        if not runner.busy:
            break
    else:
        runner = SyncRunner()
        runners.append(runner)
    try:
        return runner.run(op)
    finally:
        if len(runners) > 1 and not runners[0].busy:
            del runners[1:]
