"""An HTTP/1.1 server that misbehaves on command: plain sockets, one thread per connection, every byte under control.

    with ScriptedServer() as server:
        server.push(Reply(503, headers={"retry-after": "1"}))
        server.push(Reply(200, body=b"x" * 1000, cut_after=100, reset=True))
        ...
        assert [r.method for r in server.requests] == ["GET", "GET"]

Replies come from the queue first, then from the handler. `fakes3.FakeS3` puts a small S3 on top.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import select
import socket
import ssl
import struct
import termios
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]

_PIECE = 64 * 1024
_REASONS = {
    100: "Continue",
    103: "Early Hints",
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    301: "Moved Permanently",
    304: "Not Modified",
    307: "Temporary Redirect",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    429: "Too Many Requests",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


@dataclass(slots=True)
class Request:
    """One request as it arrived.

    Attributes:
        method, target: of the request line, undecoded.
        headers: names in lower case; of repeated ones the last.
        raw_headers: all of them in order, as sent.
        body: the whole body, de-chunked; empty where the client gave up or `on_head` answered.
        connection: number of the connection, from 0.
        index: number of the request on the server, from 0.
        time: ``time.monotonic()`` when the head was complete.
        hung_up: whether the client has ended its side of the connection by now.
    """

    method: str
    target: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes
    connection: int
    index: int
    time: float
    hung_up: Callable[[], bool]

    @property
    def path(self) -> str:
        """The target's path, undecoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        """The target's query, decoded; a bare name has the value ''."""
        return dict(urllib.parse.parse_qsl(self.target.partition("?")[2], keep_blank_values=True))


@dataclass(slots=True)
class Reply:
    """One answer, and what goes wrong with it.

    Attributes:
        status, headers, body: the answer. ``content-length`` is added unless ``headers`` has it or ``chunked``.
        content_length: a wrong length to announce instead of ``len(body)``.
        chunked: send ``Transfer-Encoding: chunked`` without a length.
        until_close: announce no length; the end of the connection ends the body.
        interim: statuses and headers of 1xx answers sent first.
        raw: sent instead of status line and headers (the body follows unless it is empty).
        delay: seconds before the first byte.
        rate: body bytes per second, sent in about 20 pieces a second.
        stall_after, stall: after so many body bytes, send nothing for ``stall`` seconds, then go on.
        cut_after: end the connection after so many body bytes; 0 is after the headers.
        drop: end the connection instead of answering.
        reset: whatever ends the connection does it with RST rather than FIN.
        close: end the connection after the answer, and say so (``Connection: close``).
        close_on_reuse: keep the connection, but end it when the next request arrives on it, unanswered.
        hang: never answer; hold the connection until the client ends it or the server stops.
        then: called once the answer has been sent as far as it was meant to.
    """

    status: int = 200
    headers: HeadersLike = ()
    body: bytes = b""
    content_length: int | None = None
    chunked: bool = False
    until_close: bool = False
    interim: list[tuple[int, HeadersLike]] = field(default_factory=list)
    raw: bytes | None = None
    delay: float = 0.0
    rate: float | None = None
    stall_after: int | None = None
    stall: float = 0.0
    cut_after: int | None = None
    drop: bool = False
    reset: bool = False
    close: bool = False
    close_on_reuse: bool = False
    hang: bool = False
    then: Callable[[], None] | None = None

    def header(self, name: str) -> str | None:
        """The value of a header of this reply."""
        for key, value in _pairs(self.headers):
            if key.lower() == name.lower():
                return value
        return None


Handler = Callable[[Request], Reply]


class Gone(Exception):
    """The connection ended; nothing left to do on it. A handler may raise it, too."""


def _pairs(headers: HeadersLike) -> list[tuple[str, str]]:
    return list(headers.items()) if isinstance(headers, Mapping) else list(headers)


class ScriptedServer:
    """The server; a context manager. All attributes may be read from the test at any time.

    Attributes:
        url: ``http://127.0.0.1:port`` or ``https://localhost:port``.
        requests: every request whose head arrived, in order.
        opened: connections accepted so far.
        open_now, peak_open: connections open now, and at most at once.
        in_flight, peak_in_flight: requests being answered now, and at most at once.
        sent: body bytes sent so far.
        errors: exceptions of handlers; `check` raises the first.
        on_head: called with a request before its body is read; a reply that it returns is sent at once, the body thrown
            away and the connection ended.
    """

    def __init__(
        self, handler: Handler | None = None, *, tls: ssl.SSLContext | None = None, backlog: int = 1024
    ) -> None:
        self.handler = handler
        self.on_head: Callable[[Request], Reply | None] | None = None
        self.requests: list[Request] = []
        self.opened = self.open_now = self.peak_open = 0
        self.in_flight = self.peak_in_flight = 0
        self.sent = 0
        self.errors: list[BaseException] = []
        self._tls = tls
        self._queue: deque[Reply] = deque()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._sockets: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=backlog)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}" if tls else f"http://127.0.0.1:{self.port}"

    # ---- for the test -----------------------------------------------------------------------------------

    def push(self, *replies: Reply) -> None:
        """Append replies to the queue."""
        with self._lock:
            self._queue.extend(replies)

    def push_response(self, status: int = 200, headers: HeadersLike = (), body: bytes = b"", **faults: Any) -> None:
        """Append one reply to the queue; ``faults`` are the other fields of `Reply`."""
        self.push(Reply(status, headers, body, **faults))

    def check(self) -> None:
        """Raise the first exception that a handler raised, if any."""
        if self.errors:
            raise self.errors[0]

    def count(self, method: str | None = None, path: str | None = None) -> int:
        """How many requests came, of this method and path."""
        return sum(method in (None, r.method) and path in (None, r.path) for r in list(self.requests))

    def wait_for(self, condition: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until ``condition()`` is true.

        Raises:
            TimeoutError: it never was.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the scripted server waited {seconds} s in vain")
            time.sleep(0.005)

    # ---- life -------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, name="scripted-accept", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.check()

    def stop(self) -> None:
        """End every connection and wait for all threads."""
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        self._acceptor.join()
        with self._lock:
            sockets, threads = list(self._sockets), list(self._threads)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(10)
            if thread.is_alive():
                self.errors.append(RuntimeError("a connection thread of the scripted server did not end"))

    def _accept(self) -> None:
        for number in itertools.count():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # stopped
            thread = threading.Thread(target=self._serve, args=(sock, number), name=f"scripted-{number}", daemon=True)
            with self._lock:
                self.opened += 1
                self.open_now += 1
                self.peak_open = max(self.peak_open, self.open_now)
                self._threads.add(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.add(sock)
            if self._tls is not None:
                plain = sock
                sock = self._tls.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._sockets.discard(plain)
                    self._sockets.add(sock)
            connection = _Connection(self, sock, number)
            while not self._stopped.is_set() and connection.serve_one():
                pass
        except (OSError, Gone):
            pass  # the client went away or never made it through TLS: what many tests are about
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()
            with self._lock:
                self.open_now -= 1
                self._sockets.discard(sock)
                self._threads.discard(threading.current_thread())

    # ---- for connections --------------------------------------------------------------------------------

    def _record(self, request: Request) -> None:
        with self._lock:
            request.index = len(self.requests)
            self.requests.append(request)
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def _done(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _reply_to(self, request: Request) -> Reply:
        with self._lock:
            if self._queue:
                return self._queue.popleft()
        if self.handler is None:
            return Reply(500, body=b"the script has no reply left")
        try:
            return self.handler(request)
        except Gone:
            raise
        except BaseException as error:
            self.errors.append(error)
            return Reply(500, body=repr(error).encode())


class _Connection:
    """One accepted connection; lives on its own thread."""

    def __init__(self, server: ScriptedServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.buffer = b""
        self.close_on_reuse: Reply | None = None

    # ---- reading ----------------------------------------------------------------------------------------

    def _more(self) -> None:
        piece = self.sock.recv(_PIECE)
        if not piece:
            raise Gone
        self.buffer += piece

    def _until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def _exactly(self, size: int) -> bytes:
        pieces, missing = [self.buffer[:size]], size - len(self.buffer)
        self.buffer = self.buffer[size:]
        while missing > 0:
            piece = self.sock.recv(min(missing, 1 << 20))
            if not piece:
                raise Gone
            pieces.append(piece)
            missing -= len(piece)
        return b"".join(pieces)

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self._until(b"\r\n").split(b";")[0], 16):
                pieces.append(self._exactly(size))
                self._until(b"\r\n")
            while self._until(b"\r\n"):
                pass  # trailers
            return b"".join(pieces)
        return self._exactly(int(headers.get("content-length", "0")))

    # ---- one exchange -----------------------------------------------------------------------------------

    def serve_one(self) -> bool:
        """Read a request and answer it. False: the connection is done."""
        if self.close_on_reuse is not None:
            self._more()  # the client reuses the connection: this is the moment
            return self._end(reset=self.close_on_reuse.reset)
        head = self._until(b"\r\n\r\n").decode("latin-1")
        line, *rest = head.split("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = [(name, value.strip()) for name, _, value in (text.partition(":") for text in rest)]
        headers = {name.lower(): value for name, value in pairs}
        request = Request(method, target, headers, pairs, b"", self.number, -1, time.monotonic(), self._hung_up)
        self.server._record(request)
        try:
            early = self.server.on_head(request) if self.server.on_head else None
            if early is not None:
                self._answer(request, early)
                self._linger()
                return self._end(reset=early.reset)
            request.body = self._read_body(headers)
            return self._answer(request, self.server._reply_to(request))
        finally:
            self.server._done()

    def _answer(self, request: Request, reply: Reply) -> bool:
        if reply.delay:
            self._pause(reply.delay)
        if reply.hang:
            self._pause(float("inf"))
        if reply.drop:
            return self._end(reset=reply.reset)
        for status, headers in reply.interim:
            self.sock.sendall(self._head(status, _pairs(headers)))
        has_body = request.method != "HEAD" and reply.status not in (204, 304)
        self.sock.sendall(self._reply_head(reply, has_body))
        if has_body and not self._send_body(reply):
            return self._end(reset=reply.reset)
        if reply.then:
            reply.then()
        if reply.close or reply.until_close or request.headers.get("connection", "").lower() == "close":
            return self._end(reset=reply.reset)
        if reply.close_on_reuse:
            self.close_on_reuse = reply
        return True

    def _head(self, status: int, headers: list[tuple[str, str]]) -> bytes:
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", *(f"{k}: {v}" for k, v in headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def _reply_head(self, reply: Reply, has_body: bool) -> bytes:
        if reply.raw is not None:
            return reply.raw
        headers = _pairs(reply.headers)
        names = {name.lower() for name, _ in headers}
        if reply.chunked:
            headers.append(("transfer-encoding", "chunked"))
        elif "content-length" not in names and not reply.until_close and reply.status not in (204, 304):
            length = len(reply.body) if reply.content_length is None else reply.content_length
            headers.append(("content-length", str(length)))
        if reply.close:
            headers.append(("connection", "close"))
        return self._head(reply.status, headers)

    def _send_body(self, reply: Reply) -> bool:
        """Send the body as the reply wants it. False: it was cut."""
        body = memoryview(reply.body)
        end = len(body) if reply.cut_after is None else min(reply.cut_after, len(body))
        step = max(1, int(reply.rate / 20)) if reply.rate else _PIECE
        at = 0
        while at < end:
            upto = min(end, at + step)
            if reply.stall_after is not None and at < reply.stall_after:
                upto = min(upto, reply.stall_after)
            piece = body[at:upto]
            if reply.chunked:
                self.sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
            else:
                self.sock.sendall(piece)
            at = upto
            with self.server._lock:
                self.server.sent += len(piece)
            if reply.rate and at < end:
                self._pause(len(piece) / reply.rate)
            if at == reply.stall_after:
                self._pause(reply.stall)
        if reply.cut_after is not None:
            if reply.then:
                reply.then()
            return False
        if reply.chunked:
            self.sock.sendall(b"0\r\n\r\n")
        return True

    def _linger(self) -> None:
        """Take what the client still sends for a moment: closing on unread bytes would be an RST that eats the answer."""
        self.sock.settimeout(1)
        end = time.monotonic() + 2
        with contextlib.suppress(OSError):
            while time.monotonic() < end and self.sock.recv(_PIECE):
                pass

    # ---- waiting and ending -----------------------------------------------------------------------------

    def _hung_up(self) -> bool:
        waiter = select.poll()
        waiter.register(self.sock, select.POLLRDHUP)
        return bool(waiter.poll(0))

    def _pause(self, seconds: float) -> None:
        """Wait, unless the server stops or the client hangs up first."""
        end = time.monotonic() + seconds
        waiter = select.poll()
        waiter.register(self.sock, select.POLLIN)
        while (left := end - time.monotonic()) > 0:
            if self.server._stopped.is_set():
                raise Gone
            if waiter.poll(min(left, 0.05) * 1000):
                if isinstance(self.sock, ssl.SSLSocket) or self.sock.recv(1, socket.MSG_PEEK):
                    time.sleep(min(left, 0.05))  # bytes of a later request: not ours to read now
                else:
                    raise Gone

    def _end(self, *, reset: bool) -> bool:
        if reset:
            drained = time.monotonic() + 2
            while time.monotonic() < drained and any(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4))):
                time.sleep(0.001)  # what was sent shall arrive: only then is the cut where the script says
            # Linger 0: close() sends RST and throws away what the client has not read yet.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)
        return False
