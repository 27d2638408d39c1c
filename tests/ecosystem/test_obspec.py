"""obspec's protocols and what obspec-utils builds on them. That the types fit is checked in tests/typing."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import obspec
import pytest
from obspec.exceptions import map_exception
from obspec_utils import readers
from obspec_utils.glob import glob, glob_async
from obspec_utils.registry import ObjectStoreRegistry
from obspec_utils.wrappers import CachingReadableStore, RequestTrace, SplittingReadableStore, TracingReadableStore

import obstore as obs
from obstore import bulk
from tests.ecosystem.conftest import Place

DATA = bytes(range(256)) * 100


def test_every_method_of_every_protocol(place: Place):
    protocols = {name: kind for name, kind in vars(obspec).items() if inspect.isclass(kind) and name[0].isupper()}
    results = {"GetResult", "GetResultAsync"}
    checked = 0
    for name, kind in protocols.items():
        if not getattr(kind, "_is_protocol", False):
            continue
        for method in (each for each in vars(kind) if not each.startswith("_") and callable(vars(kind)[each])):
            wanted = inspect.signature(vars(kind)[method]).parameters
            ours = inspect.signature(
                getattr(obs.GetResult if name in results else type(place.store), method)
            ).parameters
            assert set(wanted) <= set(ours), (name, method)
            checked += 1
    assert checked >= 20


def test_written_for_the_synchronous_protocols(place: Place):
    """As its documentation writes programs: by the names of the arguments, with what the protocols promise of results."""
    store = place.store
    store.put("d/k", DATA, attributes={"Content-Type": "text/plain"} if place.kind == "s3" else None)
    result = store.get("d/k", options={"range": (5, 10)})
    assert (bytes(result.buffer()), result.range, result.meta["size"]) == (DATA[5:10], (5, 10), len(DATA))
    assert b"".join(bytes(memoryview(piece)) for piece in store.get("d/k")) == DATA
    assert bytes(memoryview(store.get_range("d/k", start=1, length=2))) == DATA[1:3]
    pieces = store.get_ranges("d/k", starts=[0, 10], ends=[1, 11])
    assert [bytes(memoryview(piece)) for piece in pieces] == [DATA[:1], DATA[10:11]]
    store.copy("d/k", "d/l", overwrite=True)
    store.rename("d/l", "d/m", overwrite=True)
    assert [meta["path"] for page in store.list("d", offset="d/k") for meta in _batch(page)] == ["d/m"]
    assert store.list_with_delimiter("d")["objects"][0]["path"] == "d/k"
    assert set(store.head("d/m")) == {"path", "last_modified", "size", "e_tag", "version"}
    store.delete(["d/k", "d/m"])
    with pytest.raises(Exception, match="d/k") as caught:
        store.get("d/k")
    assert type(map_exception(caught.value)).__module__.startswith("obspec")


def test_written_for_the_asynchronous_protocols(place: Place):
    store = place.store

    async def main() -> None:
        tasks = [asyncio.create_task(store.put_async(f"d/{number}", DATA)) for number in range(5)]
        assert all(task["e_tag"] for task in await asyncio.gather(*tasks))
        result = await store.get_async("d/0", options={"range": {"suffix": 5}})
        assert bytes(await asyncio.create_task(result.buffer_async())) == DATA[-5:]
        pieces = [bytes(memoryview(piece)) async for piece in await store.get_async("d/0")]
        assert b"".join(pieces) == DATA
        async with asyncio.TaskGroup() as group:
            one = group.create_task(store.get_range_async("d/0", start=1, end=3))
            two = group.create_task(store.get_ranges_async("d/0", starts=[1], lengths=[2]))
            head = group.create_task(store.head_async("d/0"))
            level = group.create_task(store.list_with_delimiter_async("d"))
        assert bytes(one.result()) == bytes(two.result()[0]) == DATA[1:3]
        assert head.result()["size"] == len(DATA)
        assert len(level.result()["objects"]) == 5
        await store.copy_async("d/0", "d/9")
        await store.rename_async("d/9", "d/8")
        paths = [meta["path"] async for batch in store.list_async("d") for meta in _batch(batch)]
        assert paths == [f"d/{number}" for number in (0, 1, 2, 3, 4, 8)]
        await store.delete_async(paths)
        assert not await store.list_async().collect_async()

    asyncio.run(main())


def _batch(items: Any) -> Any:
    return items if isinstance(items, list) else [items]


def test_readers(place: Place):
    obs.put(place.store, "k", DATA)
    for kind in (
        readers.BufferedStoreReader,
        readers.EagerStoreReader,
        readers.BlockStoreReader,
    ):
        with kind(place.store, "k") as reader:
            reader.seek(1_000)
            assert bytes(reader.read(10)) == DATA[1_000:1_010]
            assert reader.seek(-5, 2) == len(DATA) - 5
            assert bytes(reader.read()) == DATA[-5:]


def test_wrappers(place: Place):
    obs.put(place.store, "k", DATA)
    trace = RequestTrace()
    for store in (
        CachingReadableStore(place.store),
        TracingReadableStore(place.store, trace),
        SplittingReadableStore(place.store, request_size=1_000),
    ):
        assert bytes(store.get("k").buffer()) == DATA
        assert bytes(store.get_range("k", start=5, length=5)) == DATA[5:10]
        assert [bytes(part) for part in store.get_ranges("k", starts=[0], ends=[5])] == [DATA[:5]]
        assert store.head("k")["size"] == len(DATA)

        async def main(store: Any = store) -> None:
            assert bytes(await (await store.get_async("k")).buffer_async()) == DATA
            assert bytes(await store.get_range_async("k", start=5, length=5)) == DATA[5:10]
            assert [bytes(part) for part in await store.get_ranges_async("k", starts=[0], ends=[5])] == [DATA[:5]]
            assert (await store.head_async("k"))["size"] == len(DATA)

        asyncio.run(main())
    assert trace.total_requests >= 6


def test_globs(place: Place):
    bulk.put_many(place.store, {f"{letter}/{number}.txt": b"1" for letter in "ab" for number in range(3)})
    found = ["a/1.txt", "b/1.txt"]
    assert sorted(glob(place.store, "*/1.txt")) == found

    async def main() -> list[str]:
        return [path async for path in glob_async(place.store, "**/1.txt")]

    assert sorted(asyncio.run(main())) == found


def test_registry(place: Place):
    registry = ObjectStoreRegistry({place.root: place.store})
    store, path = registry.resolve(f"{place.root}/a/b")
    assert store is place.store
    assert path.endswith("a/b")

    async def main() -> None:
        async with registry:
            assert registry.resolve(f"{place.root}/a")[0] is place.store

    asyncio.run(main())


def test_names_of_exceptions():
    for name in ("NotFoundError", "AlreadyExistsError", "PreconditionError", "PermissionDeniedError"):
        mapped = map_exception(getattr(obs, name)("text"))
        assert type(mapped).__name__ == name
        assert type(mapped).__module__.startswith("obspec")
