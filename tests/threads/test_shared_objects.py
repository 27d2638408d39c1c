"""One listing, one body, one store: threads that share what is read once, with a GIL or without.

Where there is a GIL most of these could hardly fail; on a free-threaded build of Python they meet what it kept apart.
"""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import obstore as obs
from obstore._engine import _core
from obstore.store import S3Store
from tests.servers.fakes3 import FakeS3

THREADS = 8
KEYS = [f"k{i:04}" for i in range(1500)]


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    return S3Store(**fake_s3.config())


def together(work: Any, threads: int = THREADS) -> list[Any]:
    """Run ``work(number)`` on so many threads that start at once."""
    barrier = threading.Barrier(threads)

    def run(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def outcome_of(call: Any) -> Any:
    """What a call returns, or the type of what it raises."""
    try:
        return call()
    except (ValueError, RuntimeError) as error:
        return type(error)


@pytest.mark.parametrize("chunk", [None, 7])
def test_each_object_of_a_listing_goes_to_one_thread(store, fake_s3, chunk):
    fake_s3.page = 40
    for key in KEYS:
        fake_s3.add(key, b"")
    stream = obs.list(store) if chunk is None else obs.list(store, chunk_size=chunk)
    ended = threading.Event()

    def work(_: int) -> list[str]:
        found: list[str] = []
        while not ended.is_set():
            try:
                item = next(stream)
            except StopIteration:
                ended.set()
            except RuntimeError:  # another thread is fetching a page
                time.sleep(0)
            else:
                found += [entry["path"] for entry in item]  # an object by itself iterates as itself
        return found

    assert sorted(key for found in together(work) for key in found) == KEYS


def test_a_body_is_consumed_once(store, fake_s3):
    content = bytes(range(256)) * 2000
    fake_s3.add("small", b"small")
    fake_s3.add("big", content)
    for turn in range(30):
        key, body = ("big", content) if turn % 2 else ("small", b"small")
        result = obs.get(store, key)
        outcomes = together(lambda _, result=result: outcome_of(lambda: bytes(result.bytes())), 4)
        assert [outcome for outcome in outcomes if outcome is not ValueError] == [body]


def test_a_stream_has_one_reader_at_a_time(store, fake_s3):
    content = bytes(range(256)) * 8000
    fake_s3.add("big", content)
    for _ in range(5):
        stream = obs.get(store, "big").stream(min_chunk_size=50_000)
        chunks: list[bytes] = []  # appended to in order: who reads holds the turn
        turn = threading.Lock()

        def work(_: int, stream=stream, chunks=chunks, turn=turn) -> int:
            refused = 0
            while True:
                with turn:
                    try:
                        chunks.append(next(stream))
                    except StopIteration:
                        return refused

        assert together(work, 4) == [0] * 4
        assert b"".join(chunks) == content


def test_closed_while_read(store, fake_s3):
    """Closing a body ends its reader at once, whichever thread it is on; nothing hangs, nothing stays."""
    fake_s3.add("big", bytes(4 << 20))
    for _ in range(20):
        stream = obs.get(store, "big").stream(min_chunk_size=10_000)
        next(stream)

        def work(number: int, stream=stream) -> Any:
            if number == 0:
                return stream.close()
            return outcome_of(lambda: sum(map(len, stream)))

        together(work, 2)
    fake_s3.wait_for(lambda: _core.stats()["in_flight"] == 0)


def test_counters_hold_what_threads_did(store, fake_s3):
    turns = 60
    before = _core.stats()["requests"]

    def work(thread: int) -> int:
        size = 0
        for turn in range(turns):
            key, body = f"{thread}/{turn}", b"x" * (turn * 50)
            store.put(key, body)
            assert bytes(store.get(key).bytes()) == body
            assert store.head(key)["size"] == len(body)
            size += len(body)
        return size

    sizes = together(work)
    stats = store.stats()
    assert len(fake_s3.objects) == THREADS * turns
    assert stats["requests"] == stats["succeeded"] == len(fake_s3.requests) == 3 * THREADS * turns
    assert _core.stats()["requests"] - before == stats["requests"]
    assert stats["bytes_in"] == stats["bytes_out"] == sum(sizes)
    assert stats["failed"] == stats["cancelled"] == stats["in_flight"] == stats["retries"] == 0
