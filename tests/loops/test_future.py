"""The awaitable of an operation keeps the promises of `asyncio.Future`, on the loops that are asyncio's."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop

import obstore as obs
from obstore.exceptions import NotFoundError
from obstore.store import MemoryStore, S3Store
from tests.servers.fakes3 import FakeS3

Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def on_uvloop(main: Callable[[], Awaitable[Any]]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@pytest.fixture(params=["asyncio", "uvloop"])
def on_loop(request: pytest.FixtureRequest) -> Run:
    return on_uvloop if request.param == "uvloop" else lambda main: asyncio.run(main())


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    fake_s3.add("a", b"a" * 1024)
    return S3Store(**fake_s3.config())


def test_states(store: S3Store, on_loop: Run):
    async def main() -> None:
        future: Any = obs.get_range_async(store, "a", start=0, length=4)
        assert asyncio.isfuture(future)
        assert future.get_loop() is asyncio.get_running_loop()
        assert not future.done()
        assert not future.cancelled()
        assert "pending" in repr(future)
        with pytest.raises(asyncio.InvalidStateError):
            future.result()
        with pytest.raises(asyncio.InvalidStateError):
            future.exception()
        assert bytes(await future) == b"aaaa"
        assert future.done()
        assert "finished" in repr(future)
        assert bytes(future.result()) == b"aaaa"
        assert future.exception() is None
        assert not future.cancel()
        assert bytes(await future) == b"aaaa", "awaited again"

    on_loop(main)


def test_callbacks(store: S3Store, on_loop: Run):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[Any] = []

    async def main() -> None:
        future: Any = obs.get_range_async(store, "a", start=0, length=4)

        def note(done: Any) -> None:
            seen.append((variable.get(), done is future, asyncio.current_task()))

        def forgotten(done: Any) -> None:
            seen.append("forgotten")

        context = contextvars.copy_context()
        context.run(variable.set, "given")
        future.add_done_callback(forgotten)
        future.add_done_callback(note, context=context)
        variable.set("current")
        future.add_done_callback(note)
        future.add_done_callback(forgotten)
        assert future.remove_done_callback(forgotten) == 2
        assert future.remove_done_callback(forgotten) == 0
        await future
        await asyncio.sleep(0)
        future.add_done_callback(note)
        assert len(seen) == 2, "a callback never runs inside add_done_callback"
        await asyncio.sleep(0)

    on_loop(main)
    assert seen == [("given", True, None), ("current", True, None), ("current", True, None)]


def test_many_await_one(store: S3Store, on_loop: Run):
    async def main() -> None:
        future: Any = obs.get_range_async(store, "a", start=0, length=4)

        async def wait() -> bytes:
            return bytes(await future)

        assert await asyncio.gather(*[wait() for _ in range(5)]) == [b"aaaa"] * 5

    on_loop(main)


def test_what_asyncio_offers(store: S3Store, on_loop: Run):
    async def main() -> None:
        def get() -> Any:
            return obs.get_range_async(store, "a", start=0, length=4)

        assert bytes(await asyncio.wait_for(get(), 5)) == b"aaaa"
        assert bytes(await asyncio.shield(get())) == b"aaaa"
        done, pending = await asyncio.wait([get(), get()])
        assert (len(done), len(pending)) == (2, 0)
        assert [bytes(await each) for each in asyncio.as_completed([get(), get()])] == [b"aaaa"] * 2
        found = await asyncio.gather(get(), obs.get_async(store, "missing"), return_exceptions=True)
        assert bytes(found[0]) == b"aaaa"
        assert isinstance(found[1], NotFoundError)
        async with asyncio.timeout(5):
            assert bytes(await get()) == b"aaaa"

    on_loop(main)


def test_results_that_exceptions_would_mistake(on_loop: Run):
    """A tuple or an exception as a result is handed over as it is."""

    async def main() -> None:
        from obstore._effects import Sleep
        from obstore._run import finished
        from obstore._run.aio import start

        def op(value: Any) -> Any:
            yield Sleep(0.0)
            return value

        for value in ((), (1, 2), ValueError("a result"), StopIteration(3), None):
            assert await start(op(value)) is value
            assert await finished(value) is value

    on_loop(main)


def test_a_resumed_task_may_do_anything(store: S3Store, on_loop: Run):
    """Tasks are resumed while events are delivered: each in its own context, with the others' futures at its mercy."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def main() -> None:
        futures: list[Any] = [obs.get_range_async(store, "a", start=0, length=4) for _ in range(16)]
        ends: list[str] = []

        async def wait(number: int) -> None:
            variable.set(number)
            try:
                await futures[number]
                assert asyncio.current_task() is tasks[number]
                assert variable.get() == number
                for other in futures[number + 1 :]:
                    other.cancel()
                await obs.get_range_async(store, "a", start=1, length=2)
                ends.append("done")
            except asyncio.CancelledError:
                ends.append("cancelled")
            assert variable.get() == number

        tasks = [asyncio.create_task(wait(number)) for number in range(16)]
        await asyncio.gather(*tasks)
        assert len(ends) == 16
        assert "done" in ends

    on_loop(main)


def test_cancelled_by_a_task_that_was_resumed_from_memory(on_loop: Run):
    """An operation that ends at once when it is cancelled wakes its task in the loop's next turn, not inside its canceller."""

    async def main() -> None:
        from obstore._effects import Sleep
        from obstore._run.aio import start

        def op() -> Any:
            yield Sleep(60.0)

        order: list[str] = []
        future: Any = start(op())

        async def wait() -> None:
            try:
                await future
            except asyncio.CancelledError:
                order.append("cancelled")

        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        future.cancel()
        order.append("canceller")
        await task
        assert order == ["canceller", "cancelled"]

    on_loop(main)


def test_messages_of_cancellation(store: S3Store, on_loop: Run):
    async def main() -> None:
        future: Any = obs.get_range_async(store, "a", start=0, length=4)
        assert future.cancel("why")
        with pytest.raises(asyncio.CancelledError, match="why"):
            await future
        assert future.cancelled()
        with pytest.raises(asyncio.CancelledError):
            future.exception()

    on_loop(main)


def test_errors_that_nobody_asked_for_are_told(store: S3Store, on_loop: Run):
    told: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        for _ in range(2):
            future: Any = obs.get_async(store, "missing")
            while not future.done():
                await asyncio.sleep(0.01)
            if told:
                future.exception()  # the second one is asked for
            del future
            gc.collect()

    on_loop(main)
    assert [type(context["exception"]) for context in told] == [NotFoundError]
    assert "never retrieved" in told[0]["message"]


EXIT = """
import asyncio, sys
import obstore as obs
from obstore.store import S3Store

async def main(config):
    store = S3Store(**config)
    ends = []

    async def wait(number):
        try:
            await obs.get_range_async(store, "a", start=0, length=4)
            if number == 0:
                sys.exit(7)
            await asyncio.sleep(60)
        finally:
            ends.append(number)
            if len(ends) == 32:
                print("all ended", flush=True)

    tasks = [asyncio.create_task(wait(number)) for number in range(32)]
    try:
        await asyncio.sleep(60)
    finally:
        tasks[0].exception()  # seen: asyncio need not tell of it

asyncio.run(main(CONFIG))
"""


def test_exit_from_a_resumed_task(store: S3Store, fake_s3: FakeS3):
    """`sys.exit` in a task that was resumed among others: the program ends with its code, all others are told."""
    program = EXIT.replace("CONFIG", repr(fake_s3.config()))
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "all ended\n", "")


def test_finished_needs_no_turn(on_loop: Run):
    """What is in memory costs no turn of the loop."""

    async def main() -> None:
        store = MemoryStore()
        await obs.put_async(store, "a", b"a")
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1
            asyncio.get_running_loop().call_soon(count)

        asyncio.get_running_loop().call_soon(count)
        result = await obs.get_async(store, "a")
        before = turns
        assert bytes(await result.bytes_async()) == b"a"
        assert turns == before

    on_loop(main)
