"""What a running S3 server is to a test: an endpoint, keys, and an independent client to judge by."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class S3Endpoint:
    """Where an S3 server listens and with which keys.

    Attributes:
        url: ``http://127.0.0.1:port``.
        access_key_id: key of a user that may do everything.
        secret_access_key: its secret.
        region: what requests are signed for.
    """

    url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str = "us-east-1"

    def client(self, service: str = "s3") -> Any:
        """A boto3 client of this server: the second opinion on everything that our client did."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 10}),
        )

    def create_bucket(self, name: str | None = None) -> str:
        """Make a bucket (a fresh random name by default) and return its name."""
        name = name or f"b-{secrets.token_hex(8)}"
        client = self.client()
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return name

    def config(self, bucket: str) -> dict[str, Any]:
        """Keyword arguments of ``S3Store`` for ``bucket`` on this server."""
        return {
            "bucket": bucket,
            "endpoint": self.url,
            "access_key_id": self.access_key_id,
            "secret_access_key": self.secret_access_key,
            "region": self.region,
            "client_options": {"allow_http": True},
        }
