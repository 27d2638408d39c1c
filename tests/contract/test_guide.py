"""Every call of the users' guide, as written there, on every store it is about."""

from __future__ import annotations

import asyncio
import io
import os

import pytest

import obstore as obs
from obstore.store import LocalStore, MemoryStore, S3Store
from tests.fix_stores import Subject


def test_guide_constructs_s3_by_keywords(s3: Subject):
    end = s3.endpoint
    store = S3Store(
        bucket=s3.bucket,
        region="us-east-1",
        access_key_id=end.access_key_id,
        secret_access_key=end.secret_access_key,
        endpoint=end.url,
        client_options={"allow_http": True},
    )
    obs.put(store, "hello.txt", b"Hello, World!")
    assert s3.judge_get("hello.txt")["Body"] == b"Hello, World!"


def test_guide_constructs_s3_from_env(s3: Subject, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.endpoint.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.endpoint.secret_access_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint.url)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    s3.judge_put("hello.txt", b"Hello, World!")
    for store in (S3Store.from_env(bucket=s3.bucket), S3Store(s3.bucket)):
        assert obs.get(store, "hello.txt").bytes() == b"Hello, World!"


def test_guide_constructs_local(tmp_path):
    local = LocalStore(str(tmp_path))
    obs.put(local, "hello.txt", b"Hello, World!")
    assert (tmp_path / "hello.txt").read_bytes() == b"Hello, World!"


def test_guide_puts_and_gets(subject: Subject):
    store = subject.store
    obs.put(store, "hello.txt", b"Hello, World!")
    response = obs.get(store, "hello.txt")
    assert response.bytes() == b"Hello, World!"
    assert response.meta["path"] == "hello.txt"
    assert response.meta["size"] == 13


def test_guide_puts_an_open_file_in_parts_by_itself(subject: Subject, tmp_path):
    data = os.urandom(1 << 20) * 11  # more than two parts of the default size
    (tmp_path / "file.csv").write_bytes(data)
    with (tmp_path / "file.csv").open("rb") as open_binary_file:
        result = obs.put(subject.store, "data/file.csv", open_binary_file)
    if subject.remote and "parts" not in subject.lacks:
        assert subject.e_tag_of(result, "data/file.csv").strip('"').endswith("-3"), "three parts of 5 MiB at most"
    assert obs.head(subject.store, "data/file.csv")["size"] == len(data)
    assert obs.get(subject.store, "data/file.csv").bytes() == data


def test_guide_reads_a_range_by_offset_and_length(subject: Subject):
    data = os.urandom(5000)
    obs.put(subject.store, "large-file.bin", data)
    assert obs.get_range(subject.store, "large-file.bin", offset=0, length=1024) == data[:1024]


def test_guide_streams(subject: Subject):
    data = os.urandom(1 << 20) * 9
    obs.put(subject.store, "large-file.bin", data)
    chunks = []
    for chunk in obs.get(subject.store, "large-file.bin").stream(min_chunk_size=8 * 1024 * 1024):
        chunks.append(chunk)  # noqa: PERF402 - the guide's loop
    assert b"".join(chunks) == data
    assert all(len(chunk) >= 8 * 1024 * 1024 for chunk in chunks[:-1])


def test_guide_lists_objects_one_by_one(subject: Subject):
    for key in ("data/2024/a", "data/2024/sub/b", "data/2025/c", "data/2024x"):
        obs.put(subject.store, key, key.encode())
    seen = {}
    for obj in obs.list(subject.store, prefix="data/2024/"):
        seen[obj["path"]] = obj["size"]
    assert seen == {"data/2024/a": 11, "data/2024/sub/b": 15}


def test_guide_lists_one_level(subject: Subject):
    for key in ("data/x", "data/a/1", "data/b/2", "other"):
        obs.put(subject.store, key, b"")
    result = obs.list_with_delimiter(subject.store, prefix="data/")
    assert result["common_prefixes"] == ["data/a", "data/b"]
    assert [obj["path"] for obj in result["objects"]] == ["data/x"]


def test_guide_deletes_copies_renames(subject: Subject):
    store = subject.store
    obs.put(store, "old.txt", b"old")
    obs.put(store, "a", b"content")
    obs.delete(store, "old.txt")
    obs.copy(store, "a", "b")
    obs.rename(store, "b", "c")
    assert sorted(obj["path"] for obj in obs.list(store)) == ["a", "c"]
    assert obs.get(store, "c").bytes() == b"content"


def test_guide_handles_a_missing_object(subject: Subject):
    try:
        meta = obs.head(subject.store, "file.txt")
        pytest.fail(f"found {meta['size']} bytes")
    except obs.NotFoundError as error:
        assert isinstance(error, FileNotFoundError)
    obs.put(subject.store, "file.txt", b"1234")
    assert obs.head(subject.store, "file.txt")["size"] == 4


def test_guide_gathers(subject: Subject):
    store = subject.store

    async def main() -> list[bytes]:
        await asyncio.gather(obs.put_async(store, "f1", b"1"), obs.put_async(store, "f2", b"2"))
        bodies = []
        for resp in await asyncio.gather(obs.get_async(store, "f1"), obs.get_async(store, "f2")):
            bodies.append(bytes(await resp.bytes_async()))
        return bodies

    assert asyncio.run(main()) == [b"1", b"2"]


def test_guide_puts_generators(subject: Subject):
    def generator():
        for i in range(3):
            yield b"%d" % i

    async def async_generator():
        for i in range(3):
            await asyncio.sleep(0)
            yield b"%d" % (i + 3)

    async def main() -> None:
        await obs.put_async(subject.store, "out-async.txt", async_generator())

    obs.put(subject.store, "out.txt", generator())
    asyncio.run(main())
    assert obs.get(subject.store, "out.txt").bytes() == b"012"
    assert obs.get(subject.store, "out-async.txt").bytes() == b"345"


def test_guide_lists_asynchronously(subject: Subject):
    obs.put(subject.store, "a/1", b"")
    obs.put(subject.store, "a/2", b"")

    async def main() -> tuple[list[str], list[str]]:
        single = [obj["path"] async for obj in obs.list(subject.store)]
        batched = [obj["path"] async for batch in obs.list(subject.store) for obj in batch]
        return single, batched

    single, batched = asyncio.run(main())
    assert sorted(single) == sorted(batched) == ["a/1", "a/2"]


def test_published_batches_work_beside_the_guides_loop(subject: Subject):
    for i in range(5):
        obs.put(subject.store, f"k{i}", b"")
    # As the published library has it: lists of up to chunk_size objects.
    batches = list(obs.list(subject.store, chunk_size=2))
    assert [type(batch) for batch in batches] == [list] * 3
    assert [len(batch) for batch in batches] == [2, 2, 1]
    # Neither form given: both loops work on the default.
    assert sorted(obj["path"] for batch in obs.list(subject.store) for obj in batch) == [f"k{i}" for i in range(5)]


def test_text_is_refused_rather_than_taken_for_a_file_name(subject: Subject):
    with pytest.raises(TypeError, match=r"bytes.*Path"):
        obs.put(subject.store, "hello.txt", "Hello, World!")


def test_every_method_has_its_function(quick: Subject):
    store = quick.store
    assert store.put("k", io.BytesIO(b"0123")) == {"e_tag": store.head("k")["e_tag"], "version": None}
    assert store.get("k").bytes() == b"0123"
    assert store.get_range("k", start=1, end=3) == b"12"
    assert store.get_ranges("k", starts=[0, 2], lengths=[1, 2]) == [b"0", b"23"]
    store.copy("k", "d/k2")
    store.rename("k", "k3")
    assert sorted(obj["path"] for obj in store.list()) == ["d/k2", "k3"]
    assert store.list_with_delimiter()["common_prefixes"] == ["d"]
    store.delete(["d/k2", "k3"])
    assert list(store.list()) == []


def test_memory_store_is_shared_by_reference():
    store = MemoryStore()
    obs.put(store, "k", b"1")
    assert obs.get(store, "k").bytes() == b"1"
    assert list(obs.list(MemoryStore())) == []
