"""Streams: HEAD, then want and take; windows, pauses, collecting the rest, breaking off."""

from __future__ import annotations

import os
import time

import pytest

from obstore._effects import STREAM
from obstore._engine._core import DATA, END, HEAD
from tests.servers.scripted import Reply

WINDOW = 1 << 20
SLACK = 1 << 20  # libcurl hands over at most so much at once
DATA_3M = os.urandom(1 << 20) * 3
BIG = 32 << 20  # more than the sockets' buffers hold


def read_on(desk, transfer, size):
    """At least ``size`` bytes, fewer at the end."""
    transfer.events &= ~DATA
    if not transfer.want(size):
        desk.until(lambda: transfer.events & (DATA | END))
    return transfer.take(size)


def paused(desk, transfer):
    """Wait until no more arrives."""
    before = -1
    while before != transfer.buffered or before == 0:
        before = transfer.buffered
        time.sleep(0.1)
    return before


@pytest.mark.parametrize("size", [0, 1, 65_536])
def test_small_body_comes_with_its_head(desk, scripted, size):
    """In one delivery, but for those during which the machine stands still for the 20 ms that a head waits for its body."""
    for _ in range(50):
        desk.deliveries.clear()
        scripted.push(Reply(200, body=DATA_3M[:size]))
        transfer = desk.fetch(sink=STREAM)
        assert transfer.take(0) == DATA_3M[:size]
        assert transfer.take(0) == b""
        if [(taken is transfer, events) for taken, events in desk.deliveries] == [(True, HEAD | END)]:
            return
    pytest.fail("head and body were always delivered apart")


def test_head_comes_before_the_body(desk, scripted):
    scripted.push(Reply(200, {"etag": '"e"'}, DATA_3M, stall_after=10, stall=60))
    transfer = desk.send(sink=STREAM)
    assert (transfer.status, transfer.header("etag"), transfer.headers()) == (0, None, [])
    desk.head(transfer)
    assert transfer.events == HEAD
    assert not transfer.ended
    assert (transfer.status, transfer.header("etag")) == (200, '"e"')


@pytest.mark.parametrize("size", [1, 1000, 65_537, 1 << 20, 5 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_reads_of_any_size(desk, scripted, size, chunked):
    scripted.push(Reply(200, body=DATA_3M, chunked=chunked))
    transfer = desk.head(desk.send(sink=STREAM))
    pieces = []
    while piece := read_on(desk, transfer, max(size, 1000)):
        pieces.append(piece)
    assert all(type(piece) is bytes and len(piece) >= size for piece in pieces[:-1])
    desk.end(transfer)
    assert transfer.ok
    assert transfer.received == len(DATA_3M)
    assert b"".join(pieces) == DATA_3M
    assert desk.ends_of(transfer) == 1


def test_wanted_bytes_come_as_they_arrive(desk, scripted):
    scripted.push(Reply(200, body=DATA_3M, stall_after=1000, stall=60))
    transfer = desk.head(desk.send(sink=STREAM))
    assert read_on(desk, transfer, 1000) == DATA_3M[:1000]
    assert transfer.buffered == 0
    assert transfer.take(1) == b""
    assert transfer.want(0) is True


def test_unread_stream_pauses_and_goes_on(desk, scripted):
    scripted.push(Reply(200, body=bytes(BIG)))
    transfer = desk.head(desk.send(sink=STREAM))
    held = paused(desk, transfer)
    assert WINDOW <= held <= WINDOW + SLACK
    assert scripted.sent < BIG
    total = 0
    while piece := read_on(desk, transfer, 1):
        total += len(piece)
        assert transfer.buffered <= WINDOW + SLACK
    desk.end(transfer)
    assert total == BIG


def test_want_widens_the_window(desk, scripted):
    scripted.push(Reply(200, body=bytes(BIG)))
    transfer = desk.head(desk.send(sink=STREAM))
    paused(desk, transfer)
    piece = read_on(desk, transfer, 8 * WINDOW)
    assert 8 * WINDOW <= len(piece) <= 8 * WINDOW + 2 * SLACK


@pytest.mark.parametrize("first", [0, 1000, 2 << 20])
@pytest.mark.parametrize("chunked", [False, True])
def test_collect_takes_the_rest(desk, scripted, first, chunked):
    scripted.push(Reply(200, body=DATA_3M, chunked=chunked))
    transfer = desk.head(desk.send(sink=STREAM))
    begin = read_on(desk, transfer, first) if first else b""
    transfer.collect()
    transfer.events = 0
    desk.end(transfer)
    assert transfer.events == END, "no DATA while collecting"
    assert begin + bytes(transfer.body()) == DATA_3M


def test_collect_resumes_a_paused_stream(desk, scripted):
    scripted.push(Reply(200, body=bytes(BIG)))
    transfer = desk.head(desk.send(sink=STREAM))
    paused(desk, transfer)
    transfer.collect()
    desk.end(transfer)
    assert len(transfer.body()) == BIG


@pytest.mark.parametrize("reset", [False, True])
def test_what_came_before_a_break_can_be_read(desk, scripted, reset):
    scripted.push(Reply(200, body=DATA_3M, cut_after=300_000, reset=reset))
    transfer = desk.head(desk.send(sink=STREAM))
    desk.end(transfer)
    assert (transfer.kind, transfer.ok, transfer.status) == ("interrupted", False, 200)
    got = transfer.take(100)
    got += bytes(transfer.body())
    assert got == DATA_3M[: len(got)]
    assert len(got) == transfer.received
    if not reset:
        assert len(got) == 300_000


def test_wanting_more_than_there_is_ends(desk, scripted):
    scripted.push(Reply(200, body=DATA_3M))
    transfer = desk.head(desk.send(sink=STREAM))
    assert transfer.want(1 << 40) is False
    desk.end(transfer)
    assert transfer.take(1 << 40) == DATA_3M
    assert transfer.want(1) is False


def test_paused_stream_does_not_stall(desk, scripted):
    client = desk.make_client(read_timeout_ms=200)
    scripted.push(Reply(200, body=bytes(BIG)))
    transfer = desk.head(desk.send(sink=STREAM, client=client))
    paused(desk, transfer)
    time.sleep(0.7)  # what is tested: more than the read timeout
    desk.pump(0)
    assert not transfer.ended
    total = 0
    while piece := read_on(desk, transfer, 1):
        total += len(piece)
    assert total == BIG


def test_stalled_stream_stalls(desk, scripted):
    client = desk.make_client(read_timeout_ms=200)
    scripted.push(Reply(200, body=DATA_3M, stall_after=1000, stall=60))
    transfer = desk.fetch(sink=STREAM, client=client)
    assert transfer.kind == "stall"
    assert transfer.take(0) == DATA_3M[:1000]


def test_dropped_stream_is_cancelled(desk, scripted):
    scripted.push(Reply(200, body=bytes(BIG)))
    transfer = desk.head(desk.send(sink=STREAM))
    transfer.cancel()
    del transfer
    scripted.wait_for(lambda: scripted.open_now == 0)
    desk.until(lambda: desk.deliveries[-1][1] & END)
