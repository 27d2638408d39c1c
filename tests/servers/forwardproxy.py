"""A forward proxy on plain sockets: HTTP with CONNECT, over TLS if wished, or SOCKS5; with a password if wished.

Every host name leads to 127.0.0.1: what a client asks for by name reaches the test's servers through the proxy only.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
from types import TracebackType
from typing import Any, Self


class ForwardProxy:
    """The proxy; a context manager.

    Args:
        socks: SOCKS5 instead of HTTP.
        auth: ``user:password`` to ask for.
        tls: context of an HTTPS proxy.
        refuse: status to refuse CONNECT and plain requests with.

    Attributes:
        address: ``127.0.0.1:port``, or ``localhost:port`` over TLS.
        tunnels: ``host:port`` of each tunnel that was asked for.
        plain: request lines that were sent to be forwarded.
        refused: how often the password was missing or wrong.
    """

    def __init__(
        self,
        *,
        socks: bool = False,
        auth: str | None = None,
        tls: ssl.SSLContext | None = None,
        refuse: int | None = None,
    ) -> None:
        self._socks = socks
        self._auth = auth
        self._tls = tls
        self._refuse = refuse
        self.tunnels: list[str] = []
        self.plain: list[str] = []
        self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        host = "localhost" if tls else "127.0.0.1"
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._acceptor = threading.Thread(target=self._accept, name="proxy-accept", daemon=True)
        self._acceptor.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), name="proxy", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        opened: list[socket.socket] = [client]
        try:
            self._keep(client)
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
                opened[0] = client
                self._keep(client)
            upstream = self._greet_socks(client) if self._socks else self._greet_http(client)
            if upstream is not None:
                opened.append(upstream)
                self._keep(upstream)
                _pump(client, upstream)
        except (OSError, ValueError):
            pass  # the client went away
        finally:
            with self._lock:
                self._sockets.difference_update(opened)
            for sock in opened:
                sock.close()

    def _keep(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.add(sock)

    # ---- HTTP -------------------------------------------------------------------------------------------

    def _greet_http(self, client: socket.socket) -> socket.socket | None:
        while True:
            head = _until(client, b"\r\n\r\n")
            line, *rest = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
            wanted = "Basic " + base64.b64encode((self._auth or "").encode()).decode()
            if self._auth is not None and headers.get("proxy-authorization") != wanted:
                self.refused += 1
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=x\r\n")
                client.sendall(b"content-length: 0\r\n\r\n")
                continue
            method, target, _ = line.split(" ")
            if method == "CONNECT":
                self.tunnels.append(target)
                if self._refuse is not None:
                    client.sendall(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % self._refuse)
                    continue
                upstream = socket.create_connection(("127.0.0.1", int(target.rpartition(":")[2])))
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                return upstream
            self.plain.append(line)
            authority, _, path = target.removeprefix("http://").partition("/")
            upstream = socket.create_connection(("127.0.0.1", int(authority.rpartition(":")[2])))
            kept = [text for text in rest if text and not text.lower().startswith(("proxy-", "connection"))]
            upstream.sendall("\r\n".join([f"{method} /{path} HTTP/1.1", *kept, "connection: close", "", ""]).encode())
            return upstream

    # ---- SOCKS5 (RFC 1928, RFC 1929) --------------------------------------------------------------------

    def _greet_socks(self, client: socket.socket) -> socket.socket | None:
        _, count = _exactly(client, 2)
        offered = _exactly(client, count)
        if self._auth is None:
            client.sendall(b"\x05\x00")
        elif 2 not in offered:
            self.refused += 1
            client.sendall(b"\x05\xff")
            return None
        else:
            client.sendall(b"\x05\x02")
            user = _exactly(client, _exactly(client, 2)[1])
            password = _exactly(client, _exactly(client, 1)[0])
            right = f"{user.decode()}:{password.decode()}" == self._auth
            client.sendall(b"\x01\x00" if right else b"\x01\x01")
            if not right:
                self.refused += 1
                return None
        _, _, _, kind = _exactly(client, 4)
        if kind == 3:
            host = _exactly(client, _exactly(client, 1)[0]).decode()
        else:
            host = socket.inet_ntop(*{1: (socket.AF_INET, _exactly(client, 4))}[kind])
        port = int.from_bytes(_exactly(client, 2), "big")
        self.tunnels.append(f"{host}:{port}")
        upstream = socket.create_connection(("127.0.0.1", port))
        client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00")
        return upstream


def _until(sock: socket.socket, mark: bytes) -> bytes:
    data = b""
    while not data.endswith(mark):
        piece = sock.recv(1)
        if not piece:
            raise ValueError("the client hung up")
        data += piece
    return data


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ValueError("the client hung up")
        data += piece
    return data


def _pump(client: socket.socket, upstream: socket.socket) -> None:
    """Pass bytes on, both ways, until either side has ended."""
    pairs: dict[Any, socket.socket] = {client: upstream, upstream: client}
    while True:
        pending = isinstance(client, ssl.SSLSocket) and client.pending()
        for sock in [client] if pending else select.select(list(pairs), [], [])[0]:
            piece = sock.recv(65536)
            if not piece:
                return
            pairs[sock].sendall(piece)
