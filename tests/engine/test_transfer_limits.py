"""Places, throttles, parking, memory; and the counters and times that tell of them."""

from __future__ import annotations

import itertools

import pytest

from obstore._effects import COLLECT, STREAM
from obstore._engine import _core, stats
from tests.engine.desk import Counted, Desk
from tests.servers.scripted import Reply, ScriptedServer

pytestmark = pytest.mark.usefixtures("limits")

BIG = 8 << 20


# ---- places -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
def test_limit_of_connections_in_order(desk, scripted, limit):
    _core.set_limits(limit, 0, 0)
    assert _core.get_limits()[0] == limit
    scripted.handler = lambda request: Reply(200, delay=0.005)
    counted = Counted()
    transfers = [desk.send(f"/{i}") for i in range(50)]
    assert counted.requests == 50
    assert stats()["queued"] + stats()["in_flight"] <= 50
    desk.end(*transfers)
    assert all(transfer.ok for transfer in transfers)
    assert scripted.peak_in_flight <= limit
    assert scripted.opened <= limit
    if limit == 1:
        assert [int(request.path[1:]) for request in scripted.requests] == list(range(50))
    assert counted.connections_opened == scripted.opened
    assert (stats()["queued"], stats()["in_flight"]) == (0, 0)
    assert transfers[-1].timing().queue > 0.02


def test_limit_can_be_raised_and_lowered_under_way(desk, scripted):
    scripted.handler = lambda request: Reply(200, delay=0.01)
    _core.set_limits(1, 0, 0)
    transfers = [desk.send() for _ in range(60)]
    for limit in (4, 2, 8, 1, 3):
        _core.set_limits(limit, 0, 0)
        for _ in range(3):
            desk.pump(0.02)
    desk.end(*transfers)
    assert all(transfer.ok for transfer in transfers)
    assert scripted.peak_in_flight <= scripted.opened <= 8


def test_limit_of_one_client(desk, scripted):
    scripted.handler = lambda request: Reply(200, delay=0.01)
    narrow = desk.make_client(max_connections=1)
    transfers = [desk.send(f"/narrow/{i}", client=narrow) for i in range(8)]
    others = [desk.send(f"/wide/{i}") for i in range(8)]
    desk.end(*transfers, *others)
    times = [(request.time, request.path) for request in scripted.requests if request.path.startswith("/narrow")]
    assert [path for _, path in times] == [f"/narrow/{i}" for i in range(8)]
    assert all(later - earlier >= 0.009 for (earlier, _), (later, _) in itertools.pairwise(times))
    assert scripted.peak_in_flight > 1


def test_defaults_come_back():
    before = _core.get_limits()
    _core.set_limits(5, 1, 1 << 30)
    assert _core.get_limits() == (5, 1, 1 << 30)
    _core.set_limits(0, 0, 0)
    assert _core.get_limits() == before
    assert before[0] >= 8
    assert before[1] >= 1
    assert before[2] == 0


# ---- throttle -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
def test_throttled_endpoint_gets_fewer_and_recovers(desk, scripted, status):
    endpoint = scripted.url
    assert _core.endpoint_limit(endpoint) == 0
    counted = Counted()
    scripted.handler = lambda request: Reply(status, delay=0.05)
    desk.end(*[desk.send() for _ in range(16)])
    limit = _core.endpoint_limit(endpoint)
    assert 1 <= limit <= 8, "half of what was in flight, or less"
    assert counted.throttled == counted.failed == 16

    scripted.handler = lambda request: Reply(404, delay=0.3)  # neither success nor throttling: the limit stays
    others = desk.make_client()  # of the same endpoint
    held = [desk.send(client=others) for _ in range(limit + 2)]
    assert (stats()["in_flight"], stats()["queued"]) == (limit, 2)
    desk.end(*held)
    assert _core.endpoint_limit(endpoint) == limit
    scripted.handler = lambda request: Reply(200)

    def recovered():
        desk.end(*[desk.send() for _ in range(20)])
        return _core.endpoint_limit(endpoint) == 0

    desk.until(recovered)
    with ScriptedServer() as another:
        assert _core.endpoint_limit(another.url) == 0


def test_throttle_holds_back(desk, scripted):
    scripted.push(Reply(503))
    desk.fetch()
    assert _core.endpoint_limit(scripted.url) == 1
    scripted.handler = lambda request: Reply(404, delay=0.005)
    scripted.peak_in_flight = 0
    desk.end(*[desk.send() for _ in range(10)])
    assert scripted.peak_in_flight == 1
    assert _core.endpoint_limit(scripted.url) == 1


# ---- parking ------------------------------------------------------------------------------------------


def test_more_streams_than_places_are_parked(desk, scripted):
    _core.set_limits(2, 0, 0)
    counted = Counted()
    scripted.handler = lambda request: Reply(200, {"etag": '"e"'}, bytes(BIG))
    streams = [desk.send(sink=STREAM) for _ in range(6)]
    # Nobody reads, and yet everyone comes to its head.
    desk.until(lambda: all(stream.status == 200 for stream in streams))
    desk.until(lambda: sum(stream.kind == "parked" for stream in streams if stream.ended) >= 4)
    parked = [stream for stream in streams if stream.ended]
    assert counted.parked == len(parked) == 4
    assert scripted.peak_open <= 4
    for stream in parked:
        assert not stream.ok
        assert stream.received == len(stream.body()), "what arrived is kept: the rest is fetched by range"
    for stream in streams:
        stream.collect()
    living = [stream for stream in streams if not stream.ended]
    desk.end(*living)
    assert all(len(stream.body()) == BIG for stream in living)


def test_stream_that_cannot_be_resumed_is_not_parked(desk, scripted):
    _core.set_limits(1, 0, 0)
    counted = Counted()
    scripted.push(Reply(200, body=bytes(BIG)), Reply(200, body=b"next"))  # without an ETag
    stream = desk.head(desk.send(sink=STREAM))
    assert desk.fetch().body() == b"next"
    assert stream.ended
    assert len(stream.body()) == BIG, "it ran to its end in memory"
    assert counted.parked == 0


def test_paused_streams_alone_are_left_alone(desk, scripted):
    _core.set_limits(2, 0, 0)
    counted = Counted()
    scripted.handler = lambda request: Reply(200, {"etag": '"e"'}, bytes(BIG))
    streams = [desk.head(desk.send(sink=STREAM)) for _ in range(2)]
    desk.until(lambda: all(stream.buffered >= 1 << 20 for stream in streams))
    desk.pump(0.2)
    assert counted.parked == 0
    for stream in streams:
        stream.collect()
    desk.end(*streams)
    assert all(stream.ok for stream in streams)


def test_memory_limit_holds_collects_back_but_not_for_ever(desk, scripted):
    scripted.handler = lambda request: Reply(200, body=bytes(4 << 20))
    _core.set_limits(0, 0, 1 << 20)
    transfers = [desk.send(sink=COLLECT) for _ in range(6)]
    desk.end(*transfers)
    assert all(len(transfer.body()) == 4 << 20 for transfer in transfers)


# ---- counters and times -------------------------------------------------------------------------------


def test_counters_are_exact(desk, scripted):
    counted = Counted()
    scripted.handler = lambda request: Reply(200, body=b"x" * 100)
    for _ in range(10):
        assert desk.fetch("/", "PUT", body=[b"y" * 7]).ok
    assert (counted.requests, counted.succeeded, counted.failed, counted.cancelled) == (10, 10, 0, 0)
    assert (counted.bytes_in, counted.bytes_out) == (1000, 70)
    assert counted.connections_opened == scripted.opened == 1
    assert counted.cq_writes == 10
    assert counted.wakeups <= 10
    scripted.handler = lambda request: Reply(404, body=b"x" * 100)
    desk.fetch()
    scripted.handler = lambda request: Reply(200, body=b"x" * 100, cut_after=60)
    desk.fetch()
    assert (counted.requests, counted.succeeded, counted.failed) == (12, 10, 2)
    assert counted.bytes_in == 1060, "of error bodies none, of broken ones what arrived"
    assert (stats()["in_flight"], stats()["queued"]) == (0, 0)


def test_blocks_are_given_back(desk, scripted):
    scripted.push(Reply(200, body=bytes(BIG)))
    before = stats()["block_bytes"]
    transfer = desk.fetch()
    body = transfer.body()
    held = stats()["block_bytes"]
    assert held - before >= BIG, "more where a larger block was kept from before"
    tail = body[-1:]
    del transfer, body
    desk.deliveries.clear()
    assert stats()["block_bytes"] == held, "a slice keeps the block"
    assert tail == b"\0"
    del tail
    assert stats()["block_bytes"] == before


def test_taken_body_is_not_held_by_its_transfer(desk, scripted):
    scripted.push(Reply(200, {"ETag": '"1"'}, body=b"x" * 5000))
    before = stats()["block_bytes"]
    transfer = desk.fetch()
    assert transfer.take_body() == b"x" * 5000, "an object that nobody holds"
    assert stats()["block_bytes"] == before
    assert (transfer.header("etag"), transfer.body(), transfer.buffered) == ('"1"', b"", 0)


def test_times(desk, scripted):
    scripted.push(Reply(200, body=b"x" * 5000, delay=0.1, rate=20_000), Reply(200))
    first = desk.fetch().timing()
    assert 0 <= first.queue < first.connect <= first.first_byte <= first.total
    assert first.dns <= first.connect
    assert first.tls == 0
    assert first.first_byte >= 0.1
    assert first.total - first.first_byte >= 0.1
    assert (first.remote_ip, first.remote_port) == ("127.0.0.1", scripted.port)
    assert (first.http_version, first.reused) == ("1.1", False)
    second = desk.fetch().timing()
    assert second.reused
    assert (second.remote_ip, second.remote_port) == ("127.0.0.1", scripted.port)
    assert 0 < second.first_byte <= second.total < 60
    assert second.connect == second.tls == 0


def test_version_of_the_answer_counts(desk, scripted):
    scripted.push(Reply(raw=b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n", body=b"ok", close=True))
    transfer = desk.fetch()
    assert (transfer.body(), transfer.timing().http_version) == (b"ok", "1.0")


def test_times_of_what_never_connected(desk):
    transfer = desk.fetch("http://127.0.0.1:1/")
    timing = transfer.timing()
    assert (timing.connect, timing.tls, timing.first_byte, timing.http_version, timing.reused) == (0, 0, 0, "", False)
    assert timing.total > 0


def test_engine_of_another_endpoint_shares_the_loops(scripted):
    first, second = Desk(scripted.url), Desk(scripted.url)
    scripted.handler = lambda request: Reply(200)
    assert first.fetch().ok
    assert second.fetch().timing().reused
    for desk in (first, second):
        desk.queue.close()
