"""The drivers: perform what operations yield, for synchronous callers and on event loops. See README.md.

``run(op)`` and ``start(op)`` are all that the public face needs; ``ClientHandle`` carries a store's connection options
to the engine without anyone above knowing it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from obstore._effects import Op
from obstore._engine import lifecycle
from obstore._run.client import ClientHandle
from obstore._run.sync import run

if TYPE_CHECKING:
    from obstore._run.aio import OperationFuture

__all__ = ["ClientHandle", "finished", "run", "start"]

T = TypeVar("T")

_start: Callable[[Any], Any] | None = None


def finished(value: T) -> Awaitable[T]:
    """A future of the running event loop that has its result, for what needs no operation."""
    from asyncio import get_running_loop

    future: Awaitable[T] = get_running_loop().create_future()
    future.set_result(value)  # type: ignore[attr-defined]
    return future


def start(op: Op[T]) -> OperationFuture[T]:
    """Start an operation on the running event loop; see ``aio.start``. Programs without one do not pay for asyncio's import."""
    global _start  # noqa: PLW0603 - resolved once
    if _start is None:
        with lifecycle.setting_up():
            from obstore._run import aio

            _start = aio.start
    return _start(op)
