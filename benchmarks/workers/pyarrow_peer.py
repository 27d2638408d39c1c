"""pyarrow.fs.S3FileSystem. Opening an object asks for its size first: a read is two requests."""

from __future__ import annotations

from typing import Any, ClassVar

from harness import CHUNK_BYTES, CREDENTIALS, Peer, main
from pyarrow import fs, set_io_thread_count


class PyArrow(Peer):
    has_async: ClassVar[bool] = False
    modules: ClassVar[tuple[str, ...]] = ("pyarrow",)

    def __init__(self, job: dict[str, Any]) -> None:
        super().__init__(job)
        set_io_thread_count(max(8, job["concurrency"]))
        scheme, _, host = self.endpoint.partition("://")
        self.fs = fs.S3FileSystem(
            access_key=CREDENTIALS["access_key_id"],
            secret_key=CREDENTIALS["secret_access_key"],
            region=CREDENTIALS["region"],
            scheme=scheme,
            endpoint_override=host,
            force_virtual_addressing=False,
            tls_ca_file_path=job["ca_file"] if self.tls else None,
            allow_delayed_open=True,  # a small object is one request, not a multipart upload
            background_writes=job["op"] != "put",  # which would only change threads
        )

    def get(self, key: str) -> int:
        with self.fs.open_input_file(f"{self.bucket}/{key}") as file:
            body = file.readall()
        if self.job["verify"]:
            self.last = body
        return len(body)

    def get_range(self, key: str, start: int, length: int) -> int:
        with self.fs.open_input_file(f"{self.bucket}/{key}") as file:
            return len(file.read_at(length, start))

    def put(self, key: str, data: bytes) -> None:
        with self.fs.open_output_stream(f"{self.bucket}/{key}") as file:
            file.write(data)

    def put_large(self, key: str, data: memoryview) -> None:
        with self.fs.open_output_stream(f"{self.bucket}/{key}") as file:
            file.write(data)

    def stream(self, key: str) -> int:
        total = 0
        with self.fs.open_input_stream(f"{self.bucket}/{key}") as file:
            while chunk := file.read(CHUNK_BYTES):
                total += len(chunk)
        return total

    def list_objects(self) -> int:
        found = self.fs.get_file_info(fs.FileSelector(self.bucket, recursive=True))
        return sum(item.size for item in found if item.type is fs.FileType.File)


if __name__ == "__main__":
    main(PyArrow)
