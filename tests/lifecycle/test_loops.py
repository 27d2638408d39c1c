"""One store, many event loops and threads, opened and closed."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest
import uvloop

import obstore as obs
from obstore.store import S3Store
from tests.lifecycle.program import on_loop, run
from tests.servers.fakes3 import FakeS3, faulty


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    fake_s3.add("small", b"s" * 1024)
    fake_s3.add("large", bytes(range(256)) * (16 << 10))
    return S3Store(**fake_s3.config())


async def fetch(store: S3Store, count: int) -> None:
    results = await asyncio.gather(*[obs.get_async(store, "small") for _ in range(count)])
    for result in results:
        assert bytes(await result.bytes_async()) == b"s" * 1024


def test_threads_with_loops_of_their_own_beside_synchronous_callers(store: S3Store) -> None:
    failures: list[BaseException] = []

    def guarded(work) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    def loops(new_loop) -> None:
        for _ in range(5):
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(fetch(store, 20))

    def synchronous() -> None:
        for _ in range(50):
            assert len(obs.get(store, "small").bytes()) == 1024

    jobs = [lambda: loops(asyncio.new_event_loop)] * 4 + [lambda: loops(uvloop.new_event_loop)] * 2 + [synchronous] * 4
    threads = [threading.Thread(target=guarded, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_loops_closed_with_requests_in_flight_leave_nothing(store: S3Store, fake_s3: FakeS3, new_loop) -> None:
    fake_s3.add("slow", b"x")
    fake_s3.inject(faulty(delay=1.0), times=float("inf"), when=lambda request: request.path.endswith("/slow"))
    for _ in range(30):
        loop = new_loop()

        async def leave() -> None:
            for _ in range(3):
                obs.get_async(store, "slow").add_done_callback(lambda _: None)
            await obs.get_async(store, "small")

        loop.run_until_complete(leave())
        loop.close()
    asyncio.run(fetch(store, 1))  # a new loop is when the closed ones are looked after
    gc.collect()


def test_result_opened_on_one_loop_is_read_elsewhere(store: S3Store) -> None:
    """On another loop, synchronously inside a running loop, and synchronously after the loop was closed."""
    expected = bytes(range(256)) * (16 << 10)

    async def opened() -> list[obs.GetResult]:
        return [await obs.get_async(store, "large") for _ in range(4)]

    async def read(result: obs.GetResult) -> bytes:
        return bytes(await result.bytes_async())

    async def read_synchronously() -> bytes:
        result = await obs.get_async(store, "large")
        return bytes(result.bytes())

    first, second, third, fourth = asyncio.run(opened())
    assert asyncio.run(read_synchronously()) == expected
    assert asyncio.run(read(first)) == expected
    assert bytes(second.bytes()) == expected
    assert b"".join(third) == expected
    del fourth


def test_no_running_loop_is_an_error_at_the_call(store: S3Store) -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        obs.get_async(store, "small")


def test_six_hundred_gets_with_128_descriptors(fake_s3: FakeS3) -> None:
    fake_s3.add("small", b"s" * 1024)
    fake_s3.add("large", b"L" * (3 << 20))
    run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        async def main():
            results = await asyncio.gather(*[obs.get_async(store, "small") for _ in range(600)])
            bodies = [await result.bytes_async() for result in results]
            assert [bytes(body) for body in bodies] == [b"s" * 1024] * 600
            # Larger than a window: every one of them is open and unread at the same time.
            results = await asyncio.gather(*[obs.get_async(store, "large") for _ in range(150)])
            for result in results:
                assert bytes(await result.bytes_async()) == b"L" * (3 << 20)
        asyncio.run(main())
        """,
        fake_s3.config(),
    )


@on_loop
async def test_busy_python_thread_does_not_starve_transfers(store: S3Store) -> None:
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        await fetch(store, 50)
    finally:
        stop.set()
        thread.join()
