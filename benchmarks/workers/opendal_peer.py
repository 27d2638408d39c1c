"""opendal: Rust behind Python, with synchronous and asynchronous operators."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from harness import CHUNK_BYTES, CREDENTIALS, PART_BYTES, PART_CONCURRENCY, Peer, main


class OpenDAL(Peer):
    modules: ClassVar[tuple[str, ...]] = ("opendal",)

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        os.environ["SSL_CERT_FILE"] = job["ca_file"]  # it has no option for it
        import opendal

        make = opendal.AsyncOperator if job["face"] == "async" else opendal.Operator
        self.operator: Any = make(
            "s3", bucket=self.bucket, endpoint=self.endpoint, disable_config_load="true", **CREDENTIALS
        )

    def _keep(self, body: Any) -> int:
        if self.job["verify"]:
            self.last = body
        return len(body)

    def get(self, key: str) -> int:
        return self._keep(self.operator.read(key))

    def get_range(self, key: str, start: int, length: int) -> int:
        return len(self.operator.read(key, offset=start, size=length))

    def put(self, key: str, data: bytes) -> None:
        self.operator.write(key, data)

    def put_large(self, key: str, data: memoryview) -> None:
        self.operator.write(key, bytes(data), chunk=PART_BYTES, concurrent=PART_CONCURRENCY)

    def stream(self, key: str) -> int:
        total = 0
        with self.operator.open(key, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                total += len(chunk)
        return total

    def list_objects(self) -> int:
        found = self.operator.list("", recursive=True)
        return sum(item.metadata.content_length for item in found if not item.path.endswith("/"))

    async def aget(self, key: str) -> int:
        return self._keep(await self.operator.read(key))

    async def aget_range(self, key: str, start: int, length: int) -> int:
        return len(await self.operator.read(key, offset=start, size=length))

    async def aput(self, key: str, data: bytes) -> None:
        await self.operator.write(key, data)


if __name__ == "__main__":
    main(OpenDAL)
