"""Files on a store behind HTTP: how many requests, what is fetched ahead, and what is left when something fails."""

from __future__ import annotations

import gc
import io
import itertools
import os
import random
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face, make_face
from tests.servers.fakes3 import FakeS3, cut, gets, status
from tests.servers.scripted import Request

MIB = 1 << 20
DATA = random.Random(3).randbytes(40 * MIB)
QUICK = {"backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}}


@pytest.fixture(params=["sync", "asyncio"])
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    made = make_face(request.param)
    yield made
    made.close()


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    fake_s3.add("k", DATA)
    return S3Store(**fake_s3.config(retry_config={**QUICK, "max_retries": 2}))


def spans(fake_s3: FakeS3) -> list[tuple[int, int]]:
    """The ranges that were asked for, end exclusive."""
    found = [
        request.headers["range"].removeprefix("bytes=").split("-") for request in fake_s3.requests if gets(request)
    ]
    return [(int(start), int(end) + 1) for start, end in found]


def call(face: Face, method: Callable[..., Any], *arguments: Any) -> Any:
    return face.run(lambda: method(*arguments))


def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("size", [50_000, 3 * MIB])
def test_reading_from_front_to_end_takes_few_requests(fake_s3: FakeS3, store: S3Store, face: Face, size: int):
    file = face.open_reader(store, "k")
    got = []
    while piece := call(face, file.read, size):
        got.append(piece)
    assert b"".join(got) == DATA
    asked = sorted(spans(fake_s3))
    assert len(asked) <= (10 if size < MIB else 40 * MIB // size + 4)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(asked)), "no byte twice, none left out"
    call(face, file.close)


def test_reading_here_and_there_fetches_little(fake_s3: FakeS3, store: S3Store, face: Face):
    file = face.open_reader(store, "k")
    dice = random.Random(9)
    for _ in range(60):
        position = dice.randrange(len(DATA) - 100)
        call(face, file.seek, position)
        assert call(face, file.read, 100) == DATA[position : position + 100]
    fetched = sum(end - start for start, end in spans(fake_s3))
    assert fetched < 60 * 64 * 1024 + 4 * MIB, "windows shrink to 64 KiB"
    call(face, file.close)


def test_the_end_is_read_with_what_is_in_front_of_it(fake_s3: FakeS3, store: S3Store, face: Face):
    file = face.open_reader(store, "k")
    size = len(DATA)
    for start, length in ((size - 22, 22), (size - 500_000, 499_000), (size - 8, 8)):
        call(face, file.seek, start)
        assert call(face, file.read, length) == DATA[start : start + length]
    assert spans(fake_s3) == [(size - MIB, size)]


def test_archives_of_weights_are_read_as_torch_reads_them(fake_s3: FakeS3, store: S3Store):
    """The directory at the end first, then for each record its header and its bytes, into memory of the program's."""
    packed = io.BytesIO()
    records = {f"weights/data/{number}": DATA[number * 500_000 :][:500_000] for number in range(20)}
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    fake_s3.add("weights.pt", packed.getvalue())
    with obs.open_reader(store, "weights.pt") as file:
        file.seek(0, io.SEEK_END)
        assert file.tell() == len(packed.getvalue())
        file.seek(-22, io.SEEK_END)
        assert file.read(4) == b"PK\x05\x06"
        entries = zipfile.ZipFile(file).infolist()
        for entry in entries:
            file.seek(entry.header_offset)
            header = file.read(30)
            assert header[:4] == b"PK\x03\x04"
            file.seek(entry.header_offset + 30 + len(entry.filename))
            memory = bytearray(entry.file_size)
            assert file.readinto(memory) == entry.file_size
            assert memory == records[entry.filename]
    asked = spans(fake_s3)
    assert len(asked) <= 2 * len(records)
    assert sum(end - start for start, end in asked) <= 1.3 * len(packed.getvalue())


def test_long_reads_are_several_requests_beside_each_other(fake_s3: FakeS3, store: S3Store, face: Face):
    buffer = bytearray(len(DATA))
    file = face.open_reader(store, "k")
    assert call(face, file.readinto, buffer) == len(DATA)
    assert buffer == DATA
    assert len(spans(fake_s3)) == 5
    call(face, file.seek, 0)
    assert call(face, file.read) == DATA
    call(face, file.close)


def test_the_next_block_is_on_its_way_before_it_is_read(fake_s3: FakeS3, store: S3Store):
    file = obs.open_reader(store, "k")
    for _ in range(12):
        file.read(64 << 10)
    until(lambda: len(spans(fake_s3)) == 2)  # nobody reads meanwhile
    assert spans(fake_s3)[1][0] == MIB
    file.close()


def test_what_is_fetched_ahead_may_fail_unnoticed_but_not_wrongly(fake_s3: FakeS3, store: S3Store, face: Face):
    fake_s3.inject(cut(MIB // 2), when=lambda request: gets(request) and "bytes=1048576-" in request.headers["range"])
    file = face.open_reader(store, "k")
    got = b"".join(call(face, file.read, 64 << 10) for _ in range(50))
    assert got == DATA[: len(got)]
    fake_s3.inject(status(403, error="AccessDenied"), times=float("inf"), when=gets)
    with pytest.raises(PermissionError):
        call(face, file.read)
    call(face, file.close)


def parts(request: Request) -> bool:
    return request.method == "PUT" and "partNumber" in request.query


def test_parts_go_up_while_the_file_is_written(fake_s3: FakeS3, store: S3Store, face: Face):
    file = face.open_writer(store, "new", buffer_size=5 * MIB, max_concurrency=3)
    for start in range(0, len(DATA), MIB):
        call(face, file.write, DATA[start : start + MIB])
        if start == 20 * MIB and not face.is_async:
            until(lambda: sum(map(parts, fake_s3.requests)) >= 3)
    call(face, file.close)
    assert fake_s3.objects["new"].body == DATA
    assert sorted(int(r.query["partNumber"]) for r in fake_s3.requests if parts(r)) == list(range(1, 9))


@pytest.mark.parametrize("size", [3 * MIB, 24 * MIB])
@pytest.mark.parametrize("broken", ["part", "start", "finish", "put"])
def test_writer_that_fails_leaves_nothing(fake_s3: FakeS3, store: S3Store, face: Face, size: int, broken: str):
    wanted = {
        "part": parts,
        "start": lambda request: request.method == "POST" and "uploads" in request.query,
        "finish": lambda request: request.method == "POST" and "uploadId" in request.query,
        "put": lambda request: request.method == "PUT" and "partNumber" not in request.query,
    }[broken]
    if (broken == "put") != (size < 5 * MIB):
        fails = False
    else:
        fails = True
        fake_s3.inject(status(403, error="AccessDenied"), when=wanted)
    file = face.open_writer(store, "new", buffer_size=5 * MIB, max_concurrency=2)

    def write() -> None:
        for _ in range(size // MIB):
            call(face, file.write, bytes(MIB))
        call(face, file.close)

    if not fails:
        write()
        assert len(fake_s3.objects["new"].body) == size
        return
    with pytest.raises(obs.PermissionDeniedError):
        write()
    assert file.closed
    assert "new" not in fake_s3.objects
    assert not fake_s3.uploads
    call(face, file.close)  # nothing left to do
    assert "new" not in fake_s3.objects


def test_writer_that_is_let_go_of_aborts_its_upload(fake_s3: FakeS3, store: S3Store, face: Face):
    file = face.open_writer(store, "new", buffer_size=5 * MIB)
    for _ in range(12):
        call(face, file.write, bytes(MIB))
    assert fake_s3.uploads
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del file
        gc.collect()
    assert ["given up" in str(each.message) for each in caught if each.category is ResourceWarning] == [True]

    async def a_while() -> None:
        import asyncio

        deadline = time.monotonic() + 20
        while fake_s3.uploads and time.monotonic() < deadline:
            await asyncio.sleep(0.01)

    if face.is_async:
        face.run(a_while)
    until(lambda: not fake_s3.uploads)
    assert "new" not in fake_s3.objects


def test_child_process_reads_on(fake_s3: FakeS3, store: S3Store):
    file = obs.open_reader(store, "k")
    for _ in range(12):
        file.read(64 << 10)  # the second block is on its way to the parent
    position = file.tell()
    child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = file.read(3 * MIB) == DATA[position : position + 3 * MIB] and file.read(64) != b""
        finally:
            os._exit(0 if ok else 1)
    assert file.read(3 * MIB) == DATA[position : position + 3 * MIB]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    file.close()
