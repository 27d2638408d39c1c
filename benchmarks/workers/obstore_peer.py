"""obstore: this library and the published Rust one, whose API they share. The same lines measure both."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

from harness import (
    AZURE_CREDENTIALS,
    CHUNK_BYTES,
    CREDENTIALS,
    GCS_CREDENTIALS,
    PART_BYTES,
    PART_CONCURRENCY,
    Peer,
    UnsupportedError,
    main,
)

import obstore
from obstore.store import AzureStore, GCSStore, S3Store

try:
    from obstore import bulk
except ImportError:  # the Rust library
    bulk = None

IN_FLIGHT = 64


def _store(service: str, bucket: str, endpoint: str, options: dict[str, Any]) -> Any:
    if service == "gcs":
        return GCSStore(bucket, base_url=endpoint, client_options=options, **GCS_CREDENTIALS)
    if service == "azure":
        return AzureStore(bucket, endpoint=endpoint, client_options=options, **AZURE_CREDENTIALS)
    return S3Store(bucket, endpoint=endpoint, virtual_hosted_style_request=False, client_options=options, **CREDENTIALS)


class Obstore(Peer):
    modules: ClassVar[tuple[str, ...]] = ("obstore",)

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        options: dict[str, Any] = {"allow_invalid_certificates": True} if self.tls else {"allow_http": True}
        options["timeout"] = "120s"
        self.store: Any = _store(job["service"], self.bucket, self.endpoint, options)
        if job["op"] == "list_arrow":
            importlib.import_module("pyarrow.compute")  # a third of a second that is no part of the operation

    def version(self) -> str:
        return str(obstore.__version__)

    def get(self, key: str) -> int:
        body = obstore.get(self.store, key).bytes()
        if self.job["verify"]:
            self.last = body
        return len(body)

    def get_range(self, key: str, start: int, length: int) -> int:
        return len(obstore.get_range(self.store, key, start=start, length=length))

    def put(self, key: str, data: bytes) -> None:
        obstore.put(self.store, key, data)

    def put_large(self, key: str, data: memoryview) -> None:
        obstore.put(self.store, key, data, chunk_size=PART_BYTES, max_concurrency=PART_CONCURRENCY, use_multipart=True)

    def stream(self, key: str) -> int:
        return sum(len(chunk) for chunk in obstore.get(self.store, key).stream(min_chunk_size=CHUNK_BYTES))

    def download_many(self, keys: list[str], path: str) -> int:
        if bulk is not None:
            return int(bulk.download(self.store, keys, path).bytes)
        return asyncio.run(self._each(keys, lambda key: self._to_file(key, path)))

    def upload_many(self, folder: str, names: list[str]) -> int:
        if bulk is not None:
            return int(bulk.upload(self.store, folder, "up").objects)
        return asyncio.run(self._each(names, lambda name: self._from_file(f"{folder}/{name}", f"up/{name}")))

    async def _from_file(self, path: str, key: str) -> int:
        with open(path, "rb") as file:  # noqa: ASYNC230 - as programs do
            await obstore.put_async(self.store, key, file.read())
        return 1

    def get_many(self, keys: list[str]) -> int:
        if bulk is not None:
            return sum(len(body) for _, body in bulk.get_many(self.store, keys))
        return asyncio.run(self._each(keys, self.aget))

    def download_file(self, key: str, path: str) -> int:
        if bulk is not None:
            return int(bulk.download_file(self.store, key, path).bytes)
        with open(path, "wb") as file:
            return sum(file.write(chunk) for chunk in obstore.get(self.store, key).stream(min_chunk_size=CHUNK_BYTES))

    async def _to_file(self, key: str, path: str) -> int:
        body = await (await obstore.get_async(self.store, key)).bytes_async()
        target = f"{path}/{key}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:  # noqa: ASYNC230 - as programs do
            return file.write(body)

    async def _each(self, keys: list[str], one: Callable[[str], Awaitable[int]]) -> int:
        """What programs write today: `asyncio.gather` of as many tasks as requests are to be in flight."""
        left = iter(keys)

        async def work() -> int:
            return sum([await one(key) for key in left])

        return sum(await asyncio.gather(*[work() for _ in range(IN_FLIGHT)]))

    def list_objects(self) -> int:
        return sum(item["size"] for page in obstore.list(self.store, chunk_size=1000) for item in page)

    def list_concurrent(self) -> int:
        pages = obstore.list(self.store, chunk_size=1000, concurrency="auto")
        return sum(item["size"] for page in pages for item in page)

    def list_arrow(self) -> int:
        import pyarrow as pa
        import pyarrow.compute as pc

        try:
            pages = obstore.list(self.store, chunk_size=1000, return_arrow=True)
        except NotImplementedError as exc:
            raise UnsupportedError from exc
        return int(sum(pc.sum(pa.record_batch(page)["size"]).as_py() for page in pages))

    async def aget(self, key: str) -> int:
        body = await (await obstore.get_async(self.store, key)).bytes_async()
        if self.job["verify"]:
            self.last = body
        return len(body)

    async def aget_range(self, key: str, start: int, length: int) -> int:
        return len(await obstore.get_range_async(self.store, key, start=start, length=length))

    async def aput(self, key: str, data: bytes) -> None:
        await obstore.put_async(self.store, key, data)


if __name__ == "__main__":
    main(Obstore)
