"""Bodies that break, stall, trickle or change: what arrives is byte-exact, or an error."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.fakes3 import FakeS3, cut, faulty, gets, stall
from tests.servers.scripted import Reply, Request

SIZE = 300_000
DATA = os.urandom(SIZE)
QUICK = {"backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}}


def _range_into(face: Face, store: S3Store) -> bytes:
    buffer = bytearray(SIZE)
    assert face.get_range(store, "k", start=0, end=SIZE, into=buffer) == SIZE
    return bytes(buffer)


def _ranges_into(face: Face, store: S3Store) -> bytes:
    """Fetched together: the middle goes into two buffers, what lies between the last two into none."""
    buffers = [bytearray(150_000), bytearray(100_000), bytearray(90_000), bytearray(9_000)]
    starts = [0, 100_000, 200_000, SIZE - 9_000]
    assert face.get_ranges(store, "k", starts=starts, lengths=[len(each) for each in buffers], into=buffers) == [
        len(each) for each in buffers
    ]
    assert buffers[0][100_000:] == buffers[1][:50_000]
    middle = SIZE - 9_000 - 290_000
    return bytes(buffers[0] + buffers[1][50_000:] + buffers[2]) + DATA[290_000:][:middle] + bytes(buffers[3])


def _readinto(face: Face, store: S3Store) -> bytes:
    buffer = bytearray(SIZE + 1)
    result = face.get(store, "k")
    assert face.run(lambda: (result.readinto_async if face.is_async else result.readinto)(buffer)) == SIZE
    return bytes(buffer[:SIZE])


READERS: dict[str, Callable[[Face, S3Store], bytes]] = {
    "bytes": lambda face, store: face.body(face.get(store, "k")),
    "stream": lambda face, store: b"".join(face.chunks(face.get(store, "k"), 10_000)),
    "frames": lambda face, store: b"".join(face.chunks(face.get(store, "k"), 0)),
    "range of get": lambda face, store: face.body(face.get(store, "k", options={"range": {"offset": 0}})),
    "get_range": lambda face, store: bytes(face.get_range(store, "k", start=0, end=SIZE)),
    "get_range into": _range_into,
    "get_ranges into": _ranges_into,
    "readinto": _readinto,
    "long chunks": lambda face, store: b"".join(face.chunks(face.get(store, "k"), 280_000)),
    "get_ranges": lambda face, store: b"".join(
        bytes(piece) for piece in face.get_ranges(store, "k", starts=[0, 100_000], ends=[100_000, SIZE])
    ),
}


@pytest.fixture(params=READERS)
def read(request: pytest.FixtureRequest) -> Callable[[Face, S3Store], bytes]:
    return READERS[request.param]


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    fake_s3.add("k", DATA)
    return S3Store(**fake_s3.config(retry_config=QUICK))


@pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
def test_body_cut_midway_is_resumed(fake_s3: FakeS3, store: S3Store, face: Face, read, reset: bool):
    fake_s3.inject(cut(100_000, reset=reset), when=gets)
    fake_s3.inject(cut(50_001, reset=reset), when=gets)
    assert read(face, store) == DATA
    first, *resumed = fake_s3.requests
    assert [r.headers["range"] for r in resumed] == [f"bytes=100000-{SIZE - 1}", f"bytes=150001-{SIZE - 1}"]
    assert {r.headers["if-match"] for r in resumed} == {fake_s3.objects["k"].e_tag}
    assert "if-match" not in first.headers


def test_body_cut_sixty_times_is_resumed_since_it_makes_progress(fake_s3: FakeS3, store: S3Store, face: Face, read):
    fake_s3.inject(cut(SIZE // 60), when=gets, times=59)
    assert read(face, store) == DATA
    assert len(fake_s3.requests) == 60


def test_body_reset_hundreds_of_times_is_resumed(fake_s3: FakeS3, store: S3Store):
    fake_s3.inject(cut(SIZE // 400, reset=True), when=gets, times=399)
    assert obs.get(store, "k").bytes() == DATA
    assert len(fake_s3.requests) == 400


@pytest.mark.parametrize("kind", ["readinto", "get_range", "get_ranges"])
def test_cancelled_read_lets_go_of_the_buffer(fake_s3: FakeS3, store: S3Store, kind: str):
    fake_s3.inject(faulty(rate=SIZE / 3), when=gets)
    buffer = bytearray(SIZE)

    async def begin() -> None:
        if kind == "readinto":
            await (await obs.get_async(store, "k")).readinto_async(buffer)
        elif kind == "get_range":
            await obs.get_range_async(store, "k", start=0, end=SIZE, into=buffer)
        else:
            halves = [memoryview(buffer)[: SIZE // 2], memoryview(buffer)[SIZE // 2 :]]
            await obs.get_ranges_async(store, "k", starts=[0, SIZE // 2], ends=[SIZE // 2, SIZE], into=halves)

    async def main() -> None:
        task = asyncio.create_task(begin())
        while not buffer[1000]:  # until bytes have landed
            assert not task.done()
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        buffer[:] = b"n" * SIZE
        await asyncio.sleep(0.1)
        assert buffer == b"n" * SIZE
        assert fake_s3.in_flight <= 1

    first = bytearray(DATA)
    first[1000] = 1
    fake_s3.add("k", bytes(first))
    asyncio.run(main())
    gc.collect()
    buffer.append(0)  # nobody holds it any more


@pytest.mark.parametrize("retries", [0, 2])
def test_body_that_makes_no_progress_fails(fake_s3: FakeS3, retries: int):
    fake_s3.add("k", DATA)
    fake_s3.inject(cut(100_000), when=gets)
    fake_s3.inject(cut(0), when=gets, times=float("inf"))
    store = S3Store(**fake_s3.config(retry_config={**QUICK, "max_retries": retries}))
    with pytest.raises(obs.GenericError) as caught:
        obs.get(store, "k").bytes()
    assert caught.value.retryable
    assert len(fake_s3.requests) == retries + 1


def test_body_that_stalls_is_resumed(fake_s3: FakeS3, face: Face, read):
    fake_s3.add("k", DATA)
    fake_s3.inject(stall(100_000, 60), when=gets)
    store = S3Store(**fake_s3.config(retry_config=QUICK, client_options={"read_timeout": "300ms"}))
    assert read(face, store) == DATA
    assert [r.headers.get("range", "") for r in fake_s3.requests][-1] == f"bytes=100000-{SIZE - 1}"
    fake_s3.wait_for(lambda: fake_s3.in_flight == 0)  # the stalled connection was given up


def test_body_that_trickles_is_no_stall(fake_s3: FakeS3, face: Face, read):
    fake_s3.add("k", DATA)
    fake_s3.inject(faulty(rate=SIZE / 1.2), when=gets)
    store = S3Store(**fake_s3.config(client_options={"read_timeout": "400ms"}))
    assert read(face, store) == DATA
    assert len(fake_s3.requests) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_consumer_that_dawdles_is_no_stall(fake_s3: FakeS3, kind: str):
    size = 48 << 20  # more than any window and socket buffer holds, so that the transfer really waits for us
    fake_s3.add("k", bytes(size))
    store = S3Store(**fake_s3.config(client_options={"read_timeout": "300ms"}))
    got = 0
    if kind == "sync":
        for number, chunk in enumerate(obs.get(store, "k").stream(min_chunk_size=1 << 20)):
            got += len(chunk)
            if number < 2:
                time.sleep(0.8)
    else:

        async def main() -> int:
            read = number = 0
            async for chunk in (await obs.get_async(store, "k")).stream(min_chunk_size=1 << 20):
                read += len(chunk)
                number += 1
                if number <= 2:
                    await asyncio.sleep(0.8)
            return read

        got = asyncio.run(main())
    assert got == size
    assert len(fake_s3.requests) == 1


def test_stream_is_not_read_ahead_without_bound(fake_s3: FakeS3):
    size = 256 << 20
    fake_s3.add("k", bytes(size))
    stream = iter(obs.get(S3Store(**fake_s3.config()), "k").stream(min_chunk_size=1000))
    next(stream)
    time.sleep(0.5)
    assert fake_s3.sent < size / 4
    del stream
    fake_s3.wait_for(lambda: fake_s3.in_flight == 0)  # dropped: the connection ends


# ---- objects that change --------------------------------------------------------------------------------


def _ignoring_if_match(request: Request, proceed: Callable[[], Reply]) -> Reply:
    request.headers.pop("if-match", None)
    return proceed()


def _ignoring_range_too(request: Request, proceed: Callable[[], Reply]) -> Reply:
    request.headers.pop("range", None)
    return _ignoring_if_match(request, proceed)


@pytest.mark.parametrize("server", ["obeys if-match", "ignores if-match", "ignores range and if-match"])
def test_object_changed_between_resumptions_is_an_error(fake_s3: FakeS3, store: S3Store, face: Face, read, server: str):
    fake_s3.inject(faulty(cut_after=100_000, then=lambda: fake_s3.add("k", os.urandom(SIZE)) and None), when=gets)
    if server != "obeys if-match":
        ignoring = _ignoring_if_match if server == "ignores if-match" else _ignoring_range_too
        fake_s3.inject(ignoring, when=gets, times=float("inf"))
    with pytest.raises(obs.BaseError) as caught:
        read(face, store)
    assert len(fake_s3.requests) == 2, "a new version does not become the old one by repetition"
    if server == "obeys if-match":
        assert caught.value.status == 412


def test_stream_of_a_changed_object_yields_old_bytes_only(fake_s3: FakeS3, store: S3Store):
    fake_s3.inject(faulty(cut_after=100_000, then=lambda: fake_s3.add("k", bytes(SIZE)) and None), when=gets)
    chunks: list[bytes] = []
    with pytest.raises(obs.BaseError):
        chunks.extend(obs.get(store, "k").stream(min_chunk_size=1000))
    got = b"".join(chunks)
    assert len(got) >= 1000
    assert got == DATA[: len(got)]


def test_body_without_e_tag_is_not_resumed(fake_s3: FakeS3, store: S3Store, face: Face, read):
    def nameless(request: Request, proceed: Callable[[], Reply]) -> Reply:
        reply = proceed()
        reply.headers = [(name, value) for name, value in dict(reply.headers).items() if name != "etag"]
        reply.cut_after = 100_000
        return reply

    fake_s3.inject(nameless, when=gets, times=float("inf"))
    with pytest.raises(obs.GenericError):
        read(face, store)
    assert len(fake_s3.requests) == 1


# ---- servers that answer a range with everything --------------------------------------------------------


def test_range_answered_with_everything_is_cut_out(fake_s3: FakeS3, face: Face):
    size = 64 << 20
    fake_s3.add("k", DATA + bytes(size - SIZE))
    fake_s3.inject(_ignoring_range_too, times=float("inf"))
    store = S3Store(**fake_s3.config())
    assert face.get_range(store, "k", start=1000, length=5000) == DATA[1000:6000]
    buffer = bytearray(5000)
    assert face.get_range(store, "k", start=1000, length=5000, into=buffer) == 5000
    assert buffer == DATA[1000:6000]
    assert face.get_ranges(store, "k", starts=[5, 50], lengths=[5, 5], coalesce=0) == [DATA[5:10], DATA[50:55]]
    fake_s3.wait_for(lambda: fake_s3.in_flight == 0)
    assert fake_s3.sent < size, "the rest of four bodies was not read"


def test_range_of_get_answered_with_everything_is_cut_out(fake_s3: FakeS3, face: Face):
    size = 64 << 20
    fake_s3.add("k", DATA + bytes(size - SIZE))
    fake_s3.inject(_ignoring_range_too, times=float("inf"))
    store = S3Store(**fake_s3.config())
    result = face.get(store, "k", options={"range": (1000, 6000)})
    assert (result.range, result.meta["size"]) == ((1000, 6000), size)
    assert face.body(result) == DATA[1000:6000]
    result = face.get(store, "k", options={"range": (0, 3000)})
    assert b"".join(face.chunks(result, 1000)) == DATA[:3000]
    fake_s3.wait_for(lambda: fake_s3.in_flight == 0)
    assert fake_s3.sent < size


def test_real_server_that_ignores_ranges_is_read_right(rclone):
    bucket = rclone.endpoint.create_bucket()
    store = S3Store(**rclone.endpoint.config(bucket))
    obs.put(store, "k", DATA)
    assert obs.get_range(store, "k", start=1000, length=5000) == DATA[1000:6000]
    assert obs.get(store, "k", options={"range": (7, 11)}).bytes() == DATA[7:11]
    assert obs.get(store, "k").bytes() == DATA
