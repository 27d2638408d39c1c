"""The awaitable of an operation on an asyncio event loop: what `asyncio.Future` is to its users, made for one producer.

It differs from `asyncio.Future` in how it wakes a task that awaits it. Where the operation ended in the event loop's own callback
(`Runner.pump`), the task is resumed from there at once; anybody else is told through ``loop.call_soon``, as by any future.
"""

import asyncio
import types

from obstore._effects import Cancelled
from obstore._run.runner import SHIELD_SECONDS

from obstore._run.runner cimport Runner, Task

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef enum:
    PENDING
    CANCELLED
    FINISHED

cdef str _STATES = "pending cancelled finished"
cdef type BUILTIN = types.BuiltinMethodType
cdef type TASK = asyncio.Task


cdef class OperationFuture:
    """The awaitable of a started operation.

    Cancelling it cancels the operation; it counts as cancelled once the operation has let go of its connection and cleaned up
    behind itself (an upload is aborted), at the latest after a few seconds.

    Attributes:
        _asyncio_future_blocking: asyncio's own: a task has just been given this to wait for.
    """

    cdef object _loop
    cdef readonly Task _task
    cdef int _state
    cdef object _value
    cdef object _error
    cdef bint _unseen  # the error: nobody has asked for it yet
    cdef object _callback  # the first one, and its context; further ones are in _more
    cdef object _context
    cdef list _more
    cdef object _patience  # a timer, set once cancelling was asked for
    cdef object _cancel_message
    cdef public bint _asyncio_future_blocking
    cdef object __weakref__

    def __init__(self, loop, Task task):
        self._loop = loop
        self._task = task

    __class_getitem__ = classmethod(types.GenericAlias)

    def __repr__(self):
        return f"<OperationFuture {_STATES.split()[self._state]}>"

    def __del__(self):
        if self._unseen:
            self._loop.call_exception_handler({
                "message": "exception of an obstore operation was never retrieved",
                "exception": self._error,
                "future": self,
            })

    def get_loop(self):
        """The event loop that it belongs to."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    # ---- for whoever waits ----------------------------------------------------------------------------

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if self._state == PENDING:
            self._asyncio_future_blocking = True
            return self
        raise StopIteration(self._result())

    def done(self):
        """Whether there is a result, an error or a cancellation."""
        return self._state != PENDING

    def cancelled(self):
        """Whether it was cancelled."""
        return self._state == CANCELLED

    def result(self):
        """The result of the operation, or raise its error.

        Raises:
            asyncio.CancelledError: it was cancelled.
            asyncio.InvalidStateError: it is not done.
        """
        return self._result()

    cdef object _result(self):
        if self._state == FINISHED and self._error is None:
            return self._value
        error = self.exception()
        try:
            raise error.with_traceback(error.__traceback__)
        finally:
            del error

    def exception(self):
        """The error of the operation, or ``None``.

        Raises:
            asyncio.CancelledError: it was cancelled.
            asyncio.InvalidStateError: it is not done.
        """
        if self._state == PENDING:
            raise asyncio.InvalidStateError("the operation is not done")
        if self._state == CANCELLED:
            raise self._make_cancelled_error()
        self._unseen = False
        return self._error

    def _make_cancelled_error(self):
        """asyncio's own: what awaiting a cancelled future raises."""
        if self._cancel_message is None:
            return asyncio.CancelledError()
        return asyncio.CancelledError(self._cancel_message)

    def add_done_callback(self, callback, *, context=None):
        """Have the event loop call ``callback`` with this future once it is done."""
        if context is None:
            import contextvars

            context = contextvars.copy_context()
        if self._state != PENDING:
            self.get_loop().call_soon(callback, self, context=context)
        elif self._callback is None:
            self._callback = callback
            self._context = context
        else:
            if self._more is None:
                self._more = []
            self._more.append((callback, context))

    def remove_done_callback(self, callback):
        """Forget all callbacks that equal ``callback``; returns how many there were."""
        cdef list kept
        if self._callback is None:
            return 0
        everyone = [(self._callback, self._context), *(self._more or ())]
        kept = [each for each in everyone if each[0] != callback]
        self._callback = self._context = self._more = None
        if kept:
            self._callback, self._context = kept[0]
            self._more = kept[1:] or None
        return len(everyone) - len(kept)

    def cancel(self, msg=None):
        """Cancel the operation; see the class."""
        if self._state != PENDING:
            return False
        if self._patience is None:
            self._cancel_message = msg
            self._patience = self._loop.call_later(SHIELD_SECONDS, self._give_up)
            self._task.runner.cancel(self._task, Cancelled())
        return True

    def _give_up(self):
        if self._state == PENDING:
            self._end(CANCELLED, False)

    # ---- for the operation ----------------------------------------------------------------------------

    cpdef object settle(self, Task task):
        """The operation has ended; the loop's thread."""
        cdef Runner runner = task.runner
        cdef bint at_once = runner.telling
        runner.telling = False
        self._task = None
        result, task.result = task.result, None
        error, task.error = task.error, None
        if self._patience is not None:
            self._patience.cancel()
        if self._state != PENDING:
            return
        if self._patience is not None:
            self._end(CANCELLED, at_once)
            return
        self._value = result
        self._error = error
        self._unseen = error is not None
        error = None  # its traceback may hold this frame
        self._end(FINISHED, at_once)

    cdef int _end(self, int state, bint at_once) except -1:
        self._state = state
        callback, context, more = self._callback, self._context, self._more
        self._callback = self._context = self._more = None
        if callback is None:
            return 0
        if at_once and more is None and type(callback) is BUILTIN and type(callback.__self__) is TASK:
            self._resume(callback, context)
            return 0
        self._loop.call_soon(callback, self, context=context)
        for callback, context in more or ():
            self._loop.call_soon(callback, self, context=context)
        return 0

    cdef int _resume(self, wakeup, context) except -1:
        """Have the task that awaits us take its next step, as the event loop would in its next turn."""
        PyContext_Enter(context)
        try:
            wakeup(self)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - as the loop does with what a callback raises
            self._loop.call_exception_handler({
                "message": "a task could not be resumed", "exception": error, "future": self,
            })
        finally:
            PyContext_Exit(context)
        return 0


cdef class OperationCoroutine(OperationFuture):
    """The same for those who take coroutines only, such as `asyncio.create_task`, task groups and anyio's ``start_soon``."""

    def send(self, value):
        """Go on, as whoever runs a coroutine has it do."""
        if self._state == PENDING:
            self._asyncio_future_blocking = True
            return self
        raise StopIteration(self._result())

    def throw(self, error, value=None, traceback=None):
        """Go on with an error, which nothing here catches."""
        raise error if value is None else value

    def close(self):
        """Nobody will wait for it: cancel the operation."""
        self.cancel()


def finished(value):
    """A future that has its result, for what needs no operation."""
    cdef OperationFuture future = OperationFuture.__new__(OperationFuture)
    future._value = value
    future._state = FINISHED
    return future
