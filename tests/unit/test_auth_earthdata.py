"""Earthdata's exchange, replayed after https://data.lpdaac.earthdatacloud.nasa.gov/s3credentialsREADME.

Two scripted servers by two names: the archive (127.0.0.1) and the login (localhost).
"""

from __future__ import annotations

import asyncio
import base64
import json
import pickle
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

import obstore as obs
from obstore.auth.earthdata import (
    DEFAULT_EARTHDATA_HOST,
    NasaEarthdataAsyncCredentialProvider,
    NasaEarthdataCredentialProvider,
)
from tests.servers.fakes3 import FakeS3
from tests.servers.scripted import Reply, Request, ScriptedServer

KEYS = {"accessKeyId": "ASIAEXAMPLE", "secretAccessKey": "secret/key", "sessionToken": "token=="}


class Earthdata:
    """An archive and its login: OAuth's round trip, with a cookie at its end."""

    def __init__(self, archive: ScriptedServer, login: ScriptedServer) -> None:
        self.archive, self.login = archive, login
        self.url = f"{archive.url}/s3credentials"
        self.user = "user:pass:word"
        self.token = "bearer"
        self.expiration = (datetime.now(UTC) + timedelta(hours=1)).isoformat(" ")
        archive.handler = self.at_archive
        login.handler = self.at_login

    def at_archive(self, request: Request) -> Reply:
        if request.path == "/redirect":
            assert request.query == {"code": "c1"}
            return Reply(302, [("location", "/s3credentials"), ("set-cookie", "session=s1; Path=/; HttpOnly")])
        right = request.headers.get("authorization") == f"Bearer {self.token}" or "session=s1" in request.headers.get(
            "cookie", ""
        )
        if not right:
            return Reply(307, {"location": f"http://localhost:{self.login.port}/oauth/authorize?client_id=x"})
        return Reply(200, {}, json.dumps({**KEYS, "expiration": self.expiration}).encode())

    def at_login(self, request: Request) -> Reply:
        if request.headers.get("authorization") != "Basic " + base64.b64encode(self.user.encode()).decode():
            return Reply(200, {"content-type": "text/html"}, b"<html>log in</html>")
        return Reply(302, {"location": f"{self.archive.url}/redirect?code=c1"})


@pytest.fixture
def earthdata(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Earthdata]:
    for name in ("TOKEN", "USERNAME", "PASSWORD", "HOST"):
        monkeypatch.delenv(f"EARTHDATA_{name}", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with ScriptedServer() as login:
        yield Earthdata(scripted, login)


def ask(kind: str, url: str, **arguments: Any) -> Any:
    if kind == "sync":
        return NasaEarthdataCredentialProvider(url, **arguments)()

    async def main() -> Any:
        return await NasaEarthdataAsyncCredentialProvider(url, **arguments)()

    return asyncio.run(main())


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("by", ["token", "password", "EARTHDATA_TOKEN", "EARTHDATA_PASSWORD", "netrc"])
def test_credentials_by_every_kind_of_login(
    earthdata: Earthdata, kind: str, by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    arguments: dict[str, Any] = {"host": "localhost"}
    if by == "token":
        arguments["auth"] = "bearer"
    elif by == "password":
        arguments["auth"] = ("user", "pass:word")
    elif by == "EARTHDATA_TOKEN":
        monkeypatch.setenv(by, "bearer")
    elif by == "EARTHDATA_PASSWORD":
        monkeypatch.setenv("EARTHDATA_USERNAME", "user")
        monkeypatch.setenv(by, "pass:word")
    else:
        (tmp_path / "netrc").write_text("machine localhost login user password pass:word\n")
        (tmp_path / "netrc").chmod(0o600)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    found = ask(kind, earthdata.url, **arguments)
    assert found == {
        "access_key_id": "ASIAEXAMPLE",
        "secret_access_key": "secret/key",
        "token": "token==",
        "expires_at": datetime.fromisoformat(earthdata.expiration),
    }
    if "TOKEN" not in by.upper():
        assert all("authorization" not in r.headers for r in earthdata.archive.requests), (
            "the password is for the login"
        )


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("auth", [None, "wrong", ("user", "wrong")])
def test_a_refused_login_is_one_clear_error(earthdata: Earthdata, kind: str, auth: Any):
    with pytest.raises(obs.UnauthenticatedError, match=r"s3credentials.*EARTHDATA_TOKEN") as caught:
        ask(kind, earthdata.url, host="localhost", auth=auth)
    assert "wrong" not in str(caught.value)
    assert len(earthdata.archive.requests) == 1


def test_the_password_goes_to_the_login_alone(earthdata: Earthdata):
    with pytest.raises(obs.UnauthenticatedError):
        ask("sync", earthdata.url, auth=("user", "pass:word"))  # the login is another host than the default one
    assert DEFAULT_EARTHDATA_HOST == "urs.earthdata.nasa.gov"
    assert all("authorization" not in r.headers for r in [*earthdata.archive.requests, *earthdata.login.requests])


def test_a_busy_endpoint_is_asked_again(earthdata: Earthdata):
    earthdata.archive.push(Reply(503), Reply(429, {"retry-after": "0"}))
    assert ask("sync", earthdata.url, auth="bearer")["access_key_id"] == "ASIAEXAMPLE"


def test_expiry_without_a_zone_is_utc(earthdata: Earthdata):
    earthdata.expiration = "2030-01-02 03:04:05"
    assert ask("sync", earthdata.url, auth="bearer")["expires_at"] == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_answers_that_are_no_credentials_are_not_shown(earthdata: Earthdata):
    for body in (b"<html>secret</html>", b'{"accessKeyId": "secret"}', b"[1]", b""):
        earthdata.archive.push(Reply(200, {}, body))
        with pytest.raises(obs.UnauthenticatedError, match="something else than credentials") as caught:
            ask("sync", earthdata.url, auth="bearer")
        assert "secret<" not in str(caught.value)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_a_store_uses_the_provider_and_its_region(earthdata: Earthdata):
    with FakeS3() as server:
        server.add("k", b"data")
        config = server.config(credential_provider=NasaEarthdataCredentialProvider(earthdata.url, auth="bearer"))
        for name in ("access_key_id", "secret_access_key", "region"):
            config.pop(name, None)
        store = obs.store.S3Store(**config)
        assert obs.get(store, "k").bytes() == b"data"
        sent = server.requests[-1].headers
        assert sent["x-amz-security-token"] == "token=="
        assert "/us-west-2/s3/" in sent["authorization"]


def test_providers_close_and_pickle(earthdata: Earthdata):
    provider = NasaEarthdataCredentialProvider(earthdata.url, auth=("user", "secret-word"))
    assert provider.session is None
    assert "secret-word" not in repr(provider)
    assert pickle.loads(pickle.dumps(provider))._login._auth == ("user", "secret-word")
    provider.close()
    with pytest.raises(ValueError, match="credential provider was closed"):
        provider()
    with pytest.raises(ValueError, match="credential provider was closed"):
        _ = provider.session


def test_a_session_of_the_user_is_used_and_left_open(earthdata: Earthdata):
    calls: list[tuple[str, dict[str, str]]] = []

    class Response:
        status_code = 200
        headers: ClassVar[dict[str, str]] = {}
        content = json.dumps({**KEYS, "expiration": earthdata.expiration}).encode()

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *args: object) -> None:
            pass

    class Session:
        def get(self, url: str, *, headers: dict[str, str], allow_redirects: bool) -> Response:
            assert not allow_redirects
            calls.append((url, headers))
            return Response()

    session: Any = Session()
    provider = NasaEarthdataCredentialProvider(earthdata.url, auth="bearer", session=session)
    assert provider()["token"] == "token=="
    assert calls == [(earthdata.url, {"authorization": "Bearer bearer"})]
    assert provider.session is session
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(provider)


@pytest.mark.parametrize("auth", [1, ("a",), ["a", "b"], ("a", 1), b"token"])
def test_wrong_arguments_are_refused(auth: Any):
    with pytest.raises(TypeError, match="auth"):
        NasaEarthdataCredentialProvider("https://x.example/s3credentials", auth=auth)
    with pytest.raises(ValueError, match="relative URL"):
        NasaEarthdataCredentialProvider("nowhere")
