"""The runner: steps generator operations and performs the effects they yield.

Everything that both faces share is here; ``sync`` and ``aio`` differ only in how they wait for the completion queue,
sleep, and run the user's code. A runner belongs to one thread (the thread of its event loop); only `Runner.post` may be called
from elsewhere.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from obstore._effects import (
    AttemptFailed,
    Await,
    Begin,
    Call,
    Cancel,
    Cancelled,
    Collect,
    Flight,
    Fork,
    Join,
    Op,
    Outcome,
    Read,
    Send,
    Sleep,
)
from obstore._engine import Queue, Transfer, submit
from obstore._engine._core import HEAD
from obstore._engine.lifecycle import after_fork_in_child

# How long a cancelled operation may go on with its clean-up (aborting an upload) before it is left behind.
SHIELD_SECONDS = 5.0


class Task:
    """One operation under way: a generator and what it waits for.

    Attributes:
        waiting: the transfer, timer, future ... that will resume it; ``None`` while it runs and once it is done.
        effect: the effect it waits for.
        cancelling: what to throw into it as soon as what it waits for has let go.
        closing: it was cancelled, or cleans up behind a failure: from now on it is left to come to its end.
        done, result, error: the outcome.
        joiner: the task to look at again when this one is done.
        on_done: called with the task when it is done.
        context: the caller's context variables, for user code on an event loop.
    """

    __slots__ = (
        "cancelling",
        "closing",
        "context",
        "done",
        "effect",
        "error",
        "joiner",
        "on_done",
        "op",
        "result",
        "runner",
        "waiting",
    )

    def __init__(self, op: Op[Any], runner: Runner, on_done: Callable[[Task], None] | None, context: Any) -> None:
        self.op = op
        self.runner = runner
        self.on_done = on_done
        self.context = context
        self.waiting: Any = None
        self.effect: Any = None
        self.cancelling: BaseException | None = None
        self.closing = False
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.joiner: Task | None = None


class Runner:
    """Steps tasks. Subclasses say how to sleep, call and await; see `obstore._run.sync` and `obstore._run.aio`."""

    inline = False
    """Whether the thread waits for what it sends, and can drive it meanwhile."""

    def __init__(self) -> None:
        self.queue: Queue | None = None
        self.ready: deque[Transfer] = deque()

    # ---- what differs between the faces --------------------------------------------------------------

    def open_queue(self) -> Queue:
        """Make the completion queue; called at the first HTTP request."""
        raise NotImplementedError

    def sleep(self, task: Task, seconds: float) -> Any:
        """Arrange for ``self.step(task)``; returns what `forget` takes."""
        raise NotImplementedError

    def call(self, task: Task, effect: Call) -> Any:
        """Run blocking code: set ``task.waiting`` and return it, or ``None`` with the result in ``task.result``."""
        raise NotImplementedError

    def wait_for(self, task: Task, effect: Await) -> Any:
        """Await the user's awaitable: returns what `forget` takes."""
        raise NotImplementedError

    def forget(self, task: Task) -> bool:
        """Give up what ``task`` waits for (timer, call, awaitable). False: it will still resume the task itself."""
        raise NotImplementedError

    def lost(self, task: Task) -> bool:  # noqa: ARG002 - for those that can be interrupted anywhere
        """Whether ``task``, which waits for nothing, was dropped by an interrupt rather than being on its way."""
        return False

    def post(self, boarded: _Boarded, value: Any, error: BaseException | None) -> None:
        """Call `resume_posted` on the runner's own thread. From any thread."""
        raise NotImplementedError

    # ---- stepping -------------------------------------------------------------------------------------

    def step(self, task: Task, value: Any = None, error: BaseException | None = None) -> None:
        """Resume the generator and perform effects until one has to be waited for."""
        op = task.op
        task.waiting = None
        try:
            while True:
                try:
                    effect = op.send(value) if error is None else op.throw(error)
                except StopIteration as stop:
                    value, error = stop.value, None
                    break
                except BaseException as exc:  # noqa: BLE001 - goes to whoever waits for the task
                    value, error = None, without_catcher(exc)
                    break
                value = error = None
                try:
                    kind = type(effect)
                    if kind is Send:
                        self._send(task, effect)
                        return
                    if kind is Read or kind is Collect:
                        if self._await_body(task, effect):
                            return
                        value, task.result = task.result, None
                    elif kind is Call:
                        task.effect = effect
                        if self.call(task, effect) is not None:
                            return
                        value, task.result = task.result, None
                    elif kind is Fork:
                        value = self.spawn(effect.op, joiner=task, context=task.context)
                    elif kind is Join:
                        if not any(child.done for child in effect.children):
                            task.waiting = effect
                            return
                    elif kind is Cancel:
                        task.closing = True
                        for child in effect.children:
                            self.cancel(child, Cancelled())
                        if not all(child.done for child in effect.children):
                            task.waiting = effect
                            return
                    elif kind is Sleep:
                        task.effect = effect
                        task.waiting = self.sleep(task, effect.seconds)
                        return
                    elif kind is Flight:
                        task.effect = effect
                        self.usable_queue()  # a landing elsewhere wakes us through it
                        _board(task, effect)
                        return
                    elif kind is Await:
                        task.effect = effect
                        task.waiting = self.wait_for(task, effect)
                        return
                    elif kind is Begin:
                        value = self._submit(None, effect.send, inline=False)
                    elif kind is Outcome:
                        if self._await_outcome(task, effect):
                            return
                        value = effect.response
                    else:
                        error = TypeError(f"an operation yielded {effect!r}, which is no effect")
                except BaseException as exc:  # noqa: BLE001 - what fails to be performed fails where it was asked for
                    error = without_catcher(exc)
            # Not inside the handlers: what others raise from here on has nothing to do with how this one ended.
            self._finish(task, value, error)
        finally:
            error = None  # its traceback may hold this frame

    def spawn(
        self,
        op: Op[Any],
        *,
        joiner: Task | None = None,
        on_done: Callable[[Task], None] | None = None,
        context: Any = None,
    ) -> Task:
        """Start an operation."""
        task = Task(op, self, on_done, context)
        task.joiner = joiner
        self.step(task)
        return task

    def cancel(self, task: Task, error: BaseException) -> None:
        """Throw ``error`` into the task as soon as what it waits for has let go; once, and not into its clean-up."""
        if task.done or task.closing or task.cancelling is not None:
            return
        task.cancelling = error
        waiting = task.waiting
        if isinstance(waiting, Transfer):
            waiting.cancel()  # its END resumes the task
        elif isinstance(waiting, _Boarded):
            if waiting.leave():
                self._throw_cancel(task)
        elif waiting is None:
            if self.lost(task):
                self._throw_cancel(task)
        elif isinstance(waiting, (Join, Cancel)) or self.forget(task):
            self._throw_cancel(task)

    def _throw_cancel(self, task: Task) -> None:
        task.closing = True
        self.step(task, None, task.cancelling)

    def _finish(self, task: Task, result: Any, error: BaseException | None) -> None:
        task.waiting = None
        task.effect = None
        task.result = result
        task.error = error
        task.done = True
        joiner = task.joiner
        if joiner is not None and joiner.waiting is not None:
            effect = joiner.waiting
            if (type(effect) is Join and any(child is task for child in effect.children)) or (
                type(effect) is Cancel and all(child.done for child in effect.children)
            ):
                self.step(joiner)
        on_done, task.on_done = task.on_done, None
        if on_done is not None:
            on_done(task)

    # ---- transfers ------------------------------------------------------------------------------------

    def usable_queue(self) -> Queue:
        """The completion queue, made when it is first needed, and anew after fork."""
        queue = self.queue
        if queue is None or not queue.usable:
            queue = self.queue = self.open_queue()
        return queue

    def _send(self, task: Task, effect: Send) -> None:
        task.effect = effect
        task.waiting = self._submit(task, effect, inline=self.inline)

    def _submit(self, task: Task | None, effect: Send, *, inline: bool) -> Transfer:
        return submit(
            self.usable_queue(),
            effect.client.engine_client(),
            task,
            effect.method,
            effect.url,
            effect.headers,
            effect.body,
            effect.sink,
            effect.into,
            effect.slice_,
            inline,
        )

    def _await_outcome(self, task: Task, effect: Outcome) -> bool:
        """Whether the task has to wait; if not, the transfer has ended well. Raises its failure."""
        transfer: Transfer = effect.response
        queue = self.usable_queue()  # a new one takes what closed ones left, and may so end the transfer
        if not transfer.ended:
            transfer.attach(queue, task)  # another thread or loop may have begun it
            task.effect = effect
            task.waiting = transfer
            return True
        if not transfer.ok and transfer.status < 300:
            raise failure_of(transfer)
        return False

    def _await_body(self, task: Task, effect: Read | Collect) -> bool:
        """Whether the task has to wait; if not, ``task.result`` is what it asked for."""
        transfer: Transfer = effect.response
        if not transfer.ended:
            reader = transfer.waiter
            if reader is not None and reader.waiting is transfer and reader.runner.queue is not None:
                raise RuntimeError("the body is being read already")
            transfer.attach(self.usable_queue(), task)  # another thread or loop may have opened it
            if not transfer.ended:
                if type(effect) is Collect:
                    transfer.collect()
                elif type(effect) is Read and transfer.want(max(1, effect.size)):
                    transfer.waiter = None
                    task.result = transfer.take(max(1, effect.size))
                    return False
                task.effect = effect
                task.waiting = transfer
                return True
            transfer.waiter = None
        task.result, failure = _body_of(transfer, effect)
        if failure is not None:
            raise failure
        return False

    def pump(self) -> None:
        """Take what the queue holds and resume those who waited for it."""
        queue = self.queue
        if queue is None:
            return
        ready = self.ready
        ready.extend(queue.take())
        while ready:
            # Taken out once delivered, so that an interrupt in between loses nothing: a second delivery does no harm.
            self._deliver(ready[0])
            ready.popleft()

    def _deliver(self, transfer: Transfer) -> None:
        task = transfer.waiter
        if task is None or task.waiting is not transfer or task.runner is not self:
            return  # nobody waits for it now; what happened stays on the transfer
        ended = transfer.ended
        if task.cancelling is not None and not task.closing:
            if ended:
                transfer.waiter = None
                self._throw_cancel(task)
            return
        effect = task.effect
        value: Any = None
        failure: BaseException | None = None
        try:
            if type(effect) is Send or type(effect) is Outcome:
                # A stream that broke after its head was delivered has a response; its body's failure shows when it is read.
                if not transfer.events & HEAD:
                    if not ended:
                        return
                    if not transfer.ok and transfer.status < 300:
                        failure = failure_of(transfer)
                value = transfer
            elif ended:
                value, failure = _body_of(transfer, effect)
            elif type(effect) is Read and transfer.want(max(1, effect.size)):
                value = transfer.take(max(1, effect.size))
            else:
                return
        except BaseException as exc:  # noqa: BLE001 - delivered to the operation
            failure = without_catcher(exc)
        transfer.waiter = None  # or the response, through its reader's result, would hold itself
        self.step(task, value, failure)


def without_catcher(error: BaseException) -> BaseException:
    """The error, its traceback without the frame that caught it: that one would hold the task, and the task the error."""
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)


def _body_of(transfer: Transfer, effect: Read | Collect) -> tuple[Any, AttemptFailed | None]:
    """What a body effect resumes with once the transfer has ended, or its failure."""
    if not isinstance(effect, Read):
        return (transfer.take_body(), None) if transfer.ok else (None, failure_of(transfer))
    chunk = transfer.take(max(1, effect.size))
    return (chunk, None) if chunk or transfer.ok else (None, failure_of(transfer))


def failure_of(transfer: Transfer) -> AttemptFailed:
    """The signal for operations of how an attempt failed."""
    failure = AttemptFailed(
        transfer.kind, transfer.message, sent=transfer.sent, received=transfer.received, timing=transfer.timing()
    )
    failure.response = transfer
    return failure


# ---- single flights -----------------------------------------------------------------------------------
#
# The first task that boards a flight leads it: the operation runs as a task of its own on the leader's runner. All others
# wait, whatever thread or loop they are on. If the leader is cancelled, or its runner goes away, the flight ends and the
# next waiter leads a new one.

_flights: dict[Any, _Flying] = {}
_flights_lock = threading.Lock()


class _Flying:
    """A flight under way.

    Attributes:
        key: of the flight.
        waiters: who is to be told, the leading task among them; guarded by the lock.
        leader: the operation that flies.
    """

    __slots__ = ("key", "leader", "waiters")

    def __init__(self, key: Any) -> None:
        self.key = key
        self.waiters: list[_Boarded] = []
        self.leader: Task | None = None


class _Boarded:
    """A task that waits for a flight."""

    __slots__ = ("flight", "leads", "task")

    def __init__(self, task: Task, flight: _Flying, *, leads: bool) -> None:
        self.task = task
        self.flight = flight
        self.leads = leads

    def leave(self) -> bool:
        """The task is being cancelled. False: it leads, and goes on when the flight, which ends now, has landed."""
        flight = self.flight
        if self.leads:
            leader = flight.leader
            if leader is None:
                _land(flight, None, Cancelled())
            else:
                leader.runner.cancel(leader, Cancelled())
            return False
        with _flights_lock:
            if self in flight.waiters:
                flight.waiters.remove(self)
        return True


def _board(task: Task, effect: Flight) -> None:
    with _flights_lock:
        flight = _flights.get(effect.key)
        leads = flight is None
        if flight is None:
            flight = _flights[effect.key] = _Flying(effect.key)
        task.waiting = boarded = _Boarded(task, flight, leads=leads)
        flight.waiters.append(boarded)
    if leads:
        flight.leader = Task(_fly(effect), task.runner, _landing(flight), task.context)
        task.runner.step(flight.leader)


def _fly(effect: Flight) -> Op[Any]:
    return (yield from effect.make())


def _landing(flight: _Flying) -> Callable[[Task], None]:
    def land(leader: Task) -> None:
        error, leader.error = leader.error, None
        _land(flight, leader.result, error)

    return land


def _land(flight: _Flying, result: Any, error: BaseException | None) -> None:
    """Tell all who wait. A flight that was given up is flown again by one of those who did not lead it."""
    with _flights_lock:
        if _flights.get(flight.key) is flight:
            del _flights[flight.key]
        waiters, flight.waiters = flight.waiters, []
    again = isinstance(error, (Cancelled, GeneratorExit, KeyboardInterrupt))
    for boarded in waiters:
        if again and not boarded.leads:
            boarded.task.runner.post(boarded, _BOARD_AGAIN, None)
        else:
            boarded.task.runner.post(boarded, result, error)


def ground(runner: Runner) -> None:
    """The runner goes away with whatever it has under way: end the flights that it leads. Any thread."""
    with _flights_lock:
        led = []
        for flight in _flights.values():
            flight.waiters = [boarded for boarded in flight.waiters if boarded.task.runner is not runner]
            if flight.leader is not None and flight.leader.runner is runner:
                led.append(flight)
    for flight in led:
        _land(flight, None, Cancelled())


_BOARD_AGAIN = object()  # posted instead of a result: the leader gave up, the task has to board once more


def resume_posted(boarded: _Boarded, value: Any, error: BaseException | None) -> None:
    """On the task's own thread: what `Runner.post` carried over."""
    task = boarded.task
    if task.done or task.waiting is not boarded:
        return
    runner = task.runner
    if task.cancelling is not None and not task.closing:
        runner._throw_cancel(task)  # noqa: SLF001 - ours
    elif value is _BOARD_AGAIN:
        _board(task, task.effect)
    else:
        runner.step(task, value, error)


def _forget_flights() -> None:
    global _flights_lock  # noqa: PLW0603 - a thread of the parent may have held it
    _flights_lock = threading.Lock()
    _flights.clear()


after_fork_in_child(_forget_flights)
