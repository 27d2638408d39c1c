"""Asyncio face: operations are stepped on the running event loop, woken by the completion queue's descriptor.

One runner per event loop. The loop's reader callback takes whatever completed since, so one wakeup serves any number of
completions; an operation costs one future and no asyncio task. The runner refers to its loop weakly: engine and
connections outlive event loops.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from obstore._effects import Await, Call, Op
from obstore._engine import Queue
from obstore._engine.lifecycle import after_fork_in_child
from obstore._run import Ready
from obstore._run.calls import CallOutcome
from obstore._run.future import OperationCoroutine, OperationFuture
from obstore._run.runner import Runner, Task, ground, resume_posted

T = TypeVar("T")


class _Reader:
    """What the event loop calls when the queue is readable.

    The loop holds the only reference: when it is closed this object goes, and the queue with it.
    """

    __slots__ = ("_runner",)

    def __init__(self, runner: AsyncRunner) -> None:
        self._runner = runner

    def __call__(self) -> None:
        runner = self._runner
        try:
            runner.pump()
        except BaseException:
            # A task that was resumed has ended the program, or wants to: the others are told in the loop's next turn.
            loop = runner.loop()
            if loop is not None and not loop.is_closed():
                loop.call_soon(runner.pump)
            raise

    def __del__(self) -> None:
        self._runner.close()


class AsyncRunner(Runner):
    """Runs operations on one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = weakref.ref(loop)

    def the_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, which is running: we are being called from it."""
        loop = self.loop()
        if loop is None:
            raise RuntimeError("the event loop of this operation is gone")
        return loop

    def open_queue(self) -> Queue:
        queue = Queue()
        self.the_loop().add_reader(queue.fileno(), _Reader(self))
        return queue

    def sleep(self, task: Task, seconds: float) -> asyncio.TimerHandle:
        return self.the_loop().call_later(seconds, self.step, task)

    def call(self, task: Task, effect: Call) -> Any:
        context = task.context.copy()
        outcome = CallOutcome()
        future = self.the_loop().run_in_executor(None, context.run, outcome.of, effect)

        def resume(done: asyncio.Future[None]) -> None:
            if task.waiting is done:
                self.step(task, *outcome.taken())

        task.waiting = future
        future.add_done_callback(resume)
        return future

    def wait_for(self, task: Task, effect: Await) -> Any:
        loop = self.the_loop()
        awaitable = effect.awaitable
        if asyncio.iscoroutine(awaitable):
            future: asyncio.Future[Any] = loop.create_task(awaitable, context=task.context)
        else:
            future = task.context.copy().run(asyncio.ensure_future, awaitable, loop=loop)

        def resume(done: asyncio.Future[Any]) -> None:
            value: Any = None
            error: BaseException | None = None
            try:
                value = done.result()
            except BaseException as exc:  # noqa: BLE001 - the user's, for the operation
                error = exc
            try:
                if task.waiting is not done:
                    return
                if task.cancelling is not None and not task.closing:
                    self.throw_cancel(task)
                else:
                    self.step(task, value, error)
            finally:
                error = None  # its traceback holds this frame

        future.add_done_callback(resume)
        return future

    def forget(self, task: Task) -> bool:
        waiting = task.waiting
        waiting.cancel()
        # The user's coroutine ends before the operation goes on; a thread's call cannot be stopped and is left.
        return not isinstance(task.effect, Await)

    def post(self, boarded: Any, value: Any, error: BaseException | None) -> None:
        loop = self.loop()
        if loop is not None:
            try:
                loop.call_soon_threadsafe(resume_posted, boarded, value, error)
            except RuntimeError:
                # The loop is closed, and with it all that ran on it: nobody waits any more.
                return

    def close(self) -> None:
        """The loop is closed: cancel what is still in flight for it. Any thread, any number of times."""
        ground(self)
        queue = self.release_queue()
        if queue is not None:
            queue.close()


_registry: list[AsyncRunner] = []
_registry_lock = threading.Lock()
_local = threading.local()


def _runner_of(loop: asyncio.AbstractEventLoop) -> AsyncRunner:
    with _registry_lock:
        found = None
        live = []
        for runner in _registry:
            its_loop = runner.loop()
            if its_loop is None or its_loop.is_closed():
                runner.close()
            else:
                live.append(runner)
                if its_loop is loop:
                    found = runner
        if found is None:
            found = AsyncRunner(loop)
            live.append(found)
        _registry[:] = live
    _local.runner = found
    return found


def start(op: Op[T]) -> OperationFuture[T]:
    """Start an operation on the running event loop.

    Raises:
        RuntimeError: no event loop is running in this thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        op.close()
        raise
    runner: AsyncRunner | None = getattr(_local, "runner", None)
    if runner is None or runner.loop() is not loop:
        runner = _runner_of(loop)
    task = Task(op, runner, None, contextvars.copy_context())
    future: OperationFuture[T] = getattr(_local, "kind", OperationFuture)(loop, task)
    task.on_done = future.settle
    runner.step(task)
    return future


def begun(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What the function returns, which calls `start`; with its awaitable a coroutine as well."""
    _local.kind = OperationCoroutine
    try:
        started = function(*arguments, **options)
    finally:
        _local.kind = OperationFuture
    # One that never was under way is no coroutine yet.
    return started if type(started) is not OperationFuture else Ready(started.result())


def _forget_runners() -> None:
    global _registry_lock  # noqa: PLW0603 - a thread of the parent may have held it
    _registry_lock = threading.Lock()
    _registry.clear()
    _local.__dict__.clear()


after_fork_in_child(_forget_runners)
