"""An object server without contents, in a process of its own: reads yield zeros of any length, writes are forgotten.

``GET`` and ``HEAD`` of ``/bucket/<bytes>`` answer an object of that size, with ranges; ``PUT`` takes anything; ``POST``
begins and completes multipart uploads. A listing of ``few/`` or ``many/`` has 100 or 1,000 pages of 1,000 keys, which can be deleted
(each page has the same ones: nobody compares). Bodies are neither stored nor copied, so that what is measured is the client.
"""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio import BufferedProtocol, Transport
from typing import cast

from tests.servers.process import PROJECT, Server, clean_env, free_ports, port_listens

_ZEROS = bytes(1 << 20)
_BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
_DONE = b'<CompleteMultipartUploadResult><ETag>"done"</ETag></CompleteMultipartUploadResult>'
_PAGES = {"few": 100, "many": 1000}
_ENTRIES = {
    prefix: "".join(
        f"<Contents><Key>{prefix}/{number}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f"<ETag>&quot;e&quot;</ETag><Size>{number}</Size></Contents>"
        for number in range(1000)
    )
    for prefix in _PAGES
}
_DELETED = (
    "<DeleteResult>"
    + "".join(f"<Deleted><Key>{prefix}/{number}</Key></Deleted>" for prefix in _PAGES for number in range(1000))
    + "</DeleteResult>"
).encode()


def _page(query: str) -> bytes:
    """A page of a listing; its continuation token is its number."""
    prefix = next(prefix for prefix in _PAGES if f"prefix={prefix}" in query)
    found = re.search(r"continuation-token=(\d+)", query)
    after = 1 + (int(found[1]) if found else 0)
    more = after < _PAGES[prefix]
    token = f"<NextContinuationToken>{after}</NextContinuationToken>" if more else ""
    text = (
        f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{_ENTRIES[prefix]}</ListBucketResult>"
    )
    return text.encode()


class HugeServer(Server):
    """The server as a process; ``url`` once entered."""

    name = "huge"
    url: str

    def _start(self) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "tests.endurance.huge", str(port)]
        self._run([command], port_listens(port), env=clean_env(PYTHONPATH=str(PROJECT)))


class _Connection(BufferedProtocol):
    """One client: heads are read into ``_head``, bodies into a scratch buffer that nobody looks at."""

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(1 << 20))
        self._head = b""
        self._left = 0  # of a request's body
        self._unsent = 0  # of an answer's
        self._answer = b""
        self._writable = True
        self._transport: Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None

    def get_buffer(self, _: int) -> memoryview:
        return self._scratch

    def buffer_updated(self, count: int) -> None:
        used = min(count, self._left)
        self._left -= used
        if used and self._left == 0:
            self._send(self._answer)
        if used < count:
            self._head += bytes(self._scratch[used:count])
        while self._left == 0 and b"\r\n\r\n" in self._head:
            head, _, rest = self._head.partition(b"\r\n\r\n")
            self._head = b""
            self._request(head.decode("latin-1"))
            taken = min(len(rest), self._left)
            self._left -= taken
            if taken and self._left == 0:
                self._send(self._answer)
            self._head = rest[taken:]

    def _request(self, head: str) -> None:
        line, *fields = head.split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        if "list-type=2" in target:
            page = _page(target)
            self._send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(page)}\r\n\r\n".encode() + page)
            return
        if method in ("GET", "HEAD"):
            self._read(method, target, headers.get("range"))
            return
        body = b""
        if method == "POST":
            body = _DELETED if "?delete" in target else _BEGUN if "uploads" in target else _DONE
        self._answer = f'HTTP/1.1 200 OK\r\netag: "e"\r\ncontent-length: {len(body)}\r\n\r\n'.encode() + body
        self._left = int(headers.get("content-length", "0"))
        if self._left == 0:
            self._send(self._answer)

    def _read(self, method: str, target: str, wanted: str | None) -> None:
        size = int(target.rpartition("/")[2])
        status, start, end, extra = "200 OK", 0, size, ""
        if wanted and (found := re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)):
            start = int(found[1])
            end = int(found[2]) + 1 if found[2] else size
            status, extra = "206 Partial Content", f"content-range: bytes {start}-{end - 1}/{size}\r\n"
        self._send(
            f'HTTP/1.1 {status}\r\netag: "e"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n{extra}'
            f"content-length: {end - start}\r\n\r\n".encode()
        )
        if method == "GET":
            self._unsent = end - start
            self.resume_writing()

    def _send(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        while self._unsent and self._writable and self._transport is not None:
            piece = min(self._unsent, len(_ZEROS))
            self._unsent -= piece
            self._transport.write(_ZEROS[:piece] if piece < len(_ZEROS) else _ZEROS)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
