"""A download goes on while the GIL is held: no libcurl callback and no loop thread ever wants it."""

from __future__ import annotations

import functools
import operator
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import repeat

import pytest

from obstore._effects import COLLECT, INTO, STREAM
from obstore._engine import stats
from tests.engine.desk import Counted, Desk

SIZE = 64 << 20

# A server in a process of its own: one in this process would need the GIL itself.
SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    with connection:
        head = b""
        while b"\\r\\n\\r\\n" not in head:
            head += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: %d\\r\\n\\r\\n" % int(sys.argv[1]))
        connection.sendall(bytes(int(sys.argv[1])))
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", SERVER, str(SIZE)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        server.kill()


class Witness(threading.Thread):
    """Leaves a mark whenever it gets the GIL."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.marks: list[None] = []
        self.stop = False

    def run(self) -> None:
        while not self.stop:
            self.marks.append(None)
            time.sleep(0.0005)


@pytest.fixture
def witness() -> Iterator[Witness]:
    thread = Witness()
    thread.start()
    yield thread
    thread.stop = True
    thread.join()


def hold_the_gil_until(succeeded: int, witness: Witness) -> list[int]:
    """Compute in one C call, which never gives the GIL away, until so many attempts have succeeded.

    Bytecode is never returned to in between, so that nothing can switch threads. What the witness had written at each
    step is returned: all the same where the GIL was held.
    """
    marks: list[int] = []
    compute = functools.partial(pow, 3, 1 << 6000, (1 << 3000) - 1)  # some milliseconds
    steps = zip(
        map(marks.append, map(operator.call, repeat(witness.marks.__len__, 20_000))),
        map(operator.call, repeat(compute)),
        map(operator.itemgetter("succeeded"), map(operator.call, repeat(stats))),
        strict=False,
    )
    reached = any(map(succeeded.__le__, map(operator.itemgetter(2), steps)))
    assert reached, "the download did not end while the GIL was held"
    return marks


@pytest.mark.parametrize("sink", [COLLECT, INTO], ids=["collect", "into"])
def test_download_ends_while_the_gil_is_held(url, witness, sink):
    desk = Desk(url)
    counted = Counted()
    buffer = bytearray(SIZE) if sink == INTO else None
    transfer = desk.send(sink=sink, into=buffer)
    marks = hold_the_gil_until(stats()["succeeded"] - counted.succeeded + 1, witness)
    assert len(set(marks)) == 1, "the GIL was given away in between: nothing was shown"
    assert counted.bytes_in == SIZE
    assert not transfer.ended
    seen = len(witness.marks)
    desk.end(transfer)
    assert transfer.ok
    assert (transfer.body() == bytes(SIZE)) if sink == COLLECT else (buffer == bytes(SIZE))
    desk.until(lambda: len(witness.marks) > seen)  # it does run where it can
    desk.queue.close()


def test_stream_is_filled_to_its_window_while_the_gil_is_held(url, witness):
    desk = Desk(url)
    before = stats()["succeeded"]
    stream = desk.head(desk.send(sink=STREAM))
    stream.collect()  # no window: all of it
    marks = hold_the_gil_until(before + 1, witness)
    assert len(set(marks)) == 1
    desk.end(stream)
    assert len(stream.body()) == SIZE
    desk.queue.close()


def test_download_ends_while_a_python_thread_spins(url):
    desk = Desk(url)
    spinning = True
    turns = 0

    def spin():
        nonlocal turns
        while spinning:
            turns += 1

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        counted = Counted()
        transfer = desk.send()
        # Nothing of the engine is called until its descriptor tells of END.
        assert select.select([desk.queue], [], [], 60)[0]
        assert (counted.succeeded, counted.bytes_in) == (1, SIZE)
        assert not transfer.ended
    finally:
        spinning = False
        thread.join()
    assert turns
    desk.end(transfer)
    assert transfer.ok
    desk.queue.close()
