"""Where Google's credentials come from, on this machine: see ``google_app.py``, which runs in an environment of its own."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers.install import environment
from tests.servers.process import Server, clean_env, free_ports, http_answers


class GoogleAuth(Server):
    """Token endpoints, metadata server, and a gate before ``upstream`` that lets through only what they issued.

    ``url`` is that of all of them; ``file(name)`` a credentials file: service_account, user, external or impersonated.
    """

    name = "googleauth"
    email = "robot@project.iam.gserviceaccount.com"
    other_email = "other@project.iam.gserviceaccount.com"
    hmac_key = ("GOOG1EXAMPLE", "hmac-secret")

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._upstream = upstream

    def _start(self) -> None:
        python = environment("googleauth") / "python"
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        command = [python, Path(__file__).with_name("google_app.py"), str(port), self.directory, self._upstream]
        self._run([command], http_answers(f"{self.url}/"), env=clean_env())

    def file(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def info(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file(name).read_text())
        return found

    def counts(self, **changes: Any) -> dict[str, int]:
        """Requests so far by kind; after ``lifetime`` of tokens was set, tokens revoked, or counts forgotten."""
        body = json.dumps(changes).encode() if changes else None
        request = urllib.request.Request(f"{self.url}/_test", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, int] = json.load(answer)
        return found


class GoogleXML(Server):
    """The XML API's uploads in parts on top of an S3 server, for who has the token ``testtoken``."""

    name = "googlexml"

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._upstream = upstream

    def _start(self) -> None:
        python = environment("googleauth") / "python"
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        command = [python, Path(__file__).with_name("google_xml_app.py"), str(port), self._upstream]
        self._run([command], http_answers(f"{self.url}/"), env=clean_env())
