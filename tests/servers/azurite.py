"""Azurite: Microsoft's emulator of the Blob service. It checks Shared Key, SAS and, over TLS, claims of bearer tokens.

It does not check: clock skew, signatures of tokens, CRC64. It lacks: Put Blob From URL, versions, ``startFrom``. To ranges that
count from the end it answers, which the real service does not.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.install import environment
from tests.servers.process import Server, clean_env, free_ports, port_listens
from tests.servers.tls import Authority

_KEY = base64.b64encode(b"key of the tests").decode()
# The newest that Azurite takes.
JUDGE_VERSION = "2025-11-05"


@dataclass(frozen=True)
class AzureEndpoint:
    """Where a Blob service listens, and as whom to speak to it.

    Attributes:
        url: of the account.
        account: its name.
        key: of the account.
        ca_file: what to verify the server by; ``None``: it speaks plain HTTP.
    """

    url: str
    account: str
    key: str = field(repr=False)
    ca_file: Path | None = None

    def client(self) -> Any:
        """An azure-storage-blob client of the account: the second opinion on everything that ours did."""
        from azure.storage.blob import BlobServiceClient

        verify = {} if self.ca_file is None else {"connection_verify": str(self.ca_file)}
        credential = {"account_name": self.account, "account_key": self.key}
        return BlobServiceClient(self.url, credential=credential, api_version=JUDGE_VERSION, **verify)

    def create_container(self) -> str:
        """Make a container and return its name."""
        name = f"c-{secrets.token_hex(8)}"
        with self.client() as client:
            client.create_container(name)
        return name

    def client_options(self) -> dict[str, Any]:
        if self.ca_file is None:
            return {"allow_http": True}
        return {"root_certificate": self.ca_file.read_bytes()}

    def anonymous_config(self, container: str) -> dict[str, Any]:
        """Keyword arguments of ``AzureStore`` without any credential."""
        return {
            "container_name": container,
            "account_name": self.account,
            "endpoint": self.url,
            "client_options": self.client_options(),
        }

    def config(self, container: str) -> dict[str, Any]:
        """Keyword arguments of ``AzureStore`` for ``container`` on this server."""
        return {**self.anonymous_config(container), "account_key": self.key}


class Azurite(Server):
    """A Blob service that keeps everything in memory; with an authority, by TLS and with OAuth."""

    name = "azurite"
    endpoint: AzureEndpoint

    def __init__(self, authority: Authority | None = None) -> None:
        super().__init__()
        self._authority = authority

    def _start(self) -> None:
        bin_ = environment("azurite")
        (port,) = free_ports(1)
        scheme, tls = "http", []
        if self._authority is not None:
            chain, key = self._authority.files(self.directory)
            scheme, tls = "https", ["--cert", chain, "--key", key, "--oauth", "basic"]
        command = [
            *("node", "--max-old-space-size=1024", bin_ / "azurite-blob"),
            *("--blobHost", "127.0.0.1", "--blobPort", str(port)),
            *("--inMemoryPersistence", "--extentMemoryLimit", "1024", "--silent", "--disableTelemetry", *tls),
        ]
        self._run([command], port_listens(port), env=clean_env(AZURITE_ACCOUNTS=f"account1:{_KEY}"))
        ca_file = None if self._authority is None else self._authority.file
        self.endpoint = AzureEndpoint(f"{scheme}://127.0.0.1:{port}/account1", "account1", _KEY, ca_file)
