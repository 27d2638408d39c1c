"""What operations give to the caller: consumed once, on either face, never by two at a time, and freed when dropped."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest

import obstore as obs
from obstore._effects import Op, Sleep
from obstore._engine import ListItem
from obstore._listings import ChunkedListStream, ListStream
from obstore._run import Ready
from obstore._streams import BytesStream, GetResult


class Opened:
    """An opened object that yields given chunks."""

    arrives = False

    def __init__(self, *chunks: Any) -> None:
        self.chunks = list(chunks)
        size = sum(len(chunk) for chunk in chunks if isinstance(chunk, bytes))
        self.meta: Any = {"path": "k", "size": size, "last_modified": None, "e_tag": None, "version": None}
        self.range = (0, size)
        self.attributes = {"Content-Type": "text/plain"}
        self.timing = None
        self.closed = 0
        self.sizes: list[int] = []

    def ready(self) -> None:
        """Has to be waited for."""

    def collect(self) -> Op[bytes]:
        yield Sleep(0.0)
        return b"".join(self.chunks)

    def read(self, size: int) -> Op[bytes]:
        self.sizes.append(size)
        yield Sleep(0.0)
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def close(self) -> None:
        self.closed += 1


CONSUMERS = {
    "bytes": lambda result: result.bytes(),
    "buffer": lambda result: result.buffer(),
    "stream": lambda result: b"".join(result.stream()),
    "iteration": lambda result: b"".join(result),
    "bytes_async": lambda result: asyncio.run(later(result.bytes_async)),
    "buffer_async": lambda result: asyncio.run(later(result.buffer_async)),
    "async iteration": lambda result: asyncio.run(joined(result)),
    "async stream": lambda result: asyncio.run(joined(result.stream(0))),
}


async def later(method: Any) -> Any:
    return await method()


async def joined(chunks: Any) -> bytes:
    return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("first", CONSUMERS)
@pytest.mark.parametrize("second", CONSUMERS)
def test_body_is_consumed_once(first: str, second: str) -> None:
    result = GetResult(Opened(b"ab", b"c"))
    assert bytes(CONSUMERS[first](result)) == b"abc"
    with pytest.raises(ValueError, match="Result has already been disposed"):
        CONSUMERS[second](result)
    assert result.meta["size"] == 3
    assert result.range == (0, 3)
    assert result.attributes == {"Content-Type": "text/plain"}


def test_body_is_bytes_of_ours() -> None:
    assert type(GetResult(Opened(b"ab")).bytes()) is obs.Bytes


def test_dropped_result_lets_go_at_once() -> None:
    opened = Opened(b"abc")
    gc.disable()
    try:
        GetResult(opened)
        assert opened.closed == 1
        stream = GetResult(opened).stream()
        assert opened.closed == 1
        next(stream)
        del stream
        assert opened.closed == 2
    finally:
        gc.enable()


def test_closed_result_has_no_body_but_its_meta() -> None:
    opened = Opened(b"abc")
    with GetResult(opened) as result:
        pass
    assert opened.closed == 1
    result.close()
    assert opened.closed == 1
    assert result.meta["path"] == "k"
    with pytest.raises(ValueError, match="disposed"):
        result.bytes()

    async def main() -> None:
        async with GetResult(opened):
            pass

    asyncio.run(main())
    assert opened.closed == 2


def test_leaving_the_block_keeps_a_stream_that_was_taken() -> None:
    with GetResult(Opened(b"ab", b"c")) as result:
        stream = result.stream()
    assert list(stream) == [b"ab", b"c"]


@pytest.mark.parametrize("size", [0, 1, 10_000_000])
def test_stream_asks_for_its_chunk_size(size: int) -> None:
    opened = Opened(b"ab", b"c")
    stream = GetResult(opened).stream(min_chunk_size=size)
    assert type(stream) is BytesStream
    assert list(stream) == [b"ab", b"c"]
    assert opened.sizes == [size] * 3
    assert list(stream) == []
    assert opened.closed == 1


@pytest.mark.parametrize(
    ("size", "error"), [(-1, OverflowError), (1.5, TypeError), ("1", TypeError), (True, TypeError)]
)
def test_wrong_chunk_size_consumes_nothing(size: Any, error: type[Exception]) -> None:
    result = GetResult(Opened(b"ab"))
    with pytest.raises(error, match=r"^min_chunk_size: "):
        result.stream(size)
    assert result.bytes() == b"ab"


def test_both_faces_of_one_stream() -> None:
    stream = GetResult(Opened(b"a", b"b", b"c", b"d")).stream(0)
    assert next(stream) == b"a"

    async def main() -> bytes:
        return await anext(stream)

    assert asyncio.run(main()) == b"b"
    assert next(stream) == b"c"
    assert asyncio.run(main()) == b"d"
    with pytest.raises(StopAsyncIteration):
        asyncio.run(main())
    with pytest.raises(StopIteration):
        next(stream)


def test_error_in_the_middle_is_raised_and_can_be_passed() -> None:
    mine = KeyError("mine")
    stream = GetResult(Opened(b"a", mine, b"b")).stream(0)
    assert next(stream) == b"a"
    with pytest.raises(KeyError) as caught:
        next(stream)
    assert caught.value is mine
    assert next(stream) == b"b"


def test_closed_stream_is_at_its_end() -> None:
    opened = Opened(b"a", b"b")
    stream = GetResult(opened).stream(0)
    next(stream)
    stream.close()
    stream.close()
    assert opened.closed == 1
    assert list(stream) == []


def test_repr_says_what_it_is() -> None:
    assert repr(GetResult(Opened(b"abc"))) == "GetResult(path='k', size=3, range=(0, 3))"


# ---- listings ----------------------------------------------------------------------------------------------------


class Cursor:
    """A listing of numbered keys, so many a page."""

    def __init__(self, *pages: int, failing: int | None = None) -> None:
        self.pages = list(pages)
        self.count = 0
        self.fetched = 0
        self.failing = failing
        self.pause = 0.01

    @property
    def ended(self) -> bool:
        return not self.pages

    def page(self) -> Op[list[Any]]:
        number = self.fetched
        yield Sleep(self.pause)
        self.fetched += 1
        if number == self.failing:
            raise KeyError("mine")
        first, self.count = self.count, self.count + self.pages.pop(0)
        return [{"path": str(number)} for number in range(first, self.count)]


def stream_of(pages: Any, size: int | None) -> Any:
    return ListStream(pages) if size is None else ChunkedListStream(pages, size)


def numbers(items: Any) -> list[int]:
    return [int(item["path"]) for item in items]


async def all_of(stream: Any) -> list[Any]:
    return [item async for item in stream]


FACES = {"sync": list, "async": lambda stream: asyncio.run(all_of(stream))}
COLLECTS = {"sync": lambda stream: stream.collect(), "async": lambda stream: asyncio.run(later(stream.collect_async))}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("pages", [(), (0,), (3,), (2, 0, 5), (1, 1, 1)])
def test_items_come_one_by_one(face: str, pages: Any) -> None:
    items = FACES[face](stream_of(Cursor(*pages), None))
    assert numbers(items) == list(range(sum(pages)))
    assert all(type(item) is ListItem for item in items)
    assert [inner for item in items for inner in item] == items


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_chunks_have_their_size_whatever_the_pages(face: str, size: int) -> None:
    chunks = FACES[face](stream_of(Cursor(4, 0, 1, 5), size))
    assert [len(chunk) for chunk in chunks] == [size] * (10 // size) + [10 % size] * bool(10 % size)
    assert numbers(item for chunk in chunks for item in chunk) == list(range(10))


@pytest.mark.parametrize("face", COLLECTS)
@pytest.mark.parametrize("size", [None, 3])
def test_collect_gives_what_was_not_yielded(face: str, size: int | None) -> None:
    stream: Any = stream_of(Cursor(4, 2, 4), size)
    next(stream)
    assert numbers(COLLECTS[face](stream)) == list(range(size or 1, 10))
    assert COLLECTS[face](stream) == []
    assert list(stream) == []


def test_pages_are_fetched_when_they_are_needed() -> None:
    cursor = Cursor(2, 2)
    stream: Any = stream_of(cursor, None)
    assert cursor.fetched == 0
    next(stream), next(stream)
    assert cursor.fetched == 1
    next(stream)
    assert cursor.fetched == 2


def test_failed_page_is_fetched_again() -> None:
    stream: Any = stream_of(Cursor(2, 2, failing=1), None)
    next(stream), next(stream)
    with pytest.raises(KeyError):
        next(stream)
    assert numbers(stream) == [2, 3]


def test_two_readers_at_a_time_are_refused_and_lose_nothing() -> None:
    stream: Any = stream_of(Cursor(2, 2), None)

    async def main() -> list[Any]:
        return await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)

    first, second = asyncio.run(main())
    assert numbers([first]) == [0]
    assert isinstance(second, RuntimeError)
    assert "the listing is being read already" in str(second)
    assert numbers(stream) == [1, 2, 3]


def test_interrupted_reader_does_not_lock_others_out() -> None:
    cursor = Cursor(2)
    cursor.pause = 30.0
    stream: Any = stream_of(cursor, None)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.__anext__(), 0.001)

    asyncio.run(main())
    cursor.pause = 0.0
    assert numbers(stream) == [0, 1]


def test_dropped_listing_is_freed_at_once() -> None:
    cursor = Cursor(2)
    gone = weakref.ref(cursor)
    stream: Any = stream_of(cursor, None)
    next(stream)
    gc.disable()
    try:
        del stream, cursor
        assert gone() is None
    finally:
        gc.enable()


def test_ready_is_awaited_without_a_turn_of_the_loop() -> None:
    turns: list[int] = []

    async def main() -> list[Any]:
        asyncio.get_running_loop().call_soon(turns.append, 1)
        values = [await Ready(value) for value in (1, (1, 2), None, ValueError())]
        assert turns == []
        return [*values, await asyncio.wait_for(Ready(5), 1), *await asyncio.gather(Ready(6))]

    values = asyncio.run(main())
    assert values[:3] == [1, (1, 2), None]
    assert isinstance(values[3], ValueError)
    assert values[4:] == [5, 6]


def test_stream_of_a_real_listing_is_both_iterators() -> None:
    store = obs.MemoryStore()
    for number in range(3):
        store.put(f"a/{number}", b"")
    stream = store.list("a")
    assert next(stream)["path"] == "a/0"
    assert [item["path"] for item in asyncio.run(all_of(stream))] == ["a/1", "a/2"]


def test_listing_shared_by_threads_gives_each_item_to_one_of_them() -> None:
    """Under a lock of theirs: which thread asks makes no difference."""
    stream: Any = stream_of(Cursor(*[10] * 5), None)
    taken: list[int] = []
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                item = next(stream, None)
            if item is None:
                return
            taken.append(int(item["path"]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(50))
