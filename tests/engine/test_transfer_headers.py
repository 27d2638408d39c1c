"""Headers both ways: what is sent, what is read, and what is refused."""

from __future__ import annotations

import re

import pytest

from obstore._effects import STREAM
from tests.servers.scripted import Reply


def test_request_is_sent_as_given(desk, scripted):
    scripted.push(Reply(200))
    headers = [
        ("x-one", "1"),
        ("x-empty", ""),
        ("x-one", "2"),
        ("X-Case", "é"),
        ("x-tab", "a\tb"),
        ("x-semi;"[:-1], ";"),
    ]
    desk.fetch("/a%2Fb/../c//d?x=%20&y", "GET", headers=headers)
    (request,) = scripted.requests
    assert request.target == "/a%2Fb/../c//d?x=%20&y"
    sent = [(name, value) for name, value in request.raw_headers if name.lower().startswith("x-")]
    assert sent == [
        ("x-one", "1"),
        ("x-empty", ""),
        ("x-one", "2"),
        ("X-Case", "é".encode().decode("latin-1")),
        ("x-tab", "a\tb"),
        ("x-semi", ";"),
    ]
    assert "user-agent" not in request.headers


def test_headers_of_libcurls_own(desk, scripted):
    scripted.push(Reply(200), Reply(200))
    desk.fetch(client=desk.make_client(user_agent="me/1"))
    desk.fetch("/", "PUT", body=[b"x" * 2_000_000])
    first, second = scripted.requests
    assert set(first.headers) == {"host", "user-agent", "accept"}
    assert first.headers["user-agent"] == "me/1"
    assert set(second.headers) == {"host", "accept", "content-length"}, "neither expect nor content-type"


BAD = ["\r", "\n", "\0", "\r\n", "\r\nx-evil: 1"]


@pytest.mark.parametrize("bad", BAD, ids=repr)
@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_injection_is_refused(desk, scripted, bad, where):
    def spoil(text):
        return {"start": bad + text, "middle": text[:2] + bad + text[2:], "end": text + bad}[where]

    with pytest.raises(ValueError, match=r"^the URL contains a control character$"):
        desk.send(spoil("http://127.0.0.1:1/abc"))
    with pytest.raises(ValueError, match=r"^the method contains a control character$"):
        desk.send("/", spoil("GET"))
    name = spoil("x-name")
    with pytest.raises(ValueError, match=f"^the header {re.escape(repr(name))} contains a control character$"):
        desk.send(headers=[("x-fine", "1"), (name, "value")])
    with pytest.raises(ValueError, match=r"^the header 'x-name' contains a control character$"):
        desk.send(headers=[("x-name", spoil("value"))])
    assert scripted.opened == 0


@pytest.mark.parametrize("method", ["", "GET /evil", "G T", "GÉT"])
def test_method_is_a_token(desk, method):
    with pytest.raises(ValueError, match="the method"):
        desk.send("/", method)


@pytest.mark.parametrize("name", ["", "x y", "x:y", "é"])
def test_header_name_is_a_token(desk, name):
    with pytest.raises(ValueError, match="the header"):
        desk.send(headers=[(name, "value")])


@pytest.mark.parametrize("headers", [[("x", 1)], [(b"x", "y")], [("x",)], 5])
def test_headers_of_other_types(desk, headers):
    with pytest.raises((TypeError, ValueError)):
        desk.send(headers=headers)


# ---- answers ------------------------------------------------------------------------------------------


def test_headers_in_order_with_repetitions(desk, scripted):
    scripted.push(
        Reply(
            200,
            [
                ("X-One", "1"),
                ("ETag", '"e"'),
                ("x-one", "2"),
                ("X-Empty", ""),
                ("X-Blanks", "  a b\t "),
                ("x-ONE", "3"),
            ],
        )
    )
    transfer = desk.fetch()
    assert [pair for pair in transfer.headers() if pair[0] != "content-length"] == [
        ("x-one", "1"),
        ("etag", '"e"'),
        ("x-one", "2"),
        ("x-empty", ""),
        ("x-blanks", "a b"),
        ("x-one", "3"),
    ]
    assert transfer.header("X-oNe") == "3"
    assert transfer.header("x-empty") == ""
    assert transfer.header("x-on") is None
    assert transfer.header("") is None


@pytest.mark.parametrize(
    ("raw", "text"), [("é".encode(), "é"), (b"\xe9", "é"), (b"a\xff\xfeb", "aÿþb"), ("日本".encode(), "日本")]
)
def test_header_values_are_utf8_or_else_latin1(desk, scripted, raw, text):
    scripted.push(Reply(200, {"x-text": raw.decode("latin-1")}))
    transfer = desk.fetch()
    assert transfer.header("x-text") == text
    assert ("x-text", text) in transfer.headers()


@pytest.mark.parametrize("sink", [0, STREAM])
def test_interim_answers_are_forgotten(desk, scripted, sink):
    scripted.push(
        Reply(200, {"x-final": "1"}, b"body", interim=[(103, {"link": "<x>"}), (100, {}), (103, {"x-final": "0"})])
    )
    transfer = desk.fetch(sink=sink)
    assert (transfer.status, transfer.body()) == (200, b"body")
    assert transfer.headers() == [("x-final", "1"), ("content-length", "4")]


def test_interim_status_does_not_show(desk, scripted):
    scripted.push(Reply(200, body=b"x" * 100_000, interim=[(103, {"link": "<x>"})], stall_after=0, stall=0, delay=0.0))
    transfer = desk.send(sink=STREAM)
    seen = set()
    while not transfer.ended:
        seen.add(transfer.status)
        desk.pump(0.01)
    assert seen <= {0, 200}


def test_trailers_are_not_headers(desk, scripted):
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: 1\r\n\r\n4\r\nbody\r\n0\r\nx-a: 2\r\nx-b: 3\r\n\r\n"
    scripted.push(Reply(raw=raw))
    transfer = desk.fetch()
    assert transfer.body() == b"body"
    assert transfer.header("x-a") == "1"
    assert transfer.header("x-b") is None


@pytest.mark.parametrize(("size", "n"), [(60_000, 1), (1000, 150)])
def test_large_headers(desk, scripted, size, n):
    scripted.push(Reply(200, [(f"x-{i}", "v" * size) for i in range(n)], b"body"))
    transfer = desk.fetch()
    assert transfer.ok, transfer.message
    assert len(transfer.headers()) == n + 1
    assert all(transfer.header(f"x-{i}") == "v" * size for i in range(n))


def test_endless_headers_are_refused(desk, scripted):
    scripted.push(Reply(200, [(f"x-{i}", "v" * 10_000) for i in range(1000)]))
    transfer = desk.fetch()
    assert not transfer.ok
    assert transfer.kind in ("protocol", "interrupted")


@pytest.mark.parametrize(
    "raw", [b"not http at all\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"HTTP/1.1 abc\r\n\r\n"]
)
def test_answer_that_is_not_http(desk, scripted, raw):
    scripted.push(Reply(raw=raw, close=True))
    transfer = desk.fetch()
    assert not transfer.ok
    assert transfer.kind == "protocol"


@pytest.mark.parametrize("follow", [0, 3])
def test_redirects_only_when_asked_for(desk, scripted, follow):
    scripted.push(
        Reply(307, {"location": "/there", "x-first": "1"}, b"moved"), Reply(200, {"x-second": "1"}, b"arrived")
    )
    transfer = desk.fetch("/here", "PUT", body=[b"ab", b"cd"], client=desk.make_client(follow=follow))
    if not follow:
        assert (transfer.status, transfer.header("location"), transfer.body()) == (307, "/there", b"moved")
        return
    assert (transfer.status, transfer.body()) == (200, b"arrived")
    assert transfer.header("x-first") is None
    assert [(request.method, request.target, request.body) for request in scripted.requests] == [
        ("PUT", "/here", b"abcd"),
        ("PUT", "/there", b"abcd"),
    ]
