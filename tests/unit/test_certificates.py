"""Which certificates are trusted where a store names none."""

from __future__ import annotations

import ssl
import sys
from pathlib import Path
from types import ModuleType

import pytest

from obstore._engine import certificates
from obstore._engine.certificates import ca_files

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


def paths(cafile: str | None, openssl_cafile: str) -> ssl.DefaultVerifyPaths:
    return ssl.DefaultVerifyPaths(cafile, None, "SSL_CERT_FILE", openssl_cafile, "SSL_CERT_DIR", "/no/such/certs")


@pytest.fixture
def bare_system(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Neither Python nor the system knows a bundle, and certifi is not installed."""
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths(None, "/no/such/cert.pem"))
    monkeypatch.setattr(certificates, "_SYSTEM_FILES", ())
    monkeypatch.setitem(sys.modules, "certifi", None)
    return monkeypatch


def test_variables_in_order() -> None:
    env = {"REQUESTS_CA_BUNDLE": "/r", "CURL_CA_BUNDLE": "/c", "SSL_CERT_FILE": "/s", "AWS_CA_BUNDLE": "/a"}
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        assert ca_files(env) == [env.pop(name)]  # taken though no such file exists
    assert ca_files({"AWS_CA_BUNDLE": "", "CURL_CA_BUNDLE": "/c"}) == ["/c"]


def test_directories_stand_for_their_certificates(tmp_path: Path) -> None:
    for directory in ("one", "two", "empty"):
        (tmp_path / directory).mkdir()
    (tmp_path / "one" / "b.pem").write_text(PEM)
    (tmp_path / "one" / "a.crt").write_text(PEM)
    (tmp_path / "one" / "5ed36f99.0").symlink_to("a.crt")  # as c_rehash makes them
    (tmp_path / "one" / "broken.pem").symlink_to("nowhere")
    (tmp_path / "one" / "key.pem").write_text("-----BEGIN PRIVATE KEY-----")
    (tmp_path / "one" / "sub").mkdir()
    (tmp_path / "two" / "c.pem").write_text(PEM)
    one = [str(tmp_path / "one" / name) for name in ("a.crt", "b.pem")]
    two = [str(tmp_path / "two" / "c.pem")]
    assert ca_files({"SSL_CERT_DIR": f"{tmp_path / 'one'}"}) == one
    assert ca_files({"SSL_CERT_DIR": f"{tmp_path / 'one'}::{tmp_path / 'two'}"}) == one + two
    assert ca_files({"SSL_CERT_DIR": f"{tmp_path / 'one'}", "SSL_CERT_FILE": "/f"}) == ["/f", *one]
    for name in ("AWS_CA_BUNDLE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        assert ca_files({name: str(tmp_path / "two")}) == two
        # Trusting nobody is an error later; trusting the system instead would be a hole.
        assert ca_files({name: str(tmp_path / "empty")}) == [str(tmp_path / "empty")]


def test_python_then_openssl_then_the_system_then_certifi(bare_system: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = ("python.pem", "openssl.pem", "system.pem")
    python, openssl, system = (str(tmp_path / name) for name in names)
    for name in names:
        (tmp_path / name).touch()
    assert ca_files({}) == []

    certifi = ModuleType("certifi")
    certifi.where = lambda: "/certifi.pem"  # type: ignore[attr-defined]
    bare_system.setitem(sys.modules, "certifi", certifi)
    assert ca_files({}) == ["/certifi.pem"]
    bare_system.setattr(certificates, "_SYSTEM_FILES", ("/no/such/file.pem", system))
    assert ca_files({}) == [system]
    bare_system.setattr(ssl, "get_default_verify_paths", lambda: paths(None, openssl))
    assert ca_files({}) == [openssl]
    bare_system.setattr(ssl, "get_default_verify_paths", lambda: paths(python, openssl))
    assert ca_files({}) == [python]
