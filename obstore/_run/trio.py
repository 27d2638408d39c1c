"""Trio face: operations are stepped by a system task of the run, woken by the completion queue's descriptor.

The same as ``aio`` in trio's terms: one runner per run, and an awaitable whose operation is under way before it is awaited.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Generic, NoReturn, TypeVar

import trio

from obstore._effects import Await, Call, Cancelled, Op
from obstore._engine import Queue
from obstore._run.calls import CallOutcome
from obstore._run.runner import SHIELD_SECONDS, Runner, Task, ground, resume_posted, without_catcher

T = TypeVar("T")


class _Waiting:
    """What a task waits for in a system task of its own, until its scope is cancelled."""

    __slots__ = ("scope",)

    def __init__(self) -> None:
        self.scope = trio.CancelScope()


class TrioRunner(Runner):
    """Runs operations in one run of trio."""

    def __init__(self) -> None:
        super().__init__()
        self.token = trio.lowlevel.current_trio_token()

    def open_queue(self) -> Queue:
        queue = Queue()
        trio.lowlevel.spawn_system_task(self._pump_queue, queue, name="obstore")
        return queue

    async def _pump_queue(self, queue: Queue) -> None:
        try:
            while True:
                await trio.lowlevel.wait_readable(queue.fileno())
                self.pump()
        finally:
            # The run ends: nobody is left to wait.
            ground(self)
            queue.close()

    def sleep(self, task: Task, seconds: float) -> _Waiting:
        waiting = _Waiting()
        trio.lowlevel.spawn_system_task(self._sleep, task, waiting, seconds, name="obstore sleep")
        return waiting

    async def _sleep(self, task: Task, waiting: _Waiting, seconds: float) -> None:
        with waiting.scope:
            await trio.sleep(seconds)
        if task.waiting is waiting:
            self.step(task)

    def call(self, task: Task, effect: Call) -> Any:
        task.waiting = waiting = _Waiting()
        trio.lowlevel.spawn_system_task(
            self._call, task, waiting, effect, name="obstore call", context=task.context.copy()
        )
        return waiting

    async def _call(self, task: Task, waiting: _Waiting, effect: Call) -> None:
        outcome = CallOutcome()
        with waiting.scope:
            await trio.to_thread.run_sync(outcome.of, effect, abandon_on_cancel=True)
        if task.waiting is waiting:
            self.step(task, *outcome.taken())

    def wait_for(self, task: Task, effect: Await) -> _Waiting:
        waiting = _Waiting()
        trio.lowlevel.spawn_system_task(
            self._wait_for, task, waiting, effect.awaitable, name="obstore await", context=task.context.copy()
        )
        return waiting

    async def _wait_for(self, task: Task, waiting: _Waiting, awaitable: Awaitable[Any]) -> None:
        value: Any = None
        error: BaseException | None = None
        with waiting.scope:
            try:
                value = await awaitable
            except trio.Cancelled:
                raise
            except BaseException as exc:  # noqa: BLE001 - the user's, for the operation
                error = without_catcher(exc)
        try:
            if task.waiting is not waiting:
                return
            if task.cancelling is not None and not task.closing:
                self.throw_cancel(task)
            else:
                self.step(task, value, error)
        finally:
            error = None  # its traceback holds this frame

    def forget(self, task: Task) -> bool:
        task.waiting.scope.cancel()
        # The user's coroutine ends before the operation goes on; a thread's call cannot be stopped and is left.
        return not isinstance(task.effect, Await)

    def post(self, boarded: Any, value: Any, error: BaseException | None) -> None:
        try:
            self.token.run_sync_soon(resume_posted, boarded, value, error)
        except trio.RunFinishedError:
            return  # and with it all that ran in it: nobody waits any more


class TrioOperation(Generic[T]):
    """The coroutine of a started operation.

    Being cancelled while it is awaited cancels the operation, and is delivered once that has let go of its connection and cleaned up
    behind itself, at the latest after a few seconds.
    """

    __slots__ = ("_done", "_error", "_heard", "_raise_cancel", "_run", "_steps", "_task", "_value", "_waiters")

    def __init__(self) -> None:
        self._task: Task | None = None
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._raise_cancel: Callable[[], NoReturn] | None = None
        self._waiters: list[trio.lowlevel.Task] = []
        self._steps: Coroutine[Any, Any, T] | None = None
        self._run = trio.lowlevel.current_trio_token()
        self._heard: list[Callable[[], None]] = []

    def settle(self, task: Task) -> None:
        """The operation's end."""
        self._task = None
        self._value, task.result = task.result, None
        self._error, task.error = task.error, None
        self._wake()

    def _wake(self) -> None:
        self._done = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            trio.lowlevel.reschedule(waiter)
        heard, self._heard = self._heard, []
        for tell in heard:
            tell()

    def _abort(self, raise_cancel: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
        self._raise_cancel = raise_cancel
        if self._task is not None:
            trio.lowlevel.spawn_system_task(self._lose_patience, name="obstore patience")
            self._task.runner.cancel(self._task, Cancelled())
        return trio.lowlevel.Abort.FAILED

    async def _lose_patience(self) -> None:
        await trio.sleep(SHIELD_SECONDS)
        if not self._done:
            self._wake()

    async def _wait(self) -> T:
        if self._done:
            await trio.lowlevel.checkpoint()
        else:
            self._waiters.append(trio.lowlevel.current_task())
            await trio.lowlevel.wait_task_rescheduled(self._abort)
            if self._raise_cancel is not None:
                self._raise_cancel()
        error = self._error
        if error is not None:
            try:
                raise error
            finally:
                del error, self  # the traceback holds this frame
        return self._value  # type: ignore[no-any-return]

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    # ---- for those who let it go on, such as files that read ahead ------------------------------------------

    def is_here(self) -> bool:
        """Whether it belongs to the run that calls."""
        return self._run is trio.lowlevel.current_trio_token()

    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._done

    def result(self) -> T:
        """The result, or the error raised; only once it is done."""
        assert self._done
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[no-any-return]

    def cancel(self) -> bool:
        """Have the operation end. Called in its run."""
        if self._task is not None:
            self._task.runner.cancel(self._task, Cancelled())
        return not self._done

    # ---- as a coroutine, for those who take nothing else, such as ``nursery.start_soon`` --------------------

    def _coroutine(self) -> Coroutine[Any, Any, T]:
        if self._steps is None:
            self._steps = self._wait()
        return self._steps

    def send(self, value: Any) -> Any:
        """Go on with ``value``, as whoever runs a coroutine does."""
        return self._coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an error."""
        return self._coroutine().throw(*error)

    def close(self) -> None:
        """Nobody will wait for it: cancel the operation."""
        if self._steps is not None:
            self._steps.close()
        self.cancel()


async def first_done(operations: Iterable[TrioOperation[Any]]) -> None:
    """Wait until one of them is done."""
    event = trio.Event()
    for operation in operations:
        if operation.done():
            event.set()
        operation._heard.append(event.set)  # noqa: SLF001 - ours
    await event.wait()


_runner: trio.lowlevel.RunVar[TrioRunner] = trio.lowlevel.RunVar("obstore")


def start(op: Op[T]) -> TrioOperation[T]:
    """Start an operation in the current run."""
    runner = _runner.get(None)  # type: ignore[arg-type]
    if runner is None:
        runner = TrioRunner()
        _runner.set(runner)
    operation: TrioOperation[T] = TrioOperation()
    task = Task(op, runner, operation.settle, contextvars.copy_context())
    operation._task = task  # noqa: SLF001 - its other half
    runner.step(task)
    return operation
