"""Cancelling, moving to another queue and closing queues, in each state that a transfer can be in."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
import time
import weakref

import pytest

from obstore._effects import STREAM
from obstore._engine import Queue, _core, stats
from obstore._engine._core import END, HEAD
from tests.engine.desk import Counted, Desk
from tests.servers.scripted import Reply, ScriptedServer

BIG = 32 << 20


class Waiter:
    pass


def in_state(state, desk, scripted):
    """A transfer in that state."""
    if state == "queued":
        _core.set_limits(1, 0, 0)
        scripted.push(Reply(hang=True))
        desk.send("/first")
        scripted.wait_for(lambda: scripted.requests)
        transfer = desk.send("/second")
        assert stats()["queued"] == 1
        return transfer
    if state == "waiting":
        scripted.push(Reply(hang=True))
        transfer = desk.send()
        scripted.wait_for(lambda: scripted.requests)
        return transfer
    if state == "sending":
        scripted.on_head = lambda request: Reply(hang=True)
        transfer = desk.send("/", "PUT", body=[bytes(BIG)])
        scripted.wait_for(lambda: scripted.requests)
        return transfer
    if state == "headed":
        scripted.push(Reply(200, body=bytes(BIG), stall_after=1000, stall=60))
        transfer = desk.send(sink=STREAM)
        assert desk.queue.wait(20)  # HEAD is there, nobody took it
        return transfer
    if state == "paused":
        scripted.push(Reply(200, body=bytes(BIG)))
        transfer = desk.head(desk.send(sink=STREAM))
        desk.until(lambda: transfer.buffered >= 1 << 20)
        return transfer
    scripted.push(Reply(200, body=b"body"))
    transfer = desk.send()
    assert desk.queue.wait(20)
    if state == "ended":
        desk.end(transfer)
    return transfer


STATES = ["queued", "waiting", "sending", "headed", "paused", "done", "ended"]
each_state = pytest.mark.parametrize("state", STATES)
pytestmark = pytest.mark.usefixtures("limits")


@each_state
def test_cancel(desk, scripted, state):
    counted = Counted()
    transfer = in_state(state, desk, scripted)
    transfer.cancel()
    transfer.cancel()
    desk.end(transfer)
    transfer.cancel()
    desk.pump(0.05)
    assert desk.ends_of(transfer) == 1
    if state in ("done", "ended"):
        assert (transfer.kind, transfer.body()) == ("ok", b"body")
        assert counted.cancelled == 0
    else:
        assert (transfer.kind, transfer.ok) == ("cancelled", False)
        assert transfer.message == "cancelled"
        assert counted.cancelled == 1
    if state == "queued":
        assert not transfer.sent
        assert [request.path for request in scripted.requests] == ["/first"]


@each_state
def test_cancel_from_another_thread(desk, scripted, state):
    transfer = in_state(state, desk, scripted)
    threads = [threading.Thread(target=transfer.cancel) for _ in range(4)]
    for thread in threads:
        thread.start()
    desk.end(transfer)
    for thread in threads:
        thread.join()
    assert desk.ends_of(transfer) == 1


@each_state
def test_attach_to_another_queue(desk, scripted, state):
    transfer = in_state(state, desk, scripted)
    other = Desk(scripted.url)
    assert transfer.attach(other.queue, "new waiter", transfer.waiter)
    assert transfer.waiter == "new waiter"
    before = len(desk.deliveries)
    transfer.cancel()
    if state == "ended":
        other.pump(0.05)
        assert other.deliveries == []
        return
    other.end(transfer)
    assert transfer.kind == ("ok" if state == "done" else "cancelled")
    assert other.ends_of(transfer) == 1
    desk.pump(0)
    assert all(taken is not transfer for taken, _ in desk.deliveries[before:])
    other.queue.close()


def test_attach_takes_events_along(desk, scripted):
    transfer = in_state("headed", desk, scripted)
    other = Desk(scripted.url)
    assert transfer.attach(other.queue, "another", transfer.waiter)
    other.head(transfer)
    assert transfer.events == HEAD
    desk.pump(0.05)
    assert desk.deliveries == []
    assert transfer.attach(desk.queue, "the first", transfer.waiter)
    transfer.cancel()
    desk.end(transfer)
    assert transfer.events & END
    other.queue.close()


def test_attach_back_and_forth(desk, scripted):
    scripted.handler = lambda request: Reply(200, body=bytes(200_000), rate=2_000_000)
    others = [Desk(scripted.url) for _ in range(3)]
    transfers = [desk.send(sink=STREAM) for _ in range(8)]
    for turn in range(60):
        for i, transfer in enumerate(transfers):
            assert transfer.attach(others[(turn + i) % 3].queue, turn, transfer.waiter)
        for other in others:
            other.pump(0.001)
    for other in others:
        other.until(lambda: not other.queue.wait(0.0))  # noqa: B023 - called at once
    deadline = time.monotonic() + 20
    while not all(transfer.ended for transfer in transfers):
        assert time.monotonic() < deadline
        for other in others:
            other.pump(0.01)
    assert [sum(other.ends_of(transfer) for other in others) for transfer in transfers] == [1] * 8
    assert all(len(transfer.body()) == 200_000 for transfer in transfers)
    for other in others:
        other.queue.close()


@each_state
def test_closed_queue_cancels_what_reports_to_it(scripted, state):
    desk = Desk(scripted.url)
    transfer = in_state(state, desk, scripted)
    waiter = Waiter()
    transfer.waiter = waiter
    gone = weakref.ref(waiter)
    del waiter
    desk.queue.close()
    desk.queue.close()
    if state == "ended":
        assert transfer.ok
        return
    scripted.wait_for(lambda: stats() and transfer.ended)  # stats() takes from the orphans
    assert desk.queue.take() == []
    transfer = None
    desk.deliveries.clear()
    gc.collect()
    assert gone() is None


@each_state
def test_cancelled_without_a_waiter_it_is_let_go_by_anybody(desk, scripted, state):
    transfer = in_state(state, desk, scripted)
    transfer.waiter = None
    transfer.cancel()
    scripted.wait_for(lambda: stats() and transfer.ended)  # stats(), like submit(), takes from the orphans
    assert desk.ends_of(transfer) == (state == "ended")


@each_state
def test_collected_queue_cancels_what_reports_to_it(scripted, state):
    desk = Desk(scripted.url)
    transfer = in_state(state, desk, scripted)
    del desk
    gc.collect()
    scripted.wait_for(lambda: stats() and transfer.ended)
    assert transfer.kind == ("ok" if state in ("done", "ended") else "cancelled")


def test_orphans_are_let_go_at_the_next_submit(scripted):
    desk, other = Desk(scripted.url), Desk(scripted.url)
    scripted.push(Reply(hang=True))
    transfer = desk.send()
    scripted.wait_for(lambda: scripted.requests)
    desk.queue.close()
    scripted.wait_for(lambda: scripted.open_now == 0)
    scripted.handler = lambda request: Reply(200)
    scripted.wait_for(lambda: other.fetch().ok and transfer.ended)
    assert transfer.kind == "cancelled"
    other.queue.close()


def test_submit_to_a_closed_queue_reaches_nobody(scripted):
    desk = Desk(scripted.url)
    desk.queue.close()
    scripted.push(Reply(200, body=b"body"))
    transfer = desk.send()
    scripted.wait_for(lambda: stats() and transfer.ended)
    assert desk.queue.take() == []


def test_unreferenced_transfer_lives_until_its_end(desk, scripted):
    scripted.push(Reply(200, body=b"body", delay=0.2))
    waiter = Waiter()
    gone = weakref.ref(waiter)
    desk.send().waiter = waiter
    del waiter
    gc.collect()
    assert gone() is not None
    desk.until(lambda: desk.deliveries)
    assert desk.deliveries[0][0].body() == b"body"
    desk.deliveries.clear()
    gc.collect()
    assert gone() is None


# ---- queues -------------------------------------------------------------------------------------------


def test_wait_ends_in_time_and_takes_nothing():
    queue = Queue()
    start = time.monotonic()
    assert queue.wait(0.12) is False
    assert queue.wait(0.0) is False
    assert time.monotonic() - start >= 0.12
    assert queue.take() == []
    assert queue.usable


def test_wait_ends_in_time_under_a_hail_of_signals():
    handled = []
    before = signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        queue = Queue()
        start = time.monotonic()
        assert queue.wait(0.3) is False
        assert 0.3 <= time.monotonic() - start < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(handled) > 3


def test_wait_raises_what_a_signal_handler_raises():
    def handler(*_):
        raise InterruptedError("handled")

    before = signal.signal(signal.SIGUSR1, handler)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    try:
        with pytest.raises(InterruptedError, match="handled"):
            Queue().wait(-1)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_descriptor_is_written_once_for_many_events(desk, scripted):
    scripted.handler = lambda request: Reply(200, body=b"x")
    counted = Counted()
    transfers = [desk.send() for _ in range(20)]
    scripted.wait_for(lambda: counted.succeeded == 20)
    assert counted.cq_writes == 1
    assert not any(transfer.ended for transfer in transfers)
    assert sorted(map(id, desk.queue.take())) == sorted(map(id, transfers))
    assert all(transfer.ended for transfer in transfers)
    assert desk.queue.wait(0) is False


def test_engine_objects_are_not_pickled(desk, scripted):
    transfer = in_state("ended", desk, scripted)
    for thing in (desk.queue, desk.client, transfer):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(thing)
    timing = pickle.loads(pickle.dumps(transfer.timing()))
    assert repr(timing) == repr(transfer.timing())


def test_server_that_stops_ends_everything(desk):
    with ScriptedServer() as server:
        server.push(Reply(hang=True), Reply(200, body=bytes(BIG), stall_after=10, stall=60))
        transfers = [desk.send(server.url + "/") for _ in range(2)]
        server.wait_for(lambda: len(server.requests) == 2)
    desk.end(*transfers)
    assert {transfer.kind for transfer in transfers} == {"interrupted"}


def test_attach_takes_nobody_elses_place(desk, scripted):
    transfer = in_state("headed", desk, scripted)
    transfer.waiter = waiter = object()
    other = Desk(scripted.url)
    assert not transfer.attach(other.queue, "a second", None)
    assert transfer.waiter is waiter
    transfer.cancel()
    desk.end(transfer)
    assert desk.ends_of(transfer) == 1
    other.queue.close()


def test_kept_connection_that_the_server_closed_is_no_lost_answer(desk, scripted):
    """libcurl sends there all the same, and then on a new one. An answer that a closed connection cost would forbid a repetition."""
    scripted.push(Reply(200, body=b"1", cut_after=1), Reply(200, body=b"2"))
    assert desk.fetch().ok
    scripted.wait_for(lambda: scripted.open_now == 0)
    transfer = desk.fetch()
    assert (transfer.ok, transfer.resent) == (True, False)
    assert scripted.opened == 2

    scripted.push(Reply(200, body=b"1", close_on_reuse=True), Reply(200, body=b"2"), Reply(200, body=b"2"))
    assert desk.fetch().ok
    assert desk.fetch().resent
