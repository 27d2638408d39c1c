"""TLS: verified by default, and what fails says why."""

from __future__ import annotations

from pathlib import Path

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face
from tests.servers.fakes3 import FakeS3, cut, gets
from tests.servers.tls import Authority


def _config(server: FakeS3, **client: object) -> dict[str, object]:
    return server.config(client_options={"allow_http": False, **client})


@pytest.mark.parametrize("form", ["bytes", "text"])
def test_own_authority_is_trusted_on_request(authority: Authority, face: Face, form: str):
    pem = authority.pem if form == "bytes" else authority.pem.decode()
    with FakeS3(tls=authority.context()) as server:
        store = S3Store(**_config(server, root_certificate=pem))
        face.put(store, "k", b"data" * 100_000)
        assert face.body(face.get(store, "k")) == b"data" * 100_000
        assert {r.headers["host"] for r in server.requests} == {f"localhost:{server.port}"}


@pytest.mark.parametrize("form", ["file", "directory"])
@pytest.mark.parametrize(
    "variable", ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"]
)
def test_authority_in_the_environment_is_trusted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, variable: str, form: str, tmp_path: Path
):
    if (variable, form) == ("SSL_CERT_DIR", "file"):
        (tmp_path / "other.pem").write_bytes(Authority(tmp_path).pem)  # one of several
    (tmp_path / "ours.pem").write_bytes(authority.pem)
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    is_file = form == "file" and variable != "SSL_CERT_DIR"
    monkeypatch.setenv(variable, str(tmp_path / "ours.pem" if is_file else tmp_path))
    with FakeS3(tls=authority.context()) as server:
        server.add("k", b"data")
        assert obs.get(S3Store(**_config(server)), "k").bytes() == b"data"


def test_an_own_authority_comes_beside_those_of_the_environment(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    other = Authority(tmp_path)
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    for issuer in (authority, other):
        with FakeS3(tls=issuer.context()) as server:
            server.add("k", b"data")
            store = S3Store(**_config(server, root_certificate=other.pem))
            assert obs.get(store, "k").bytes() == b"data"
            alone = S3Store(**_config(server, root_certificate=other.pem, disable_system_certificates=True))
            if issuer is other:
                assert obs.get(alone, "k").bytes() == b"data"
            else:
                with pytest.raises(obs.GenericError, match=r"(?i)certificate"):
                    obs.get(alone, "k")


@pytest.mark.parametrize("own", [True, False])
def test_a_missing_bundle_is_an_error_and_never_a_reason_to_trust_others(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: bool
):
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    with FakeS3(tls=authority.context()) as server:
        client = {"root_certificate": authority.pem} if own else {}
        with pytest.raises(obs.GenericError, match=r"(?i)certificate") as caught:
            obs.get(S3Store(**_config(server, **client)), "k")
        assert not isinstance(caught.value, FileNotFoundError)
        assert server.requests == []


@pytest.mark.parametrize("case", ["unknown authority", "other authority", "expired", "wrong host"])
def test_bad_certificate_is_refused(authority: Authority, tmp_path: Path, face: Face, case: str):
    names = ("elsewhere.example",) if case == "wrong host" else ()
    client = {} if case == "unknown authority" else {"root_certificate": authority.pem}
    if case == "other authority":
        client = {"root_certificate": Authority(tmp_path).pem}
    with FakeS3(tls=authority.context(*names, expired=case == "expired")) as server:
        store = S3Store(**_config(server, **client))
        for act in (
            lambda: face.get(store, "k"),
            lambda: face.put(store, "k", b"1"),
            lambda: face.items(face.list(store)),
        ):
            with pytest.raises(obs.GenericError, match=r"(?i)certificate|ssl|tls") as caught:
                act()
            assert [attempt.error for attempt in caught.value.attempts] == ["tls"], "not repeated: it stays bad"
            assert not caught.value.retryable
        assert server.requests == []


def test_verification_can_be_turned_off(authority: Authority):
    with FakeS3(tls=authority.context("elsewhere.example", expired=True)) as server:
        server.add("k", b"data")
        store = S3Store(**_config(server, allow_invalid_certificates=True))
        assert obs.get(store, "k").bytes() == b"data"


def test_stores_with_different_trust_do_not_share_connections(authority: Authority):
    with FakeS3(tls=authority.context()) as server:
        server.add("k", b"data")
        assert obs.get(S3Store(**_config(server, root_certificate=authority.pem)), "k").bytes() == b"data"
        with pytest.raises(obs.GenericError):
            obs.get(S3Store(**_config(server)), "k")
        assert len(server.requests) == 1


def test_connection_torn_without_a_farewell_is_resumed(authority: Authority, face: Face):
    data = bytes(range(256)) * 1000
    with FakeS3(tls=authority.context()) as server:
        server.add("k", data)
        server.inject(cut(100_000), when=gets)
        server.inject(cut(50_000, reset=True), when=gets)
        store = S3Store(**_config(server, root_certificate=authority.pem))
        assert face.body(face.get(store, "k")) == data
        assert len(server.requests) == 3


def test_plain_http_where_tls_is_expected(fake_s3: FakeS3):
    config = fake_s3.config(retry_config={"max_retries": 0}, client_options={"connect_timeout": "500ms"})
    store = S3Store(**{**config, "endpoint": fake_s3.url.replace("http://", "https://")})
    with pytest.raises(obs.GenericError):
        obs.get(store, "k")
