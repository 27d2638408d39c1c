"""A flat listing by several requests at a time: in order, without gap and without duplicate, whatever the keys; and quicker.

The service is a model with a clock of its own, so that distance costs no time.
"""

from __future__ import annotations

import random
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obstore._effects import Op
from obstore._ops.key_space import KeySpace, order
from obstore._ops.list import Cursor
from obstore._ops.split_list import SplitListing
from obstore._types import ListPage
from tests.unit.drive import run

LATENCY = 0.05


class Ahead:
    """A request under way."""

    usable = True

    def __init__(self, service: Service, page: ListPage, *, fails: bool) -> None:
        self.service = service
        self.due = service.now + LATENCY
        self.page = page
        self.fails = fails
        self.cancelled = False

    @property
    def succeeded(self) -> bool:
        return not self.fails and self.service.now >= self.due

    def cancel(self) -> None:
        self.cancelled = True


class Service:
    """Lists keys in pages, from any key on, each answer `LATENCY` seconds after its request.

    Args:
        keys: in any order.
        page: keys per answer.
        failing: numbers of the requests that fail once.
        begins: whether requests can be sent ahead.
    """

    name = "Model"
    splits_lists = True

    def __init__(
        self, keys: Iterable[str], page: int = 1000, failing: Sequence[int] = (), *, begins: bool = True
    ) -> None:
        self.keys = sorted(set(keys), key=order)
        self.ordered = [order(key) for key in self.keys]
        self.page = page
        self.failing = set(failing)
        self.begins = begins
        self.now = 0.0
        self.requests = 0
        self.under_way: list[Ahead] = []
        self.most = 0

    def answer(self, prefix: str, offset: str | None, cursor: str | None) -> ListPage:
        self.requests += 1
        after = max((order(text) for text in (offset, cursor) if text is not None), default=None)
        start = 0 if after is None else bisect_right(self.ordered, after)
        found = []
        for key in self.keys[max(start, bisect_right(self.ordered, order(prefix)) - 1, 0) :]:
            if key.startswith(prefix) and (after is None or order(key) > after):
                found.append(key)
                if len(found) > self.page:
                    break
            elif found:
                break
        more = len(found) > self.page
        objects: Any = [{"path": key} for key in found[: self.page]]
        return ListPage(objects, [], found[self.page - 1] if more else None)

    def begin_list(self, prefix: str, offset: str | None, cursor: Any) -> Op[Ahead | None]:
        yield from ()
        if not self.begins:
            return None
        ahead = Ahead(self, self.answer(prefix, offset, cursor), fails=self.requests in self.failing)
        self.under_way = [other for other in self.under_way if other.due > self.now]
        self.under_way.append(ahead)
        self.most = max(self.most, len(self.under_way))
        return ahead

    def finish_list(self, ahead: Ahead, cursor: Any) -> Op[ListPage]:
        yield from ()
        self.now = max(self.now, ahead.due)
        if ahead.fails:
            raise OSError("lost")
        return ahead.page

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]:
        yield from ()
        assert not delimiter
        self.now += LATENCY
        return self.answer(prefix, offset, cursor)


def walk(pages: Any) -> list[str]:
    """All keys of a listing; what fails is tried again."""
    found: list[str] = []
    while not pages.ended:
        try:
            found += [entry["path"] for entry in run(pages.page())]
        except OSError:
            continue
    assert list(run(pages.page())) == []
    return found


def expected(service: Service, prefix: str, offset: str | None) -> list[str]:
    return [key for key in service.keys if key.startswith(prefix) and (offset is None or order(key) > order(offset))]


HOSTILE = "ab/0 9\x00\x7f\x80é\ud7ff\uffff\U0010ffff\udc80\udcff"
KEYS = st.one_of(
    st.text(HOSTILE, max_size=8),
    st.text("01", max_size=12),
    st.integers(0, 5000).map(lambda number: f"part-{number:06}"),
    st.tuples(st.integers(2020, 2026), st.integers(1, 12), st.text("abc", max_size=3)).map(
        lambda parts: f"{parts[0]}/{parts[1]:02}/{parts[2]}"
    ),
    st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
)


@settings(max_examples=300, deadline=None)
@given(
    keys=st.sets(KEYS, max_size=120),
    prefix=st.one_of(st.just(""), st.text("ab/part-0129\x00", max_size=3)),
    offset=st.none() | KEYS,
    page=st.integers(1, 7),
    concurrency=st.integers(2, 9),
    failing=st.lists(st.integers(1, 40), max_size=5),
    begins=st.booleans(),
)
def test_every_key_comes_once_and_in_order(
    keys: set[str], prefix: str, offset: str | None, page: int, concurrency: int, failing: list[int], begins: bool
) -> None:
    service = Service(keys, page, failing, begins=begins)
    pages = SplitListing(service, prefix, offset, concurrency)
    assert walk(pages) == expected(service, prefix, offset)
    assert service.most <= concurrency


@settings(max_examples=200, deadline=None)
@given(
    low=st.text(HOSTILE + "xyz189", max_size=6),
    high=st.none() | st.text(HOSTILE + "xyz189", max_size=6),
    prefix=st.sampled_from(["", "a", "a/"]),
    learnt=st.lists(st.text("ab/0189xyzé", max_size=8), max_size=20),
    n=st.integers(0, 40),
    before=st.text(HOSTILE, max_size=6),
)
def test_points_lie_between_and_in_order(
    low: str, high: str | None, prefix: str, learnt: list[str], n: int, before: str
) -> None:
    space = KeySpace(prefix)
    space.learn(prefix + key for key in learnt)
    position, until = prefix + low, None if high is None else prefix + high
    found = [space.beyond(prefix + before, position, until, n)]
    if until is not None:
        found.append(space.between(position, until, n))
        assert 0 <= space.share(position, position, until) <= 1
    for points in found:
        assert len(points) <= n
        assert points == sorted(set(points), key=order)
        for point in points:
            assert point.startswith(prefix)
            assert order(position) < order(point)
            assert until is None or order(point) < order(until)
            point.encode()  # it goes into a URL


def uuids(n: int) -> list[str]:
    chance = random.Random(1)
    return [str(uuid.UUID(int=chance.getrandbits(128))) for _ in range(n)]


LARGE = {
    "counters": [f"data/part-{number:08}.parquet" for number in range(100_000)],
    "hashes": [f"objects/{name}" for name in uuids(100_000)],
    "dates": [f"logs/2026/{n % 12 + 1:02}/{n % 28 + 1:02}/{name}.gz" for n, name in enumerate(uuids(100_000))],
    "skewed": [
        *(f"a/{name}" for name in uuids(1000)),
        *(f"big/2026-01-01/{number:06}" for number in range(95_000)),
        *(f"z/{number}/x" for number in range(4000)),
    ],
    "words": [f"user-{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}-{n}/profile.json" for n in range(100_000)],
}


@pytest.mark.parametrize("kind", LARGE)
def test_eight_times_quicker_from_afar(kind: str) -> None:
    one, many = Service(LARGE[kind]), Service(LARGE[kind])
    assert walk(Cursor(one, "", None)) == one.keys
    assert one.requests == 100
    assert walk(SplitListing(many, "", None, 32)) == many.keys
    assert many.now * 8 <= one.now
    assert many.requests <= 3 * one.requests
