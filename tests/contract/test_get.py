"""get and head: results, options, conditions, streams."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

import obstore as obs
from tests.fix_stores import Face, Subject

DATA = os.urandom(1000)
HOUR = timedelta(hours=1)


@pytest.fixture
def stored(subject: Subject) -> Subject:
    obs.put(subject.store, "dir/key", DATA)
    return subject


def test_get_result_tells_what_it_is(stored: Subject, face: Face):
    result = face.get(stored.store, "dir/key")
    meta = result.meta
    assert list(meta) == ["path", "last_modified", "size", "e_tag", "version"]
    assert (meta["path"], meta["size"]) == ("dir/key", 1000)
    assert (meta["version"] is not None) is stored.versioned
    assert isinstance(meta["e_tag"], str)
    assert meta["last_modified"].utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - meta["last_modified"]) < timedelta(minutes=2)
    assert result.range == (0, 1000)
    assert isinstance(result.attributes, dict)
    assert face.body(result) == DATA
    # Readable after the body is gone, too.
    assert (result.meta, result.range) == (meta, (0, 1000))
    assert face.head(stored.store, "dir/key")["e_tag"] == meta["e_tag"]


def test_head_agrees_with_get(stored: Subject, face: Face):
    head = face.head(stored.store, "dir/key")
    assert list(head) == ["path", "last_modified", "size", "e_tag", "version"]
    got = face.get(stored.store, "dir/key").meta
    assert {**head, "last_modified": None} == {**got, "last_modified": None}
    assert abs(head["last_modified"] - got["last_modified"]) < timedelta(seconds=2)


@pytest.mark.parametrize("first", ["bytes", "buffer", "stream", "iter", "bytes_async", "aiter"])
def test_get_result_is_used_once(stored: Subject, first: str):
    def use(result, how):
        if how == "stream":
            return result.stream()
        if how == "iter":
            return iter(result)
        if how == "aiter":
            return aiter(result)
        return getattr(result, how)()

    async def main() -> None:
        result = await obs.get_async(stored.store, "dir/key")
        used = use(result, first)
        if first == "bytes_async":
            await used
        for second in ("bytes", "buffer", "stream", "iter", "bytes_async", "buffer_async", "aiter"):
            # At the call already, also of the asynchronous ones.
            with pytest.raises(ValueError, match="already been disposed"):
                use(result, second)

    asyncio.run(main())


def test_body_is_bytes_of_ours(stored: Subject):
    body = obs.get(stored.store, "dir/key").bytes()
    assert type(body) is obs.Bytes
    assert body == DATA
    assert memoryview(body).readonly
    assert bytes(body[10:20]) == DATA[10:20]


@pytest.mark.parametrize("size", [None, 1, 100, 999, 1000, 1001])
def test_stream_yields_chunks_of_at_least_the_size_asked_for(stored: Subject, face: Face, size: int | None):
    chunks = face.chunks(face.get(stored.store, "dir/key"), size)
    assert b"".join(chunks) == DATA
    assert all(type(chunk) is bytes for chunk in chunks)
    assert all(len(chunk) >= (size or 10 << 20) for chunk in chunks[:-1])
    assert all(chunks)


def test_stream_of_zero_yields_what_is_there(stored: Subject, face: Face):
    chunks = face.chunks(face.get(stored.store, "dir/key"), 0)
    assert b"".join(chunks) == DATA
    assert all(chunks)


def test_stream_of_a_large_body(subject: Subject, face: Face):
    data = os.urandom(1 << 20) * 5 + b"tail"
    face.put(subject.store, "big", data)
    chunks = face.chunks(face.get(subject.store, "big"), 1 << 20)
    assert b"".join(chunks) == data
    assert all(len(chunk) >= 1 << 20 for chunk in chunks[:-1])


def test_stream_stays_at_its_end(stored: Subject):
    stream = obs.get(stored.store, "dir/key").stream(min_chunk_size=1 << 20)
    assert next(stream) == DATA
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(stream)


def test_stream_of_an_empty_object(subject: Subject, face: Face):
    face.put(subject.store, "empty", b"")
    assert b"".join(face.chunks(face.get(subject.store, "empty"))) == b""


def test_unread_result_does_not_hinder_others(stored: Subject):
    for _ in range(20):
        obs.get(stored.store, "dir/key")
    results = [obs.get(stored.store, "dir/key") for _ in range(20)]
    assert [bytes(result.bytes()) for result in reversed(results)] == [DATA] * 20


def test_stream_left_midway_does_not_hinder_others(subject: Subject):
    obs.put(subject.store, "big", bytes(3 << 20))
    for _ in range(5):
        assert next(iter(obs.get(subject.store, "big").stream(min_chunk_size=10)))
    assert len(obs.get(subject.store, "big").bytes()) == 3 << 20


# ---- ranges of get --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "span"),
    [
        ((0, 1), (0, 1)),
        ((10, 20), (10, 20)),
        ([10, 20], (10, 20)),
        (range(10, 20), None),  # ten integers, not two
        (range(10, 12), (10, 11)),
        ((990, 5000), (990, 1000)),
        ((0, 1000), (0, 1000)),
        ({"offset": 0}, (0, 1000)),
        ({"offset": 995}, (995, 1000)),
        ({"suffix": 10}, (990, 1000)),
        ({"suffix": 1000}, (0, 1000)),
        ({"suffix": 5000}, (0, 1000)),
    ],
    ids=str,
)
def test_get_of_a_range(stored: Subject, face: Face, wanted, span):
    if span is None:
        with pytest.raises(ValueError, match="range"):
            face.get(stored.store, "dir/key", options={"range": wanted})
        return
    result = face.get(stored.store, "dir/key", options={"range": wanted})
    assert result.range == span
    assert result.meta["size"] == 1000, "of the object, not of the range"
    assert face.body(result) == DATA[span[0] : span[1]]


@pytest.mark.parametrize("wanted", [(1000, 1001), (5000, 6000), {"offset": 1000}, {"offset": 5000}], ids=str)
def test_get_of_a_range_past_the_end_fails(stored: Subject, face: Face, wanted):
    with pytest.raises(obs.GenericError) as caught:
        face.get(stored.store, "dir/key", options={"range": wanted})
    if stored.remote:
        at_end = wanted in ((1000, 1001), {"offset": 1000})
        assert caught.value.status == (206 if at_end and "range_at_end" in stored.lacks else 416)
    assert len(caught.value.attempts) <= 1


@pytest.mark.parametrize("wanted", [(5, 5), (6, 5)], ids=str)
def test_get_of_an_empty_range_fails_before_anything_is_sent(stored: Subject, wanted):
    with pytest.raises(obs.GenericError, match=f"Range started at {wanted[0]} and ended at {wanted[1]}"):
        obs.get(stored.store, "dir/key", options={"range": wanted})


def test_get_of_the_last_bytes_of_an_empty_object(subject: Subject, face: Face):
    face.put(subject.store, "empty", b"")
    result = face.get(subject.store, "empty", options={"range": {"suffix": 10}})
    assert face.body(result) == b""
    assert result.meta["size"] == 0
    with pytest.raises(obs.GenericError):
        face.get(subject.store, "empty", options={"range": {"offset": 0}})


def test_range_streams_in_chunks(stored: Subject, face: Face):
    chunks = face.chunks(face.get(stored.store, "dir/key", options={"range": (100, 900)}), 300)
    assert b"".join(chunks) == DATA[100:900]


# ---- conditions -----------------------------------------------------------------------------------------


def _let_a_second_pass(subject: Subject) -> None:
    assert obs.head(subject.store, "dir/key")["e_tag"].startswith("W/")
    while obs.head(subject.store, "dir/key")["e_tag"].startswith("W/"):
        time.sleep(0.2)


def test_if_match(stored: Subject, face: Face):
    if "strong_e_tag" in stored.lacks:
        _let_a_second_pass(stored)
    e_tag = face.head(stored.store, "dir/key")["e_tag"]
    # Servers differ in whether they take "*" and lists; ours do.
    for value in (e_tag,) if stored.remote else (e_tag, "*", f'"other", {e_tag}'):
        assert face.body(face.get(stored.store, "dir/key", options={"if_match": value})) == DATA
    with pytest.raises(obs.PreconditionError) as caught:
        face.get(stored.store, "dir/key", options={"if_match": '"other"'})
    assert "dir/key" in str(caught.value)
    if stored.remote and "conditions" not in stored.lacks:
        assert caught.value.status == 412


def test_if_none_match(stored: Subject, face: Face):
    e_tag = face.head(stored.store, "dir/key")["e_tag"]
    with pytest.raises(obs.NotModifiedError) as caught:
        face.get(stored.store, "dir/key", options={"if_none_match": e_tag})
    if stored.remote:
        assert caught.value.status == 304
    assert face.body(face.get(stored.store, "dir/key", options={"if_none_match": '"other"'})) == DATA


def test_if_modified_since(stored: Subject, face: Face):
    now = datetime.now(UTC)
    with pytest.raises(obs.NotModifiedError):
        # Not the future: HTTP tells servers to ignore such dates.
        face.get(stored.store, "dir/key", options={"if_modified_since": _settled(stored, "dir/key")})
    assert face.body(face.get(stored.store, "dir/key", options={"if_modified_since": now - HOUR})) == DATA


def test_if_unmodified_since(stored: Subject, face: Face):
    now = datetime.now(UTC)
    with pytest.raises(obs.PreconditionError):
        face.get(stored.store, "dir/key", options={"if_unmodified_since": now - HOUR})
    assert face.body(face.get(stored.store, "dir/key", options={"if_unmodified_since": now + HOUR})) == DATA


def test_last_modified_given_back_is_unmodified(stored: Subject, face: Face):
    modified = face.head(stored.store, "dir/key")["last_modified"]
    assert face.body(face.get(stored.store, "dir/key", options={"if_unmodified_since": modified})) == DATA
    with pytest.raises(obs.NotModifiedError):
        face.get(stored.store, "dir/key", options={"if_modified_since": modified})


@pytest.mark.parametrize("zone", [timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))], ids=str)
def test_dates_of_any_zone_mean_the_same_moment(stored: Subject, zone: timezone):
    before, after = datetime.now(zone) - HOUR, datetime.now(zone) + HOUR
    obs.get(stored.store, "dir/key", options={"if_modified_since": before, "if_unmodified_since": after}).bytes()
    with pytest.raises(obs.PreconditionError):
        obs.get(stored.store, "dir/key", options={"if_unmodified_since": before})


def test_range_and_condition_together(stored: Subject, face: Face):
    if "strong_e_tag" in stored.lacks:
        _let_a_second_pass(stored)
    e_tag = face.head(stored.store, "dir/key")["e_tag"]
    options = {"range": (1, 3), "if_match": e_tag}
    assert face.body(face.get(stored.store, "dir/key", options=options)) == DATA[1:3]
    with pytest.raises(obs.PreconditionError):
        face.get(stored.store, "dir/key", options={**options, "if_match": '"other"'})


def test_options_of_none_count_as_not_given(stored: Subject):
    names = ("if_match", "if_none_match", "if_modified_since", "if_unmodified_since", "range", "version", "head")
    assert obs.get(stored.store, "dir/key", options=dict.fromkeys(names)).bytes() == DATA
    assert obs.get(stored.store, "dir/key", options=None).bytes() == DATA
    assert obs.get(stored.store, "dir/key", options={}).bytes() == DATA


def test_get_of_the_head_only(stored: Subject, face: Face):
    result = face.get(stored.store, "dir/key", options={"head": True})
    assert result.meta["size"] == 1000
    assert result.range == (0, 1000)
    if stored.remote:
        assert face.body(result) == b""


def test_versions(s3: Subject, face: Face):
    s3.judge.put_bucket_versioning(Bucket=s3.bucket, VersioningConfiguration={"Status": "Enabled"})
    first = face.put(s3.store, "k", b"one")
    second = face.put(s3.store, "k", b"two")
    assert first["version"]
    assert first["version"] != second["version"]
    for put, body in ((first, b"one"), (second, b"two")):
        result = face.get(s3.store, "k", options={"version": put["version"]})
        assert face.body(result) == body
        assert result.meta["version"] == put["version"]
    assert face.head(s3.store, "k")["version"] == second["version"]


def _settled(subject: Subject, key: str) -> datetime:
    """The object's date, up to the full second: what a server that counts seconds compares with."""
    return obs.head(subject.store, key)["last_modified"].replace(microsecond=0) + timedelta(
        seconds=0 if subject.remote else 1
    )
