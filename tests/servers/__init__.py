"""Servers that tests, the demonstration and the benchmarks start for themselves, on free ports of 127.0.0.1."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.servers.s3 import S3Endpoint

__all__ = ["demo_server"]


@contextlib.contextmanager
def demo_server() -> Iterator[S3Endpoint]:
    """A real S3 server that one pip installation brings, fast enough for thousands of small objects a second.

    It is rclone's. Signatures are checked and buckets cost no request (``endpoint.create_bucket()``), but ranges are
    answered with the whole object and user metadata is lost: use `moto.MotoGunicorn` to show those.

    Yields:
        The endpoint: ``url``, ``access_key_id``, ``secret_access_key``, ``region``, ``create_bucket()`` and
        ``config(bucket)``, the keyword arguments of ``S3Store``.
    """
    from tests.servers.rclone import Rclone

    with Rclone() as server:
        yield server.endpoint
