"""Where a body goes: into one block, the caller's buffer, the list parser, nowhere; slices and error bodies."""

from __future__ import annotations

import gc
import os
import weakref
from datetime import UTC, datetime, timedelta

import pytest

from obstore import Bytes, ListItem
from obstore._effects import COLLECT, DISCARD, INTO, LIST, STREAM
from obstore._engine import Listing
from tests.servers.scripted import Reply

DATA = os.urandom(100_000)
MEGABYTES = os.urandom(1 << 20) * 3


def body_by(desk, sink, **request):
    """Fetch to this sink; the transfer and the body that it left."""
    if sink == INTO:
        buffer = bytearray(len(MEGABYTES))
        transfer = desk.fetch(sink=INTO, into=buffer, **request)
        return transfer, bytes(buffer[: transfer.received])
    transfer = desk.send(sink=sink, **request)
    if sink == STREAM:
        desk.head(transfer)
        transfer.collect()
    desk.end(transfer)
    return transfer, bytes(transfer.body())


SINKS = pytest.mark.parametrize("sink", [COLLECT, STREAM, INTO], ids=["collect", "stream", "into"])
SHAPES = pytest.mark.parametrize(
    "shape", [{}, {"chunked": True}, {"until_close": True}], ids=["length", "chunked", "close"]
)


@SINKS
@SHAPES
@pytest.mark.parametrize("content", [b"", b"x", DATA, MEGABYTES], ids=len)
def test_body_arrives(desk, scripted, sink, shape, content):
    scripted.push(Reply(200, body=content, **shape))
    transfer, body = body_by(desk, sink)
    assert (transfer.kind, transfer.ok, transfer.status, transfer.message) == ("ok", True, 200, "")
    assert transfer.received == len(content)
    assert body == content


def test_collected_body_is_bytes_and_stays(desk, scripted):
    scripted.push(Reply(200, body=DATA))
    transfer = desk.fetch()
    first, second = transfer.body(), transfer.body()
    assert type(first) is Bytes
    del transfer
    assert first == second == DATA


def test_body_before_the_end_is_refused(desk, scripted):
    scripted.push(Reply(hang=True))
    transfer = desk.send()
    with pytest.raises(RuntimeError, match="has not ended"):
        transfer.body()
    with pytest.raises(RuntimeError, match="has no listing"):
        transfer.listing("")


def test_no_such_sink(desk):
    with pytest.raises(ValueError, match="no such sink"):
        desk.send(sink=9)


def test_discard_counts(desk, scripted):
    scripted.push(Reply(200, body=DATA))
    transfer = desk.fetch(sink=DISCARD)
    assert transfer.ok
    assert transfer.received == len(DATA)
    assert transfer.body() == b""


# ---- into ---------------------------------------------------------------------------------------------


@SHAPES
def test_into_exactly(desk, scripted, shape):
    scripted.push(Reply(200, body=DATA, **shape))
    buffer = bytearray(len(DATA))
    assert desk.fetch(sink=INTO, into=buffer).ok
    assert buffer == DATA


def test_into_a_part_of_a_larger_buffer(desk, scripted):
    scripted.push(Reply(206, body=DATA[:10]))
    buffer = bytearray(b"-" * 30)
    transfer = desk.fetch(sink=INTO, into=memoryview(buffer)[10:25])
    assert transfer.ok
    assert transfer.received == 10
    assert buffer == b"-" * 10 + DATA[:10] + b"-" * 10


@SHAPES
def test_into_overflow_leaves_what_is_beyond_alone(desk, scripted, shape):
    scripted.push(Reply(200, body=DATA, **shape))
    buffer = bytearray(b"-" * 20)
    transfer = desk.fetch(sink=INTO, into=memoryview(buffer)[:10])
    assert (transfer.kind, transfer.ok) == ("overflow", False)
    assert transfer.message == "body larger than the buffer"
    assert transfer.received <= 10
    assert buffer[10:] == b"-" * 10


def test_into_keeps_out_error_bodies(desk, scripted):
    scripted.push(Reply(404, body=b"not here"))
    buffer = bytearray(b"-" * 20)
    transfer = desk.fetch(sink=INTO, into=buffer)
    assert transfer.body() == b"not here"
    assert buffer == b"-" * 20


def test_into_pins_its_buffer_until_the_end_is_taken(desk, scripted):
    scripted.push(Reply(200, body=DATA, cut_after=1000))
    buffer = bytearray(len(DATA))
    transfer = desk.send(sink=INTO, into=buffer)
    scripted.wait_for(lambda: scripted.requests)
    desk.queue.wait(10)
    with pytest.raises(BufferError):
        buffer.append(1)
    desk.end(transfer)
    buffer.append(1)
    assert buffer[:1000] == DATA[:1000]


@pytest.mark.parametrize(("into", "kind"), [(b"bytes", BufferError), ("text", TypeError), (None, TypeError)])
def test_into_wants_a_writable_buffer(desk, into, kind):
    with pytest.raises(kind):
        desk.send(sink=INTO, into=into)


# ---- slices of 200 answers ----------------------------------------------------------------------------

SPANS = [(0, 10), (10, 20), (0, len(DATA)), (1, len(DATA)), (len(DATA) - 1, 1), (len(DATA) - 5, 100), (65_536, 1000)]


@SINKS
@SHAPES
@pytest.mark.parametrize("span", SPANS, ids=str)
def test_slice_of_a_whole_answer(desk, scripted, sink, shape, span):
    start, length = span
    scripted.push(Reply(200, body=DATA, **shape))
    transfer, body = body_by(desk, sink, slice_=span, headers=[("range", f"bytes={start}-{start + length - 1}")])
    assert transfer.ok, transfer.message
    assert transfer.sliced
    assert body == DATA[start : start + length]
    assert transfer.received == len(body)


@SINKS
def test_slice_beyond_the_end_is_empty(desk, scripted, sink):
    scripted.push(Reply(200, body=DATA))
    transfer, body = body_by(desk, sink, slice_=(len(DATA) + 5, 10))
    assert transfer.ok
    assert body == b""


@SINKS
def test_partial_answer_is_not_sliced(desk, scripted, sink):
    scripted.push(Reply(206, body=DATA[10:30]))
    transfer, body = body_by(desk, sink, slice_=(10, 20), headers=[("range", "bytes=10-29")])
    assert transfer.ok
    assert not transfer.sliced
    assert body == DATA[10:30]


@SINKS
@SHAPES
def test_partial_answer_longer_than_asked_for_is_refused(desk, scripted, sink, shape):
    scripted.push(Reply(206, body=DATA, **shape))
    transfer = desk.send(sink=sink, into=bytearray(10), headers=[("range", "bytes=10-19")])
    if sink == STREAM:
        desk.head(transfer)
        transfer.collect()
    desk.end(transfer)
    assert transfer.kind == "protocol"
    assert transfer.message == "body longer than the range asked for"


def test_rest_after_a_slice_is_not_read(desk, scripted):
    size = 64 << 20
    scripted.push(Reply(200, body=bytes(size)))
    transfer = desk.fetch(slice_=(5, 10))
    assert transfer.body() == bytes(10)
    assert transfer.kind == "ok"
    scripted.wait_for(lambda: scripted.open_now == 0)
    assert scripted.sent < size


# ---- other statuses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sink", [COLLECT, STREAM, LIST, DISCARD])
@pytest.mark.parametrize("status", [300, 304, 400, 404, 416, 500, 503])
def test_error_body_is_kept_whatever_the_sink(desk, scripted, sink, status):
    scripted.push(Reply(status, body=b"" if status == 304 else b"<Error/>"))
    transfer = desk.fetch(sink=sink)
    assert (transfer.kind, transfer.status) == ("ok", status)
    assert transfer.body() == (b"" if status == 304 else b"<Error/>")
    assert transfer.received == 0


@SHAPES
def test_error_body_is_bounded(desk, scripted, shape):
    scripted.push(Reply(500, body=MEGABYTES, **shape))
    transfer = desk.fetch()
    assert transfer.ok
    assert transfer.body() == MEGABYTES[:65_536]


def test_error_body_is_not_sliced(desk, scripted):
    scripted.push(Reply(404, body=b"not here"))
    transfer = desk.fetch(slice_=(3, 2))
    assert transfer.body() == b"not here"
    assert not transfer.sliced


@pytest.mark.parametrize("sink", [COLLECT, STREAM, DISCARD, LIST])
def test_head_has_no_body(desk, scripted, sink):
    scripted.push(Reply(200, {"content-length": "12345", "etag": '"e"'}), Reply(200, body=b"next"))
    transfer = desk.fetch(method="HEAD", sink=sink)
    assert (transfer.kind, transfer.status, transfer.received) == ("ok", 200, 0)
    assert transfer.header("content-length") == "12345"
    assert transfer.body() == b""
    assert desk.fetch().body() == b"next"
    assert scripted.opened == 1


def test_no_content(desk, scripted):
    scripted.push(Reply(204), Reply(200, body=b"next"))
    transfer = desk.fetch(method="DELETE")
    assert (transfer.kind, transfer.status, transfer.received) == ("ok", 204, 0)
    assert desk.fetch().body() == b"next"
    assert scripted.opened == 1


# ---- listings -----------------------------------------------------------------------------------------


def page(inner: str) -> bytes:
    return f'<?xml version="1.0"?><ListBucketResult xmlns="urn:x">{inner}</ListBucketResult>'.encode()


PAGE = page(
    "<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>"
    "<Contents><Key>a/b&lt;c</Key><LastModified>2024-02-29T12:34:56.789Z</LastModified><ETag>&quot;e&quot;</ETag>"
    "<Size>7</Size></Contents>"
    "<Contents><Key>other</Key><LastModified>1969-12-31T23:59:59.000Z</LastModified><Size>0</Size></Contents>"
    "<CommonPrefixes><Prefix>a/d/</Prefix></CommonPrefixes>"
)


@pytest.mark.parametrize("rate", [None, 20_000])
def test_listing(desk, scripted, rate):
    scripted.push(Reply(200, body=PAGE, chunked=rate is not None, rate=rate))
    transfer = desk.fetch(sink=LIST)
    assert transfer.ok, transfer.message
    assert transfer.list_root() == "ListBucketResult"
    listing = transfer.listing("a/")
    assert type(listing) is Listing
    first, second = listing.objects
    assert type(first) is ListItem
    assert (first["path"], first["size"], first["e_tag"], first["version"]) == ("b<c", 7, '"e"', None)
    assert first["last_modified"].isoformat() == "2024-02-29T12:34:56.789000+00:00"
    assert (second["path"], second["e_tag"]) == ("other", None)
    assert second["last_modified"].isoformat() == "1969-12-31T23:59:59+00:00"
    assert listing.prefixes == ["d"]
    assert listing.token == "t&1"
    assert listing.marker is None
    assert transfer.body() == b""


TIMES = [0, 1, -1, -62135596800000000, 253402300799999999, 951782399999999, 951782400000000, 4107542400000000]
TIMES += [1709208000000000 + number * 61_000_000 for number in range(200)]


def test_times_of_a_listing(desk, scripted):
    """Datetimes are made once for neighbours of one second, and kept by it: each must be its own all the same."""
    moments = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us) for us in (*TIMES, *TIMES[::-1])]
    contents = "".join(
        f"<Contents><Key>k</Key><LastModified>{moment.isoformat(timespec='microseconds')}</LastModified></Contents>"
        for moment in moments
    )
    scripted.push(Reply(200, body=page(f"{contents}<Contents><Key>k</Key></Contents>")))
    rows = desk.fetch(sink=LIST).listing("").objects
    assert [item["last_modified"] for item in rows[:-1]] == moments
    assert rows[-1]["last_modified"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert rows[3:1] == []
    assert [item["last_modified"] for item in rows[5:1:-2]] == [moments[5], moments[3]]


def test_listed_dict_in_a_cycle_is_collected(desk, scripted):
    """They are not known to the garbage collector before something is put in that could be part of a cycle."""
    scripted.push(Reply(200, body=PAGE))

    class Probe:
        pass

    item = desk.fetch(sink=LIST).listing("").objects[0]
    probe = item["probe"] = Probe()
    probe.item = item
    seen = weakref.ref(probe)
    del item, probe
    gc.collect()
    assert seen() is None


def test_empty_listing(desk, scripted):
    scripted.push(Reply(200, body=page("<IsTruncated>false</IsTruncated>")))
    listing = desk.fetch(sink=LIST).listing("")
    assert (list(listing.objects), listing.prefixes, listing.token) == ([], [], None)


@pytest.mark.parametrize(
    ("document", "root"),
    [
        (b"", ""),
        (b"not xml", ""),
        (PAGE[:-10], "ListBucketResult"),
        (PAGE[: len(PAGE) // 2], "ListBucketResult"),
        (PAGE + b"<more/>", "ListBucketResult"),
        (page("<Contents><Key>a</Wrong></Contents>"), "ListBucketResult"),
        (page("<Contents><Size>1</Size></Contents>"), "ListBucketResult"),
        (b"<Error><Code>InternalError</Code></Error>", "Error"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]>' + PAGE, ""),
    ],
    ids=["empty", "text", "cut tag", "cut half", "two roots", "wrong end", "no key", "error", "doctype"],
)
def test_document_that_is_no_listing(desk, scripted, document, root):
    scripted.push(Reply(200, body=document))
    transfer = desk.fetch(sink=LIST)
    assert (transfer.kind, transfer.status) == ("protocol", 200)
    assert transfer.message
    assert transfer.list_root() == root
    with pytest.raises(ValueError, match=r"."):
        transfer.listing("")


def test_listing_cut_on_the_way(desk, scripted):
    scripted.push(Reply(200, body=PAGE, cut_after=100))
    transfer = desk.fetch(sink=LIST)
    assert transfer.kind == "interrupted"
    with pytest.raises(ValueError, match=r"."):
        transfer.listing("")
