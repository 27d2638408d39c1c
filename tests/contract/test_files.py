"""open_reader and open_writer: files like those of the io module, on every kind of store."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

import obstore as obs
from tests.fix_stores import Face, Subject

DATA = random.Random(5).randbytes(300_000)
LINES = b"".join(b"%d,%s\n" % (number, b"x" * (number % 90)) for number in range(5_000)) + b"no newline at the end"
MIB = 1 << 20


def call(face: Face, method: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a file's method, awaited on the face's loop where it is asynchronous."""
    return face.run(lambda: method(*arguments))


@pytest.fixture(params=[1, 1_000, MIB])
def buffer_size(request: pytest.FixtureRequest) -> int:
    return request.param


# ---- reading ------------------------------------------------------------------------------------------


def test_reads_like_a_file_at_any_position(quick: Subject, face: Face, buffer_size: int):
    obs.put(quick.store, "k", DATA)
    oracle = io.BytesIO(DATA)
    dice = random.Random(buffer_size)
    file = face.open_reader(quick.store, "k", buffer_size=buffer_size)
    for _ in range(120 if buffer_size > 1 else 40):
        what = dice.randrange(5)
        if what == 0:
            place = dice.choice([(dice.randrange(400_000), 0), (-dice.randrange(300_000), 2), (0, 1), (0, 2)])
            assert call(face, file.seek, *place) == oracle.seek(*place)
        elif what == 1:
            assert call(face, file.readline) == oracle.readline()
        elif what == 2:
            ours, theirs = bytearray(dice.randrange(1, 70_000)), bytearray(70_000)
            got = call(face, file.readinto, ours)
            assert (got, bytes(ours[:got])) == (oracle.readinto(memoryview(theirs)[: len(ours)]), bytes(theirs[:got]))
        else:
            size = dice.choice([0, 1, 13, 5_000, 200_000])
            assert call(face, file.read, size) == oracle.read(size)
        assert call(face, file.tell) == oracle.tell()
    assert call(face, file.seek, 7) == 7
    data = call(face, file.read)
    assert type(data) is bytes
    assert data == DATA[7:]
    assert call(face, file.read) == b""
    call(face, file.close)
    assert file.closed


def test_lines(quick: Subject, face: Face, buffer_size: int):
    obs.put(quick.store, "k", LINES)
    expected = io.BytesIO(LINES).readlines()
    if buffer_size == 1:
        buffer_size = 100
    file = face.open_reader(quick.store, "k", buffer_size=buffer_size)
    assert call(face, file.readline) == expected[0]
    assert call(face, file.readlines, 10) == expected[1:4]
    assert call(face, file.readlines) == expected[4:]
    assert call(face, file.readline) == b""
    call(face, file.seek, 0)

    async def walk() -> list[bytes]:
        return [line async for line in file]

    assert (face.run(walk) if face.is_async else list(file)) == expected


def test_size_and_meta(subject: Subject, face: Face):
    obs.put(subject.store, "a/k", DATA)
    file = face.open_reader(subject.store, "a/k")
    assert file.size == len(DATA)
    assert file.meta == obs.head(subject.store, "a/k")
    assert file.name == "a/k"
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    given = face.open_reader(subject.store, "a/k", size=10)
    assert (given.size, given.meta) == (10, None)
    assert call(face, given.read) == DATA[:10]


def test_missing_object_and_wrong_arguments(quick: Subject, face: Face):
    with pytest.raises(obs.NotFoundError):
        face.open_reader(quick.store, "none")
    late = face.open_reader(quick.store, "none", size=10)
    with pytest.raises(FileNotFoundError):
        call(face, late.read)
    obs.put(quick.store, "k", b"0123456789")
    long = face.open_reader(quick.store, "k", size=20)
    with pytest.raises(OSError, match="size=20"):
        call(face, long.read)
    for wrong, kind in (
        ({"buffer_size": -1}, OverflowError),
        ({"buffer_size": "1"}, TypeError),
        ({"size": 1.0}, TypeError),
    ):
        with pytest.raises(kind, match=next(iter(wrong))):
            face.open_reader(quick.store, "k", **wrong)
    file = face.open_reader(quick.store, "k")
    for place in ((-1, 0), (-11, 2), (0, 3)):
        with pytest.raises(ValueError):
            call(face, file.seek, *place)
    call(face, file.close)
    with pytest.raises(ValueError, match="closed"):
        call(face, file.read)
    with pytest.raises(ValueError, match="store"):
        face.open_reader("store", "k")


def test_empty_object(subject: Subject, face: Face):
    obs.put(subject.store, "k", b"")
    file = face.open_reader(subject.store, "k")
    assert call(face, file.read) == call(face, file.read, 10) == call(face, file.readline) == b""
    assert call(face, file.readlines) == []


def test_object_that_is_replaced_is_not_mixed(quick: Subject, face: Face):
    obs.put(quick.store, "k", b"a" * 100_000)
    file = face.open_reader(quick.store, "k", buffer_size=1_000)
    assert call(face, file.read, 10) == b"a" * 10
    obs.put(quick.store, "k", b"b" * 100_001)
    call(face, file.seek, 90_000)
    with pytest.raises(obs.PreconditionError, match="changed") as caught:
        call(face, file.read, 10)
    assert isinstance(caught.value, OSError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again), again.key) == (type(caught.value), str(caught.value), caught.value.key)


def test_reader_is_pickled_with_its_position(quick: Subject, face: Face):
    if quick.kind == "memory":
        obs.put(quick.store, "k", DATA)
    obs.put(quick.store, "k", DATA)
    file = face.open_reader(quick.store, "k")
    call(face, file.seek, 1_000)
    copy = pickle.loads(pickle.dumps(file))
    assert type(copy) is type(file)
    assert call(face, copy.read, 10) == call(face, file.read, 10) == DATA[1_000:1_010]
    call(face, file.close)
    assert pickle.loads(pickle.dumps(file)).closed


def test_standard_library_reads_through_it(quick: Subject):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.bin", DATA)
        archive.writestr("b/c.csv", LINES)
    obs.put(quick.store, "a.zip", packed.getvalue())
    with zipfile.ZipFile(obs.open_reader(quick.store, "a.zip")) as archive:
        assert archive.namelist() == ["a.bin", "b/c.csv"]
        assert archive.read("b/c.csv") == LINES
        assert archive.read("a.bin") == DATA

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(entry := tarfile.TarInfo("a.bin"), io.BytesIO(b""))
        entry.size = len(DATA)
        tar.addfile(entry, io.BytesIO(DATA))
    obs.put(quick.store, "a.tgz", packed.getvalue())
    with obs.open_reader(quick.store, "a.tgz") as file, tarfile.open(fileobj=file) as tar:
        member = tar.extractfile(tar.getmembers()[1])
        assert member is not None
        assert member.read() == DATA

    obs.put(quick.store, "a.csv.gz", gzip.compress(LINES))
    with gzip.open(obs.open_reader(quick.store, "a.csv.gz"), "rt", newline="") as text:
        assert sum(1 for _ in csv.reader(text)) == 5_001

    with io.TextIOWrapper(obs.open_reader(quick.store, "k2", size=0), encoding="utf-8") as text:
        assert text.read() == ""
    obs.put(quick.store, "t", "äöü\nß".encode())
    with io.TextIOWrapper(obs.open_reader(quick.store, "t"), encoding="utf-8") as text:
        assert text.readlines() == ["äöü\n", "ß"]
    assert isinstance(obs.open_reader(quick.store, "t"), io.BufferedIOBase)
    assert obs.open_reader(quick.store, "t").peek(1)[:1] == "ä".encode()[:1]


# ---- writing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 300_000, 11 * MIB])
def test_what_is_written_is_there_once_it_is_closed(subject: Subject, face: Face, size: int):
    data = (DATA * 40)[:size]
    file = face.open_writer(subject.store, "k", buffer_size=5 * MIB)
    assert (file.readable(), file.writable(), file.seekable()) == (False, True, False)
    for start in range(0, size, 1_000_000):
        chunk = bytearray(data[start : start + 1_000_000])
        assert call(face, file.write, chunk) == len(chunk)
        chunk[:] = bytes(len(chunk))  # it is ours again
    assert face.run(file.tell) == size
    call(face, file.flush)
    with pytest.raises(obs.NotFoundError):
        obs.head(subject.store, "k")
    assert not file.closed
    assert face.run(file.closed) is False
    call(face, file.close)
    assert file.closed
    assert face.run(file.closed) is True
    assert bytes(obs.get(subject.store, "k").bytes()) == data
    if "complete_e_tag" in subject.lacks:
        assert file.result["e_tag"] == subject.e_tag_of(file.result, "k")
    else:
        assert subject.e_tag_of(file.result, "k") == obs.head(subject.store, "k")["e_tag"]
    call(face, file.close)  # as with any file
    with pytest.raises(ValueError, match="closed"):
        call(face, file.write, b"more")


def test_small_writes_of_all_kinds(quick: Subject, face: Face):
    file = face.open_writer(quick.store, "k", buffer_size=1_000)
    for piece in (b"ab", bytearray(b"cd"), memoryview(b"efgh")[::2], obs.Bytes(b"ij"), b""):
        call(face, file.write, piece)
    with pytest.raises(TypeError, match="str"):
        call(face, file.write, "text")
    call(face, file.close)
    assert obs.get(quick.store, "k").bytes() == b"abcdegij"


@pytest.mark.parametrize("size", [10, 11 * MIB])
def test_with_block_that_fails_leaves_nothing(subject: Subject, face: Face, size: int):
    obs.put(subject.store, "old", b"old")
    error = RuntimeError("the caller's own")

    async def later() -> None:
        async with obs.open_writer_async(subject.store, "old", buffer_size=5 * MIB) as file:
            await file.write(bytes(size))
            raise error

    def at_once() -> None:
        with obs.open_writer(subject.store, "old", buffer_size=5 * MIB) as file:
            file.write(bytes(size))
            raise error

    with pytest.raises(RuntimeError, match="own"):
        face.run(later if face.is_async else at_once)
    assert obs.get(subject.store, "old").bytes() == b"old"
    if subject.remote:
        assert subject.judge_uploads() == []
    elif subject.root is not None:
        assert [path.name for path in subject.root.iterdir()] == ["old"]


def test_attributes_and_conditions(quick: Subject, face: Face):
    if "attributes" not in quick.lacks:
        file = face.open_writer(quick.store, "k", attributes={"Content-Type": "text/x-own", "mine": "yes"})
        call(face, file.write, b"1")
        call(face, file.close)
        found = obs.get(quick.store, "k").attributes
        assert (found["Content-Type"], found["mine"]) == ("text/x-own", "yes")
    for size in (1, 6 * MIB):
        obs.put(quick.store, "k", b"first")
        file = face.open_writer(quick.store, "k", mode="create", buffer_size=5 * MIB)
        call(face, file.write, bytes(size))
        with pytest.raises(FileExistsError):
            call(face, file.close)
        assert file.closed
        assert obs.get(quick.store, "k").bytes() == b"first"
    with pytest.raises(ValueError, match="buffer_size"):
        face.open_writer(quick.store, "k", buffer_size=0)


def test_writer_that_is_let_go_of_writes_nothing(quick: Subject):
    for size in (10, 11 * MIB):
        file = obs.open_writer(quick.store, "k", buffer_size=5 * MIB)
        file.write(bytes(size))
        with pytest.warns(ResourceWarning, match="given up"):
            del file
        with pytest.raises(obs.NotFoundError):
            obs.head(quick.store, "k")
    with warnings.catch_warnings(action="error"):
        obs.open_writer(quick.store, "k")  # nothing was written to it


def test_standard_library_writes_through_it(quick: Subject):
    with obs.open_writer(quick.store, "a.zip") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", DATA)
    with zipfile.ZipFile(io.BytesIO(obs.get(quick.store, "a.zip").bytes())) as archive:
        assert archive.read("a") == DATA
    with gzip.open(obs.open_writer(quick.store, "a.gz"), "wb") as packed:
        packed.write(DATA)
        inner = packed.fileobj
    inner.close()
    assert gzip.decompress(obs.get(quick.store, "a.gz").bytes()) == DATA
    with io.TextIOWrapper(obs.open_writer(quick.store, "t"), encoding="utf-8") as text:
        text.write("äöü\n")
    assert bytes(obs.get(quick.store, "t").bytes()).decode() == "äöü\n"
    with obs.open_writer(quick.store, "a.tar") as file, tarfile.open(fileobj=file, mode="w|") as tar:
        entry = tarfile.TarInfo("a")
        entry.size = 5
        tar.addfile(entry, io.BytesIO(b"12345"))
    with tarfile.open(fileobj=obs.open_reader(quick.store, "a.tar")) as tar:
        assert tar.getnames() == ["a"]
