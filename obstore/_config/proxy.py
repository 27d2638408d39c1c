"""Proxies from the environment, and which hosts are reached without one."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

__all__ = ["proxy_of", "without_proxy"]

_PORTS = {"http": 80, "https": 443}


def proxy_of(endpoint: str, env: Mapping[str, str] = os.environ) -> tuple[str | None, str | None]:
    """The proxy that the environment names for requests to an endpoint, and the hosts that are to be reached without it.

    ``https_proxy`` or ``http_proxy`` by the endpoint's scheme, else ``all_proxy``; ``no_proxy``; each in lower case, else in
    upper case. In a CGI program ``HTTP_PROXY`` is a header that the client sent, so there it does not count.

    Args:
        endpoint: ``scheme://host[:port]``.
        env: the environment.
    """
    scheme = endpoint.partition(":")[0]
    names = [f"{scheme}_proxy", f"{scheme}_proxy".upper(), "all_proxy", "ALL_PROXY"]
    if "REQUEST_METHOD" in env:
        names = [name for name in names if name != "HTTP_PROXY"]
    proxy = next((env[name] for name in names if env.get(name)), None)
    if proxy is None:
        return None, None
    return proxy, env.get("no_proxy") or env.get("NO_PROXY") or None


def without_proxy(excludes: str | None, endpoint: str) -> str | None:
    """``excludes`` as every libcurl understands it for the endpoint's own host.

    libcurl reads names and, from 7.86 on, networks (``10.0.0.0/8``). Where one of the forms that others know too (``*.name``,
    ``host:port``, a ``*`` among others) means the endpoint, its host is added as it is.
    """
    if excludes is None:
        return None
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _PORTS.get(parts.scheme)
    entries = [entry for entry in re.split(r"[\s,]+", excludes) if entry]
    if any(_means(entry.lower(), host, port) for entry in entries):
        entries.append(host)
    return ",".join(entries)


def _means(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        try:
            return ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and (":" not in name or name.endswith("]")):
        if int(number) != port:
            return False
        entry = name
    entry = entry.strip("[]").rstrip(".").removeprefix("*").removeprefix(".")
    if not entry:
        return False
    try:
        address = ip_address(host)
    except ValueError:
        return host == entry or host.endswith(f".{entry}")
    try:
        return address == ip_address(entry)
    except ValueError:
        return False
