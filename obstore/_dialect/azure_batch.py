"""Blob batches: many deletions in one request, each with a signature of its own.

Source: "Blob Batch", learn.microsoft.com/rest/api/storageservices/blob-batch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

__all__ = ["Answered", "build_batch", "read_batch"]

_BOUNDARY = re.compile(r'multipart/mixed\s*;.*?boundary="?([^";,\s]+)', re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})")


class Answered:
    """What became of one request of a batch; reads like a `Response`.

    Attributes:
        index: the request's place in the batch; ``None`` where the answer does not say.
        status: HTTP status.
        body: of the answer.
    """

    __slots__ = ("_headers", "body", "index", "status")

    def __init__(self, index: int | None, status: int, headers: dict[str, str], body: bytes) -> None:
        self.index = index
        self.status = status
        self.body = body
        self._headers = headers

    def header(self, name: str) -> str | None:
        """Value of the header (any case) or ``None``."""
        return self._headers.get(name.lower())

    def headers(self) -> list[tuple[str, str]]:
        """All headers, names in lower case."""
        return list(self._headers.items())


def build_batch(boundary: str, requests: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> bytes:
    """The body of a batch of deletions.

    Args:
        boundary: between the parts; must occur in none of them.
        requests: path with query, and headers, of each.
    """
    lines: list[str] = []
    for index, (target, headers) in enumerate(requests):
        lines += (
            f"--{boundary}",
            "Content-Type: application/http",
            "Content-Transfer-Encoding: binary",
            f"Content-ID: {index}",
            "",
            f"DELETE {target} HTTP/1.1",
        )
        lines += [f"{name}: {value}" for name, value in headers]
        lines += ("Content-Length: 0", "", "")
    lines += (f"--{boundary}--", "")
    return "\r\n".join(lines).encode()


def read_batch(content_type: str | None, body: bytes) -> list[Answered]:
    """The answers in a batch's answer, in its order.

    Raises:
        ValueError: it is no such document.
    """
    found = _BOUNDARY.match(content_type or "")
    if found is None:
        raise ValueError("its Content-Type names no boundary")
    delimiter = b"--" + found[1].encode()
    parts = (b"\n" + body).split(b"\n" + delimiter)
    if len(parts) < 2:
        raise ValueError("it has no parts")
    answers: list[Answered] = []
    for part in parts[1:]:
        if part.startswith(b"--"):
            return answers
        answers.append(_answer(part))
    raise ValueError("it is cut short")


def _answer(part: bytes) -> Answered:
    lines = iter(part.split(b"\n"))
    next(lines)  # what is left of the delimiter's line
    outer = dict(_headers(lines))
    status = _STATUS.match(next(lines, b""))
    if status is None:
        raise ValueError("a part holds no HTTP answer")
    headers = dict(_headers(lines))
    index = outer.get("content-id", "")
    return Answered(
        int(index) if index.isascii() and index.isdigit() and len(index) < 6 else None,
        int(status[1]),
        headers,
        b"\n".join(lines).strip(),
    )


def _headers(lines: Iterator[bytes]) -> Iterator[tuple[str, str]]:
    """Up to the empty line."""
    for line in lines:
        text = line.decode("utf-8", "replace").strip()
        if not text:
            return
        name, _, value = text.partition(":")
        yield name.strip().lower(), value.strip()
