"""Drives `obstore._engine` without anything above it: one queue, one client, requests to a scripted server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from obstore._effects import COLLECT
from obstore._engine import Client, Queue, Transfer, lifecycle, stats, submit
from obstore._engine._core import END, HEAD

SECONDS = 20.0


class Desk:
    """One queue and whoever takes from it: this thread.

    Attributes:
        queue: where the events go.
        deliveries: every transfer that was taken, in order, once for each time, with the events it then had.
    """

    def __init__(self, url: str, **options: Any) -> None:
        lifecycle.start()
        self.url = url
        self.queue = Queue()
        self.client = self.make_client(**options)
        self.deliveries: list[tuple[Transfer, int]] = []

    def make_client(self, **options: Any) -> Client:
        return Client(**{"endpoint": self.url, "insecure_http": True, **options})

    def send(
        self,
        path: str = "/",
        method: str = "GET",
        *,
        headers: Any = (),
        body: Any = None,
        sink: int = COLLECT,
        into: Any = None,
        slice_: tuple[int, int] | None = None,
        client: Client | None = None,
        queue: Queue | None = None,
    ) -> Transfer:
        """Submit a request; a path that is a whole URL goes there."""
        url = path if "://" in path else self.url + path
        return submit(
            queue or self.queue, client or self.client, "waiter", method, url, headers, body, sink, into, slice_
        )

    def pump(self, seconds: float = 0.05) -> None:
        """Take what is there, or comes soon."""
        if self.queue.wait(seconds):
            for transfer in self.queue.take():
                self.deliveries.append((transfer, transfer.events))

    def until(self, condition: Callable[[], object], seconds: float = SECONDS) -> None:
        """Take until ``condition()`` holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            self.pump()

    def head(self, transfer: Transfer) -> Transfer:
        """Take until the transfer's HEAD or END."""
        self.until(lambda: transfer.events & (HEAD | END))
        return transfer

    def end(self, *transfers: Transfer) -> Transfer:
        """Take until all have ended; the last of them."""
        self.until(lambda: all(transfer.ended for transfer in transfers))
        return transfers[-1]

    def fetch(self, *args: Any, **kwargs: Any) -> Transfer:
        """`send`, then `end`."""
        return self.end(self.send(*args, **kwargs))

    def ends_of(self, transfer: Transfer) -> int:
        """How often END of this transfer was delivered."""
        return sum(taken is transfer and bool(events & END) for taken, events in self.deliveries)


class Counted:
    """What happened to the engine's counters since this object was made."""

    def __init__(self) -> None:
        self._before = stats()

    def __getattr__(self, name: str) -> int:
        return int(stats()[name] - self._before[name])
