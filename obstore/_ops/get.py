"""get, get_range, get_ranges, head."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from obstore._effects import Op
from obstore._ops import args
from obstore._ops.forks import perform
from obstore._types import Backend, ObjectMeta, Opened, Scatter

DEFAULT_COALESCE = 1024 * 1024
RANGES_CONCURRENCY = 10
STREAM_BYTES = 8 << 20  # of neighbours fetched together where ranges are given out as they arrive


def get(backend: Backend, path: Any, options: Any = None) -> Op[Opened]:
    """Open an object."""
    key = backend.parse_key(path, "path")
    return backend.get(key, args.parse_get_options(options, backend.name))


def head(backend: Backend, path: Any) -> Op[ObjectMeta]:
    """The object's meta."""
    return backend.head(backend.parse_key(path, "path"), None)


def get_range(backend: Backend, path: Any, start: Any, end: Any, length: Any, offset: Any, into: Any) -> Op[Any]:
    """One range of an object, or its number of bytes where it goes ``into`` a buffer."""
    key = backend.parse_key(path, "path")
    first, last = args.parse_span(start, end, length, offset)
    if into is not None:
        into = writable(into, last - first, "into")
    return backend.get_range(key, first, last, into)


def get_ranges(
    backend: Backend, path: Any, starts: Any, ends: Any, lengths: Any, coalesce: Any, into: Any
) -> Op[list[Any]]:
    """Several ranges of an object, neighbours fetched together; in the order that they were asked for."""
    return _get_ranges(plan_ranges(backend, path, starts, ends, lengths, coalesce, into))


def plan_ranges(
    backend: Backend, path: Any, starts: Any, ends: Any, lengths: Any, coalesce: Any, into: Any, *, stream: bool = False
) -> RangePlan:
    """Check the arguments of `get_ranges`, and say what is fetched together: less where it is to be given out as it arrives."""
    key = backend.parse_key(path, "path")
    spans = args.parse_spans(starts, ends, lengths)
    gap = args.whole_number(coalesce, "coalesce")
    views: list[memoryview] | None = None
    if into is not None:
        buffers = list(into)
        if len(buffers) != len(spans):
            raise ValueError(f"into must have one buffer per range: {len(buffers)} for {len(spans)}")
        views = [
            writable(buffer, stop - start, f"into[{index}]")
            for index, (buffer, (start, stop)) in enumerate(zip(buffers, spans, strict=True))
        ]
    return RangePlan(backend, key, spans, gap, views, STREAM_BYTES if stream else None)


def writable(buffer: Any, size: int, argument: str) -> memoryview:
    """The first ``size`` bytes of a writable buffer."""
    try:
        view = memoryview(buffer)
    except TypeError:
        raise TypeError(
            f"{argument}: a writable bytes-like object is required, not '{type(buffer).__name__}'"
        ) from None
    if view.readonly:
        raise TypeError(f"{argument}: the buffer is read-only")
    if not view.c_contiguous:
        raise ValueError(f"{argument}: the buffer is not C-contiguous")
    if view.nbytes < size:
        raise ValueError(f"{argument}: the buffer holds {view.nbytes} bytes, the range has {size}")
    return view.cast("B")[:size]


def merge_spans(spans: Sequence[tuple[int, int]], gap: int, most: int | None = None) -> list[tuple[int, int]]:
    """The spans to fetch: sorted, with those joined that overlap, touch, or lie at most ``gap`` bytes apart.

    Those that do not overlap are joined to at most ``most`` bytes.
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        first, last = merged[-1] if merged else (0, -1)
        if merged and start - last <= gap and (most is None or start < last or stop - first <= most):
            merged[-1] = (first, max(last, stop))
        else:
            merged.append((start, stop))
    return merged


class RangePlan:
    """Ranges of an object, and which of them are fetched together.

    Attributes:
        backend, key: where the object is.
        spans: the ranges, in the order that they were asked for.
        merged: what is fetched, each with the numbers of the ranges in it.
    """

    def __init__(
        self,
        backend: Backend,
        key: str,
        spans: list[tuple[int, int]],
        gap: int,
        views: list[memoryview] | None,
        most: int | None = None,
    ) -> None:
        self.backend = backend
        self.key = key
        self.spans = spans
        self._views = views
        fetched = merge_spans(spans, gap, most)
        starts = [start for start, _ in fetched]
        self.merged: list[tuple[int, int, list[int]]] = [(start, stop, []) for start, stop in fetched]
        for number, (start, _) in enumerate(spans):
            self.merged[bisect_right(starts, start) - 1][2].append(number)

    def fetch(self, index: int) -> Op[list[tuple[int, Any]]]:
        """Fetch what is together: the ranges by number, each as ``Bytes`` or the number of bytes in its buffer.

        What goes into buffers lands there as it arrives.
        """
        base, end, numbers = self.merged[index]
        views = self._views
        if len(numbers) == 1:
            view = None if views is None else views[numbers[0]]
            return [(numbers[0], (yield from self.backend.get_range(self.key, base, end, view)))]
        into: Scatter | None = None
        if views is not None:
            placed = [(self.spans[number][0] - base, views[number]) for number in numbers]
            into = Scatter(end - base, sorted(placed, key=itemgetter(0)))
        body = yield from self.backend.get_range(self.key, base, end, into)
        size = body if isinstance(body, int) else len(body)
        found: list[tuple[int, Any]] = []
        for number in numbers:
            start, stop = self.spans[number]
            if start - base >= size:
                raise ValueError(
                    f"starts[{number}]: the range {start}..{stop} begins past the end of the object ({base + size} bytes)"
                )
            if into is None:
                found.append((number, body[start - base : stop - base]))  # slices of Bytes are views
            else:
                found.append((number, min(stop, base + size) - start))
        return found


def _get_ranges(plan: RangePlan) -> Op[list[Any]]:
    results: list[Any] = [None] * len(plan.spans)

    def fetch(index: int) -> Op[None]:
        for number, result in (yield from plan.fetch(index)):
            results[number] = result

    if len(plan.merged) == 1:
        yield from fetch(0)
        return results
    try:
        yield from perform((fetch(index) for index in range(len(plan.merged))), RANGES_CONCURRENCY)
    except BaseException:
        results.clear()  # the error's traceback holds this frame
        raise
    return results
