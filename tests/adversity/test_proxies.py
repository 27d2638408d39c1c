"""Proxies, from the option and from the environment, and hosts that are reached without them."""

from __future__ import annotations

from datetime import timedelta

import pytest

import obstore as obs
from obstore.store import HTTPStore, S3Store
from tests.servers.fakes3 import FakeS3
from tests.servers.forwardproxy import ForwardProxy
from tests.servers.process import free_ports
from tests.servers.proxies import Microsocks, Squid, Tinyproxy
from tests.servers.scripted import Reply, ScriptedServer
from tests.servers.tls import Authority

AUTH = "us er:p@ss:word"
QUOTED = "us%20er:p%40ss%3Aword"
RETRY = {"max_retries": 5, "backoff": {"init_backoff": timedelta(milliseconds=1)}}


@pytest.fixture
def named(scripted: ScriptedServer) -> str:
    """The scripted server by a name that only the proxy knows."""
    scripted.handler = lambda request: Reply(200, body=b"through")
    return f"http://store.example:{scripted.port}"


def store_at(url: str, **client: object) -> HTTPStore:
    return HTTPStore(url, client_options={"allow_http": True, **client}, retry_config=RETRY)


@pytest.mark.parametrize("variable", ["option", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_plain_requests_go_through_the_proxy(named: str, variable: str, monkeypatch: pytest.MonkeyPatch):
    with ForwardProxy() as proxy:
        option = {"proxy_url": f"http://{proxy.address}"} if variable == "option" else {}
        if not option:
            monkeypatch.setenv(variable, proxy.address)  # a scheme is not needed
        assert obs.get(store_at(f"{named}/dir", **option), "k?").bytes() == b"through"
        assert proxy.plain == [f"GET {named}/dir/k%3F HTTP/1.1"]
        assert proxy.tunnels == []


@pytest.mark.parametrize("variable", ["option", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_encrypted_requests_go_through_a_tunnel(authority: Authority, variable: str, monkeypatch: pytest.MonkeyPatch):
    with ForwardProxy() as proxy, FakeS3(tls=authority.context("store.example")) as server:
        server.add("k", b"data" * 1000)
        client: dict[str, object] = {"allow_http": False, "root_certificate": authority.pem}
        if variable == "option":
            client["proxy_url"] = f"http://{proxy.address}"
        else:
            monkeypatch.setenv(variable, f"http://{proxy.address}")
        config = {**server.config(client_options=client), "endpoint": f"https://store.example:{server.port}"}
        store = S3Store(**config)
        assert obs.get(store, "k").bytes() == b"data" * 1000
        obs.put(store, "l", b"x" * 100_000)
        assert server.objects["l"].body == b"x" * 100_000
        assert proxy.tunnels == [f"store.example:{server.port}"], "one tunnel, kept"
        assert all("proxy-authorization" not in r.headers for r in server.requests)


@pytest.mark.parametrize("kind", ["http", "https", "socks5h"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_the_password_is_for_the_proxy_alone(authority: Authority, kind: str, encrypted: bool):
    tls = authority.context() if kind == "https" else None
    target = authority.context("store.example") if encrypted else None
    with ForwardProxy(socks=kind == "socks5h", auth=AUTH, tls=tls) as proxy, ScriptedServer(tls=target) as server:
        server.handler = lambda request: Reply(200, body=b"through")
        url = f"http{'s' if encrypted else ''}://store.example:{server.port}"
        store = store_at(
            url,
            proxy_url=f"{kind}://{QUOTED}@{proxy.address}",
            proxy_ca_certificate=authority.pem.decode(),
            root_certificate=authority.pem,
        )
        assert obs.get(store, "k").bytes() == b"through"
        assert proxy.refused == 0
        assert all("authorization" not in name for r in server.requests for name in r.headers)
        for shown in (repr(store), str(obs.stats())):
            assert "word" not in shown


@pytest.mark.parametrize("kind", ["http", "socks5h"])
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("given", ["", "other:wrong@"])
def test_a_missing_or_wrong_password_is_said_at_once(authority: Authority, kind: str, encrypted: bool, given: str):
    with ForwardProxy(socks=kind == "socks5h", auth=AUTH) as proxy:
        url = f"http{'s' if encrypted else ''}://store.example:1"
        with pytest.raises(obs.GenericError, match=r"407|proxy wants a user") as caught:
            obs.get(store_at(url, proxy_url=f"{kind}://{given}{proxy.address}"), "k")
        assert len(caught.value.attempts) == 1
        assert not caught.value.retryable
        assert "wrong" not in str(caught.value).replace("given are wrong", "")


def test_an_https_proxy_is_verified(authority: Authority, named: str):
    with ForwardProxy(tls=authority.context()) as proxy:
        with pytest.raises(obs.GenericError, match=r"(?i)certificate"):
            obs.get(store_at(named, proxy_url=f"https://{proxy.address}"), "k")
        assert proxy.plain == []
        trusting = store_at(named, proxy_url=f"https://{proxy.address}", proxy_ca_certificate=authority.pem.decode())
        assert obs.get(trusting, "k").bytes() == b"through"


@pytest.mark.parametrize(("status", "tries"), [(403, 1), (502, 6), (503, 6)])
def test_a_proxy_that_makes_no_tunnel(status: int, tries: int):
    with ForwardProxy(refuse=status) as proxy:
        with pytest.raises(obs.GenericError, match="proxy") as caught:
            obs.get(store_at("https://store.example:1", proxy_url=f"http://{proxy.address}"), "k")
        assert len(caught.value.attempts) == tries


def test_a_proxy_that_is_not_there():
    (free_port,) = free_ports(1)
    for proxy in (f"http://127.0.0.1:{free_port}", "http://proxy.invalid:3128"):
        with pytest.raises(obs.ConnectionFailedError):
            obs.get(
                HTTPStore(
                    "https://store.example",
                    client_options={"proxy_url": proxy, "connect_timeout": "2s"},
                    retry_config={"max_retries": 0},
                ),
                "k",
            )


@pytest.mark.parametrize("excludes", ["127.0.0.1", "127.0.0.0/8", "*", "a.example, 127.0.0.0/30", "127.0.0.1:{port}"])
@pytest.mark.parametrize("variable", ["option", "no_proxy", "NO_PROXY"])
def test_hosts_reached_without_the_proxy(
    scripted: ScriptedServer, excludes: str, variable: str, monkeypatch: pytest.MonkeyPatch
):
    scripted.push(Reply(200, body=b"directly"))
    excludes = excludes.format(port=scripted.port)
    with ForwardProxy() as proxy:
        option = {"proxy_url": f"http://{proxy.address}", "proxy_excludes": excludes} if variable == "option" else {}
        if not option:
            monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
            monkeypatch.setenv(variable, excludes)
        assert obs.get(store_at(scripted.url, **option), "k").bytes() == b"directly"
        assert proxy.plain == []


def test_other_hosts_still_go_through_it(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch):
    scripted.push(Reply(200, body=b"through"))
    with ForwardProxy() as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
        monkeypatch.setenv("no_proxy", "10.0.0.0/8,example.org,127.0.0.1:1")
        assert obs.get(store_at(scripted.url), "k").bytes() == b"through"
        assert len(proxy.plain) == 1


def test_an_option_hides_the_environment(named: str, monkeypatch: pytest.MonkeyPatch):
    with ForwardProxy() as proxy:
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        monkeypatch.setenv("no_proxy", "store.example")
        assert obs.get(store_at(named, proxy_url=f"http://{proxy.address}"), "k").bytes() == b"through"


@pytest.mark.parametrize("value", ["ftp://proxy:1", "http://", "http://user:secret@proxy:99999"])
def test_an_environment_that_names_no_proxy_is_an_error(named: str, value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", value)
    with pytest.raises(obs.GenericError, match="proxy") as caught:
        obs.get(store_at(named), "k")
    assert "secret" not in str(caught.value)


@pytest.mark.webservers
@pytest.mark.parametrize("kind", [Tinyproxy, Squid, Microsocks], ids=lambda kind: kind.name)
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_proxies_of_the_distribution(authority: Authority, kind: type[Tinyproxy], encrypted: bool):
    data = bytes(range(256)) * 4000
    tls = authority.context() if encrypted else None
    with kind() as proxy, ScriptedServer(tls=tls) as server:
        server.handler = lambda request: Reply(200, body=data)
        client = {"root_certificate": authority.pem, "proxy_url": f"{proxy.scheme}://user:pass@{proxy.address}"}
        url = server.url.replace("127.0.0.1", "localhost")
        assert obs.get(store_at(url, **client), "k").bytes() == data
        obs.put(store_at(url, **client), "k", data)
        assert server.requests[-1].body == data
        count = server.count()
        wrong = {**client, "proxy_url": f"{proxy.scheme}://user:wrong@{proxy.address}"}
        # tinyproxy's status is 401, as if it were the server.
        with pytest.raises(obs.BaseError, match=r"407|401|proxy wants") as caught:
            obs.get(store_at(url, **wrong), "k")
        assert len(caught.value.attempts) == 1
        assert server.count() == count
