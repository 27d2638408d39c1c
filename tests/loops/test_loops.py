"""One suite over every kind of event loop. What is written once, with anyio, runs on asyncio, uvloop and trio alike."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import uvloop

import obstore as obs
from obstore.store import LocalStore, MemoryStore, S3Store
from tests.servers.fakes3 import FakeS3, faulty, status

BODY = bytes(range(256)) * 4096  # 1 MiB


def on_uvloop(main: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


LOOPS: dict[str, Callable[[Callable[[], Awaitable[Any]]], Any]] = {
    "asyncio": lambda main: asyncio.run(main()),
    "uvloop": on_uvloop,
    "trio": trio.run,
    "anyio on asyncio": lambda main: anyio.run(main, backend="asyncio"),
    "anyio on trio": lambda main: anyio.run(main, backend="trio"),
}


@pytest.fixture(params=LOOPS)
def on_loop(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    return LOOPS[request.param]


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    fake_s3.add("small", b"s" * 1024)
    fake_s3.add("large", BODY)
    return S3Store(**fake_s3.config())


async def pieces(number: int, size: int, pause: float = 0.0) -> Any:
    for _ in range(number):
        await anyio.sleep(pause)
        yield b"p" * size


def test_every_operation(store: S3Store, on_loop):
    async def main() -> None:
        assert bytes(await (await obs.get_async(store, "small")).bytes_async()) == b"s" * 1024
        result = await store.get_async("large")
        chunks = [bytes(chunk) async for chunk in result.stream(min_chunk_size=100_000)]
        assert b"".join(chunks) == BODY
        assert bytes(await obs.get_range_async(store, "large", start=5, length=3)) == BODY[5:8]
        ranges = await obs.get_ranges_async(store, "large", starts=[0, 500_000], lengths=[2, 2], coalesce=0)
        assert [bytes(part) for part in ranges] == [BODY[:2], BODY[500_000:500_002]]
        await obs.put_async(store, "made/one", b"1")
        await obs.put_async(store, "made/many", pieces(3, 10), chunk_size=16)
        await obs.copy_async(store, "made/one", "made/copy")
        assert (await obs.head_async(store, "made/many"))["size"] == 30
        assert [item["path"] async for item in obs.list(store, "made")] == ["made/copy", "made/many", "made/one"]
        assert len(await obs.list(store).collect_async()) == 5
        assert (await obs.list_with_delimiter_async(store))["common_prefixes"] == ["made"]
        await obs.delete_async(store, ["made/one", "made/copy"])
        with pytest.raises(FileNotFoundError):
            await obs.get_async(store, "made/one")

    on_loop(main)


def test_many_at_a_time(store: S3Store, on_loop):
    async def main() -> None:
        sizes: list[int] = []

        async def one() -> None:
            sizes.append(len(await (await obs.get_async(store, "small")).bytes_async()))

        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(one)
        assert sizes == [1024] * 50

    on_loop(main)


def test_under_way_before_it_is_awaited(store: S3Store, fake_s3: FakeS3, on_loop):
    async def main() -> None:
        first, second = obs.head_async(store, "small"), obs.head_async(store, "large")
        for _ in range(500):
            if len(fake_s3.requests) == 2:
                break
            await anyio.sleep(0.01)
        assert len(fake_s3.requests) == 2
        assert [(await head)["size"] for head in (second, first)] == [len(BODY), 1024]

    on_loop(main)


def test_methods_give_coroutines(store: S3Store, fake_s3: FakeS3, on_loop, tmp_path: Path):
    """Task groups, and whatever else takes coroutine functions, take the methods; they are under way all the same."""
    stores = [store, LocalStore(tmp_path), MemoryStore()]
    for each in stores[1:]:
        obs.put(each, "small", b"s" * 1024)

    async def main() -> None:
        for each in stores:
            waiting = each.head_async("small")
            assert isinstance(waiting, Coroutine)
            assert (await waiting)["size"] == 1024
            async with anyio.create_task_group() as group:
                group.start_soon(each.put_async, "made", b"1")
                group.start_soon(each.copy_async, "small", "copied")
                group.start_soon((await each.get_async("small")).buffer_async)
                group.start_soon(each.list_with_delimiter_async)
            assert len(await obs.list(each).collect_async()) >= 3
            with pytest.raises(FileNotFoundError):
                await each.head_async("none")
        fake_s3.inject(faulty(delay=30.0), times=1)
        store.head_async("small").close()
        assert (await store.head_async("small"))["size"] == 1024

    on_loop(main)
    assert obs.stats()["in_flight"] == 0


def test_asyncio_takes_methods_for_coroutines_and_functions_for_futures(store: S3Store, fake_s3: FakeS3):
    async def main() -> None:
        task = asyncio.create_task(store.head_async("small"))
        assert (await task)["size"] == 1024
        done, waiting = await asyncio.wait([obs.head_async(store, "small"), obs.head_async(store, "large")])
        assert (len(done), waiting) == (2, set())
        both = await asyncio.gather(store.head_async("small"), asyncio.wait_for(store.head_async("large"), 30))
        assert [each["size"] for each in both] == [1024, len(BODY)]
        failing = asyncio.create_task(store.head_async("none"))
        with pytest.raises(FileNotFoundError):
            await failing
        fake_s3.inject(faulty(delay=30.0), times=1)
        slow = asyncio.create_task(store.head_async("small"))
        await asyncio.sleep(0.1)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        assert obs.stats()["in_flight"] == 0
        with pytest.raises(TypeError, match="path"):
            store.head_async(1)  # type: ignore[arg-type]  # at the call, not when it is awaited

    asyncio.run(main())
    assert asyncio.run(store.head_async("small"))["size"] == 1024
    assert asyncio.run(store.put_async("new", b"1"))["e_tag"]


def test_files_read_ahead(store: S3Store, fake_s3: FakeS3, on_loop):
    async def main() -> None:
        async with await obs.open_reader_async(store, "large", buffer_size=64 << 10) as file:
            pieces = [await file.read(32 << 10) for _ in range(2)]
            for _ in range(500):  # what comes next is asked for while nobody reads
                if fake_s3.requests[-1].headers.get("range", "").startswith("bytes=65536-"):
                    break
                await anyio.sleep(0.01)
            else:
                raise AssertionError("nothing is fetched ahead")
            while piece := await file.read(50_000):
                pieces.append(piece)
            assert b"".join(pieces) == BODY
            assert await file.seek(5) == 5
            assert await file.readline() == BODY[5 : BODY.index(b"\n") + 1]
            buffer = bytearray(10)
            assert await file.readinto(buffer) == 10
        file = await store.open_reader_async("large", buffer_size=64 << 10)
        for _ in range(2):
            await file.read(32 << 10)  # left in the middle of it
        left.append(file)

    left: list[Any] = []
    on_loop(main)
    assert fake_s3.requests
    before = len(fake_s3.requests)

    async def again() -> None:
        assert await left[0].read(10_000) == BODY[64 << 10 :][:10_000]
        assert await left[0].read() == BODY[64 << 10 :][10_000:]

    on_loop(again)  # on another loop, what was under way is fetched anew
    assert len(fake_s3.requests) > before
    assert obs.stats()["in_flight"] == 0


def test_files_write_in_parts(store: S3Store, fake_s3: FakeS3, on_loop):
    data = BODY * 17

    async def main() -> None:
        async with obs.open_writer_async(store, "written", buffer_size=5 << 20) as file:
            for start in range(0, len(data), 1 << 20):
                await file.write(data[start : start + (1 << 20)])
        assert bytes(await (await obs.get_async(store, "written")).bytes_async()) == data
        with contextlib.suppress(KeyError):
            async with obs.open_writer_async(store, "never", buffer_size=5 << 20) as file:
                await file.write(data)
                raise KeyError("mine")
        dropped = obs.open_writer_async(store, "never", buffer_size=5 << 20)
        await dropped.write(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            del dropped
        for _ in range(500):
            if not fake_s3.uploads:
                break
            await anyio.sleep(0.01)

    on_loop(main)
    assert fake_s3.uploads == {}
    assert "never" not in fake_s3.objects


def test_ranges_as_they_arrive(store: S3Store, fake_s3: FakeS3, on_loop):
    fake_s3.inject(faulty(delay=0.5), times=1, when=lambda request: request.headers.get("range") == "bytes=0-9")
    starts = [0, 300_000, 600_000, 900_000]

    async def main() -> None:
        order = []
        stream = obs.get_ranges_async(store, "large", starts=starts, lengths=[10] * 4, coalesce=0, stream=True)
        async for number, data in stream:
            assert bytes(data) == BODY[starts[number] : starts[number] + 10]
            order.append(number)
        assert sorted(order) == [0, 1, 2, 3]
        assert order[-1] == 0

    on_loop(main)


def test_stores_without_http(on_loop, tmp_path: Path):
    async def main() -> None:
        for kind in (MemoryStore(), LocalStore(tmp_path)):
            await obs.put_async(kind, "a/b", b"123")
            assert bytes(await (await obs.get_async(kind, "a/b")).bytes_async()) == b"123"
            assert [item["path"] async for item in obs.list(kind)] == ["a/b"]

    on_loop(main)


def test_retries_wait_on_the_loop(store: S3Store, fake_s3: FakeS3, on_loop):
    fake_s3.inject(status(503), times=2)

    async def main() -> None:
        assert (await obs.head_async(store, "small"))["size"] == 1024

    on_loop(main)
    assert len(fake_s3.requests) == 3


def test_cancelling_lets_go_of_the_request(store: S3Store, fake_s3: FakeS3, on_loop):
    fake_s3.inject(faulty(delay=30.0), times=1)

    async def main() -> None:
        with anyio.move_on_after(0.1) as scope:
            await obs.get_async(store, "small")
        assert scope.cancelled_caught
        assert obs.stats()["in_flight"] == 0
        assert (await obs.head_async(store, "small"))["size"] == 1024

    on_loop(main)


def test_cancelling_aborts_the_upload(store: S3Store, fake_s3: FakeS3, on_loop):
    async def main() -> None:
        with anyio.move_on_after(0.3) as scope:
            await obs.put_async(store, "never", pieces(1000, 5 << 20, 0.05), use_multipart=True)
        assert scope.cancelled_caught

    on_loop(main)
    assert fake_s3.uploads == {}
    assert len(fake_s3.aborted) == 1
    assert "never" not in fake_s3.objects


def test_what_the_users_code_raises_comes_out(store: S3Store, fake_s3: FakeS3, on_loop):
    async def broken() -> Any:
        yield b"1" * 100
        await anyio.lowlevel.checkpoint()
        raise KeyError("mine")

    async def main() -> None:
        with pytest.raises(KeyError, match="mine"):
            await obs.put_async(store, "never", broken(), use_multipart=True)

    on_loop(main)
    assert fake_s3.uploads == {}


def test_asynchronous_credentials(fake_s3: FakeS3, on_loop):
    fake_s3.add("small", b"s")
    asked: list[int] = []

    async def provide() -> Any:
        await anyio.sleep(0.01)
        asked.append(1)
        return {"access_key_id": "a", "secret_access_key": "b", "expires_at": None}

    config = {
        k: v for k, v in fake_s3.config().items() if k not in ("access_key_id", "secret_access_key", "skip_signature")
    }
    store = S3Store(**config, credential_provider=provide)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(lambda: obs_head(store))

    async def obs_head(store: S3Store) -> None:
        assert (await obs.head_async(store, "small"))["size"] == 1

    on_loop(main)
    assert asked == [1]


def test_one_store_on_one_loop_after_the_other(store: S3Store):
    async def main() -> int:
        return len(await (await obs.get_async(store, "small")).bytes_async())

    assert [LOOPS[name](main) for name in [*LOOPS, *LOOPS]] == [1024] * 2 * len(LOOPS)
    assert len(obs.get(store, "small").bytes()) == 1024


def test_synchronous_calls_inside_a_loop(store: S3Store, on_loop):
    async def main() -> None:
        assert len(obs.get(store, "small").bytes()) == 1024
        assert len(await (await obs.get_async(store, "small")).bytes_async()) == 1024

    on_loop(main)


def test_run_that_ends_leaves_nothing(store: S3Store, fake_s3: FakeS3, on_loop):
    fake_s3.inject(faulty(delay=30.0), times=1)

    async def main() -> None:
        waiting = obs.get_async(store, "small")
        await anyio.sleep(0.1)
        if hasattr(waiting, "cancel"):  # asyncio warns of futures that nobody asks for their error
            waiting.cancel()

    on_loop(main)
    until = time.monotonic() + 10
    while obs.stats()["in_flight"] and time.monotonic() < until:
        time.sleep(0.01)  # the loop thread lets go in its own time
    assert obs.stats()["in_flight"] == 0


def test_without_a_loop(store: S3Store):
    with pytest.raises(RuntimeError, match="no running event loop"):
        obs.get_async(store, "small")


# ---- programs that change how waiting works, each in a process of its own -------------------------------------------

GEVENT = """
from gevent import monkey
monkey.patch_all()
import sys, time, gevent
import obstore as obs
from obstore.store import S3Store
store = S3Store("bucket", endpoint=sys.argv[1], skip_signature=True, client_options={"allow_http": True})
ticks = []
def tick():
    while True:
        ticks.append(time.monotonic())
        gevent.sleep(0.01)
ticking = gevent.spawn(tick)
jobs = [gevent.spawn(lambda: len(obs.get(store, "slow").bytes())) for _ in range(10)]
gevent.joinall(jobs, timeout=60)
ticking.kill()
print(sorted(job.value for job in jobs), len(ticks) > 10)
with gevent.Timeout(0.2, False):
    obs.get(store, "never")
print(obs.stats()["in_flight"], len(obs.get(store, "slow").bytes()))
"""

NESTED = """
import asyncio, sys
import nest_asyncio
nest_asyncio.apply()
import obstore as obs
from obstore.store import S3Store
store = S3Store("bucket", endpoint=sys.argv[1], skip_signature=True, client_options={"allow_http": True})
async def size():
    return len(await (await obs.get_async(store, "slow")).bytes_async())
async def cell():
    outer = asyncio.ensure_future(size())
    inner = asyncio.get_event_loop().run_until_complete(size())
    keys = [item["path"] async for item in obs.list(store)]
    return inner, await outer, keys
print(asyncio.get_event_loop_policy().new_event_loop().run_until_complete(cell()))
"""


def program(text: str, fake_s3: FakeS3) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text, fake_s3.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_gevent_lets_other_greenlets_go_on(fake_s3: FakeS3):
    """Ten at a time, each from a server that takes its time; a greenlet that gives up leaves nothing behind."""
    fake_s3.add("slow", b"x" * 500)
    fake_s3.inject(faulty(delay=0.3), times=10)
    fake_s3.inject(faulty(delay=30.0), times=1, when=lambda request: request.path.endswith("never"))
    assert program(GEVENT, fake_s3) == [f"{[500] * 10} True", "0 500"]


def test_nested_loops_as_in_jupyter(fake_s3: FakeS3):
    fake_s3.add("slow", b"x" * 500)
    fake_s3.inject(faulty(delay=0.1), times=2)
    assert program(NESTED, fake_s3) == ["(500, 500, ['slow'])"]
