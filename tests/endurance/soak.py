"""A mixed load for as long as wanted, with loops, threads and stores that come and go; what must stay flat is sampled.

``python -m tests.endurance.soak --seconds 3600`` prints a line every ten seconds and ends with status 1 if anything grew
or went wrong. The server is rclone's, in a process of its own: fast, and its memory is not ours.

Flat means two things. Under load, the mean of each gauge over the last third of the run is not above its mean over the middle third
by more than the gauge's room (the first third warms caches up). Afterwards, descriptors, threads and live objects are back at what they were
before the load.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import mean
from typing import Any

import obstore as obs
from obstore.store import S3Store
from tests.endurance.load import Ledger, drive, drive_async, worker
from tests.servers.rclone import Rclone

_LIVE = ("live_transfers", "live_clients", "live_queues", "live_easies")
_SYNC_THREADS = 3
_LOOP_THREADS = 3
_TASKS = 4
_OPERATIONS = 30
_KEPT = "kept"  # an object that nobody deletes
# What the allocators of C and Python may keep beyond the level of the first third.
_ROOM_BYTES = 64 << 20
# What the mean of a gauge may differ by from one third of a run to the next: the load comes and goes. A leak in one
# round of a hundred is several times as much in an hour.
_ROOM = {
    "fds": 8,
    "threads": 2,
    "live_sockets": 6,
    "live_transfers": 6,
    "live_clients": 2,
    "live_queues": 2,
    "live_easies": 6,
}
# The same for resident memory, of a run long enough for the allocators to have warmed up.
_ROOM_BYTES_MEAN = 16 << 20
_WARM_SECONDS = 300
_DESCRIPTORS_OF_LOOP = 2  # its own event, and libcurl's


class Soak:
    """The load and what it found.

    Attributes:
        cycles: rounds that all threads did so far.
        wrong: what must not have happened.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config
        self._stop = threading.Event()
        self.cycles = 0
        self.wrong: list[str] = []

    def _thread(self, number: int) -> None:
        """Rounds of operations, each with a store, and on some threads a loop, of its own."""
        cycle = 0
        while not self._stop.is_set() and not self.wrong:
            cycle += 1
            self.cycles += 1
            store = S3Store(**self._config)
            prefix = f"{number}-{cycle}"
            try:
                if number < _SYNC_THREADS:
                    self._round(store, prefix, number * 1_000_003 + cycle)
                else:
                    asyncio.run(self._async_round(store, prefix, number * 1_000_003 + cycle))
            except Exception as error:
                self.wrong.append(f"thread {number}: {type(error).__name__}: {error}")

    def _round(self, store: S3Store, prefix: str, seed: int) -> None:
        ledger = Ledger(f"{prefix}/")
        drive(worker(ledger, seed, _OPERATIONS), store)
        obs.put(store, f"{prefix}/large", bytes(3 << 20))
        stream = iter(obs.get(store, f"{prefix}/large").stream(min_chunk_size=1000))
        next(stream)  # the rest is dropped
        obs.get(store, f"{prefix}/large")  # dropped unread
        # A thread that asks and ends.
        thread = threading.Thread(target=lambda: obs.head(store, f"{prefix}/large"))
        thread.start()
        thread.join()
        obs.delete(store, [item["path"] for item in obs.list(store, prefix)])
        self.wrong += ledger.wrong

    async def _async_round(self, store: S3Store, prefix: str, seed: int) -> None:
        ledgers = [Ledger(f"{prefix}/{task}/") for task in range(_TASKS)]
        await asyncio.gather(
            *(drive_async(worker(ledger, seed + n, _OPERATIONS // 2), store) for n, ledger in enumerate(ledgers))
        )
        cancelled = [asyncio.ensure_future(obs.put_async(store, f"{prefix}/c{n}", bytes(100_000))) for n in range(5)]
        await asyncio.sleep(0)
        for future in cancelled:
            future.cancel()
            with suppress(asyncio.CancelledError):
                await future
        abandoned = [obs.get_async(store, _KEPT) for _ in range(3)]
        del abandoned  # nobody looks at them again
        await obs.delete_async(store, [item["path"] async for item in obs.list(store, prefix)])
        for ledger in ledgers:
            self.wrong += ledger.wrong

    def run(self, seconds: float, report: float = 10.0) -> list[str]:
        """Load for so long; what grew or went wrong."""
        obs.put(S3Store(**self._config), _KEPT, bytes(100_000))
        left_behind()
        before = _gauges()
        samples: list[tuple[float, dict[str, int]]] = []
        threads = [
            threading.Thread(target=self._thread, args=(number,), name=f"soak-{number}")
            for number in range(_SYNC_THREADS + _LOOP_THREADS)
        ]
        for thread in threads:
            thread.start()
        began = time.monotonic()
        next_report = began + report
        try:
            while (passed := time.monotonic() - began) < seconds and not self.wrong:
                time.sleep(min(0.2, seconds / 50))
                samples.append((passed, _gauges()))
                if time.monotonic() >= next_report:
                    next_report += report
                    _say(passed, self.cycles)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        thirds = [[gauges for passed, gauges in samples if int(3 * passed / seconds) == third] for third in range(3)]
        wrong = [*self.wrong, *left_behind()]
        if not self.wrong:
            wrong += _growth(thirds, warm=seconds >= _WARM_SECONDS)
        after = _gauges()
        if (left := after["other_fds"] - before["other_fds"]) > 0:
            wrong.append(f"{left} descriptors beside those of loops and kept connections are left")
        return wrong


def _gauges() -> dict[str, int]:
    stats = obs.stats()
    fds = len(os.listdir("/proc/self/fd"))
    return {
        "rss": resident(),
        "fds": fds,
        "other_fds": fds - stats["live_sockets"] - _DESCRIPTORS_OF_LOOP * stats["loops"],
        "threads": threading.active_count(),
        **{name: stats[name] for name in (*_LIVE, "live_sockets")},
    }


def _growth(thirds: list[list[dict[str, int]]], *, warm: bool) -> list[str]:
    """Which gauges rose from the middle third of the run to its last, or resident memory above all that the first needed."""
    if not all(thirds):
        return ["the run was too short to say whether anything grew"]
    grown = []
    for name, room in {**_ROOM, **({"rss": _ROOM_BYTES_MEAN} if warm else {})}.items():
        _, middle, last = (mean(gauges[name] for gauges in third) for third in thirds)
        if last > middle + room:
            grown.append(f"{name} grew: {middle:.1f} in the middle third, {last:.1f} in the last")
    first, *later = (max(gauges["rss"] for gauges in third) for third in thirds)
    if max(later) > first + _ROOM_BYTES:
        grown.append(f"resident memory grew from {first >> 20} to {max(later) >> 20} MiB")
    return grown


def left_behind(patience: float = 10.0, *, clients: int = 0) -> list[str]:
    """Threads and live objects that are still there after some patience, beside so many clients."""
    deadline = time.monotonic() + patience
    while True:
        gc.collect()
        stats = obs.stats()
        # This thread's queue is its own, and so is the engine's for what nobody waits for any more.
        may_live = {"live_queues": 2, "live_clients": clients}
        left = [f"{name}: {stats[name]} are left" for name in _LIVE if stats[name] > may_live.get(name, 0)]
        threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if threads:
            left.append(f"threads are left: {threads}")
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def resident() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _say(passed: float, cycles: int) -> None:
    stats = obs.stats()
    live = " ".join(f"{name.removeprefix('live_')}={stats[name]}" for name in _LIVE)
    print(  # noqa: T201 - this is a command
        f"{passed:7.0f} s  rounds={cycles} requests={stats['requests']} rss={resident() >> 20}MiB "
        f"fds={len(os.listdir('/proc/self/fd'))} threads={threading.active_count()} {live}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    with Rclone() as server:
        soak = Soak(server.endpoint.config(server.endpoint.create_bucket()))
        wrong = soak.run(seconds)
    _say(seconds, soak.cycles)
    print("\n".join(wrong) or "nothing grew, nothing was wrong")  # noqa: T201 - this is a command
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
