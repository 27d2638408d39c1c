"""get_range and get_ranges: spans, buffers, coalescing."""

from __future__ import annotations

import array
import mmap
import random
from pathlib import Path

import numpy as np
import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face, Subject
from tests.servers.fakes3 import FakeS3, stall

DATA = random.Random(1).randbytes(1000)


@pytest.fixture
def stored(subject: Subject) -> Subject:
    obs.put(subject.store, "k", DATA)
    return subject


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ({"start": 0, "end": 1}, DATA[:1]),
        ({"start": 10, "end": 20}, DATA[10:20]),
        ({"start": 10, "length": 20}, DATA[10:30]),
        ({"offset": 10, "length": 20}, DATA[10:30]),
        ({"offset": 10, "end": 20}, DATA[10:20]),
        ({"start": 0, "end": 1000}, DATA),
        ({"start": 990, "end": 2000}, DATA[990:]),
        ({"start": 999, "length": 1 << 40}, DATA[999:]),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "data",
)
def test_get_range_returns_the_span(stored: Subject, face: Face, span, expected):
    got = face.get_range(stored.store, "k", **span)
    assert type(got) is obs.Bytes
    assert got == expected


@pytest.mark.parametrize(
    ("span", "kind", "message"),
    [
        ({"start": 0, "offset": 0, "length": 1}, TypeError, "offset"),
        ({"start": 0, "offset": 1, "end": 2}, TypeError, "offset"),
        ({"length": 1}, TypeError, "start"),
        ({"end": 1}, TypeError, "start"),
        ({"start": 0}, ValueError, "Either end or length must be non-None"),
        ({"start": 0, "end": 1, "length": 1}, ValueError, "end and length cannot both be non-None"),
        ({"start": 5, "end": 5}, ValueError, "Invalid range requested, start: 5 end: 5"),
        ({"start": 5, "end": 4}, ValueError, "Invalid range requested, start: 5 end: 4"),
        ({"start": 5, "length": 0}, ValueError, "Invalid range requested, start: 5 end: 5"),
        ({"start": -1, "end": 4}, OverflowError, "start"),
        ({"start": 0, "end": -1}, OverflowError, "end"),
        ({"start": 0, "length": -1}, OverflowError, "length"),
        ({"offset": -1, "length": 1}, OverflowError, "offset"),
        ({"start": 2**64, "end": 2**65}, OverflowError, "start"),
        ({"start": 2**62, "length": 2**63 - 1}, ValueError, "Invalid range"),
        ({"start": 1.0, "end": 2}, TypeError, "start"),
        ({"start": 0, "end": "2"}, TypeError, "end"),
        ({"start": True, "end": 2}, TypeError, "start"),
    ],
    ids=str,
)
def test_get_range_refuses_wrong_spans(stored: Subject, span, kind, message):
    with pytest.raises(kind, match=message):
        obs.get_range(stored.store, "k", **span)


@pytest.mark.parametrize("start", [1000, 1001, 5000])
def test_get_range_past_the_end_fails(stored: Subject, face: Face, start: int):
    with pytest.raises(obs.GenericError) as caught:
        face.get_range(stored.store, "k", start=start, length=10)
    if stored.remote:
        assert caught.value.status == (206 if start == 1000 and "range_at_end" in stored.lacks else 416)


def test_get_range_of_a_missing_object(stored: Subject, face: Face):
    with pytest.raises(obs.NotFoundError):
        face.get_range(stored.store, "missing", start=0, end=1)
    with pytest.raises(obs.NotFoundError):
        face.get_ranges(stored.store, "missing", starts=[0, 500], ends=[1, 501], coalesce=0)


@pytest.mark.parametrize(
    "make",
    [
        lambda size: bytearray(size),
        lambda size: memoryview(bytearray(size + 20))[10 : 10 + size],
        lambda size: array.array("B", bytes(size)),
        lambda size: array.array("I", bytes(size)),
    ],
    ids=["bytearray", "slice", "array", "wide array"],
)
def test_get_range_fills_a_buffer(stored: Subject, face: Face, make):
    buffer = make(100)
    assert face.get_range(stored.store, "k", start=7, length=100, into=buffer) == 100
    assert bytes(memoryview(buffer)) == DATA[7:107]


def test_get_range_fills_only_what_there_is(stored: Subject, face: Face):
    buffer = bytearray(b"-" * 100)
    assert face.get_range(stored.store, "k", start=950, length=100, into=buffer) == 50
    assert buffer == DATA[950:] + b"-" * 50
    # A larger buffer keeps what lies beyond the range.
    buffer = bytearray(b"-" * 100)
    assert face.get_range(stored.store, "k", start=0, length=10, into=buffer) == 10
    assert buffer == DATA[:10] + b"-" * 90
    buffer.append(1)  # the buffer is free again


@pytest.mark.parametrize(
    ("into", "kind"),
    [
        (bytes(10), TypeError),
        (bytearray(9), ValueError),
        ("text", TypeError),
        (memoryview(bytearray(20))[::2], ValueError),
    ],
    ids=["read-only", "too small", "text", "strided"],
)
def test_get_range_refuses_unfit_buffers(stored: Subject, into, kind):
    with pytest.raises(kind, match="into"):
        obs.get_range(stored.store, "k", start=0, length=10, into=into)


@pytest.mark.parametrize("coalesce", [0, 1, 50, 1 << 20])
def test_get_ranges_keeps_the_order_asked_for(stored: Subject, face: Face, coalesce: int):
    spans = [(500, 510), (0, 5), (505, 520), (999, 1000), (0, 5), (100, 300), (90, 100), (980, 1200)]
    got = face.get_ranges(
        stored.store, "k", starts=[s for s, _ in spans], ends=[e for _, e in spans], coalesce=coalesce
    )
    assert [bytes(piece) for piece in got] == [DATA[s:e] for s, e in spans]
    assert {type(piece) for piece in got} == {obs.Bytes}


def test_get_ranges_by_length(stored: Subject, face: Face):
    got = face.get_ranges(stored.store, "k", starts=(0, 10), lengths=(5, 6))
    assert got == [DATA[:5], DATA[10:16]]
    assert face.get_ranges(stored.store, "k", starts=[], ends=[]) == []
    assert face.get_ranges(stored.store, "k", starts=[3], ends=[4]) == [DATA[3:4]]


def test_get_ranges_fills_buffers(stored: Subject, face: Face):
    buffers = [bytearray(10), bytearray(20)]
    assert face.get_ranges(stored.store, "k", starts=[5, 900], lengths=[10, 20], into=buffers) == [10, 20]
    assert buffers == [DATA[5:15], DATA[900:920]]
    with pytest.raises(ValueError, match="into"):
        obs.get_ranges(stored.store, "k", starts=[0, 1], lengths=[1, 1], into=[bytearray(1)])
    with pytest.raises(ValueError, match=r"into\[1\]"):
        obs.get_ranges(stored.store, "k", starts=[0, 1], lengths=[1, 1], into=[bytearray(1), bytearray()])


@pytest.mark.parametrize(
    ("spans", "kind", "message"),
    [
        ({"starts": [0]}, ValueError, "Either ends or lengths must be non-None"),
        ({"starts": [0], "ends": [1], "lengths": [1]}, ValueError, "ends and lengths cannot both be non-None"),
        ({"starts": [0, 1], "ends": [1]}, ValueError, "starts and ends"),
        ({"starts": [0], "lengths": [1, 2]}, ValueError, "starts and lengths"),
        ({"starts": [5], "ends": [5]}, ValueError, "Invalid range requested, start: 5 end: 5"),
        ({"starts": [0, -1], "ends": [1, 1]}, OverflowError, r"starts\[1\]"),
        ({"starts": [0, 1.5], "ends": [1, 2]}, TypeError, r"starts\[1\]"),
        ({"starts": 0, "ends": 1}, TypeError, "starts"),
        ({"starts": [0], "ends": [1], "coalesce": -1}, OverflowError, "coalesce"),
    ],
    ids=str,
)
def test_get_ranges_refuses_wrong_arguments(stored: Subject, spans, kind, message):
    with pytest.raises(kind, match=message):
        obs.get_ranges(stored.store, "k", **spans)


@pytest.mark.parametrize("coalesce", [0, 1 << 20])
def test_get_ranges_with_one_wholly_past_the_end_fails(stored: Subject, coalesce: int):
    for start in (1000, 1500):
        with pytest.raises((obs.GenericError, ValueError)):
            obs.get_ranges(stored.store, "k", starts=[900, start], lengths=[50, 10], coalesce=coalesce)


@pytest.mark.parametrize(
    ("spans", "coalesce", "fetched"),
    [
        ([(0, 10), (10, 20)], 0, ["0-19"]),  # touching ones are one even then
        ([(0, 10), (11, 20)], 0, ["0-9", "11-19"]),
        ([(0, 10), (11, 20)], 1, ["0-19"]),
        ([(100, 200), (0, 150), (500, 600)], 0, ["0-199", "500-599"]),
        ([(0, 10), (100, 110)], 89, ["0-9", "100-109"]),
        ([(0, 10), (100, 110)], 90, ["0-109"]),
        ([(0, 900), (10, 20)], 0, ["0-899"]),
    ],
    ids=str,
)
def test_get_ranges_fetches_neighbours_together(fake_s3: FakeS3, spans, coalesce, fetched):
    fake_s3.add("k", DATA)
    store = S3Store(**fake_s3.config())
    got = obs.get_ranges(store, "k", starts=[s for s, _ in spans], ends=[e for _, e in spans], coalesce=coalesce)
    assert [bytes(piece) for piece in got] == [DATA[s:e] for s, e in spans]
    assert sorted(r.headers["range"] for r in fake_s3.requests) == sorted(f"bytes={span}" for span in fetched)


def test_get_ranges_coalesces_within_a_mebibyte_by_default(fake_s3: FakeS3):
    fake_s3.add("k", bytes(4 << 20))
    store = S3Store(**fake_s3.config())
    obs.get_ranges(store, "k", starts=[0, (1 << 20) + 10], lengths=[10, 1])
    assert len(fake_s3.requests) == 1
    obs.get_ranges(store, "k", starts=[0, (1 << 20) + 11], lengths=[10, 1])
    assert len(fake_s3.requests) == 3


def test_get_ranges_fetches_at_most_ten_at_once(fake_s3: FakeS3):
    from tests.servers.fakes3 import faulty

    fake_s3.add("k", bytes(100_000))
    fake_s3.inject(faulty(delay=0.05), times=float("inf"))
    store = S3Store(**fake_s3.config())
    starts = list(range(0, 100_000, 2000))
    assert len(obs.get_ranges(store, "k", starts=starts, lengths=[10] * 50, coalesce=0)) == 50
    assert fake_s3.peak_in_flight == 10
    assert len(fake_s3.requests) == 50


def test_get_ranges_of_none_asks_nothing(fake_s3: FakeS3):
    assert obs.get_ranges(S3Store(**fake_s3.config()), "k", starts=[], lengths=[]) == []
    assert fake_s3.requests == []


# ---- as they arrive, and into the caller's memory -----------------------------------------------------------


def test_get_ranges_streams_each_range_once(stored: Subject, face: Face):
    starts, ends = [900, 0, 500, 10, 505], [910, 10, 600, 20, 515]

    async def later() -> list[tuple[int, bytes]]:
        stream = obs.get_ranges_async(stored.store, "k", starts=starts, ends=ends, coalesce=5, stream=True)
        return [(number, bytes(piece)) async for number, piece in stream]

    def at_once() -> list[tuple[int, bytes]]:
        stream = obs.get_ranges(stored.store, "k", starts=starts, ends=ends, coalesce=5, stream=True)
        return [(number, bytes(piece)) for number, piece in stream]

    found = face.run(later if face.is_async else at_once)
    assert sorted(found) == [(number, DATA[starts[number] : ends[number]]) for number in range(5)]


def test_get_ranges_streams_into_buffers(stored: Subject):
    buffers = [bytearray(10), array.array("B", bytes(20))]
    stream = obs.get_ranges(stored.store, "k", starts=[5, 700], lengths=[10, 20], coalesce=0, into=buffers, stream=True)
    assert sorted(stream) == [(0, 10), (1, 20)]
    assert (bytes(buffers[0]), bytes(buffers[1])) == (DATA[5:15], DATA[700:720])
    with pytest.raises(ValueError, match="into"):
        obs.get_ranges(stored.store, "k", starts=[0], ends=[5], into=[], stream=True)
    assert list(obs.get_ranges(stored.store, "k", starts=[], ends=[], stream=True)) == []


@pytest.mark.parametrize("streams", [False, True])
def test_get_ranges_fills_buffers_that_are_fetched_together(stored: Subject, streams: bool):
    spans = [(990, 100), (5, 10), (10, 20), (10, 5), (700, 20), (0, 1)]  # overlapping, apart, beyond the end
    whole = bytearray(b"e") * 1000
    places = [memoryview(whole)[150 * number : 150 * number + length] for number, (_, length) in enumerate(spans)]
    asked = {"starts": [start for start, _ in spans], "lengths": [length for _, length in spans], "into": places}
    if streams:
        written = [size for _, size in sorted(obs.get_ranges(stored.store, "k", **asked, stream=True))]
    else:
        written = obs.get_ranges(stored.store, "k", **asked)
    assert written == [10, 10, 20, 5, 20, 1]
    expected = bytearray(b"e") * 1000
    for number, (start, length) in enumerate(spans):
        piece = DATA[start : start + length]
        expected[150 * number : 150 * number + len(piece)] = piece
    assert whole == expected


def test_get_ranges_into_buffers_with_one_wholly_past_the_end_fails(stored: Subject):
    with pytest.raises(ValueError, match=r"starts\[0\]: the range 1000..1010 begins past the end of the object"):
        obs.get_ranges(stored.store, "k", starts=[1000, 5], lengths=[10, 10], into=[bytearray(10), bytearray(10)])


@pytest.mark.parametrize(("streams", "fetched"), [(False, [(0, 20)]), (True, [(0, 8), (8, 16), (16, 20)])])
def test_get_ranges_fetches_less_together_where_it_gives_out_what_arrives(fake_s3: FakeS3, streams: bool, fetched):
    mebibyte = 1 << 20
    fake_s3.add("k", bytes(20 * mebibyte))
    asked = {"starts": range(0, 20 * mebibyte, 4 * mebibyte), "lengths": [4 * mebibyte] * 5}
    found = obs.get_ranges(S3Store(**fake_s3.config()), "k", **asked, stream=streams)
    assert len(list(found)) == 5
    assert sorted(request.headers["range"] for request in fake_s3.requests) == sorted(
        f"bytes={first * mebibyte}-{stop * mebibyte - 1}" for first, stop in fetched
    )


def test_get_ranges_stream_raises_what_fails(stored: Subject, face: Face):
    async def later() -> None:
        async for _ in obs.get_ranges_async(
            stored.store, "k", starts=[0, 5000], ends=[5, 5010], coalesce=0, stream=True
        ):
            pass

    def at_once() -> None:
        for _ in obs.get_ranges(stored.store, "k", starts=[0, 5000], ends=[5, 5010], coalesce=0, stream=True):
            pass

    with pytest.raises((obs.GenericError, ValueError)):
        face.run(later if face.is_async else at_once)


def test_first_range_is_there_before_the_last_is_sent(fake_s3: FakeS3):
    fake_s3.add("k", DATA)
    fake_s3.inject(stall(5, 1.5), when=lambda request: request.headers.get("range", "").startswith("bytes=0-"))
    stream = obs.get_ranges(S3Store(**fake_s3.config()), "k", starts=[0, 500], ends=[10, 510], coalesce=0, stream=True)
    assert next(stream) == (1, DATA[500:510])
    assert next(stream) == (0, DATA[:10])
    assert list(stream) == []


@pytest.mark.parametrize("size", [0, 1000, 300_000])
def test_readinto(subject: Subject, face: Face, size: int):
    data = random.Random(size).randbytes(size)
    obs.put(subject.store, "k", data)
    target = bytearray(size + 10)
    result = face.get(subject.store, "k")
    read = result.readinto_async if face.is_async else result.readinto
    assert face.run(lambda: read(target)) == size
    assert target == data + bytes(10)
    with pytest.raises(ValueError, match="disposed"):
        face.run(lambda: read(target))


def test_readinto_refuses_wrong_buffers(stored: Subject, tmp_path: Path):
    for buffer, kind in ((bytes(1000), TypeError), (bytearray(999), ValueError), ("text", TypeError)):
        result = obs.get(stored.store, "k")
        with pytest.raises(kind, match="buffer"):
            result.readinto(buffer)
        assert result.bytes() == DATA, "the body is still there"
    numbers = np.zeros((125,), dtype="u8")
    assert obs.get(stored.store, "k").readinto(numbers) == 1000
    assert numbers.tobytes() == DATA
    part = obs.get(stored.store, "k", options={"range": (10, 20)})
    with open(tmp_path / "map", "w+b") as file:
        file.truncate(4096)
        with mmap.mmap(file.fileno(), 4096) as mapped:
            assert part.readinto(mapped) == 10
            assert mapped[:10] == DATA[10:20]
    with mmap.mmap(-1, 4096) as shared:  # with the children of this process
        assert obs.get_range(stored.store, "k", start=0, end=1000, into=shared) == 1000
        assert shared[:1000] == DATA
