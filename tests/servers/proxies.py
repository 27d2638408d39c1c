"""Forward proxies of the distribution, each asking for ``user`` and ``pass``.

``apt-get install --no-install-recommends tinyproxy squid microsocks openssl``.
"""

from __future__ import annotations

import getpass
import subprocess
import textwrap

from tests.servers.dav import program
from tests.servers.process import Server, free_ports, port_listens

USER, PASSWORD = "user", "pass"


class Tinyproxy(Server):
    """tinyproxy; ``url`` without user once entered."""

    name = "tinyproxy"
    scheme = "http"
    address: str

    def _start(self) -> None:
        tinyproxy = program("tinyproxy", "tinyproxy")
        (port,) = free_ports(1)
        conf = self.directory / "tinyproxy.conf"
        conf.write_text(
            f"Port {port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nAllow 127.0.0.1\nBasicAuth {USER} {PASSWORD}\n"
            "LogLevel Warning\n"  # without ConnectPort any port may be tunnelled to
        )
        self._run([[tinyproxy, "-d", "-c", conf]], port_listens(port))
        self.address = f"127.0.0.1:{port}"


_SQUID = """
    http_port 127.0.0.1:{port}
    pid_filename {directory}/squid.pid
    cache_log {directory}/cache.log
    access_log none
    cache deny all
    cache_mem 8 MB
    coredump_dir {directory}
    {user}
    auth_param basic program {helper} {directory}/passwords
    acl known proxy_auth REQUIRED
    http_access allow known
    http_access deny all
    shutdown_lifetime 1 seconds
    icp_port 0
    pinger_enable off
"""


class Squid(Server):
    """squid; ``address`` once entered."""

    name = "squid"
    scheme = "http"
    address: str

    def _start(self) -> None:
        squid = program("squid", "squid")
        (port,) = free_ports(1)
        self.directory.chmod(0o777)  # it lets go of root
        done = subprocess.run(["openssl", "passwd", "-apr1", PASSWORD], check=True, capture_output=True, text=True)
        (self.directory / "passwords").write_text(f"{USER}:{done.stdout}")
        user = "cache_effective_user proxy" if getpass.getuser() == "root" else ""
        text = _SQUID.format(port=port, directory=self.directory, user=user, helper="/usr/lib/squid/basic_ncsa_auth")
        conf = self.directory / "squid.conf"
        conf.write_text(textwrap.dedent(text).lstrip())
        self._run([[squid, "-N", "-f", conf]], port_listens(port))
        self.address = f"127.0.0.1:{port}"


class Microsocks(Server):
    """microsocks; ``address`` once entered."""

    name = "microsocks"
    scheme = "socks5h"
    address: str

    def _start(self) -> None:
        microsocks = program("microsocks", "microsocks")
        (port,) = free_ports(1)
        command = [microsocks, "-i", "127.0.0.1", "-p", str(port), "-u", USER, "-P", PASSWORD]
        self._run([command], port_listens(port))
        self.address = f"127.0.0.1:{port}"
