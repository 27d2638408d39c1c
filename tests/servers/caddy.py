"""Caddy: a directory over TLS by HTTP/1.1, HTTP/2 and HTTP/3."""

from __future__ import annotations

import textwrap
from pathlib import Path

import trustme

from tests.servers.install import environment
from tests.servers.process import Server, clean_env, free_ports, http_answers

_CADDYFILE = """
    {{
      admin off
      auto_https off
      default_bind 127.0.0.1
      servers {{
        protocols h1 h2 h3
      }}
    }}
    https://localhost:{port} {{
      tls {directory}/server.pem {directory}/server.key
      root * {root}
      file_server
    }}
    http://127.0.0.1:{plain} {{
      root * {root}
      file_server
    }}
"""


class Caddy(Server):
    """Caddy over a directory.

    Attributes:
        url: ``https://localhost:port``.
        root: the directory.
        pem: the authority of its certificate.
    """

    name = "caddy"
    url: str
    root: Path
    pem: bytes

    def _start(self) -> None:
        caddy = environment("caddy") / "caddy"
        port, plain = free_ports(2)
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        (self.directory / "server.pem").write_bytes(b"".join(pem.bytes() for pem in certificate.cert_chain_pems))
        (self.directory / "server.key").write_bytes(certificate.private_key_pem.bytes())
        self.root = self.directory / "data"
        self.root.mkdir()
        config = self.directory / "Caddyfile"
        text = _CADDYFILE.format(directory=self.directory, root=self.root, port=port, plain=plain)
        config.write_text(textwrap.dedent(text).lstrip())
        home = str(self.directory)
        self._run(
            [[caddy, "run", "--config", config, "--adapter", "caddyfile"]],
            http_answers(f"http://127.0.0.1:{plain}/"),
            env=clean_env(HOME=home, XDG_DATA_HOME=home, XDG_CONFIG_HOME=home),
        )
        self.url = f"https://localhost:{port}"
        self.pem = authority.cert_pem.bytes()
