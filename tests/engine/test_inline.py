"""Inline loops: the thread that waits for a transfer drives it itself."""

from __future__ import annotations

import threading
import time
from typing import Any

from obstore._effects import COLLECT, STREAM
from obstore._engine import Queue, Transfer, stats, submit
from obstore._engine._core import HEAD
from tests.engine.desk import Counted
from tests.servers.scripted import Reply

BIG = 8 << 20


def send(desk: Any, *, sink: int = COLLECT, queue: Queue | None = None, body: Any = None) -> Transfer:
    method = "GET" if body is None else "PUT"
    return submit(
        queue or desk.queue, desk.client, "waiter", method, desk.url + "/", (), body, sink, None, None, inline=True
    )


def test_driven_by_whoever_waits(desk, scripted):
    """Neither a loop nor a queue has to be woken: that is what it is for."""
    desk.end(send(desk))  # the connection
    counted = Counted()
    for _ in range(10):
        scripted.push(Reply(200, body=b"inline"))
        assert desk.end(send(desk)).body() == b"inline"
    assert (counted.wakeups, counted.cq_writes, counted.connections_opened) == (0, 0, 0)


def test_second_transfer_of_a_thread_goes_to_a_loop(desk, scripted):
    scripted.handler = lambda request: Reply(200, body=b"x", delay=0.05)
    counted = Counted()
    transfers = [send(desk) for _ in range(3)]
    desk.end(*transfers)
    assert [transfer.body() for transfer in transfers] == [b"x"] * 3
    assert counted.succeeded == 3


def test_what_is_left_goes_on_by_itself(desk, scripted):
    scripted.push(Reply(200, body=bytes(BIG), rate=4 * BIG))
    transfer = send(desk, sink=STREAM)
    desk.head(transfer)
    assert not transfer.ended
    desk.queue.leave()
    transfer.collect()
    deadline = time.monotonic() + 20
    while transfer.buffered < BIG:
        assert time.monotonic() < deadline, "nobody drives it"
        time.sleep(0.01)
    assert desk.end(transfer).body() == bytes(BIG)
    scripted.push(Reply(200, body=b"next"))
    assert desk.end(send(desk)).body() == b"next"


def test_left_before_anything_happened(desk, scripted):
    scripted.push(Reply(200, body=b"by itself", delay=0.05))
    transfer = send(desk)
    desk.queue.leave()
    assert desk.end(transfer).body() == b"by itself"


def test_upload(desk, scripted):
    received: list[bytes] = []

    def answer(request: Any) -> Reply:
        received.append(request.body)
        return Reply(200)

    scripted.handler = answer
    assert desk.end(send(desk, body=(b"part", b"s"))).status == 200
    assert received == [b"parts"]


def test_cancelled_by_another_thread(desk, scripted):
    scripted.push(Reply(200, body=b"late", delay=30))
    transfer = send(desk)
    thread = threading.Timer(0.1, transfer.cancel)
    thread.start()
    began = time.monotonic()
    assert desk.end(transfer).kind == "cancelled"
    assert time.monotonic() - began < 10
    thread.join()


def test_closed_queue_leaves_nothing_behind(desk, scripted):
    scripted.push(Reply(200, body=b"late", delay=30))
    before = stats()["in_flight"]
    queue = Queue()
    transfer = send(desk, queue=queue)
    queue.close()
    deadline = time.monotonic() + 20
    while stats()["in_flight"] > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert stats()["live_transfers"] >= 0  # takes what closed queues left
    assert transfer.ended


def test_stays_away_where_loops_are_busy(desk, scripted):
    """A loop thread that serves many transfers serves one more at less than a thread of its own costs."""
    scripted.handler = lambda request: Reply(200, body=b"x", delay=0.3 if request.path == "/busy" else 0.0)
    busy = desk.send("/busy")
    counted = Counted()
    queue = Queue()
    transfer = send(desk, queue=queue)
    while not transfer.ended:
        if queue.wait(20):
            queue.take()
    assert counted.cq_writes >= 1, "it was delivered by a loop"
    desk.end(busy)


def test_many_threads_at_once(desk, scripted):
    scripted.handler = lambda request: Reply(200, body=b"x" * 1000)
    wrong: list[Any] = []

    def work() -> None:
        queue = Queue()
        for _ in range(50):
            transfer = send(desk, queue=queue)
            while not transfer.ended:
                if queue.wait(20):
                    queue.take()
            queue.leave()
            if transfer.body() != b"x" * 1000:
                wrong.append(transfer.kind)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_head_is_delivered_before_a_slow_body(desk, scripted):
    scripted.push(Reply(200, body=b"ab", stall_after=1, stall=0.3))
    transfer = send(desk, sink=STREAM)
    desk.head(transfer)
    assert transfer.events & HEAD
    assert not transfer.ended
    transfer.collect()
    assert desk.end(transfer).body() == b"ab"
