"""s3fs: aiobotocore behind fsspec. The async scenarios use its asynchronous instance, the others the ordinary one."""

from __future__ import annotations

from typing import Any, ClassVar

import s3fs
from harness import CHUNK_BYTES, CREDENTIALS, PART_BYTES, PART_CONCURRENCY, Peer, main


class S3fs(Peer):
    modules: ClassVar[tuple[str, ...]] = ("s3fs",)

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        self.options: dict[str, Any] = {
            "key": CREDENTIALS["access_key_id"],
            "secret": CREDENTIALS["secret_access_key"],
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": CREDENTIALS["region"], "verify": job["ca_file"] if self.tls else None},
            "config_kwargs": {"max_pool_connections": max(64, job["concurrency"])},
            "use_listings_cache": False,
            "skip_instance_cache": True,
        }
        if job["face"] == "sync":
            self.fs = s3fs.S3FileSystem(**self.options)

    async def open(self) -> None:
        self.fs = s3fs.S3FileSystem(asynchronous=True, **self.options)
        self.session = await self.fs.set_session()

    async def close(self) -> None:
        await self.session.close()

    def _keep(self, body: bytes) -> int:
        if self.job["verify"]:
            self.last = body
        return len(body)

    def get(self, key: str) -> int:
        return self._keep(self.fs.cat_file(f"{self.bucket}/{key}"))

    def get_range(self, key: str, start: int, length: int) -> int:
        return len(self.fs.cat_file(f"{self.bucket}/{key}", start=start, end=start + length))

    def put(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.bucket}/{key}", data)

    def put_large(self, key: str, data: memoryview) -> None:
        self.fs.pipe_file(f"{self.bucket}/{key}", bytes(data), chunksize=PART_BYTES, max_concurrency=PART_CONCURRENCY)

    def stream(self, key: str) -> int:
        total = 0
        with self.fs.open(f"{self.bucket}/{key}", "rb", block_size=CHUNK_BYTES, cache_type="readahead") as file:
            while chunk := file.read(CHUNK_BYTES):
                total += len(chunk)
        return total

    def list_objects(self) -> int:
        return sum(item["size"] for item in self.fs.find(self.bucket, detail=True).values())

    async def aget(self, key: str) -> int:
        return self._keep(await self.fs._cat_file(f"{self.bucket}/{key}"))  # noqa: SLF001 - fsspec's async API

    async def aget_range(self, key: str, start: int, length: int) -> int:
        return len(await self.fs._cat_file(f"{self.bucket}/{key}", start=start, end=start + length))  # noqa: SLF001

    async def aput(self, key: str, data: bytes) -> None:
        await self.fs._pipe_file(f"{self.bucket}/{key}", data)  # noqa: SLF001


if __name__ == "__main__":
    main(S3fs)
