"""What operations do with the operations that they fork."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from obstore._effects import Cancel, Fork, Join, Op, Sleep

_START_PATIENCE_SECONDS = 0.1


def begin_upload(start: Op[Any]) -> Op[Any]:
    """Start an upload in parts. Cancelled meanwhile, wait a moment for its name: without it, nothing could abort it."""
    child = yield Fork(start)
    try:
        while not child.done:
            yield Join([child])
    except GeneratorExit:
        raise
    except BaseException:
        patience = yield Fork(_pause(_START_PATIENCE_SECONDS))
        if not child.done:
            yield Join([child, patience])
        yield Cancel([child, patience])
        if child.result is not None:
            yield from child.result.abort()
        raise
    if child.error is not None:
        raise child.error
    return child.result


def _pause(seconds: float) -> Op[None]:
    yield Sleep(seconds)


def perform(ops: Iterable[Op[Any]], limit: int) -> Op[None]:
    """Perform operations, up to ``limit`` at once; the first failure ends the others and is raised."""
    running: list[Any] = []
    try:
        for op in ops:
            running.append((yield Fork(op)))
            yield from settle(running, limit)
        yield from settle(running, 1)
    except GeneratorExit:
        raise
    except BaseException:
        yield Cancel(running)
        raise


def settle(running: list[Any], limit: int) -> Op[None]:
    """Wait until fewer than ``limit`` of the forked children run; take out the done ones, raise the first error."""
    while True:
        for child in running:
            if child.done and child.error is not None:
                error, child.error = child.error, None
                try:
                    raise error
                finally:
                    del error  # its traceback holds this frame, and would hold the child
        running[:] = [child for child in running if not child.done]
        if len(running) < limit:
            return
        yield Join(running)
