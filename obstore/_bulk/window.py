"""Many operations side by side, bounded in number and in bytes; the failure of one is its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from obstore._bulk.progress import Meter
from obstore._bulk.result import BulkResult, Failure
from obstore._effects import Cancel, Fork, Join, Op, Sleep


class Window:
    """Runs operations that return the number of bytes that they moved.

    Args:
        result: counts them.
        meter: shows it.
        limit: of them at a time.
        memory: bytes that they may hold together; one is always let through.
    """

    def __init__(self, result: BulkResult, meter: Meter, limit: int, memory: int) -> None:
        self.result = result
        self._meter = meter
        self._limit = limit
        self._memory = memory
        self._held = 0
        self._running: list[Any] = []

    def start(self, path: str, op: Op[int], weight: int = 0) -> Op[None]:
        """Start one as soon as there is room for it and its ``weight`` in bytes."""
        while self._running and (len(self._running) >= self._limit or self._held + weight > self._memory):
            yield Join(self._running)
            self._reap()
        self._held += weight
        self._running.append((yield Fork(self._one(path, op, weight))))
        self._reap()

    def has_room(self, weight: int) -> bool:
        """Whether one of that weight would start at once."""
        return not self._running or (len(self._running) < self._limit and self._held + weight <= self._memory)

    @property
    def is_busy(self) -> bool:
        """Whether any runs."""
        return bool(self._running)

    def wait(self) -> Op[None]:
        """Wait until one has ended."""
        yield Join(self._running)
        self._reap()

    def breathe(self, seconds: float) -> Op[None]:
        """Let those that run have their turn."""
        if self._running:
            yield Sleep(seconds)
            self._reap()

    def finish(self) -> Op[None]:
        """Wait for all."""
        while self._running:
            yield Join(self._running)
            self._reap()
        self._meter.sample(self.result)

    def cancel(self) -> Op[None]:
        """End all."""
        self.result.stopped = True
        yield Cancel(self._running)

    def _reap(self) -> None:
        self._running[:] = [child for child in self._running if not child.done]
        self._meter.sample(self.result)

    def _one(self, path: str, op: Op[int], weight: int) -> Op[None]:
        try:
            moved = yield from op
        except GeneratorExit:
            raise
        except Exception as error:  # noqa: BLE001 - goes into the result
            self.result.failures.append(Failure(path, error.with_traceback(None)))
        else:
            if moved >= 0:
                self.result.objects += 1
                self.result.bytes += moved
        finally:
            self._held -= weight


def in_window(window: Window, feed: Callable[[], Op[None]]) -> Op[None]:
    """Run ``feed``, which starts operations, and wait for all; whatever ends it ends them."""
    try:
        yield from feed()
        yield from window.finish()
    except GeneratorExit:
        raise
    except BaseException:
        yield from window.cancel()
        raise
