"""Checksums that travel in headers: made for uploads, and compared for downloads."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from obstore._types import Buffer
from obstore.exceptions import IntegrityError

__all__ = ["ALGORITHMS", "Checksum", "Crcs"]

# Functions ``crc(buffer, value) -> int`` that continue ``value``, by algorithm.
Crcs: TypeAlias = Mapping[str, Callable[[Buffer, int], int]]

# What services call them, and bytes of their values.
ALGORITHMS = {"CRC64NVME": 8, "CRC32C": 4, "CRC32": 4, "SHA256": 32}


class Checksum:
    """A checksum under way: fed with a body, piece by piece.

    Args:
        algorithm: of `ALGORITHMS`.
        crcs: the CRCs that the standard library does not have.
        expected: what it should come to, in base64; for `verify`.
    """

    __slots__ = ("_crc", "_hash", "_value", "algorithm", "expected")

    def __init__(self, algorithm: str, crcs: Crcs, expected: str | None = None) -> None:
        self.algorithm = algorithm
        self.expected = expected
        self._hash: Any = None
        if algorithm == "SHA256":
            from hashlib import sha256  # it loads OpenSSL, and few ask for it

            self._hash = sha256()
        self._crc = zlib.crc32 if algorithm == "CRC32" else crcs.get(algorithm)
        self._value = 0

    def update(self, buffer: Buffer) -> None:
        """Feed the next piece of the body. The GIL is released for pieces that are worth it."""
        if self._hash is not None:
            self._hash.update(buffer)
        elif self._crc is not None:
            self._value = self._crc(buffer, self._value)

    def digest(self) -> bytes:
        """The value of what was fed."""
        if self._hash is not None:
            value: bytes = self._hash.digest()
            return value
        return self._value.to_bytes(ALGORITHMS[self.algorithm], "big")

    def base64(self) -> str:
        """The value as headers have it."""
        return base64.b64encode(self.digest()).decode("ascii")

    def verify(self, store: str, key: str) -> None:
        """Compare it with what was expected.

        Raises:
            IntegrityError: it is something else.
        """
        if self.digest() != _bytes_of(self.expected or ""):
            detail = f"what arrived of {key} does not match its {self.algorithm} checksum"
            raise IntegrityError.of(
                store, detail, key=key, retryable=True, hint="something on the way changes bytes: a proxy, perhaps"
            )

    @classmethod
    def of(cls, algorithm: str, crcs: Crcs, body: Sequence[Buffer]) -> str:
        """The checksum of a whole body, as headers have it."""
        made = cls(algorithm, crcs)
        for buffer in body:
            made.update(buffer)
        return made.base64()


def _bytes_of(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
