"""Synchronous face: the calling thread steps the operation itself and sleeps in the completion queue.

Each thread has a runner of its own (more while the user's code, called from an operation, calls us again). The wait is without
the GIL and looks at signals, so Ctrl-C cancels the operation at once; its clean-up gets `SHIELD_SECONDS`.
"""

import heapq
import os
import sys
import threading
from collections import deque
from time import monotonic

from libc.math cimport INFINITY

from obstore._engine import Queue
from obstore._run import observe
from obstore._run.runner import SHIELD_SECONDS, ground, resume_posted

from obstore._run.runner cimport Runner, Task

WAKE = (1).to_bytes(8, sys.byteorder)  # what an eventfd takes; a pipe takes it as well

cdef object modules = sys.modules


cdef class Timer:
    """When a task is to go on; without a task: no more."""

    cdef readonly double due
    cdef public Task task

    def __init__(self, double due, Task task):
        self.due = due
        self.task = task

    def __lt__(self, Timer other not None):
        return self.due < other.due


cdef class SyncRunner(Runner):
    """Runs operations on the calling thread.

    Attributes:
        busy: an operation is under way.
        timers: those that sleep, as a heap.
        posted: what other threads want resumed.
    """

    cdef public bint busy
    cdef readonly list timers
    cdef readonly object posted

    def __init__(self):
        super().__init__(inline=True)
        self.timers = []
        self.posted = deque()

    def open_queue(self):
        return Queue()

    def sleep(self, Task task, seconds):
        timer = Timer(monotonic() + seconds, task)
        heapq.heappush(self.timers, timer)
        return timer

    def call(self, Task task, effect):
        if self.queue is not None:
            self.queue.leave()  # the user's code may take its time
        task.result = effect.fn(*effect.args)

    def wait_for(self, Task task, effect):
        # There is nobody to wake.
        close = getattr(effect.awaitable, "close", None)
        if close is not None:
            close()  # a coroutine that is never awaited would warn
        raise RuntimeError("no running event loop: an asynchronous callable needs the *_async functions")

    def forget(self, Task task):
        task.waiting.task = None
        return True

    def lost(self, Task task):
        # Signal handlers raise anywhere, also between a generator's yield and the wait that was to follow it.
        return not task.op.gi_running

    def post(self, boarded, value, error):
        self.posted.append((boarded, value, error))
        if self.queue is not None:  # made before anybody could learn of us
            os.write(self.queue.fileno(), WAKE)

    def run(self, op):
        """Run one operation to its end."""
        cdef Task root = Task(op, self, None, None)
        self.busy = True
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
        return root.result

    cdef object _drive(self, Task root):
        """Turn until the operation is done; returns what interrupted it.

        A signal handler that raises, Ctrl-C above all, cancels the operation, which may clean up for `SHIELD_SECONDS`. A second
        interrupt ends the patience at once.
        """
        cdef double give_up = INFINITY
        cdef bint begun = False
        interrupt = None
        while not root.done:
            try:
                if begun:
                    self._turn(root, give_up)
                else:
                    begun = True
                    self._step(root, None, None)
                if give_up == INFINITY or <double>monotonic() < give_up:
                    continue
                break
            except BaseException as exc:  # noqa: BLE001 - raised again once everything is cleaned up
                if interrupt is not None:
                    break
                interrupt = exc
            try:
                give_up = <double>monotonic() + <double>SHIELD_SECONDS
                self._cancel(root, interrupt)
            except BaseException:  # noqa: BLE001 - the second interrupt: the first one is raised
                break
        return interrupt

    cdef int _abandon(self) except -1:
        """The operation is left behind: nothing of it may ever be resumed on this thread."""
        if self in _runners():
            _runners().remove(self)
        ground(self)
        if self.queue is not None:
            self.queue.close()
        return 0

    def turn(self, Task root not None):
        """Do what is due, or wait for it. ``root``: the task to return for once it is done."""
        self._turn(root, INFINITY)

    cdef int _turn(self, Task root, double give_up) except -1:
        """The same, until ``give_up`` at the latest."""
        cdef Timer timer
        cdef Task task
        cdef double due = give_up
        while self.posted:
            resume_posted(*self.posted.popleft())
            if root.done:
                return 0
        while self.timers:
            timer = self.timers[0]
            if timer.task is None:
                heapq.heappop(self.timers)
                continue
            if timer.due > <double>monotonic():
                due = min(due, timer.due)
                break
            heapq.heappop(self.timers)
            task, timer.task = timer.task, None
            if task.waiting is timer:
                self._step(task, None, None)
            return 0
        if self.ready or _wait(self._usable_queue(), -1.0 if due == INFINITY else max(0.0, due - <double>monotonic())):
            self.pump()
        return 0


cdef bint _wait(queue, double seconds) except -1:
    """Sleep until the queue has something, at most ``seconds`` (negative: no limit). Whether it may have."""
    if "gevent.monkey" in modules:
        from obstore._run import gevent

        if gevent.patched():
            queue.leave()  # greenlets watch descriptors, and none of them may keep the others from running
            return gevent.wait(queue, seconds)
    return queue.wait(seconds)


_local = threading.local()


def _runners():
    """This thread's runners: one, and one more for every level at which the user's code, called by us, calls us again."""
    try:
        return _local.runners
    except AttributeError:
        _local.runners = []
        return _local.runners


def run(op):
    """Run an operation on the calling thread and return its result, or raise its error."""
    cdef SyncRunner runner
    cdef list runners
    if observe.watching():
        op = observe.watched(op, sys._getframe(0))  # names the operation; compiled functions have no frame
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
        if len(runners) > 1 and not (<SyncRunner>runners[0]).busy:
            del runners[1:]
