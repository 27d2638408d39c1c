"""Ctrl-C acts at once on every synchronous call; cancelling an asynchronous one frees what it held."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.lifecycle.program import Program, eventually, on_loop
from tests.servers.fakes3 import FakeS3, faulty, gets, puts

CALLS = {
    "get": 'obs.get(store, "large")',
    "bytes": 'obs.get(store, "slow").bytes()',
    "stream": '[*obs.get(store, "slow").stream(min_chunk_size=1)]',
    "get_range": 'obs.get_range(store, "large", start=0, end=10)',
    "get_ranges": 'obs.get_ranges(store, "large", starts=[0, 3_000_000], ends=[10, 3_000_010])',
    "head": 'obs.head(store, "large")',
    "put": 'obs.put(store, "new", b"x")',
    "put_multipart": 'obs.put(store, "new", iter([b"x" * 100] * 10), chunk_size=100)',
    "list": "list(obs.list(store))",
    "list_with_delimiter": "obs.list_with_delimiter(store)",
    "delete": 'obs.delete(store, "large")',
    "copy": 'obs.copy(store, "large", "copy")',
    "rename": 'obs.rename(store, "large", "renamed")',
}


@pytest.mark.parametrize("call", CALLS)
def test_ctrl_c_acts_at_once(fake_s3: FakeS3, call: str) -> None:
    fake_s3.add("large", b"L" * (4 << 20))
    fake_s3.add("slow", b"S" * (4 << 20))
    # Every answer hangs: the whole of it, or all but the first bytes of "slow".
    fake_s3.inject(faulty(stall_after=10, stall=30.0), times=1, when=lambda request: request.path.endswith("/slow"))
    fake_s3.inject(
        faulty(delay=30.0),
        times=float("inf"),
        when=lambda request: not request.path.endswith("/slow") and request.method != "DELETE",
    )
    program = Program(
        f"""
        print("ready", flush=True)
        try:
            {CALLS[call]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        else:
            print("finished")
        """,
        fake_s3.config(),
    )
    assert program.line() == "ready"
    eventually(lambda: fake_s3.requests)
    time.sleep(0.1)
    sent = time.monotonic()
    program.signal(signal.SIGINT)
    assert program.line() == "interrupted"
    elapsed = time.monotonic() - sent
    outcome = program.end()
    assert (outcome.code, outcome.stderr) == (0, "")
    # The contract is 100 ms; a loaded test machine gets more, a hang of 30 s would show all the same.
    assert elapsed < 2.0


def test_ctrl_c_aborts_the_multipart_upload(fake_s3: FakeS3) -> None:
    fake_s3.inject(faulty(delay=30.0), times=float("inf"), when=puts)
    program = Program(
        """
        print("ready", flush=True)
        try:
            obs.put(store, "new", iter([b"x" * 100] * 10), chunk_size=100)
        except KeyboardInterrupt:
            print("interrupted", obs.stats()["in_flight"], flush=True)
        """,
        fake_s3.config(),
    )
    assert program.line() == "ready"
    eventually(lambda: any(puts(request) for request in fake_s3.requests))
    program.signal(signal.SIGINT)
    assert program.line() == "interrupted 0"
    outcome = program.end()
    assert (outcome.code, outcome.stderr) == (0, "")
    assert fake_s3.aborted
    assert not fake_s3.uploads


def test_ctrl_c_reaches_the_main_thread_while_another_works(fake_s3: FakeS3) -> None:
    fake_s3.add("large", b"L" * 1000)
    fake_s3.inject(faulty(delay=2.0), times=float("inf"))
    program = Program(
        """
        thread = threading.Thread(target=lambda: obs.get(store, "large").bytes())
        thread.start()
        print("ready", flush=True)
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        thread.join()
        print("joined", flush=True)
        """,
        fake_s3.config(),
    )
    assert program.line() == "ready"
    eventually(lambda: fake_s3.requests)
    program.signal(signal.SIGINT)
    assert program.line() == "interrupted"
    assert program.line() == "joined"
    outcome = program.end()
    assert (outcome.code, outcome.stderr) == (0, "")


def test_store_works_after_an_interrupt(fake_s3: FakeS3) -> None:
    fake_s3.add("large", b"L" * 1000)
    fake_s3.inject(faulty(delay=30.0), times=1)
    program = Program(
        """
        print("ready", flush=True)
        try:
            obs.get(store, "large").bytes()
        except KeyboardInterrupt:
            pass
        assert len(obs.get(store, "large").bytes()) == 1000
        """,
        fake_s3.config(),
    )
    assert program.line() == "ready"
    eventually(lambda: fake_s3.requests)
    program.signal(signal.SIGINT)
    outcome = program.end()
    assert (outcome.code, outcome.stderr) == (0, "")


@on_loop
async def test_cancelling_a_get_frees_its_connection(fake_s3: FakeS3) -> None:
    fake_s3.add("large", b"L" * 1000)
    fake_s3.inject(faulty(delay=30.0), times=1, when=gets)
    store = S3Store(**fake_s3.config())
    task = asyncio.ensure_future(_bytes(store))
    while not fake_s3.requests:
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert obs.stats()["in_flight"] == 0
    assert len(await _bytes(store)) == 1000


async def _bytes(store: S3Store) -> obs.Bytes:
    return await (await obs.get_async(store, "large")).bytes_async()


@on_loop
async def test_timeout_around_a_put_aborts_the_upload(fake_s3: FakeS3) -> None:
    fake_s3.inject(faulty(delay=30.0), times=float("inf"), when=puts)
    store = S3Store(**fake_s3.config())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await obs.put_async(store, "new", iter([b"x" * 100] * 10), chunk_size=100)
    assert fake_s3.aborted
    assert not fake_s3.uploads
    assert obs.stats()["in_flight"] == 0


@on_loop
async def test_cancelling_a_put_cancels_the_users_generator(fake_s3: FakeS3) -> None:
    ended = []

    async def forever():
        try:
            yield b"x" * 100
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    store = S3Store(**fake_s3.config())
    task = asyncio.ensure_future(obs.put_async(store, "new", forever(), chunk_size=100))
    while not fake_s3.uploads:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended
    assert not fake_s3.uploads
