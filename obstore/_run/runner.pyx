"""The runner: steps generator operations and performs the effects they yield.

Everything that all faces share is here; ``sync``, ``aio`` and ``trio`` differ only in how they wait for the completion queue,
sleep, and run the user's code. A runner belongs to one thread (the thread of its event loop); only `Runner.post` may be called
from elsewhere. Compiled: each request passes through here twice.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

import threading
from collections import deque

from obstore._effects import (
    AttemptFailed,
    Await,
    Begin,
    Call,
    Cancel,
    Cancelled,
    Collect,
    Fill,
    Flight,
    Fork,
    Formed,
    Join,
    Outcome,
    Read,
    Send,
    Sleep,
)
from obstore._engine import Transfer, submit, submit_form
from obstore._engine._core import HEAD as _HEAD
from obstore._engine.lifecycle import after_fork_in_child

cdef extern from "Python.h":
    # Spares the StopIteration that a generator's return is otherwise.
    int PyIter_Send(object generator, object value, PyObject **result) except -1
    const int PYGEN_RETURN

# How long a cancelled operation may go on with its clean-up (aborting an upload) before it is left behind.
SHIELD_SECONDS = 5.0

cdef int HEAD = _HEAD
cdef type SEND = Send
cdef type FORMED = Formed
cdef type READ = Read
cdef type COLLECT = Collect
cdef type FILL = Fill
cdef type OUTCOME = Outcome
cdef type TRANSFER = Transfer
cdef object SUBMIT = submit
cdef object SUBMIT_FORM = submit_form


cdef class Task:
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

    def __init__(self, op, Runner runner, on_done, context):
        self.op = op
        self.runner = runner
        self.on_done = on_done
        self.context = context


cdef class Runner:
    """Steps tasks. Subclasses say how to sleep, call and await; see `obstore._run.sync`, `obstore._run.aio` and `obstore._run.trio`.

    Attributes:
        inline: whether the thread waits for what it sends, and can drive it meanwhile.
        queue: the completion queue, once there is one.
        ready: transfers taken from it whose events are still to be delivered.
        telling: an ``on_done`` is being called from the bottom of `pump`, where no other code of the program's is under way.
    """

    def __init__(self, *, bint inline=False):
        self.inline = inline
        self.ready = deque()
        self._ended = []

    # ---- what differs between the faces --------------------------------------------------------------

    def open_queue(self):
        """Make the completion queue; called at the first HTTP request."""
        raise NotImplementedError

    def sleep(self, Task task, seconds):
        """Arrange for ``self.step(task)``; returns what `forget` takes."""
        raise NotImplementedError

    def call(self, Task task, effect):
        """Run blocking code: set ``task.waiting`` and return it, or ``None`` with the result in ``task.result``."""
        raise NotImplementedError

    def wait_for(self, Task task, effect):
        """Await the user's awaitable: returns what `forget` takes."""
        raise NotImplementedError

    def forget(self, Task task):
        """Give up what ``task`` waits for (timer, call, awaitable). False: it will still resume the task itself."""
        raise NotImplementedError

    def lost(self, Task task):
        """Whether ``task``, which waits for nothing, was dropped by an interrupt rather than being on its way."""
        return False  # for those that cannot be interrupted anywhere

    def post(self, boarded, value, error):
        """Call `resume_posted` on the runner's own thread. From any thread."""
        raise NotImplementedError

    # ---- stepping -------------------------------------------------------------------------------------

    def step(self, Task task not None, value=None, error=None):
        """Resume the generator and perform effects until one has to be waited for."""
        self._step(task, value, error)

    cdef int _step(self, Task task, value, error) except -1:
        cdef PyObject *sent
        cdef int outcome
        op = task.op
        task.waiting = None
        try:
            while True:
                try:
                    if error is None:
                        sent = NULL
                        outcome = PyIter_Send(op, value, &sent)
                        effect = <object>sent
                        Py_DECREF(effect)  # PyIter_Send gave us a reference
                        if outcome == PYGEN_RETURN:
                            value = effect
                            break
                    else:
                        effect = op.throw(error)
                except StopIteration as stop:
                    value, error = stop.value, None
                    break
                except BaseException as exc:  # noqa: BLE001 - goes to whoever waits for the task
                    value, error = None, without_catcher(exc)
                    break
                value = error = None
                try:
                    if not self._perform(task, effect):
                        return 0
                    value, task.result = task.result, None
                except BaseException as exc:  # noqa: BLE001 - what fails to be performed fails where it was asked for
                    error = without_catcher(exc)
            # Not inside the handlers: what others raise from here on has nothing to do with how this one ended.
            self._finish(task, value, error)
            return 0
        finally:
            error = None  # its traceback may hold this frame

    cdef bint _perform(self, Task task, effect) except -1:
        """Whether the task goes on at once, with ``task.result``; if not, it waits. Most frequent effects first."""
        kind = type(effect)
        if kind is SEND:
            task.effect = effect
            task.waiting = self._submit(task, effect, self.inline)
            return False
        if kind is FORMED:
            task.effect = effect
            task.waiting = self._submit_form(task, effect)
            return task.waiting is None  # nothing was sent, and ``task.result`` is None
        if kind is READ or kind is COLLECT or kind is FILL:
            return not self._await_body(task, effect)
        if kind is Call:
            task.effect = effect
            return self.call(task, effect) is None
        if kind is Fork:
            task.result = self.spawn(effect.op, joiner=task, context=task.context)
            return True
        if kind is Join:
            if not any([child.done for child in effect.children]):
                task.waiting = effect
                return False
            return True
        if kind is Cancel:
            task.closing = True
            for child in effect.children:
                self._cancel(child, Cancelled())
            if not all([child.done for child in effect.children]):
                task.waiting = effect
                return False
            return True
        if kind is Sleep:
            task.effect = effect
            task.waiting = self.sleep(task, effect.seconds)
            return False
        if kind is Flight:
            task.effect = effect
            self._usable_queue()  # a landing elsewhere wakes us through it
            _board(task, effect)
            return False
        if kind is Await:
            task.effect = effect
            task.waiting = self.wait_for(task, effect)
            return False
        if kind is Begin:
            task.result = self._submit(None, effect.send, False)
            return True
        if kind is OUTCOME:
            if self._await_outcome(task, effect):
                return False
            task.result = effect.response
            return True
        raise TypeError(f"an operation yielded {effect!r}, which is no effect")

    def spawn(self, op, *, Task joiner=None, on_done=None, context=None):
        """Start an operation."""
        cdef Task task = Task(op, self, on_done, context)
        task.joiner = joiner
        self._step(task, None, None)
        return task

    def cancel(self, Task task not None, BaseException error not None):
        """Throw ``error`` into the task as soon as what it waits for has let go; once, and not into its clean-up."""
        self._cancel(task, error)

    cdef int _cancel(self, Task task, BaseException error) except -1:
        if task.done or task.closing or task.cancelling is not None:
            return 0
        task.cancelling = error
        waiting = task.waiting
        if isinstance(waiting, TRANSFER):
            waiting.cancel()  # its END resumes the task
        elif isinstance(waiting, _Boarded):
            if waiting.leave():
                self._throw_cancel(task)
        elif waiting is None:
            if self.lost(task):
                self._throw_cancel(task)
        elif isinstance(waiting, (Join, Cancel)) or self.forget(task):
            self._throw_cancel(task)
        return 0

    def throw_cancel(self, Task task not None):
        """What the task waited for has let go: throw into it what it was cancelled with."""
        self._throw_cancel(task)

    cdef int _throw_cancel(self, Task task) except -1:
        task.closing = True
        self._step(task, None, task.cancelling)
        return 0

    cdef int _finish(self, Task task, result, error) except -1:
        cdef Task joiner = task.joiner
        task.waiting = None
        task.effect = None
        task.result = result
        task.error = error
        task.done = True
        if joiner is not None and joiner.waiting is not None:
            effect = joiner.waiting
            if (type(effect) is Join and any([child is task for child in effect.children])) or (
                type(effect) is Cancel and all([child.done for child in effect.children])
            ):
                self._step(joiner, None, None)
        if task.on_done is not None:
            if self._delivering:
                self._ended.append(task)  # told by pump
            else:
                on_done, task.on_done = task.on_done, None
                on_done(task)
        return 0

    # ---- transfers ------------------------------------------------------------------------------------

    def usable_queue(self):
        """The completion queue, made when it is first needed, and anew after fork."""
        return self._usable_queue()

    cdef object _usable_queue(self):
        queue = self.queue
        if queue is None or not queue.usable:
            queue = self.queue = self.open_queue()
        return queue

    def release_queue(self):
        """The queue, which the runner has no more; ``None`` for all threads but the first that ask."""
        with cython.critical_section(self):
            queue, self.queue = self.queue, None
        return queue

    cdef object _submit(self, Task task, effect, bint inline):
        return SUBMIT(
            self._usable_queue(),
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

    cdef object _submit_form(self, Task task, effect):
        return SUBMIT_FORM(
            self._usable_queue(),
            effect.client.engine_client(),
            task,
            effect.form,
            effect.key,
            effect.content,
            effect.sink,
            effect.span,
            self.inline,
        )

    cdef bint _await_outcome(self, Task task, effect) except -1:
        """Whether the task has to wait; if not, the transfer has ended well. Raises its failure."""
        transfer = effect.response
        queue = self._usable_queue()  # a new one takes what closed ones left, and may so end the transfer
        if not transfer.ended:
            task.effect = effect
            self._attach(task, transfer, queue, transfer.waiter)  # another thread or loop may have begun it
            if not transfer.ended:
                return True
            transfer.waiter = task.waiting = None
        if not transfer.ok and transfer.status < 300:
            raise failure_of(transfer)
        return False

    cdef bint _await_body(self, Task task, effect) except -1:
        """Whether the task has to wait; if not, ``task.result`` is what it asked for."""
        cdef Task reader
        transfer = effect.response
        if not transfer.ended:
            reader = transfer.waiter
            if reader is not None and reader.waiting is transfer and reader.runner.queue is not None:
                raise RuntimeError("the body is being read already")
            task.effect = effect
            self._attach(task, transfer, self._usable_queue(), reader)  # another thread or loop may have opened it
            if not transfer.ended:
                if type(effect) is COLLECT:
                    transfer.collect()
                elif type(effect) is FILL:
                    if _fills(transfer, effect):
                        transfer.waiter = task.waiting = None
                        return False
                elif transfer.want(max(1, effect.size)):
                    transfer.waiter = task.waiting = None
                    task.result = transfer.take(max(1, effect.size))
                    return False
                return True
            transfer.waiter = task.waiting = None
        task.result, failure = _body_of(transfer, effect)
        if failure is not None:
            raise failure
        return False

    cdef int _attach(self, Task task, transfer, queue, reader) except -1:
        """Have the task wait for a transfer in place of ``reader``, which is done with it."""
        task.waiting = transfer  # before others see who reads there
        try:
            if not transfer.attach(queue, task, reader):
                raise RuntimeError("the body is being read already")
        except BaseException:
            task.waiting = None
            raise
        return 0

    def pump(self):
        """Take what the queue holds and resume those who waited for it."""
        queue = self.queue
        if queue is None:
            return
        ready = self.ready
        ready.extend(queue.take())
        while ready:
            # Taken out once delivered, so that an interrupt in between loses nothing: a second delivery does no harm.
            self._delivering = True
            try:
                self._deliver(ready[0])
            finally:
                self._delivering = False
            ready.popleft()
            if self._ended:
                self._tell()

    cdef int _tell(self) except -1:
        """Call ``on_done`` of the tasks that ended while events were delivered: what it resumes may do anything."""
        cdef Task task
        while self._ended:
            task = self._ended.pop(0)
            on_done, task.on_done = task.on_done, None
            self.telling = True
            try:
                on_done(task)
            finally:
                self.telling = False
        return 0

    cdef int _deliver(self, transfer) except -1:
        cdef Task task = transfer.waiter
        if task is None or task.waiting is not transfer or task.runner is not self:
            return 0  # nobody waits for it now; what happened stays on the transfer
        cdef bint ended = transfer.ended
        if task.cancelling is not None and not task.closing:
            if ended:
                transfer.waiter = None
                self._throw_cancel(task)
            return 0
        effect = task.effect
        kind = type(effect)
        value = failure = None
        try:
            if kind is SEND or kind is OUTCOME:
                # A stream that broke after its head was delivered has a response; its body's failure shows when it is read.
                if not transfer.events & HEAD:
                    if not ended:
                        return 0
                    if not transfer.ok and transfer.status < 300:
                        failure = failure_of(transfer)
                value = transfer
            elif kind is FORMED:
                if not ended and not transfer.events & HEAD:
                    return 0
                value = transfer
            elif ended:
                value, failure = _body_of(transfer, effect)
            elif kind is READ and transfer.want(max(1, effect.size)):
                value = transfer.take(max(1, effect.size))
            elif kind is FILL and _fills(transfer, effect):
                pass
            else:
                return 0
        except BaseException as exc:  # noqa: BLE001 - delivered to the operation
            failure = without_catcher(exc)
        transfer.waiter = None  # or the response, through its reader's result, would hold itself
        self._step(task, value, failure)
        return 0


def without_catcher(BaseException error not None):
    """The error, its traceback without the frame that caught it: that one would hold the task, and the task the error."""
    trace = error.__traceback__
    return error.with_traceback(None if trace is None else trace.tb_next)


cdef bint _fills(transfer, effect) except -1:
    """Have the body go to the effect's buffer; whether that is full."""
    if not effect.begun:
        transfer.fill(effect.target)
        effect.begun = True
    return transfer.want_full()


cdef tuple _body_of(transfer, effect):
    """What a body effect resumes with once the transfer has ended, or its failure."""
    if type(effect) is FILL:
        return (None, None) if _fills(transfer, effect) or transfer.ok else (None, failure_of(transfer))
    if type(effect) is not READ:
        return (transfer.take_body(), None) if transfer.ok else (None, failure_of(transfer))
    chunk = transfer.take(max(1, effect.size))
    return (chunk, None) if chunk or transfer.ok else (None, failure_of(transfer))


def failure_of(transfer):
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

_flights = {}
_flights_lock = threading.Lock()


class _Flying:
    """A flight under way.

    Attributes:
        key: of the flight.
        waiters: who is to be told, the leading task among them; guarded by the lock.
        leader: the operation that flies.
    """

    __slots__ = ("key", "leader", "waiters")

    def __init__(self, key):
        self.key = key
        self.waiters = []
        self.leader = None


class _Boarded:
    """A task that waits for a flight."""

    __slots__ = ("flight", "leads", "task")

    def __init__(self, task, flight, *, leads):
        self.task = task
        self.flight = flight
        self.leads = leads

    def leave(self):
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


def _board(Task task, effect):
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


def _fly(effect):
    return (yield from effect.make())


def _landing(flight):
    def land(leader):
        error, leader.error = leader.error, None
        _land(flight, leader.result, error)

    return land


def _land(flight, result, error):
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


def ground(Runner runner not None):
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


def resume_posted(boarded, value, error):
    """On the task's own thread: what `Runner.post` carried over."""
    cdef Task task = boarded.task
    if task.done or task.waiting is not boarded:
        return
    cdef Runner runner = task.runner
    if task.cancelling is not None and not task.closing:
        runner.throw_cancel(task)
    elif value is _BOARD_AGAIN:
        _board(task, task.effect)
    else:
        runner.step(task, value, error)


def _forget_flights():
    global _flights_lock  # a thread of the parent may have held it
    _flights_lock = threading.Lock()
    _flights.clear()


after_fork_in_child(_forget_flights)
