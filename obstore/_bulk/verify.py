"""Checksums that cannot be put together from those of parts: the bytes are read once more, in order, as they come to be there."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from obstore._effects import Call, Op, Sleep
from obstore._engine._core import DIGEST_MD5, DIGEST_NONE, digest_name, digest_update
from obstore.exceptions import IntegrityError

_BLOCK_BYTES = 4 << 20
_WAIT_SECONDS = 0.005
_BREATH_SECONDS = 0.0001  # between two blocks: on a caller's thread, whatever runs beside it waits meanwhile


def md5_value(digest: Any) -> int:
    """What the engine keeps of an MD5: its first 64 bits."""
    return int.from_bytes(digest.digest()[:8], "big")


class Md5:
    """The MD5 of a file whose bytes arrive in any order.

    Args:
        fd: of the file.
        size: bytes of it.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._at = 0
        self._digest = hashlib.md5(usedforsecurity=False)

    @property
    def value(self) -> int:
        """Of what was read."""
        return md5_value(self._digest)

    def follow(self, pieces: list[Any]) -> Op[None]:
        """Read all of it, waiting for what is not there yet: pieces with ``start`` and ``end``, growing in number."""
        while self._at < self._size:
            end = max((piece.end for piece in pieces if piece.start <= self._at), default=0)
            if end <= self._at:
                yield Sleep(_WAIT_SECONDS)
                continue
            yield Call(self._read, min(end, self._at + _BLOCK_BYTES))
            yield Sleep(_BREATH_SECONDS)

    def _read(self, end: int) -> None:
        while self._at < end:
            block = os.pread(self._fd, min(1 << 20, end - self._at), self._at)
            if not block:
                raise OSError("the file became shorter while it was written")
            self._digest.update(block)
            self._at += len(block)


def check_body(store: str, key: str, body: Any, announced: tuple[int, int | None]) -> Op[None]:
    """Compare a whole body with what its response announced.

    Raises:
        IntegrityError: they differ.
    """
    kind, expected = announced
    if kind == DIGEST_NONE or expected is None:
        return
    if (yield Call(_digest_of, kind, body)) != expected:
        raise IntegrityError.of(store, mismatch(key, kind), key=key, retryable=True)


def _digest_of(kind: int, body: Any) -> int:
    if kind == DIGEST_MD5:
        return md5_value(hashlib.md5(body, usedforsecurity=False))
    return digest_update(kind, body)


def mismatch(key: str, kind: int) -> str:
    """What to say of content that does not match its checksum."""
    text = f"the content of {key} does not match its {digest_name(kind).upper()}"
    if kind == DIGEST_MD5:
        text += ", which its ETag or Content-MD5 says; verify=False for a service where they are something else"
    return text
