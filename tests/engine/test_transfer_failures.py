"""How attempts fail: the kind tells the retry rules what happened, `sent` whether it may be repeated."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator

import pytest

from obstore._effects import COLLECT, DISCARD, STREAM
from tests.engine.desk import Desk
from tests.servers.scripted import Reply, ScriptedServer

DATA = bytes(range(256)) * 1000


@pytest.mark.parametrize("sink", [COLLECT, STREAM, DISCARD])
@pytest.mark.parametrize(
    "fault",
    [
        {"cut_after": 0},
        {"cut_after": 1000},
        {"cut_after": 100_000},
        {"cut_after": 1000, "reset": True},
        {"cut_after": 1000, "chunked": True},
        {"cut_after": 1000, "chunked": True, "reset": True},
        {"content_length": len(DATA) + 1, "close": True},
        {"drop": True},
        {"drop": True, "reset": True},
    ],
    ids=str,
)
def test_broken_answer_is_interrupted(desk, scripted, sink, fault):
    scripted.push(Reply(200, body=DATA, **fault))
    transfer = desk.fetch(sink=sink)
    assert (transfer.kind, transfer.ok, transfer.sent) == ("interrupted", False, True)
    assert transfer.message
    assert transfer.received <= len(DATA)


def test_reset_while_a_body_without_length_arrives(desk, scripted):
    scripted.push(Reply(200, body=DATA, until_close=True, cut_after=1000, reset=True))
    assert desk.fetch().kind == "interrupted"


def test_body_longer_than_announced_is_cut(desk, scripted):
    scripted.push(Reply(200, body=DATA, content_length=1000), Reply(200, body=b"next"))
    transfer = desk.fetch()
    assert (transfer.kind, transfer.body()) == ("ok", DATA[:1000])
    following = desk.fetch()  # libcurl drops the connection, or fails where the surplus comes too late to be noticed
    assert following.body() == b"next" or not following.ok


@pytest.mark.parametrize("raw", [b"zz\r\n", b"5\r\nhello", b"-1\r\n", b"ffffffffffffffffff\r\n"], ids=repr)
def test_malformed_chunks(desk, scripted, raw):
    scripted.push(Reply(raw=b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + raw, close=True))
    transfer = desk.fetch()
    assert transfer.kind in ("interrupted", "protocol")
    assert not transfer.ok


# ---- no connection ------------------------------------------------------------------------------------


def test_connection_refused(desk):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    transfer = desk.fetch(f"http://127.0.0.1:{port}/")
    assert (transfer.kind, transfer.sent, transfer.status) == ("connect", False, 0)
    assert transfer.oserrno == errno.ECONNREFUSED
    assert transfer.body() == b""


def test_name_that_cannot_be(desk):
    transfer = desk.fetch(f"http://{'a' * 64}.invalid/")  # a label too long for any resolver: no packet is sent
    assert (transfer.kind, transfer.sent) == ("dns", False)


@pytest.fixture
def deaf() -> Iterator[str]:
    """URL of a port whose queue of connections is full: it answers nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        for filler in fillers:
            filler.close()


def test_connect_timeout(desk, deaf):
    start = time.monotonic()
    transfer = desk.fetch(deaf, client=desk.make_client(connect_timeout_ms=200))
    assert (transfer.kind, transfer.sent) == ("timeout", False)
    assert time.monotonic() - start >= 0.2


def test_cancelled_while_connecting(desk, deaf):
    transfer = desk.send(deaf)
    desk.pump(0.2)
    transfer.cancel()
    desk.end(transfer)
    assert (transfer.kind, transfer.sent) == ("cancelled", False)


def test_plain_http_is_refused_unless_allowed(desk, scripted):
    transfer = desk.fetch(client=desk.make_client(insecure_http=False))
    assert (transfer.kind, transfer.sent) == ("protocol", False)
    assert scripted.opened == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/passwd", "://", "http://a b/", "http://a/\x01"])
def test_urls_that_are_not_fetched(desk, url):
    transfer = desk.fetch(url)
    assert (transfer.kind, transfer.sent) == ("protocol", False)
    assert "passwd" not in transfer.message


# ---- time ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        Reply(hang=True),
        Reply(200, body=DATA, stall_after=1, stall=60),
        Reply(200, body=DATA, stall_after=500, stall=60),
    ],
)
def test_read_timeout(desk, scripted, reply):
    scripted.push(reply)
    transfer = desk.fetch(client=desk.make_client(read_timeout_ms=200))
    assert (transfer.kind, transfer.sent) == ("stall", True)
    assert transfer.timing().total >= 0.2


def test_slow_is_not_stalled(desk, scripted):
    scripted.push(Reply(200, body=DATA[:20_000], rate=20_000))
    transfer = desk.fetch(client=desk.make_client(read_timeout_ms=600))
    assert transfer.ok, transfer.message
    assert transfer.timing().total >= 0.8


def test_total_timeout_holds_for_slow_ones_too(desk, scripted):
    scripted.push(Reply(200, body=DATA, rate=20_000))
    transfer = desk.fetch(client=desk.make_client(timeout_ms=300))
    assert (transfer.kind, transfer.sent) == ("timeout", True)
    assert transfer.timing().total >= 0.3


# ---- kept connections ---------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("method", "body"), [("GET", None), ("PUT", [b"ab", b"cd"]), ("PUT", [DATA * 4])])
def test_server_ends_an_idle_connection_as_it_is_used_again(desk, scripted, reset, method, body):
    scripted.push(Reply(200, body=b"one", close_on_reuse=True, reset=reset))
    assert desk.fetch().body() == b"one"
    scripted.push(Reply(200, body=b"two"))
    transfer = desk.fetch("/", method, body=body)
    if not transfer.ok:  # a reset came once part of the body was out: for the rules above to decide
        assert body
        assert (transfer.kind, transfer.sent) == ("interrupted", True)
        return
    assert transfer.body() == b"two"
    assert scripted.requests[-1].body == b"".join(body or [])
    assert scripted.opened == 2


def test_ended_connection_is_not_used_again(desk, scripted):
    scripted.push(Reply(200, body=b"one", close=True), Reply(200, body=b"two"))
    assert not desk.fetch().timing().reused
    assert not desk.fetch().timing().reused
    assert scripted.opened == 2


def test_old_connection_is_not_used_again(desk, scripted):
    client = desk.make_client(idle_timeout_ms=1000)
    scripted.push(Reply(200), Reply(200), Reply(200))
    desk.fetch(client=client)
    assert desk.fetch(client=client).timing().reused
    time.sleep(2.1)  # libcurl counts whole seconds
    assert not desk.fetch(client=client).timing().reused


# ---- TLS ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["trusted", "unknown", "expired", "other name", "self-signed roots off"])
def tls(request, authority) -> Iterator[tuple[str, ScriptedServer, dict[str, object]]]:
    case = request.param
    context = authority.context(*(["other.example"] if case == "other name" else []), expired=case == "expired")
    trust: dict[str, object] = {"ca_file": None if case == "unknown" else str(authority.file)}
    if case == "self-signed roots off":
        trust = {"verify": False}
    with ScriptedServer(tls=context) as server:
        yield case, server, trust


def test_certificates(tls):
    case, server, trust = tls
    desk = Desk(server.url, insecure_http=False, **trust)
    server.push(Reply(200, body=b"secret"))
    transfer = desk.fetch(headers=[("authorization", "token")])
    if case in ("trusted", "self-signed roots off"):
        assert transfer.body() == b"secret"
        timing = transfer.timing()
        assert 0 < timing.connect <= timing.tls <= timing.first_byte
    else:
        assert (transfer.kind, transfer.ok, transfer.sent) == ("tls", False, False)
        assert transfer.message
        assert server.requests == []


def test_tls_to_a_plain_server(desk, scripted):
    transfer = desk.fetch(scripted.url.replace("http:", "https:"))
    assert transfer.kind in ("tls", "connect")
    assert not transfer.sent


def test_leftovers_on_a_kept_connection_never_become_the_next_answer(desk, scripted):
    """An answer longer than announced that goes on like another answer: read as one, it would be another object."""
    forged = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nEVIL"
    kinds = set()
    for _ in range(100):
        scripted.push(Reply(200, body=b"x" * 10 + forged, content_length=10), Reply(200, body=b"next"))
        desk.fetch()
        following = desk.fetch()
        kinds.add((following.kind, bytes(following.body()), following.sent))
        scripted._queue.clear()
    assert kinds <= {("ok", b"next", True), ("connect", b"", False)}
