"""Request bodies: several buffers sent as one, in place, and pinned until the end."""

from __future__ import annotations

import array
import mmap
import os

import pytest

from obstore import Bytes
from obstore._engine._core import END
from tests.engine.desk import Counted
from tests.servers.scripted import Reply

DATA = os.urandom(3_000_000)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"", b"", b""],
        [b"one"],
        [b"one", b"", b"two", b""],
        [b"x"] * 5000,
        [DATA],
        [DATA[:1], DATA[1:70_000], DATA[70_000:]],
        (bytearray(b"a"), memoryview(b"bcd")[1:], Bytes(b"ef")[1:], array.array("H", b"12")),
    ],
    ids=lambda parts: f"{len(parts)} of {sum(memoryview(part).nbytes for part in parts)}",
)
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_buffers_are_sent_as_one(desk, scripted, parts, method):
    scripted.push(Reply(200))
    counted = Counted()
    transfer = desk.fetch("/", method, body=parts)
    whole = b"".join(bytes(part) for part in parts)
    assert transfer.ok, transfer.message
    (request,) = scripted.requests
    assert (request.method, request.body) == (method, whole)
    assert request.headers["content-length"] == str(len(whole))
    assert "transfer-encoding" not in request.headers
    assert "expect" not in request.headers
    assert counted.bytes_out == len(whole)


@pytest.mark.parametrize(("method", "length"), [("PUT", "0"), ("POST", "0"), ("DELETE", None), ("GET", None)])
def test_no_body(desk, scripted, method, length):
    scripted.push(Reply(200))
    desk.fetch("/", method)
    (request,) = scripted.requests
    assert (request.method, request.body) == (method, b"")
    assert request.headers.get("content-length") == length


def test_mapped_file(desk, scripted, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    scripted.push(Reply(200))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        desk.fetch("/", "PUT", body=[mapped])
    assert scripted.requests[0].body == DATA


@pytest.mark.parametrize("outcome", ["answered", "cancelled", "reset"])
def test_buffer_is_pinned_until_the_end_is_taken(desk, scripted, outcome):
    scripted.push(
        {"answered": Reply(200), "cancelled": Reply(hang=True), "reset": Reply(drop=True, reset=True)}[outcome]
    )
    source, untouched = bytearray(DATA), bytearray(b"x")
    transfer = desk.send("/", "PUT", body=[source, untouched])
    scripted.wait_for(lambda: scripted.requests and scripted.requests[0].body)
    if outcome == "cancelled":
        transfer.cancel()
    assert desk.queue.wait(20)
    for buffer in (source, untouched):
        with pytest.raises(BufferError):
            buffer.clear()
    desk.end(transfer)
    for buffer in (source, untouched):
        buffer.clear()
    assert scripted.requests[0].body == DATA + b"x"


def test_buffer_is_let_go_where_the_request_is_refused(desk):
    source = bytearray(b"abc")
    with pytest.raises(TypeError):
        desk.send("/", "PUT", body=[source, "text"])
    with pytest.raises(BufferError):
        desk.send("/", "PUT", body=[source, memoryview(b"abcd")[::2]])
    source.clear()


@pytest.mark.parametrize("status", [200, 403])
def test_answer_before_the_body_was_read(desk, scripted, status):
    scripted.on_head = lambda request: Reply(status, body=b"enough")
    transfer = desk.fetch("/", "PUT", body=[bytes(64 << 20)])
    if transfer.kind == "ok":
        assert (transfer.status, transfer.body()) == (status, b"enough")
    else:
        assert (transfer.kind, transfer.sent) == ("interrupted", True)


def test_server_that_does_not_read_is_a_stall(desk, scripted):
    scripted.on_head = lambda request: Reply(hang=True)
    transfer = desk.fetch("/", "PUT", body=[bytes(64 << 20)], client=desk.make_client(read_timeout_ms=400))
    assert transfer.kind == "stall"
    assert transfer.events & END
