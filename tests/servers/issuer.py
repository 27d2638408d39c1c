"""An issuer of web identities: oidc-provider with a key that has a certificate, as Ceph wants it."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import urllib.parse
import urllib.request

import trustme

from tests.servers.install import PINS, environment
from tests.servers.process import Server, clean_env, free_ports, port_listens


class Issuer(Server):
    """An OpenID provider on plain HTTP.

    Attributes:
        url: what it calls itself.
        audience: of its tokens.
        thumbprint: of its certificate, SHA-1 in hexadecimal.
    """

    name = "issuer"
    audience = "https://sts.example.com"

    def _start(self) -> None:
        modules = environment("oidc").parent
        (port,) = free_ports(1)
        made = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("localhost", key_type=trustme.KeyType.RSA)
        chain, key = self.directory / "issuer.pem", self.directory / "issuer.key"
        pem = made.cert_chain_pems[0].bytes()
        chain.write_bytes(pem)
        key.write_bytes(_pkcs8(made.private_key_pem.bytes()))
        script = PINS / "oidc" / "issuer.mjs"
        command = ["node", script, str(port), chain, key, self.audience, "600"]
        self._run([command], port_listens(port), env=clean_env(NODE_MODULES=os.fspath(modules), NODE_NO_WARNINGS="1"))
        self.url = f"http://localhost:{port}"
        self._token_url = f"http://127.0.0.1:{port}/token"
        self.thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(pem.decode())).hexdigest()  # noqa: S324 - what IAM calls it

    def token(self) -> str:
        """A token of the one client there is."""
        form = {"client_id": "pod", "client_secret": "the secret", "grant_type": "client_credentials"}
        request = urllib.request.Request(self._token_url, data=urllib.parse.urlencode(form).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: str = json.load(answer)["access_token"]
            return found


def _pkcs8(pem: bytes) -> bytes:
    """The same key in PKCS #8, which JOSE libraries read."""
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    return load_pem_private_key(pem, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
