from collections.abc import Callable, Sequence
from typing import Final, final

from obstore._types import Buffer

UNSIGNED: Final = "UNSIGNED-PAYLOAD"

def quote_key(key: str) -> str: ...
def encode_query(query: Sequence[tuple[str, str | None]]) -> str: ...
def payload_hash(body: Sequence[Buffer] | None) -> str: ...
def hashes_pairs() -> bool: ...
def payload_hashes(bodies: Sequence[Sequence[Buffer]]) -> list[str]: ...
def content_md5(body: Sequence[Buffer] | None) -> str: ...
def signing_key(secret: str, day: str, region: str, service: str) -> bytes: ...

@final
class Signer:
    service: Final[str]
    def __init__(
        self,
        service: str = "s3",
        *,
        normalize_path: bool = False,
        double_encode: bool = False,
        payload_header: bool = True,
        token_header: str = "x-amz-security-token",  # noqa: S107
    ) -> None: ...
    def sign(
        self,
        method: str,
        host: str,
        path: str,
        query: Sequence[tuple[str, str | None]],
        headers: Sequence[tuple[str, str]],
        payload_hash: str,
        access_key_id: str,
        secret_access_key: str,
        token: str | None,
        region: str,
        now: float,
    ) -> list[tuple[str, str]]: ...
    def presign(
        self,
        method: str,
        host: str,
        path: str,
        query: Sequence[tuple[str, str | None]],
        headers: Sequence[tuple[str, str]],
        expires: int,
        access_key_id: str,
        secret_access_key: str,
        token: str | None,
        region: str,
        now: float,
        payload_hash: str = "UNSIGNED-PAYLOAD",
    ) -> str: ...
    def sign_policy(
        self,
        policy: Callable[[dict[str, str]], str],
        access_key_id: str,
        secret_access_key: str,
        token: str | None,
        region: str,
        now: float,
    ) -> dict[str, str]: ...
