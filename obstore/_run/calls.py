"""Calls of user code on a thread, for runners on event loops."""

from __future__ import annotations

from typing import Any

from obstore._effects import Call
from obstore._run.runner import without_catcher


class CallOutcome:
    """What a call on a thread returned, or raised.

    A future changes some exceptions and never ends with others, and the executor's frames, which the traceback of an
    exception leads back to, would hold it.
    """

    __slots__ = ("_error", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._error: BaseException | None = None

    def of(self, effect: Call) -> None:
        """On the thread: make the call.

        The effect gives up its arguments: the thread lets go of it only after the operation went on, and by then the caller
        may have its buffers back.
        """
        args, effect.args = effect.args, ()
        try:
            self._value = effect.fn(*args)
        except BaseException as exc:  # noqa: BLE001 - the user's, for the operation
            self._error = without_catcher(exc)

    def taken(self) -> tuple[Any, BaseException | None]:
        """On the loop: value and error, which are not kept here any longer."""
        value, self._value = self._value, None
        error, self._error = self._error, None
        return value, error
