"""Loops, threads and stores come and go under load: memory, descriptors, threads and counters stay where they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.endurance.report import record
from tests.endurance.scale import scaled
from tests.lifecycle.program import run
from tests.servers.fakes3 import FakeS3
from tests.servers.process import PROJECT


@pytest.mark.timeout(scaled(120, 5_000))
def test_nothing_grows_under_load() -> None:
    """In a process of its own, whose memory is not that of all the tests before."""
    command = [sys.executable, "-W", "error", "-m", "tests.endurance.soak", "--seconds", str(scaled(12, 3_600))]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    record(
        "soak", seconds=scaled(12, 3_600), last_sample=done.stdout.splitlines()[-2], says=done.stdout.splitlines()[-1]
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


_LOOPS = """
from tests.endurance.soak import left_behind, resident
import os

def fetch_on_a_loop():
    async def main():
        bodies = await asyncio.gather(*[obs.get_range_async(store, "small", start=0, end=1024) for _ in range(10)])
        assert all(len(body) == 1024 for body in bodies)
        obs.get_async(store, "small").add_done_callback(lambda _: None)  # in flight when the loop closes
    asyncio.run(main())

failures = []

def repeat(work, times):
    try:
        for _ in range(times):
            work()
    except BaseException as error:
        failures.append(error)

def all_at_once(times):
    jobs = [(fetch_on_a_loop, times)] * 8 + [(lambda: obs.get(store, "small").bytes(), 5 * times)] * 2
    threads = [threading.Thread(target=repeat, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    left = left_behind(clients=1)
    assert not left, left
    stats = obs.stats()
    return resident(), len(os.listdir("/proc/self/fd")) - stats["live_sockets"] - 2 * stats["loops"]

memory, descriptors = all_at_once(LOOPS // 10)
more_memory, more_descriptors = all_at_once(LOOPS)
assert more_descriptors <= descriptors, (descriptors, more_descriptors)
assert more_memory < memory + (24 << 20), (memory, more_memory)
"""


@pytest.mark.timeout(scaled(120, 5_000))
def test_loops_opened_and_closed_in_eight_threads_leave_nothing(fake_s3: FakeS3) -> None:
    """Beside synchronous callers of the same store."""
    fake_s3.add("small", b"s" * 1024)
    loops = scaled(20, 1_000)
    run(f"LOOPS = {loops}\n{_LOOPS}", fake_s3.config(), timeout=scaled(60, 3_600))
    record("loops in eight threads", loops=8 * loops, requests=len(fake_s3.requests))
