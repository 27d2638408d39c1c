"""One flat listing, several requests at a time: the key space is cut where keys are expected, and cut again where there are more.

Services list in key order and from any key on, but each answer names the next only. So the space of keys under a prefix is kept as
segments, ``after < key <= until``, side by side and in order, that together are all of it at any time; every key belongs to exactly
one of them, wherever the cuts are. A segment is listed like any listing and ends at the first key past it. Cuts are guesses of
`KeySpace`, made as keys become known; a bad one finds nothing and costs a request.

Pages are given in key order. What comes too early waits, bounded; the segment next in order always goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, cast

from obstore._effects import Op
from obstore._ops.key_space import KeySpace, order
from obstore._types import ListPage
from obstore.exceptions import GenericError

_SAMPLES = 8  # keys of a page that are looked at
# That wait for their turn: all at once, and for each request at a time. A page of 1,000 objects is about 200 kB.
_WAITING_PAGES = 128
_WAITING_PAGES_EACH = 4
_MOST_PARTS = 1000
_WORTHWHILE_PARTS = 4
_UNSURE_PARTS = 100  # from here on a number of pages says only that there may be many


class SplitBackend(Protocol):
    """A store that lists in the order of `order` and from any key on. See ``RemoteBackend``."""

    name: str

    def list_page(self, prefix: str, offset: str | None, *, delimiter: bool, cursor: Any) -> Op[ListPage]: ...
    def begin_list(self, prefix: str, offset: str | None, cursor: Any) -> Op[Any]: ...
    def finish_list(self, ahead: Any, cursor: Any) -> Op[ListPage]: ...


class KeyedPage(Protocol):
    """The objects of a page as the engine has them: a sequence that knows its keys without making objects of them."""

    def key(self, index: int) -> bytes:
        """A key, as it is ordered."""

    def in_order(self) -> bool:
        """Whether each key is greater than the one before it."""

    def cut(self, n: int) -> None:
        """Keep the first ``n`` objects."""


class _Segment:
    """The keys after ``after``, up to and including ``until``; ``None``: from the first, to the last.

    Attributes:
        first, position: the first and the last key that came; page_first: the first one of the last page.
        cursor: where the service goes on.
        ahead: the request under way.
        ready: pages that wait for their turn.
        pages: how many came.
        done: nothing is left to ask for.
    """

    __slots__ = ("after", "ahead", "cursor", "done", "first", "page_first", "pages", "position", "ready", "until")

    def __init__(self, after: str | None, until: str | None) -> None:
        self.after = after
        self.until = until
        self.first: str | None = None
        self.page_first = ""
        self.position = after
        self.cursor: Any = None
        self.ahead: Any = None
        self.ready: deque[Sequence[Any]] = deque()
        self.pages = 0
        self.done = False


class SplitListing:
    """The pages of a listing, several fetched at a time; in key order, each key once.

    Args:
        backend: where from.
        prefix: of the keys, as the service compares it.
        offset: only keys after this one.
        concurrency: requests at a time.
    """

    __slots__ = (
        "__weakref__",
        "_answers",
        "_backend",
        "_concurrency",
        "_found",
        "_largest",
        "_prefix",
        "_segments",
        "_space",
        "_splits",
        "_waiting",
        "ended",
    )

    def __init__(self, backend: SplitBackend, prefix: str, offset: str | None, concurrency: int) -> None:
        self._backend = backend
        self._prefix = prefix
        self._concurrency = concurrency
        self._segments = [_Segment(offset, None)]
        self._space = KeySpace(prefix)
        self._splits = True
        self._waiting = 0
        self._answers = 0
        self._found = 0
        self._largest = 1  # objects in an answer: about what the service puts there
        self.ended = False

    def __del__(self) -> None:
        for segment in self._segments:
            if segment.ahead is not None:
                segment.ahead.cancel()

    def page(self) -> Op[Sequence[Any]]:
        """The objects of the next page; an empty one is the end."""
        while self._segments:
            yield from self._keep_busy()
            first = self._segments[0]
            if first.ready:
                self._waiting -= 1
                return first.ready.popleft()
            if first.done:
                del self._segments[0]
            else:
                yield from self._receive(first)
        self.ended = True
        return []

    def _keep_busy(self) -> Op[None]:
        """Take in what has arrived, and ask for more, the next in order first."""
        for segment in list(self._segments):
            # What failed is looked at when it is its turn: retries wait, and a service that asks for less gets less.
            if segment.ahead is not None and segment.ahead.usable and segment.ahead.succeeded:
                yield from self._receive(segment)
        room = self._concurrency - sum(segment.ahead is not None for segment in self._segments)
        full = self._waiting >= max(_WAITING_PAGES, _WAITING_PAGES_EACH * self._concurrency)
        if not full and room > 0:
            idle = sum(segment.ahead is None and not segment.done for segment in self._segments)
            self._split(room - idle)
        for segment in list(self._segments):
            if room <= 0:
                return
            if segment.ahead is None and not segment.done:
                segment.ahead = yield from self._backend.begin_list(self._prefix, segment.after, segment.cursor)
                if segment.ahead is None:
                    return
                room -= 1
            if full:
                return

    def _receive(self, segment: _Segment) -> Op[None]:
        ahead, segment.ahead = segment.ahead, None
        if ahead is not None and ahead.usable:
            page = yield from self._backend.finish_list(ahead, segment.cursor)
        else:
            page = yield from self._backend.list_page(
                self._prefix, segment.after, delimiter=False, cursor=segment.cursor
            )
        self._accept(segment, page)

    def _accept(self, segment: _Segment, page: ListPage) -> None:
        objects = page.objects
        n = len(objects)
        self._answers += 1
        self._largest = max(self._largest, n)
        if n and not self._in_order(segment, objects):
            if self._found or len(self._segments) > 1:
                raise GenericError.of(
                    self._backend.name,
                    "the server does not list in key order from any key on",
                    hint="list without concurrency",
                )
            self._splits = False  # one request after the other: that needs no order
        if n and self._splits:
            self._space.learn(_text_at(objects, index * (n - 1) // _SAMPLES) for index in range(_SAMPLES + 1))
            if segment.until is not None and key_at(objects, n - 1) >= order(segment.until):
                n = bisect_right(range(n), order(segment.until), key=lambda index: key_at(objects, index))
                objects = first_of(objects, n)
                segment.done = True
            if n:
                segment.position = _text_at(objects, n - 1)
                segment.page_first = _text_at(objects, 0)
                if segment.first is None:
                    segment.first = segment.page_first
        if n:
            segment.ready.append(objects)
            segment.pages += 1
            self._waiting += 1
            self._found += n
        segment.cursor = page.cursor
        if page.cursor is None:
            segment.done = True

    def _in_order(self, segment: _Segment, objects: Sequence[Any]) -> bool:
        if segment.position is not None and key_at(objects, 0) <= order(segment.position):
            return False
        return _ascending(objects) if isinstance(objects, list) else cast("KeyedPage", objects).in_order()

    def _split(self, room: int) -> None:
        """Cut segments that have more than a page left, the next in order first, until there are ``room`` more."""
        # Keys whose place nobody can guess: not many more than two requests for each page that is full.
        if not self._splits or self._answers > 2 * self._found / self._largest + 2 * self._concurrency:
            return
        # Where little is left a cut saves little: only where there is nothing better.
        left = [(segment, self._pages_left(segment)) for segment in self._segments if not segment.done]
        for least in (_WORTHWHILE_PARTS, 2):
            some = [(segment, parts) for segment, parts in left if parts >= least]
            total = sum(parts for _, parts in some)
            for segment, parts in some:
                if room > 0:
                    fair = max(1, room * parts // total)
                    room -= self._cut(segment, min(fair, parts - 1), unsure=parts > _UNSURE_PARTS)
                    total = max(1, total - parts)
            left = [(segment, parts) for segment, parts in left if parts < least]

    def _cut(self, segment: _Segment, cuts: int, *, unsure: bool) -> int:
        """Part a segment, from its position on; the number of new ones."""
        position = segment.position or ""
        if segment.until is None or unsure:
            points = self._space.beyond(segment.page_first, position, segment.until, cuts)
        else:
            points = self._space.between(position, segment.until, cuts)
        if points:
            ends = [*points[1:], segment.until]
            segment.until = points[0]
            at = self._segments.index(segment) + 1
            self._segments[at:at] = [_Segment(*ends_of) for ends_of in zip(points, ends, strict=True)]
        return len(points)

    def _pages_left(self, segment: _Segment) -> int:
        """About how many pages are still to come; 0 where nothing is known."""
        if segment.done or segment.first is None or segment.position is None:
            return 0
        if segment.until is None:
            return _MOST_PARTS
        share = self._space.share(segment.first, segment.position, segment.until)
        if share <= 0:
            return _MOST_PARTS
        # What has gone on for two pages may go on for more, whatever its keys look like.
        return max(min(_MOST_PARTS, int(segment.pages * (1 - share) / share)), min(segment.pages, 2))


def key_at(objects: Sequence[Any], index: int) -> bytes:
    """The key of an object of a page, as it is ordered."""
    return order(objects[index]["path"]) if isinstance(objects, list) else cast("KeyedPage", objects).key(index)


def _text_at(objects: Sequence[Any], index: int) -> str:
    return key_at(objects, index).decode("utf-8", "surrogateescape")


def first_of(objects: Sequence[Any], n: int) -> Sequence[Any]:
    """The first ``n`` objects of a page; the others are given up."""
    if isinstance(objects, list):
        return objects[:n]
    cast("KeyedPage", objects).cut(n)
    return objects


def _ascending(objects: Sequence[Any]) -> bool:
    keys = [key_at(objects, index) for index in range(len(objects))]
    return all(before < after for before, after in pairwise(keys))
