"""WebDAV servers over a directory: WsgiDAV from PyPI, and Apache, nginx and lighttpd from the distribution.

The latter three: ``apt-get install --no-install-recommends apache2 nginx libnginx-mod-http-dav-ext lighttpd
lighttpd-mod-webdav``.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.install import environment
from tests.servers.process import Server, ServerStartError, free_ports, http_answers

USER, PASSWORD = "user", "pass:w@rd/"


@dataclass(frozen=True)
class DavEndpoint:
    """Where a WebDAV server is.

    Attributes:
        url: of the whole server, without a slash at its end.
        root: the directory that it serves.
        user: ``user:password``, percent-encoded, that it wants, or empty.
    """

    url: str
    root: Path
    user: str = ""

    def store(self, directory: str, **client_options: Any) -> Any:
        """A store of ours on a directory below the root, which need not exist."""
        from obstore.store import HTTPStore

        user = f"{self.user}@" if self.user else ""
        url = f"{self.url}/{directory}".replace("://", f"://{user}", 1)
        return HTTPStore(url, client_options={"allow_http": True, **client_options})

    def new_directory(self) -> str:
        """A name for a directory of one test."""
        return f"d-{secrets.token_hex(8)}"


def program(name: str, package: str) -> str:
    """The path of a program of the distribution.

    Raises:
        ServerStartError: it is not installed; the message says how to.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ServerStartError(f"no {name} on PATH. On Debian: apt-get install --no-install-recommends {package}")
    return found


class WsgiDav(Server):
    """WsgiDAV on cheroot, asking for a password; ``endpoint`` once entered."""

    name = "wsgidav"
    endpoint: DavEndpoint

    def _start(self) -> None:
        bin_ = environment("wsgidav")
        (port,) = free_ports(1)
        root = self.directory / "data"
        root.mkdir()
        config = self.directory / "wsgidav.json"
        config.write_text(
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": port,
                    "server": "cheroot",
                    "provider_mapping": {"/": str(root)},
                    "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
                    "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
                    "dir_browser": {"enable": False},
                    "logging": {"enable": False},
                    "verbose": 1,
                }
            )
        )
        url = f"http://127.0.0.1:{port}"
        self._run([[bin_ / "wsgidav", "--config", config]], http_answers(url))
        self.endpoint = DavEndpoint(url, root, "user:pass%3Aw%40rd%2F")


_APACHE = """
    ServerRoot {directory}
    PidFile {directory}/httpd.pid
    {modules}
    ServerName localhost
    {user}
    Listen 127.0.0.1:{port}
    ErrorLog {directory}/error.log
    LogLevel warn
    TypesConfig /etc/mime.types
    Mutex file:{directory} default
    DavLockDB {directory}/lockdb
    DocumentRoot {root}
    KeepAlive On
    MaxKeepAliveRequests 0
    AllowEncodedSlashes NoDecode
    <Directory {root}>
      Dav On
      DavDepthInfinity {infinity}
      Require all granted
      Options -Indexes
    </Directory>
"""
_APACHE_MODULES = "mpm_event authz_core authz_host dav dav_fs dav_lock mime setenvif"


class ApacheDav(Server):
    """Apache mod_dav; ``endpoint`` once entered. By default it refuses to list whole trees."""

    name = "apache"
    endpoint: DavEndpoint

    def __init__(self, *, infinity: bool = False) -> None:
        super().__init__()
        self.infinity = infinity

    def _start(self) -> None:
        apache = program("apache2", "apache2")
        (port,) = free_ports(1)
        root = self.directory / "data"
        root.mkdir(mode=0o777)
        for path in (self.directory, root):
            path.chmod(0o777)
        modules = "\n    ".join(
            f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in _APACHE_MODULES.split()
        )
        text = _APACHE.format(
            directory=self.directory,
            modules=modules,
            port=port,
            root=root,
            user="User www-data\n    Group www-data" if getpass.getuser() == "root" else "",
            infinity="On" if self.infinity else "Off",
        )
        conf = self.directory / "httpd.conf"
        conf.write_text(textwrap.dedent(text).lstrip())
        url = f"http://127.0.0.1:{port}"
        self._run([[apache, "-f", conf, "-DFOREGROUND"]], http_answers(url))
        self.endpoint = DavEndpoint(url, root)


_NGINX = """
    load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;
    {user}
    daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log warn; worker_processes 1;
    events {{ worker_connections 256; }}
    http {{
      access_log off; client_max_body_size 0; client_body_temp_path {directory}/b; proxy_temp_path {directory}/p;
      fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
      dav_ext_lock_zone zone=l:1m;
      server {{
        listen 127.0.0.1:{port};
        root {root};
        location / {{
          dav_methods PUT DELETE MKCOL COPY MOVE; dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;
          dav_ext_lock zone=l; dav_access user:rw group:rw all:r;
        }}
      }}
    }}
"""


class NginxDav(Server):
    """nginx with its WebDAV modules; ``endpoint`` once entered. It never lists whole trees and ignores If-Match of a PUT."""

    name = "nginx"
    endpoint: DavEndpoint

    def _start(self) -> None:
        nginx = program("nginx", "nginx libnginx-mod-http-dav-ext")
        (port,) = free_ports(1)
        root = self.directory / "data"
        root.mkdir()
        text = _NGINX.format(
            directory=self.directory, port=port, root=root, user="user root;" if getpass.getuser() == "root" else ""
        )
        conf = self.directory / "nginx.conf"
        conf.write_text(textwrap.dedent(text).lstrip())
        url = f"http://127.0.0.1:{port}"
        self._run([[nginx, "-p", self.directory, "-c", conf]], http_answers(url))
        self.endpoint = DavEndpoint(url, root)


_LIGHTTPD = """
    server.modules = ("mod_webdav")
    server.document-root = "{root}"
    server.bind = "127.0.0.1"
    server.port = {port}
    server.upload-dirs = ("{directory}")
    server.errorlog = "{directory}/error.log"
    server.stat-cache-engine = "disable"
    mimetype.assign = ("" => "application/octet-stream")
    webdav.activate = "enable"
    webdav.is-readonly = "disable"
    webdav.opts += ("propfind-depth-infinity" => "enable")
"""


class LighttpdDav(Server):
    """lighttpd's mod_webdav; ``endpoint`` once entered. It ignores If-Match of a GET."""

    name = "lighttpd"
    endpoint: DavEndpoint

    def _start(self) -> None:
        lighttpd = program("lighttpd", "lighttpd lighttpd-mod-webdav")
        (port,) = free_ports(1)
        root = self.directory / "data"
        root.mkdir()
        conf = self.directory / "lighttpd.conf"
        conf.write_text(textwrap.dedent(_LIGHTTPD.format(directory=self.directory, port=port, root=root)).lstrip())
        url = f"http://127.0.0.1:{port}"
        self._run([[lighttpd, "-D", "-f", conf]], http_answers(url))
        self.endpoint = DavEndpoint(url, root)
