"""HTTP/1.1, HTTP/2 and HTTP/3 against Caddy: what was asked for is spoken, and many requests share few connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

import obstore as obs
from obstore.store import HTTPStore
from tests.servers.caddy import Caddy
from tests.servers.scripted import Reply, ScriptedServer
from tests.servers.tls import Authority

DATA = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def caddy() -> Iterator[Caddy]:
    with Caddy() as server:
        (server.root / "big").write_bytes(DATA)
        (server.root / "small").write_bytes(b"small")
        yield server


def store_of(caddy: Caddy, **client: object) -> HTTPStore:
    return HTTPStore(caddy.url, client_options={"root_certificate": caddy.pem, **client})


VERSIONS = {
    "1.1": {},
    "2": {"http1_only": False},
    "2 without asking": {"http2_only": True},
    "3": {"http3": True},
}


@pytest.mark.parametrize("asked", list(VERSIONS))
def test_the_version_asked_for_is_spoken(caddy: Caddy, asked: str):
    store = store_of(caddy, **VERSIONS[asked])
    result = obs.get(store, "big")
    assert result.bytes() == DATA
    assert result.timing.http_version == asked.partition(" ")[0]
    assert obs.head(store, "big")["size"] == len(DATA)
    assert obs.get_range(store, "big", start=1000, end=200_000) == DATA[1000:200_000]
    assert b"".join(obs.get(store, "big").stream(min_chunk_size=10_000)) == DATA
    with pytest.raises(obs.NotFoundError):
        obs.get(store, "missing")


@pytest.mark.parametrize("client", [{"http1_only": False}, {"http3": True}], ids=str)
def test_a_server_without_it_is_spoken_to_as_it_can(authority: Authority, client: dict[str, object]):
    with ScriptedServer(tls=authority.context()) as server:
        server.push(Reply(200, body=b"x"))
        store = HTTPStore(server.url, client_options={"root_certificate": authority.pem, **client})
        result = obs.get(store, "k")
        assert (result.timing.http_version, result.bytes()) == ("1.1", b"x")


@pytest.mark.parametrize("asked", ["2", "3"])
def test_many_requests_share_few_connections_but_not_one(caddy: Caddy, asked: str):
    store = store_of(caddy, **VERSIONS[asked])
    before = obs.stats()["connections_opened"]

    async def main() -> list[bytes]:
        results = await asyncio.gather(*(obs.get_async(store, "big") for _ in range(64)))
        return list(await asyncio.gather(*(result.bytes_async() for result in results)))

    bodies = asyncio.run(main())
    assert all(body == DATA for body in bodies)
    opened = obs.stats()["connections_opened"] - before
    assert 1 < opened <= 32


def test_verification_holds_for_every_version(caddy: Caddy):
    for client in VERSIONS.values():
        store = HTTPStore(caddy.url, client_options=client, retry_config={"max_retries": 0})
        with pytest.raises(obs.GenericError, match=r"(?i)certificate|ssl|tls|verif"):
            obs.get(store, "small")
