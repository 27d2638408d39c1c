"""What hands out tokens for Azure: oidc-provider as Microsoft Entra's token endpoint, and look-alikes of metadata services.

oidc-provider is a certified OpenID provider, here at Entra's paths; it checks secrets and assertions and signs what it hands
out. Of the metadata services there is no emulator: the look-alikes check what the documentation demands of a request, and answer
with tokens of oidc-provider's.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.servers.install import PINS, environment
from tests.servers.process import Server, clean_env, free_ports, port_listens
from tests.servers.tls import Authority

TENANT = "ab1f708d-50f6-404c-a006-d71b2ac7a606"
SCOPE = "https://storage.azure.com/.default"


class Entra(Server):
    """A token endpoint, by TLS.

    Attributes:
        url: the authority host.
        client_id, client_secret: of an application.
        federated_client_id: of one that authenticates by assertion.
    """

    name = "oidc"
    client_id = "app"
    client_secret = "opensesame"
    federated_client_id = "pod"

    def __init__(self, authority: Authority, ttl_s: int = 3600) -> None:
        super().__init__()
        self._authority = authority
        self._ttl_s = ttl_s
        self.url = ""

    def _start(self) -> None:
        modules = environment("oidc").parent
        (port,) = free_ports(1)
        chain, key = self._authority.files(self.directory)
        self._client_key = self.directory / "client.key"
        script = PINS / "oidc" / "server.mjs"
        command = ["node", script, str(port), chain, key, self._client_key, str(self._ttl_s)]
        self._run([command], port_listens(port), env=clean_env(NODE_MODULES=os.fspath(modules), NODE_NO_WARNINGS="1"))
        self.url = f"https://127.0.0.1:{port}"

    @property
    def application(self) -> dict[str, str]:
        """Keyword arguments of ``AzureStore`` for the application with a secret."""
        return {
            "authority_host": self.url,
            "tenant_id": TENANT,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }

    def assertion(self, *, audience: str | None = None) -> str:
        """A token as Kubernetes mounts it, signed by the key that the federated client is known by."""
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(self._client_key.read_bytes(), None)
        assert isinstance(key, RSAPrivateKey)
        now = int(time.time())
        name = self.federated_client_id
        claims = {
            "iss": name,
            "sub": name,
            "aud": audience or f"https://sts.windows.net/{TENANT}/",
            "iat": now,
            "exp": now + 300,
            "jti": os.urandom(8).hex(),
        }
        text = f"{_base64({'alg': 'RS256', 'kid': 'federated'})}.{_base64(claims)}"
        return f"{text}.{_encode(key.sign(text.encode(), PKCS1v15(), SHA256()))}"

    def token(self) -> dict[str, Any]:
        """What the endpoint answers to the application."""
        form = {
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scope": SCOPE,
            "grant_type": "client_credentials",
        }
        request = urllib.request.Request(
            f"{self.url}/{TENANT}/oauth2/v2.0/token", data=urllib.parse.urlencode(form).encode()
        )
        context = ssl.create_default_context(cafile=str(self._authority.file))
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            found: dict[str, Any] = json.load(answer)
            return found


def _base64(document: dict[str, Any]) -> str:
    return _encode(json.dumps(document).encode())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Metadata:
    """Look-alikes of Azure's metadata services, on plain HTTP; tokens come from ``token``.

    ``/metadata/identity/oauth2/token``: a virtual machine's, as "Use managed identities on a virtual machine to acquire an
    access token" has it. ``/msi/token``: App Service's, as "How to use managed identities for App Service" has it. ``/fabric``:
    the bare token, as a workload of Microsoft Fabric gets it.

    Attributes:
        secret: what App Service's look-alike demands in ``x-identity-header``.
        identities: selectors that are known besides none at all: ``("client_id", "...")``.
        requests: paths with queries, in order.
    """

    secret = "identity header"

    def __init__(self, token: Callable[[], dict[str, Any]]) -> None:
        self._token = token
        self.identities: set[tuple[str, str]] = set()
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                status, body = outer._answer(self.path, self.headers)
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, target: str, headers: Any) -> tuple[int, bytes]:
        path, _, query = target.partition("?")
        fields = dict(urllib.parse.parse_qsl(query))
        selector = [item for item in fields.items() if item[0] not in ("api-version", "resource")]
        if fields.get("resource") != "https://storage.azure.com":
            return _refuse(400, "invalid_resource", "resource is missing or wrong")
        if path == "/fabric":
            named = ("x-ms-partner-token", "x-ms-cluster-identifier", "x-ms-proxy-host")
            if not all(headers.get(name) for name in named):
                return _refuse(401, "Unauthorized", "headers are missing")
            return 200, self._token()["access_token"].encode()
        if not fields.get("api-version"):
            return _refuse(400, "invalid_request", "api-version is missing")
        if path == "/metadata/identity/oauth2/token" and headers.get("metadata") != "true":
            return _refuse(400, "invalid_request", "Required metadata header not specified")
        if path == "/msi/token" and headers.get("x-identity-header") != self.secret:
            return _refuse(401, "unauthorized", "the identity header is missing or wrong")
        if path not in ("/metadata/identity/oauth2/token", "/msi/token"):
            return 404, b""
        if any(item not in self.identities for item in selector):
            return _refuse(400, "invalid_request", "Identity not found")
        found = self._token()
        return 200, json.dumps(
            {
                "access_token": found["access_token"],
                "expires_in": str(found["expires_in"]),
                "expires_on": str(int(time.time()) + found["expires_in"]),
                "resource": fields["resource"],
                "token_type": "Bearer",
            }
        ).encode()


def _refuse(status: int, error: str, description: str) -> tuple[int, bytes]:
    return status, json.dumps({"error": error, "error_description": description}).encode()


def fake_cli(directory: Path, token: dict[str, Any]) -> Path:
    """An ``az`` that answers as ``az account get-access-token`` does; what it was called with is in ``az.log`` beside it."""
    answer = json.dumps(
        {
            "accessToken": token["access_token"],
            "expires_on": int(time.time()) + token["expires_in"],
            "tenant": TENANT,
            "tokenType": "Bearer",
        }
    )
    program = directory / "az"
    program.write_text(f"#!/bin/sh\necho \"$*\" >> '{directory}/az.log'\ncat <<'END'\n{answer}\nEND\n")
    program.chmod(0o755)
    return program
