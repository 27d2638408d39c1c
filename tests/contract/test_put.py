"""put: every kind of source, one piece or many, modes, attributes, tags."""

from __future__ import annotations

import array
import asyncio
import io
import os
from pathlib import Path

import pytest

import obstore as obs
from tests.fix_stores import Face, Subject
from tests.servers.fakes3 import FakeS3

DATA = bytes(range(256)) * 12


class _ShortReads(io.RawIOBase):
    """A raw file that returns at most 7 bytes a read, as pipes and sockets may."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(min(size, 7) if size >= 0 else -1)

    def seek(self, *args: int) -> int:
        return self._file.seek(*args)

    def tell(self) -> int:
        return self._file.tell()


def _positioned(file):
    file.seek(5)
    return file


def _reusing_generator(data: bytes):
    buffer = bytearray(100)
    for at in range(0, len(data), 100):
        piece = data[at : at + 100]
        buffer[: len(piece)] = piece
        yield memoryview(buffer)[: len(piece)]  # valid until the next one is asked for


def _path_of(data: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(data)
    return path


SOURCES = {
    "bytes": lambda data, tmp: data,
    "bytearray": lambda data, tmp: bytearray(data),
    "memoryview": lambda data, tmp: memoryview(data),
    "memoryview_slice": lambda data, tmp: memoryview(b"xx" + data + b"yy")[2:-2],
    "array_of_unsigned_char": lambda data, tmp: array.array("B", data),
    "array_of_wider_items": lambda data, tmp: array.array("H", data),
    "obstore_bytes": lambda data, tmp: obs.Bytes(data),
    "bytesio": lambda data, tmp: io.BytesIO(data),
    "bytesio_at_offset": lambda data, tmp: _positioned(io.BytesIO(b"01234" + data)),
    "open_file_at_offset": lambda data, tmp: _positioned(_path_of(b"01234" + data, tmp).open("rb")),
    "raw_file_with_short_reads": lambda data, tmp: _ShortReads(data),
    "path": lambda data, tmp: _path_of(data, tmp),
    "list": lambda data, tmp: [data[:100], b"", bytearray(data[100:2000]), memoryview(data[2000:])],
    "generator": lambda data, tmp: (data[at : at + 100] for at in range(0, len(data), 100)),
    "generator_reusing_its_buffer": lambda data, tmp: _reusing_generator(data),
    "iterator_with_empty_items": lambda data, tmp: iter([b"", data, b""]),
}


@pytest.mark.parametrize("source", SOURCES)
def test_put_stores_what_the_source_holds(subject: Subject, source: str, tmp_path: Path, face: Face):
    made = SOURCES[source](DATA, tmp_path)
    try:
        result = face.put(subject.store, "dir/key", made)
    finally:
        if hasattr(made, "close"):
            made.close()
    assert set(result) == {"e_tag", "version"}
    assert face.body(face.get(subject.store, "dir/key")) == DATA
    assert face.head(subject.store, "dir/key")["e_tag"] == subject.e_tag_of(result, "dir/key")
    if subject.remote:
        assert subject.judge_get("dir/key")["Body"] == DATA


@pytest.mark.parametrize("use_multipart", [None, True, False])
@pytest.mark.parametrize("source", SOURCES)
def test_put_stores_the_same_in_one_piece_or_many(
    fake_s3: FakeS3, source: str, use_multipart: bool | None, tmp_path: Path
):
    made = SOURCES[source](DATA, tmp_path)
    store = obs.store.S3Store(**fake_s3.config())
    try:
        obs.put(store, "k", made, use_multipart=use_multipart, chunk_size=1000)
    finally:
        if hasattr(made, "close"):
            made.close()
    assert fake_s3.objects["k"].body == DATA
    assert not fake_s3.uploads
    parts = [
        len(r.body)
        for r in sorted(fake_s3.requests, key=lambda r: int(r.query.get("partNumber", 0)))
        if r.method == "PUT"
    ]
    assert parts == ([len(DATA)] if use_multipart is False else [1000, 1000, 1000, len(DATA) - 3000])


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, [0]), (1, [1]), (9, [9]), (10, [10]), (11, [10, 1]), (20, [10, 10]), (21, [10, 10, 1])],
)
@pytest.mark.parametrize("pushed", [False, True])
def test_put_cuts_parts_exactly_at_chunk_size(fake_s3: FakeS3, size: int, expected: list[int], pushed: bool):
    data = os.urandom(size)
    store = obs.store.S3Store(**fake_s3.config())
    obs.put(store, "k", iter([data[:3], data[3:]]) if pushed else data, chunk_size=10, max_concurrency=3)
    requests = [r for r in fake_s3.requests if r.method == "PUT"]
    numbers = [int(r.query["partNumber"]) for r in requests if "partNumber" in r.query]
    # What is pushed always goes up in parts; what can be measured only if it exceeds one.
    assert bool(numbers) == (pushed or size > 10)
    if numbers:
        assert sorted(numbers) == list(range(1, len(expected) + 1))
    assert sorted(len(r.body) for r in requests) == sorted(expected)
    assert fake_s3.objects["k"].body == data
    assert not fake_s3.uploads


def test_put_keeps_so_many_parts_in_flight_and_no_more(fake_s3: FakeS3):
    store = obs.store.S3Store(**fake_s3.config())
    plain = fake_s3.handler

    def slow(request):
        reply = plain(request)
        if "partNumber" in request.query:
            reply.delay = 0.05
        return reply

    fake_s3.handler = slow
    obs.put(store, "k", bytes(200), chunk_size=10, max_concurrency=4)
    assert fake_s3.peak_in_flight == 4
    assert fake_s3.objects["k"].body == bytes(200)


def test_put_async_takes_asynchronous_sources(subject: Subject):
    class Iterator:
        """Has only __anext__."""

        def __init__(self) -> None:
            self._items = iter([DATA[:1000], b"", DATA[1000:]])

        async def __anext__(self) -> bytes:
            await asyncio.sleep(0)
            try:
                return next(self._items)
            except StopIteration:
                raise StopAsyncIteration from None

    async def generator():
        for at in range(0, len(DATA), 500):
            await asyncio.sleep(0)
            yield DATA[at : at + 500]

    async def main() -> None:
        await obs.put_async(subject.store, "generator", generator())
        await subject.store.put_async("iterator", Iterator())

    asyncio.run(main())
    for key in ("generator", "iterator"):
        assert obs.get(subject.store, key).bytes() == DATA


def test_put_refuses_asynchronous_sources_without_a_loop(quick: Subject):
    async def generator():
        yield b""

    source = generator()
    with pytest.raises(ValueError, match="Use 'put_async'"):
        obs.put(quick.store, "k", source)
    asyncio.run(source.aclose())


def test_put_in_real_parts(subject: Subject, face: Face):
    part = 5 << 20
    data = os.urandom(1 << 16) * (2 * part // (1 << 16)) + b"tail"
    result = face.put(subject.store, "big", data, chunk_size=part)
    if subject.remote:
        assert "parts" in subject.lacks or subject.e_tag_of(result, "big").strip('"').endswith("-3")
        assert subject.judge_uploads() == []
    assert face.head(subject.store, "big")["size"] == len(data)
    assert face.body(face.get(subject.store, "big")) == data


@pytest.mark.parametrize("empty", [b"", [], iter([b""]), io.BytesIO()], ids=["bytes", "list", "iterator", "file"])
@pytest.mark.parametrize("use_multipart", [None, True])
def test_put_of_nothing_makes_an_empty_object(subject: Subject, empty, use_multipart):
    source = list(empty) if isinstance(empty, type(iter([]))) else empty
    obs.put(subject.store, "empty", source, use_multipart=use_multipart)
    assert obs.head(subject.store, "empty")["size"] == 0
    assert obs.get(subject.store, "empty").bytes() == b""


def test_put_overwrites_by_default(subject: Subject):
    e_tag = subject.e_tag_of(obs.put(subject.store, "k", b"one"), "k")
    for mode in (None, "overwrite", "Overwrite"):
        second = obs.put(subject.store, "k", b"second", mode=mode)
        assert obs.get(subject.store, "k").bytes() == b"second"
        assert subject.e_tag_of(second, "k") != e_tag


def test_put_create_wins_once(subject: Subject, face: Face):
    face.put(subject.store, "k", b"one", mode="create")
    for mode in ("create", "CREATE", "Create"):
        with pytest.raises(obs.AlreadyExistsError, match="k") as caught:
            face.put(subject.store, "k", b"two", mode=mode)
        assert isinstance(caught.value, FileExistsError)
    assert face.body(face.get(subject.store, "k")) == b"one"


def test_put_create_takes_any_source_in_one_request(subject: Subject):
    obs.put(subject.store, "k", iter([b"a", b"b"]), mode="create", use_multipart=True)
    assert obs.get(subject.store, "k").bytes() == b"ab"
    if subject.remote and "parts" not in subject.lacks:
        assert "-" not in obs.head(subject.store, "k")["e_tag"]


def test_put_create_has_one_winner(subject: Subject):
    async def main() -> list[object]:
        puts = [obs.put_async(subject.store, "k", b"%d" % i, mode="create") for i in range(5)]
        return await asyncio.gather(*puts, return_exceptions=True)

    results = asyncio.run(main())
    winners = [i for i, result in enumerate(results) if isinstance(result, dict)]
    losers = [result for result in results if not isinstance(result, dict)]
    assert all(isinstance(error, obs.AlreadyExistsError) for error in losers), losers
    assert winners
    if "atomic_create" not in subject.lacks:
        assert len(winners) == 1
        assert obs.get(subject.store, "k").bytes() == b"%d" % winners[0]


def test_put_update_replaces_the_version_it_names(subject: Subject, face: Face):
    first = face.put(subject.store, "k", b"one")
    first["e_tag"] = subject.e_tag_of(first, "k")
    if "update" in subject.lacks:
        # Local and Swift do not have it; Ceph compares wrongly. None may store the bytes.
        with pytest.raises((NotImplementedError, obs.GenericError, obs.PreconditionError)):
            face.put(subject.store, "k", b"two", mode=first)
        assert face.body(face.get(subject.store, "k")) == b"one"
        return
    if "strong_e_tag" in subject.lacks:
        assert first["e_tag"].startswith("W/")
        with pytest.raises(obs.PreconditionError):
            face.put(subject.store, "k", b"two", mode=first)
        return
    # Of different sizes: some servers make their ETags of size and second.
    second = face.put(subject.store, "k", b"second", mode=first)  # a PutResult as it came, None version included
    second["e_tag"] = subject.e_tag_of(second, "k")
    with pytest.raises(obs.PreconditionError):
        face.put(subject.store, "k", b"the third", mode={"e_tag": first["e_tag"]})
    assert face.body(face.get(subject.store, "k")) == b"second"
    face.put(subject.store, "k", b"the third", mode={"e_tag": second["e_tag"], "version": None})
    assert face.body(face.get(subject.store, "k")) == b"the third"


def test_put_update_of_a_missing_object_fails(subject: Subject):
    with pytest.raises((obs.PreconditionError, NotImplementedError, obs.GenericError)) as caught:
        obs.put(subject.store, "missing", b"x", mode={"e_tag": '"0123"'})
    if "update" not in subject.lacks:
        assert isinstance(caught.value, obs.PreconditionError)
    with pytest.raises(obs.NotFoundError):
        obs.head(subject.store, "missing")


def test_put_update_needs_an_e_tag(subject: Subject):
    obs.put(subject.store, "k", b"one")
    if subject.kind == "local":
        with pytest.raises(NotImplementedError):
            obs.put(subject.store, "k", b"two", mode={})
    else:
        with pytest.raises(obs.GenericError, match=r"(ETag|Version) required for conditional"):
            obs.put(subject.store, "k", b"two", mode={})
    assert obs.get(subject.store, "k").bytes() == b"one"


ATTRIBUTES = {
    "Content-Type": "text/csv; charset=utf-8",
    "Content-Disposition": 'attachment; filename="a b.csv"',
    "Content-Encoding": "gzip",
    "Content-Language": "en",
    "Cache-Control": "max-age=60",
    "purpose": "a test",
}


@pytest.mark.parametrize("use_multipart", [False, True])
def test_put_stores_attributes(subject: Subject, use_multipart: bool, face: Face):
    if "attributes" in subject.lacks:
        with pytest.raises(NotImplementedError):
            face.put(subject.store, "k", b"x", attributes=ATTRIBUTES, use_multipart=use_multipart)
        face.put(subject.store, "k", b"x", attributes={}, use_multipart=use_multipart)
        assert face.get(subject.store, "k").attributes == {}
        return
    if "attributes_refused" in subject.lacks:
        with pytest.raises(NotImplementedError):
            face.put(subject.store, "k", b"x", attributes=ATTRIBUTES, use_multipart=use_multipart)
        return
    # Names in any case, and without the dash.
    spelled = {name.lower().replace("-", "") if name == "Cache-Control" else name: v for name, v in ATTRIBUTES.items()}
    face.put(subject.store, "k", b"x", attributes=spelled, use_multipart=use_multipart)
    if "kept_attributes" in subject.lacks:
        assert face.get(subject.store, "k").attributes != ATTRIBUTES, "the server began to keep them: update LACKS"
        return
    assert face.get(subject.store, "k").attributes == ATTRIBUTES
    if subject.remote:
        seen = subject.judge_get("k")
        assert {name: seen[name.replace("-", "")] for name in ATTRIBUTES if "-" in name} == {
            name: value for name, value in ATTRIBUTES.items() if "-" in name
        }
        assert seen["Metadata"] == {"purpose": "a test"}


def test_put_sends_the_default_content_type(s3: Subject):
    store = s3.sibling(client_options={"default_content_type": "text/x-default"})
    obs.put(store, "default", b"")
    obs.put(store, "own", b"", attributes={"Content-Type": "text/x-own"})
    assert s3.judge_get("default")["ContentType"] == "text/x-default"
    assert s3.judge_get("own")["ContentType"] == "text/x-own"


TAGS = {"project": "a b", "level": "1+1=2/3"}


@pytest.mark.parametrize("use_multipart", [False, True])
def test_put_stores_tags(s3: Subject, use_multipart: bool):
    if "tags_refused" in s3.lacks:
        with pytest.raises(obs.BaseError) as caught:
            obs.put(s3.store, "k", b"x", tags=TAGS, use_multipart=use_multipart)
        assert caught.value.status == 501
        assert len(caught.value.attempts) == 1, "what a server does not implement does not get better by repetition"
        obs.put(s3.sibling(disable_tagging=True), "k", b"x", tags=TAGS, use_multipart=use_multipart)
        return
    obs.put(s3.store, "k", b"x", tags=TAGS, use_multipart=use_multipart)
    stored = s3.judge.get_object_tagging(Bucket=s3.bucket, Key="k")["TagSet"]
    assert {tag["Key"]: tag["Value"] for tag in stored} == TAGS


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_put_ignores_tags_where_there_is_no_place_for_them(kind: str, tmp_path: Path):
    store = obs.store.MemoryStore() if kind == "memory" else obs.store.LocalStore(tmp_path)
    obs.put(store, "k", b"x", tags=TAGS)
    assert obs.get(store, "k").bytes() == b"x"


def test_put_makes_the_parents_of_a_local_file_and_leaves_nothing_else(tmp_path: Path):
    store = obs.store.LocalStore(tmp_path)
    obs.put(store, "a/b/c.txt", b"1")
    obs.put(store, "a/b/c.txt", iter([b"2"]))
    obs.put(store, "a/b/d.txt", b"3", mode="create")
    with pytest.raises(obs.AlreadyExistsError):
        obs.put(store, "a/b/d.txt", b"4", mode="create")
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["a/b/c.txt", "a/b/d.txt"]
    assert (tmp_path / "a/b/c.txt").read_bytes() == b"2"
