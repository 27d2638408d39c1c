"""boto3: one client for all threads, as its documentation recommends."""

from __future__ import annotations

import io
import os
from typing import Any, ClassVar

import boto3
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from harness import CHUNK_BYTES, CREDENTIALS, PART_BYTES, PART_CONCURRENCY, Peer, main

IN_FLIGHT = 64


class Boto3(Peer):
    has_async: ClassVar[bool] = False
    modules: ClassVar[tuple[str, ...]] = ("boto3",)

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        self.client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=CREDENTIALS["region"],
            aws_access_key_id=CREDENTIALS["access_key_id"],
            aws_secret_access_key=CREDENTIALS["secret_access_key"],
            verify=job["ca_file"] if self.tls else None,
            config=Config(max_pool_connections=max(64, job["concurrency"]), s3={"addressing_style": "path"}),
        )

    def get(self, key: str) -> int:
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        if self.job["verify"]:
            self.last = body
        return len(body)

    def get_range(self, key: str, start: int, length: int) -> int:
        wanted = f"bytes={start}-{start + length - 1}"
        return len(self.client.get_object(Bucket=self.bucket, Key=key, Range=wanted)["Body"].read())

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def put_large(self, key: str, data: memoryview) -> None:
        config = TransferConfig(multipart_chunksize=PART_BYTES, max_concurrency=PART_CONCURRENCY)
        self.client.upload_fileobj(io.BytesIO(data), self.bucket, key, Config=config)

    def stream(self, key: str) -> int:
        body = self.client.get_object(Bucket=self.bucket, Key=key)["Body"]
        return sum(len(chunk) for chunk in body.iter_chunks(CHUNK_BYTES))

    def download_many(self, keys: list[str], path: str) -> int:
        config = TransferConfig(max_concurrency=IN_FLIGHT)
        with create_transfer_manager(self.client, config) as manager:
            for key in keys:
                target = f"{path}/{key}"
                os.makedirs(os.path.dirname(target), exist_ok=True)
                manager.download(self.bucket, key, target)
        return 0

    def download_file(self, key: str, path: str) -> int:
        self.client.download_file(self.bucket, key, path, Config=TransferConfig(max_concurrency=16))
        return 0

    def list_objects(self) -> int:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return sum(item["Size"] for page in pages for item in page["Contents"])


if __name__ == "__main__":
    main(Boto3)
