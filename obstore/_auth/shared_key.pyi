from collections.abc import Sequence
from typing import final

@final
class Hmac:
    def __init__(self, key: str) -> None: ...
    def states(self) -> bytes: ...
    def sign(self, text: str) -> str: ...

def http_date(now: float) -> str: ...
def string_to_sign(
    method: str,
    account: str,
    path: str,
    query: Sequence[tuple[str, str | None]],
    headers: Sequence[tuple[str, str]],
    length: int,
) -> str: ...
def authorize(
    hmac: Hmac,
    method: str,
    account: str,
    path: str,
    query: Sequence[tuple[str, str | None]],
    headers: Sequence[tuple[str, str]],
    length: int,
) -> str: ...
