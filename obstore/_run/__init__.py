"""The drivers: perform what operations yield, for synchronous callers and on event loops. See README.md.

``run(op)`` and ``start(op)`` are all that the public face needs, `begun` for its methods; ``ClientHandle`` carries a store's connection options
to the engine without anyone above knowing it.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, Self, TypeVar

from obstore._effects import Op
from obstore._engine import lifecycle
from obstore._run import observe
from obstore._run.client import ClientHandle
from obstore._run.sync import run
from obstore._types import CoroutineType

__all__ = ["ClientHandle", "Ready", "begun", "finished", "in_trio", "run", "start"]

T = TypeVar("T")

_aio: Any = None
_finished: Callable[[Any], Any] | None = None


class Ready(Generic[T]):
    """A coroutine that has its result, on any event loop: costs no future and no turn of the loop."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self._value)

    def send(self, _value: Any) -> Any:
        """End with the result."""
        raise StopIteration(self._value)

    def throw(self, error: Any, value: Any = None, _traceback: Any = None) -> Any:
        """End with the error."""
        raise error if value is None else value

    def close(self) -> None:
        """Nothing is under way."""


def in_trio() -> bool:
    """Whether a task of trio calls. Trio that nobody imported runs nothing."""
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_task())


def finished(value: T) -> Awaitable[T]:
    """An awaitable that has its result, for what needs no operation: costs no turn of the event loop."""
    global _finished  # noqa: PLW0603 - resolved once
    if in_trio():
        return Ready(value)
    if _finished is None:
        with lifecycle.setting_up():
            from obstore._run import future

            _finished = future.finished
    done: Awaitable[T] = _finished(value)
    return done


def start(op: Op[T]) -> Awaitable[T]:
    """Start an operation on the running event loop: asyncio's, whoever made it, or trio's. Programs pay for what they import.

    Raises:
        RuntimeError: no event loop is running in this thread.
    """
    if observe.watching():
        op = observe.watched(op, sys._getframe(1))  # noqa: SLF001 - names the operation
    if in_trio():
        from obstore._run import trio

        return trio.start(op)
    started: Awaitable[T] = _load_aio().start(op)
    return started


def _load_aio() -> Any:
    global _aio  # noqa: PLW0603 - resolved once
    if _aio is None:
        with lifecycle.setting_up():
            from obstore._run import aio as _aio
    return _aio


def begun(function: Callable[..., Awaitable[T]], *arguments: Any, **options: Any) -> CoroutineType[Any, Any, T]:
    """The operation that ``function`` starts, as a coroutine: what methods return, as the protocols of obspec have it.

    It is under way all the same. On a thread without an event loop it is started by whoever awaits it: programs write
    ``asyncio.run(store.head_async(path))``, and libraries in Rust call the methods on threads of their own.
    """
    try:
        if in_trio():
            return function(*arguments, **options)  # type: ignore[return-value]  # trio's are coroutines
        started: CoroutineType[Any, Any, T] = _load_aio().begun(function, arguments, options)
    except RuntimeError:
        from asyncio import _get_running_loop

        if _get_running_loop() is not None:
            raise
    else:
        return started
    later: Any = _later(function, arguments, options)
    return later  # type: ignore[no-any-return]


async def _later(function: Callable[..., Awaitable[T]], arguments: tuple[Any, ...], options: dict[str, Any]) -> T:
    return await function(*arguments, **options)
