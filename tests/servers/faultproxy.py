"""A TCP proxy in front of a real server that spoils connections on command.

It passes bytes on unread, so signatures stay valid: the client signs for the proxy's port and sends it as Host.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import urllib.parse
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(slots=True)
class ConnectionFault:
    """What happens to one connection.

    Attributes:
        refuse: end it with RST as soon as it is accepted.
        cut_down: end it after so many bytes from the server to the client.
        cut_up: end it after so many bytes from the client to the server.
        reset: end with RST rather than FIN.
        half: where the answer is cut, only that direction ends; the client may go on to send, and gets no answer.
        latency: seconds before each piece is passed on, either way.
        stall_down, stall: after so many bytes from the server, pass nothing on for ``stall`` seconds.
    """

    refuse: bool = False
    cut_down: int | None = None
    cut_up: int | None = None
    reset: bool = False
    half: bool = False
    latency: float = 0.0
    stall_down: int | None = None
    stall: float = 0.0


class FaultProxy:
    """The proxy; a context manager.

    Attributes:
        url: what the client is given instead of the server's.
        opened: connections accepted so far.
        spoiled: connections that a fault ended so far.
        flipped: pieces of which a bit was changed so far.
    """

    def __init__(self, upstream: str) -> None:
        parts = urllib.parse.urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.opened = self.spoiled = 0
        self._faults: deque[ConnectionFault] = deque()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._marker = b""
        self._flips = 0
        self.flipped = 0

    def flip(self, marker: bytes, times: int) -> None:
        """Change a bit of ``marker`` on its way to the client, in so many pieces that hold it."""
        with self._lock:
            self._marker, self._flips = marker, times

    def _flip(self, piece: bytes) -> bytes:
        with self._lock:
            at = piece.find(self._marker) if self._flips > 0 else -1
            if at < 0:
                return piece
            self._flips -= 1
            self.flipped += 1
        return piece[:at] + bytes([piece[at] ^ 1]) + piece[at + 1 :]

    def push(self, *faults: ConnectionFault) -> None:
        """Faults for the next connections, one each; later ones pass unharmed."""
        with self._lock:
            self._faults.extend(faults)

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, target: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=args, name="faultproxy", daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # stopped
            with self._lock:
                self.opened += 1
                fault = self._faults.popleft() if self._faults else ConnectionFault()
            self._spawn(self._serve, client, fault)

    def _serve(self, client: socket.socket, fault: ConnectionFault) -> None:
        if fault.refuse:
            self._end([client], spoiled=True, reset=True)
            return
        try:
            server = socket.create_connection(self._upstream)
        except OSError:
            client.close()
            return
        pair = [client, server]
        with self._lock:
            self._sockets.update(pair)
        if self._stopped.is_set():  # before anyone knew of them
            self._end(pair, spoiled=False, reset=False)
            return
        cut = threading.Event()
        up = self._spawn(self._pump, client, server, fault.cut_up, None, fault, cut)
        self._pump(server, client, fault.cut_down, fault.stall_down, fault, cut)
        up.join()
        with self._lock:
            self._sockets.difference_update(pair)
        # Only now, with no thread inside a call on them, does closing the sockets take effect at once.
        self._end(pair, spoiled=cut.is_set(), reset=cut.is_set() and fault.reset)

    def _pump(
        self,
        source: socket.socket,
        target: socket.socket,
        cut_at: int | None,
        stall_at: int | None,
        fault: ConnectionFault,
        cut: threading.Event,
    ) -> None:
        """Pass bytes on, one way, until either end closes or the fault strikes."""
        passed = 0
        waiter = select.poll()
        waiter.register(source, select.POLLIN)
        with contextlib.suppress(OSError):
            while not cut.is_set() and not self._stopped.is_set():
                if not waiter.poll(1000):  # woken by what comes, by a cut of the other direction, and at the end
                    continue
                piece = source.recv(65536)
                if not piece:
                    break
                if source.getpeername() == self._upstream:
                    piece = self._flip(piece)
                if fault.latency:
                    self._stopped.wait(fault.latency)
                if stall_at is not None and passed + len(piece) > stall_at:
                    target.sendall(piece[: stall_at - passed])
                    piece, passed, stall_at = piece[stall_at - passed :], stall_at, None
                    self._stopped.wait(fault.stall)
                if cut_at is not None and passed + len(piece) >= cut_at:
                    target.sendall(piece[: cut_at - passed])
                    if fault.half:
                        with self._lock:
                            self.spoiled += 1
                        break
                    self._stopped.wait(0.02)  # let what was sent arrive before an RST discards it
                    cut.set()
                    target.shutdown(socket.SHUT_RD)  # wakes the other direction, and tells nobody
                    return
                target.sendall(piece)
                passed += len(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _end(self, sockets: list[socket.socket], *, spoiled: bool, reset: bool) -> None:
        with self._lock:
            self.spoiled += spoiled
        for sock in sockets:
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
