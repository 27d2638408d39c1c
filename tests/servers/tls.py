"""A private certificate authority and server certificates, good and bad, made on the spot."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import trustme


class Authority:
    """A CA of our own.

    Attributes:
        pem: its certificate.
        file: the same in a file, for options that take a path.
    """

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()
        self.file = directory / "ca.pem"
        self.file.write_bytes(self.pem)

    def context(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """A server context with a certificate for ``names`` (default localhost and 127.0.0.1)."""
        not_after = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        certificate = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")), not_after=not_after)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    def files(self, directory: Path, *names: str) -> tuple[Path, Path]:
        """Files of a server's certificate and its key, for ``names`` (default localhost and 127.0.0.1)."""
        certificate = self._ca.issue_cert(*(names or ("localhost", "127.0.0.1")))
        chain, key = directory / "server.pem", directory / "server.key"
        chain.write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        key.write_bytes(certificate.private_key_pem.bytes())
        return chain, key
