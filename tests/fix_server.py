"""Fixtures: servers. Real ones live for the session and start when first asked for; scripted ones live for a test.

A server that does not start fails the test that asked for it. Nothing here skips.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

from tests.servers.ceph import Ceph
from tests.servers.dav import ApacheDav, LighttpdDav, NginxDav, WsgiDav
from tests.servers.fakes3 import FakeS3
from tests.servers.faultproxy import FaultProxy
from tests.servers.gcs import FakeGCS
from tests.servers.google import GoogleAuth, GoogleXML
from tests.servers.localstack import LocalStack
from tests.servers.moto import Moto, MotoGunicorn
from tests.servers.rclone import Rclone
from tests.servers.scripted import ScriptedServer
from tests.servers.swift import Swift
from tests.servers.tls import Authority


@pytest.fixture(scope="session")
def swift() -> Iterator[Swift]:
    with Swift() as server:
        yield server


@pytest.fixture(scope="session")
def moto_auth() -> Iterator[Moto]:
    with Moto(auth=True) as server:
        yield server


@pytest.fixture(scope="session")
def moto_gunicorn() -> Iterator[MotoGunicorn]:
    with MotoGunicorn() as server:
        yield server


@pytest.fixture(scope="session")
def rclone() -> Iterator[Rclone]:
    with Rclone() as server:
        yield server


@pytest.fixture(scope="session")
def fake_gcs() -> Iterator[FakeGCS]:
    with FakeGCS() as server:
        yield server


@pytest.fixture(scope="session")
def google_auth(fake_gcs: FakeGCS) -> Iterator[GoogleAuth]:
    with GoogleAuth(fake_gcs.endpoint.url) as server:
        yield server


@pytest.fixture(scope="session")
def google_xml(moto_gunicorn: MotoGunicorn) -> Iterator[GoogleXML]:
    with GoogleXML(moto_gunicorn.endpoint.url) as server:
        yield server


@pytest.fixture(scope="session")
def localstack() -> Iterator[LocalStack]:
    with LocalStack() as server:
        yield server


@pytest.fixture(scope="session")
def ceph() -> Iterator[Ceph]:
    with Ceph() as server:
        yield server


@pytest.fixture(scope="session")
def webdav() -> Iterator[WsgiDav]:
    with WsgiDav() as server:
        yield server


@pytest.fixture(scope="session")
def apache() -> Iterator[ApacheDav]:
    with ApacheDav() as server:
        yield server


@pytest.fixture(scope="session")
def nginx() -> Iterator[NginxDav]:
    with NginxDav() as server:
        yield server


@pytest.fixture(scope="session")
def lighttpd() -> Iterator[LighttpdDav]:
    with LighttpdDav() as server:
        yield server


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """An HTTP server that answers what the test pushes."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def fake_s3() -> Iterator[FakeS3]:
    """An S3 in memory that takes faults."""
    with FakeS3() as server:
        yield server


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[str], FaultProxy]]:
    """Makes proxies in front of a URL; they end with the test."""
    proxies: list[FaultProxy] = []

    def make(upstream: str) -> FaultProxy:
        proxies.append(FaultProxy(upstream).__enter__())
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.__exit__(None, None, None)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority that nobody trusts unless told to."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(autouse=True)
def no_ambient_clouds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's credentials, profiles and proxies out of every test."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "AZURE_")) or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)
    for name in ("SERVICE_ACCOUNT", "STORAGE_EMULATOR_HOST", "GCE_METADATA_HOST", "GCE_METADATA_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", os.devnull)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
