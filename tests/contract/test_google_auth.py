"""Google's credentials: every kind against token endpoints that check it, and a gate that knows the tokens they issued."""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore._auth import google_auth as module
from obstore.auth.google import GoogleAsyncCredentialProvider, GoogleCredentialProvider
from obstore.store import GCSStore
from tests.fix_stores import Face
from tests.servers.gcs import FakeGCS
from tests.servers.google import GoogleAuth
from tests.servers.process import free_ports
from tests.servers.scripted import Reply, ScriptedServer

Make = Callable[..., GCSStore]


@pytest.fixture
def bucket(fake_gcs: FakeGCS) -> str:
    return fake_gcs.endpoint.create_bucket()


@pytest.fixture
def server(google_auth: GoogleAuth) -> Iterator[GoogleAuth]:
    google_auth.counts(lifetime=3600, forget=True)
    yield google_auth
    google_auth.counts(lifetime=3600)


@pytest.fixture
def make(server: GoogleAuth, bucket: str) -> Make:
    """A store behind the gate."""

    def make(**config: Any) -> GCSStore:
        return GCSStore(**{"bucket": bucket, "base_url": server.url, "iam_url": server.url, **config})

    return make


def _works(face: Face, store: GCSStore) -> None:
    face.put(store, "k", b"value")
    assert face.body(face.get(store, "k")) == b"value"
    assert [entry["path"] for entry in face.items(face.list(store))] == ["k"]


# ---- every kind ------------------------------------------------------------------------------------------------


def test_the_gate_refuses_what_nobody_issued(make: Make):
    with pytest.raises(obs.UnauthenticatedError, match=r"Invalid Credentials.*access token is invalid") as caught:
        obs.get(make(bearer_token="made-up"), "k")
    assert "made-up" not in str(caught.value)
    with pytest.raises(obs.UnauthenticatedError, match="the request was anonymous"):
        obs.get(make(skip_signature=True), "k")


@pytest.mark.parametrize(
    ("kind", "counted"),
    [("service_account", "token"), ("user", "token"), ("external", "sts"), ("impersonated", "impersonate")],
)
def test_application_credentials_of_every_kind(make: Make, server: GoogleAuth, face: Face, kind: str, counted: str):
    store = make(application_credentials=str(server.file(kind)))
    assert server.counts() == {}, "a store that was made has sent nothing"
    _works(face, store)
    assert server.counts()[counted] == 1, "one token for all requests"


def test_credentials_named_by_the_environment(
    make: Make, server: GoogleAuth, face: Face, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(server.file("user")))
    _works(face, make())


def test_service_account_by_path_and_by_content(make: Make, server: GoogleAuth):
    _works(Face(), make(service_account=str(server.file("service_account"))))
    _works(Face(), make(service_account_key=server.file("service_account").read_text()))
    _works(Face(), make(service_account_path=str(server.file("service_account"))))


def test_login_of_gcloud(make: Make, server: GoogleAuth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "application_default_credentials.json").write_bytes(server.file("user").read_bytes())
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    _works(Face(), make())


def test_metadata_server(make: Make, server: GoogleAuth, face: Face, monkeypatch: pytest.MonkeyPatch):
    set_metadata_host(monkeypatch, server.url.removeprefix("http://"))
    _works(face, make())
    assert server.counts()["metadata_token"] == 1


def set_metadata_host(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Say where the metadata server is. google-auth reads the variable when it is imported."""
    monkeypatch.delenv("NO_GCE_CHECK", raising=False)
    monkeypatch.setenv("GCE_METADATA_HOST", host)
    from google.auth.compute_engine import _metadata

    for name, value in vars(_metadata).items():
        if isinstance(value, str) and "metadata.google.internal" in value:
            monkeypatch.setattr(_metadata, name, value.replace("metadata.google.internal", host))


def test_impersonation_by_configuration(make: Make, server: GoogleAuth, monkeypatch: pytest.MonkeyPatch):
    store = make(application_credentials=str(server.file("user")), impersonate_service_account=server.other_email)
    _works(Face(), store)
    assert server.counts() == {"token": 1, "impersonate": 1}


def _credentials(server: GoogleAuth) -> Any:
    from google.oauth2 import service_account

    return service_account.Credentials.from_service_account_file(
        str(server.file("service_account")), scopes=["https://www.googleapis.com/auth/cloud-platform"]
    )


def test_provider_of_google_auth(make: Make, server: GoogleAuth, face: Face):
    provider = GoogleCredentialProvider(_credentials(server))
    assert provider.refresh_threshold == timedelta(minutes=3, seconds=45)
    store = make(credential_provider=provider)
    _works(face, store)
    assert server.counts()["token"] == 1
    given = provider()
    assert given["expires_at"].utcoffset() == timedelta(0)


def test_provider_of_google_auth_for_event_loops(make: Make, server: GoogleAuth):
    store = make(credential_provider=GoogleAsyncCredentialProvider(_credentials(server)))

    async def main() -> None:
        await asyncio.gather(*(obs.put_async(store, f"k{i}", b"1") for i in range(10)))

    asyncio.run(main())
    assert server.counts()["token"] == 1
    with pytest.raises(RuntimeError, match="no running event loop"):
        obs.get(make(credential_provider=GoogleAsyncCredentialProvider(_credentials(server))), "k0")


def test_provider_of_google_auth_by_default(make: Make, server: GoogleAuth, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(server.file("service_account")))
    provider = GoogleCredentialProvider(refresh_threshold=timedelta(seconds=1))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    _works(Face(), make(credential_provider=provider))


# ---- refreshing ---------------------------------------------------------------------------------------------------


def test_one_refresh_for_all_who_wait(make: Make, server: GoogleAuth):
    store = make(application_credentials=str(server.file("service_account")))

    async def main() -> None:
        await asyncio.gather(*(obs.put_async(store, f"k{i}", b"") for i in range(50)))

    asyncio.run(main())
    assert server.counts()["token"] == 1


def test_a_token_that_was_revoked_is_replaced_once(make: Make, server: GoogleAuth, face: Face):
    store = make(application_credentials=str(server.file("service_account")))
    face.put(store, "k", b"1")
    server.counts(revoke=True)
    assert face.body(face.get(store, "k")) == b"1"
    assert server.counts()["token"] == 2


def test_a_token_about_to_end_is_renewed_before_it_does(make: Make, server: GoogleAuth):
    server.counts(lifetime=100)  # within the threshold of 240 s
    store = make(application_credentials=str(server.file("service_account")))
    obs.put(store, "k", b"1")
    time.sleep(0.15)  # younger ones are used in any case
    obs.get(store, "k")
    assert server.counts()["token"] == 2


# ---- what goes wrong -------------------------------------------------------------------------------------------------


def _fails_at_once(store: GCSStore, kind: type[Exception], text: str) -> Exception:
    began = time.monotonic()
    with pytest.raises(kind, match=text) as caught:
        obs.get(store, "k")
    assert time.monotonic() - began < 15
    assert "\n" not in str(caught.value)
    return caught.value


def test_wrong_key(make: Make, server: GoogleAuth):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    info = {**server.info("service_account"), "private_key": other.decode()}
    error = _fails_at_once(
        make(service_account_key=json.dumps(info)),
        obs.UnauthenticatedError,
        f"Google gives no access token.*{server.email}",
    )
    assert "PRIVATE" not in str(error)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"refresh_token": "1//gone"}, "gcloud auth application-default login"),
        ({"client_secret": "wrong"}, "client_id"),
    ],
    ids=["refresh_token", "client_secret"],
)
def test_wrong_user(make: Make, server: GoogleAuth, tmp_path: Path, change: dict[str, str], hint: str):
    (tmp_path / "c.json").write_text(json.dumps({**server.info("user"), **change}))
    error = _fails_at_once(make(application_credentials=str(tmp_path / "c.json")), obs.UnauthenticatedError, hint)
    assert not any(secret in str(error) for secret in ("1//gone", "wrong", "csecret", "1//refresh"))


def test_impersonating_without_the_role(make: Make, server: GoogleAuth):
    store = make(application_credentials=str(server.file("user")), impersonate_service_account="no@project")
    _fails_at_once(store, obs.UnauthenticatedError, "Service Account Token Creator")


def test_token_endpoint_out_of_reach(make: Make, server: GoogleAuth):
    (port,) = free_ports(1)
    info = {**server.info("service_account"), "token_uri": f"http://127.0.0.1:{port}/token"}
    error = _fails_at_once(
        make(service_account_key=json.dumps(info)), obs.ConnectionFailedError, f"cannot get an access token.*{port}"
    )
    assert isinstance(error, ConnectionError)


def test_nothing_configured(make: Make):
    _fails_at_once(make(), obs.UnauthenticatedError, "No credentials are configured for GCS.*skip_signature=True")


def test_account_of_the_machine_without_what_google_auth_wants(
    make: Make, server: GoogleAuth, monkeypatch: pytest.MonkeyPatch
):
    set_metadata_host(monkeypatch, server.url.removeprefix("http://"))
    monkeypatch.setitem(sys.modules, "google.auth.compute_engine", None)
    import google.auth

    monkeypatch.delattr(google.auth, "compute_engine", raising=False)
    _fails_at_once(make(), obs.UnauthenticatedError, r"this machine's account.*pip install 'obstore\[google\]'")


def test_no_metadata_server_is_asked_once(make: Make, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_GCE_CHECK")
    (port,) = free_ports(1)
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{port}")
    monkeypatch.setattr(module, "_absent", {})
    _fails_at_once(make(), obs.UnauthenticatedError, "No credentials are configured for GCS")
    assert list(module._absent) == [f"127.0.0.1:{port}"]
    sent = []
    real = module.Send
    monkeypatch.setattr(module, "Send", lambda *args: sent.append(args) or real(*args))
    _fails_at_once(make(), obs.UnauthenticatedError, "No credentials are configured for GCS")
    assert sent == [], "the answer is remembered"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot read application_credentials .*: No such file"),
        ("[]", "is no JSON object"),
        ("{", "no JSON object"),
    ],
)
def test_files_that_cannot_be_read_are_refused_at_once(make: Make, tmp_path: Path, content: str | None, text: str):
    path = tmp_path / "credentials.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(obs.GenericError, match=text):
        make(application_credentials=str(path))
    make(application_credentials=str(path), skip_signature=True)


@pytest.mark.parametrize(
    "info",
    [
        {"type": "unheard"},
        {"type": "service_account", "private_key": "SECRET", "client_email": "e"},
        {"type": "authorized_user"},
    ],
    ids=lambda info: info["type"],
)
def test_files_of_no_use(make: Make, tmp_path: Path, info: dict[str, str]):
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(info))
    error = _fails_at_once(make(application_credentials=str(path)), obs.UnauthenticatedError, info["type"])
    assert "SECRET" not in str(error)


def test_without_google_auth(make: Make, server: GoogleAuth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for where in ("obstore._auth.gcp_chain", "obstore._auth.google_auth"):
        monkeypatch.setattr(f"{where}.have_google_auth", lambda: False)
    with pytest.raises(ImportError, match=r"pip install 'obstore\[google\]'"):
        make(application_credentials=str(server.file("user")))
    (tmp_path / "application_default_credentials.json").write_bytes(server.file("user").read_bytes())
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    _fails_at_once(make(), obs.UnauthenticatedError, "pip install")
    # Tokens and public buckets need nothing.
    for config in ({"bearer_token": "t"}, {"skip_signature": True}):
        with pytest.raises(obs.UnauthenticatedError, match="Invalid Credentials"):
            obs.get(make(**config), "k")


def test_tokens_are_fetched_by_our_own_engine(
    make: Make, server: GoogleAuth, face: Face, monkeypatch: pytest.MonkeyPatch
):
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("somebody else sends requests")

    store = make(application_credentials=str(server.file("impersonated")))
    with monkeypatch.context() as patch:
        patch.setattr("requests.Session.send", refuse)
        patch.setattr("http.client.HTTPConnection.request", refuse)
        face.put(store, "k", b"value")
        assert face.body(face.get(store, "k")) == b"value"


def test_waiting_for_a_token_can_be_cancelled(make: Make, server: GoogleAuth, scripted: ScriptedServer):
    scripted.push(Reply(hang=True))
    info = {**server.info("service_account"), "token_uri": f"{scripted.url}/token"}
    store = make(service_account_key=json.dumps(info))

    async def main() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(obs.get_async(store, "k"), 0.5)
        return time.monotonic() - began

    assert asyncio.run(main()) < 10


def test_describe_says_where_credentials_come_from(make: Make, server: GoogleAuth):
    store = make(service_account=str(server.file("service_account")), impersonate_service_account="x@y")
    told = store.describe()
    assert told["credentials"] == f"file of type service_account for {server.email}, acting as x@y"
    assert (told["endpoint"], told["large_objects"]) == (server.url, "resumable uploads")
    told = GCSStore("b").describe()
    assert told["credentials"] == "gcloud's login, else the account of the machine"
    assert (told["endpoint"], told["large_objects"]) == ("https://storage.googleapis.com", "parallel parts")


# ---- secrets -------------------------------------------------------------------------------------------------------


def test_nothing_secret_is_shown_or_pickled_beyond_what_was_given(make: Make, server: GoogleAuth):
    store = make(application_credentials=str(server.file("service_account")))
    obs.put(store, "k", b"value")
    pickled = pickle.dumps(store)
    token = store._backend.source.current(time.time()).header.removeprefix("Bearer ")
    assert b"PRIVATE KEY" not in pickled
    assert token.encode() not in pickled
    assert token not in repr(store) + repr(store._backend.source) + repr(vars(store))
    copy = pickle.loads(pickled)
    assert copy == store
    assert obs.get(copy, "k").bytes() == b"value"
    for part in (store._backend.source, store._backend.source.current(time.time())):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(part)


def test_expiry_of_providers_is_obeyed(make: Make, server: GoogleAuth):
    calls = []

    def provide() -> dict[str, Any]:
        calls.append(1)
        return {"token": "made-up", "expires_at": datetime.now(UTC) + timedelta(hours=1)}

    with pytest.raises(obs.UnauthenticatedError):
        obs.get(make(credential_provider=provide), "k")
    assert len(calls) == 2, "one forced refresh where the service refuses the token"


def _variables(error: BaseException | None) -> Iterator[str]:
    """What a tool shows that prints the variables of all frames that an error came through."""
    while error is not None:
        traceback = error.__traceback__
        while traceback is not None:
            for value in traceback.tb_frame.f_locals.values():
                yield repr(value)
            traceback = traceback.tb_next
        error = error.__context__


@pytest.mark.parametrize(
    "change", [{"private_key": "-----BEGIN PRIVATE KEY-----\nSECRET"}, {"client_email": "nobody@x"}], ids=str
)
def test_no_frame_of_ours_shows_a_secret(make: Make, server: GoogleAuth, tmp_path: Path, change: dict[str, str]):
    path = tmp_path / "key.json"
    path.write_text(json.dumps({**server.info("service_account"), **change}))
    error = _fails_at_once(make(service_account=str(path)), obs.UnauthenticatedError, "Google")
    shown = "".join(_variables(error))
    assert "SECRET" not in shown
    assert "PRIVATE" not in shown
    assert "eyJ" not in shown, "no assertion either"
