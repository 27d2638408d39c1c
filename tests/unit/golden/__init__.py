"""What the dialect tests compare with: requests byte for byte, and answers as real services give them.

``requests.txt`` holds one request for each heading, ``answers.txt`` one refusal for each heading and what becomes of it.
After a deliberate change, ``python -m tests.unit.golden`` writes both anew; read the diff before committing it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from obstore._config.s3 import S3Settings
from obstore._dialect.s3 import S3Dialect
from obstore._types import Buffer

HERE = Path(__file__).parent


class Credential(NamedTuple):
    access_key_id: str
    secret_access_key: str
    token: str | None


CREDENTIAL = Credential("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None)
SESSION = Credential("ASIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "FwoGZXIvYXdz")
NOW = 1369353600.0  # 2013-05-24T00:00:00Z


class Answer:
    """A `Response` out of a list of headers."""

    def __init__(self, status: int, headers: Sequence[tuple[str, str]] | dict[str, str] = ()) -> None:
        self.status = status
        self._headers = list(headers.items() if isinstance(headers, dict) else headers)

    def header(self, name: str) -> str | None:
        values = [value for known, value in self._headers if known == name.lower()]
        return values[-1] if values else None

    def headers(self) -> list[tuple[str, str]]:
        return list(self._headers)


def toy_crc(data: Buffer, value: int = 0) -> int:
    """Stands in for the engine's CRC-64/NVME: what matters here is that buffers are chained and 8 bytes are sent."""
    return (value * 257 + sum(bytes(data))) % 2**64


def dialect(**changes: Any) -> S3Dialect:
    own = {name: changes.pop(name) for name in ("default_headers", "default_content_type", "prefix") if name in changes}
    return S3Dialect(S3Settings(**{"bucket": "bk", **changes}), crcs={"CRC64NVME": toy_crc}, **own)


def sections(name: str) -> Iterator[tuple[str, str]]:
    """Heading and text of every section of a golden file."""
    for part in (HERE / name).read_text("utf-8").split("=== ")[1:]:
        heading, _, text = part.partition("\n")
        yield heading, text.rstrip("\n")
