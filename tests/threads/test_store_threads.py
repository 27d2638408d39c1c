"""One store, many threads and loops: results are right, nothing is left, and objects pass between threads."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import obstore as obs
from obstore._engine import _core
from obstore.store import S3Store
from tests.servers.fakes3 import FakeS3
from tests.servers.scripted import Reply

THREADS = 8
OPERATIONS = 200
BIG = 3 << 20


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    return S3Store(**fake_s3.config())


@pytest.fixture
def limits() -> Iterator[None]:
    yield
    _core.set_limits(0, 0, 0)


def together(work: Callable[[int], Any], threads: int = THREADS) -> list[Any]:
    """Run ``work(number)`` on so many threads that start at once."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def body_of(thread: int, turn: int) -> bytes:
    return f"{thread}/{turn}|".encode() * (turn % 50 + 1)


def test_gets_puts_and_lists_at_once(store, fake_s3):
    def work(thread: int) -> int:
        chance = random.Random(thread)
        written: dict[str, bytes] = {}
        for turn in range(OPERATIONS):
            key = f"{thread}/{chance.randrange(20)}"
            what = chance.random()
            if what < 0.4 or not written:
                written[key] = body_of(thread, turn)
                obs.put(store, key, written[key])
            elif what < 0.8:
                key = chance.choice(list(written))
                assert obs.get(store, key).bytes() == written[key]
            elif what < 0.9:
                key = chance.choice(list(written))
                assert obs.get_range(store, key, start=0, length=5) == written[key][:5]
                assert obs.head(store, key)["size"] == len(written[key])
            else:
                found = {entry["path"]: entry["size"] for entry in obs.list(store, f"{thread}/")}
                assert found == {key: len(body) for key, body in written.items()}
        for key, body in written.items():
            assert fake_s3.objects[key].body == body
        return len(written)

    assert sum(together(work)) == len(fake_s3.objects)


def test_loops_in_threads(store, fake_s3):
    fake_s3.add("shared", b"shared body")

    async def one(thread: int, turn: int) -> None:
        key = f"{thread}/{turn}"
        await obs.put_async(store, key, body_of(thread, turn))
        assert await (await obs.get_async(store, key)).bytes_async() == body_of(thread, turn)
        assert (await obs.get_range_async(store, "shared", start=7, length=4)) == b"body"

    def work(thread: int) -> None:
        async def main() -> None:
            await asyncio.gather(*(one(thread, turn) for turn in range(20)))

        asyncio.run(main())
        asyncio.run(main())  # another loop, the same thread

    together(work)
    assert len(fake_s3.objects) == THREADS * 20 + 1


def test_threads_and_loops_mixed(store, fake_s3):
    for i in range(20):
        fake_s3.add(f"k{i}", b"x" * i)

    def work(thread: int) -> None:
        async def main() -> list[obs.Bytes]:
            return await asyncio.gather(
                *(obs.get_range_async(store, f"k{i}", start=0, length=100) for i in range(1, 20))
            )

        for _ in range(3):
            if thread % 2:
                found = asyncio.run(main())
            else:
                found = [obs.get_range(store, f"k{i}", start=0, length=100) for i in range(1, 20)]
            assert [len(body) for body in found] == list(range(1, 20))

    together(work)


def test_results_pass_between_threads(store, fake_s3):
    content = bytes(range(256)) * (BIG // 256)
    fake_s3.add("big", content)
    results = [obs.get(store, "big") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        bodies = list(pool.map(lambda result: result.bytes(), results))
    assert all(body == content for body in bodies)

    streams = [obs.get(store, "big").stream(min_chunk_size=100_000) for _ in range(4)]
    first = [next(iter(stream)) for stream in streams]
    with ThreadPoolExecutor(4) as pool:
        rests = list(pool.map(lambda stream: b"".join(bytes(chunk) for chunk in stream), streams))
    assert all(bytes(begin) + rest == content for begin, rest in zip(first, rests, strict=True))


def test_list_stream_passes_between_threads(store, fake_s3):
    fake_s3.page = 10
    for i in range(95):
        fake_s3.add(f"k{i:03}", b"")
    stream = iter(obs.list(store))
    found: list[str] = []

    def take_some(_: int) -> None:
        for _ in range(19):
            found.append(next(stream)["path"])

    for i in range(5):
        thread = threading.Thread(target=take_some, args=(i,))
        thread.start()
        thread.join()
    assert found == [f"k{i:03}" for i in range(95)]
    assert next(stream, None) is None


def test_cancelled_from_other_threads(store, fake_s3):
    fake_s3.inject(lambda request, proceed: Reply(hang=True), times=float("inf"))
    tasks: list[asyncio.Task[Any]] = []
    ready = threading.Event()

    async def get() -> Any:
        return await obs.get_async(store, "k")

    async def main() -> list[Any]:
        tasks.extend(asyncio.ensure_future(get()) for _ in range(20))
        await asyncio.sleep(0.1)
        ready.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(asyncio.run, main())
        assert ready.wait(20)
        loop = tasks[0].get_loop()
        together(lambda number: [loop.call_soon_threadsafe(task.cancel) for task in tasks[number::4]], 4)
        results = outcome.result(20)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 20
    fake_s3.wait_for(lambda: fake_s3.open_now == 0)


def test_limits_change_meanwhile(store, fake_s3, limits):
    fake_s3.add("k", b"x" * 1000)
    done = threading.Event()

    def change() -> None:
        chance = random.Random(0)
        while not done.is_set():
            _core.set_limits(chance.randrange(1, 12), chance.randrange(1, 4), 0)
            time.sleep(0.002)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        sizes = together(lambda _: [len(obs.get(store, "k").bytes()) for _ in range(40)])
    finally:
        done.set()
        changer.join()
    assert sizes == [[1000] * 40] * THREADS
    assert fake_s3.peak_in_flight <= 2 * THREADS  # the fake counts a request a little longer than we do


def test_threads_come_and_go(store, fake_s3):
    """Each has a queue of its own, which goes with it."""
    fake_s3.add("k", b"x")
    before = _core.stats()["live_queues"]
    for _ in range(60):
        thread = threading.Thread(target=lambda: obs.get(store, "k").bytes())
        thread.start()
        thread.join()
    assert _core.stats()["live_queues"] <= before + 2


def test_errors_stay_with_their_thread(store, fake_s3):
    fake_s3.add("there", b"x")

    def work(thread: int) -> None:
        for _ in range(30):
            if thread % 2:
                with pytest.raises(obs.NotFoundError, match=f"missing{thread}"):
                    obs.get(store, f"missing{thread}")
            else:
                assert obs.get(store, "there").bytes() == b"x"

    together(work)


def test_stores_come_and_go(fake_s3):
    fake_s3.add("k", b"x")

    def work(thread: int) -> None:
        for _ in range(20):
            assert obs.get(S3Store(**fake_s3.config()), "k").bytes() == b"x"

    together(work, 4)


def test_half_read_results_are_dropped_on_other_threads(store, fake_s3):
    fake_s3.add("big", bytes(BIG))
    handed: list[Any] = [obs.get(store, "big") for _ in range(8)]

    def work(number: int) -> None:
        result = handed.pop()
        if number % 2:
            with contextlib.suppress(StopIteration):
                next(iter(result.stream(min_chunk_size=1000)))

    together(work)
    fake_s3.wait_for(lambda: _core.stats()["in_flight"] == 0)
