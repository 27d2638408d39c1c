"""get, get_range, get_ranges, head."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from obstore._effects import Cancel, Fork, Op
from obstore._ops import args
from obstore._ops.forks import settle
from obstore._types import Backend, ObjectMeta, Opened

DEFAULT_COALESCE = 1024 * 1024
_RANGES_CONCURRENCY = 10


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
        into = _writable(into, last - first, "into")
    return backend.get_range(key, first, last, into)


def get_ranges(
    backend: Backend, path: Any, starts: Any, ends: Any, lengths: Any, coalesce: Any, into: Any
) -> Op[list[Any]]:
    """Several ranges of an object, neighbours fetched together; in the order that they were asked for."""
    key = backend.parse_key(path, "path")
    spans = args.parse_spans(starts, ends, lengths)
    gap = args.whole_number(coalesce, "coalesce")
    views: list[memoryview] | None = None
    if into is not None:
        buffers = list(into)
        if len(buffers) != len(spans):
            raise ValueError(f"into must have one buffer per range: {len(buffers)} for {len(spans)}")
        views = [
            _writable(buffer, stop - start, f"into[{index}]")
            for index, (buffer, (start, stop)) in enumerate(zip(buffers, spans, strict=True))
        ]
    return _get_ranges(backend, key, spans, gap, views)


def _writable(buffer: Any, size: int, argument: str) -> memoryview:
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


def merge_spans(spans: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """The spans to fetch: sorted, with those joined that overlap, touch, or lie at most ``gap`` bytes apart."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start - merged[-1][1] <= gap:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged


def _get_ranges(
    backend: Backend, key: str, spans: list[tuple[int, int]], gap: int, views: list[memoryview] | None
) -> Op[list[Any]]:
    if not spans:
        return []
    if len(spans) == 1:
        (start, stop) = spans[0]
        return [(yield from backend.get_range(key, start, stop, None if views is None else views[0]))]
    merged = merge_spans(spans, gap)
    fetched: dict[int, Any] = {}

    def fetch(index: int) -> Op[None]:
        start, stop = merged[index]
        fetched[index] = yield from backend.get_range(key, start, stop, None)

    running: list[Any] = []
    try:
        for index in range(len(merged)):
            running.append((yield Fork(fetch(index))))
            yield from settle(running, _RANGES_CONCURRENCY)
        yield from settle(running, 1)
    except GeneratorExit:
        raise
    except BaseException:
        yield Cancel(running)
        fetched.clear()  # the error's traceback holds this frame
        raise

    # Cut the answers out of what was fetched; slices of Bytes are views.
    starts = [start for start, _ in merged]
    results: list[Any] = []
    for number, (start, stop) in enumerate(spans):
        index = bisect_right(starts, start) - 1
        base = merged[index][0]
        body = fetched[index]
        if start - base >= len(body):
            raise ValueError(
                f"starts[{number}]: the range {start}..{stop} begins past the end of the object ({base + len(body)} bytes)"
            )
        if views is None:
            results.append(body[start - base : stop - base])
        else:
            piece = memoryview(body)[start - base : stop - base]
            views[number][: len(piece)] = piece
            results.append(len(piece))
    return results
