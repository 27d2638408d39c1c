"""The drivers: perform what operations yield, for synchronous callers and on event loops. See README.md.

``run(op)`` and ``start(op)`` are all that the public face needs; ``ClientHandle`` carries a store's connection options
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

__all__ = ["ClientHandle", "Ready", "finished", "in_trio", "run", "start"]

T = TypeVar("T")

_start: Callable[[Any], Any] | None = None
_finished: Callable[[Any], Any] | None = None


class Ready(Generic[T]):
    """An awaitable that has its result, on any event loop: costs no future and no turn of the loop."""

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def __await__(self) -> Generator[Any, None, T]:
        return self  # type: ignore[return-value]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        raise StopIteration(self._value)


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
    global _start  # noqa: PLW0603 - resolved once
    if observe.watching():
        op = observe.watched(op, sys._getframe(1))  # noqa: SLF001 - names the operation
    if in_trio():
        from obstore._run import trio

        return trio.start(op)
    if _start is None:
        with lifecycle.setting_up():
            from obstore._run import aio

            _start = aio.start
    started: Awaitable[T] = _start(op)
    return started
