"""``rclone serve s3``: fast and it checks signatures, but it answers ranges with 200 and ignores conditions."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from tests.servers.install import environment
from tests.servers.process import Server, free_ports, port_listens
from tests.servers.s3 import S3Endpoint


@dataclass(frozen=True)
class _Endpoint(S3Endpoint):
    root: Path = Path()

    def create_bucket(self, name: str | None = None) -> str:
        """A bucket is a directory here, which spares the caller boto3."""
        name = name or f"b-{secrets.token_hex(8)}"
        (self.root / name).mkdir()
        return name


class Rclone(Server):
    """An S3 server over a directory; ``endpoint`` once entered."""

    name = "rclone"
    endpoint: S3Endpoint

    def _start(self) -> None:
        rclone = environment("rclone") / "rclone"
        (port,) = free_ports(1)
        root = self.directory / "data"
        root.mkdir()
        command: list[str | os.PathLike[str]] = [
            *(rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", "AKIDTEST,SECRETTEST"),
            *("--vfs-cache-mode", "off", "--config", "/dev/null", root),
        ]
        self._run([command], port_listens(port))
        self.endpoint = _Endpoint(f"http://127.0.0.1:{port}", "AKIDTEST", "SECRETTEST", root=root)
