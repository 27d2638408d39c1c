"""A store's connection options on their way to the engine."""

from __future__ import annotations

import contextlib
import importlib
import os
import weakref
from typing import TYPE_CHECKING

from obstore._engine import Client, lifecycle

if TYPE_CHECKING:
    from obstore._config.client import ClientOptions


# Modules that the reading of errors imports when it needs them. By then other threads may fork, and a child that begins while
# a module is being imported finds its import lock held for ever; here they are imported under the lock that forks wait for.
_LATE_IMPORTS = ("html", "http", "json")


class ClientHandle:
    """Makes the engine's client at the first request, so that building a store loads nothing.

    Args:
        options: the store's client options.
        endpoint: ``scheme://host:port`` whose throttling the store shares with all others of that endpoint.
        follow: redirects to follow; 0 for signed requests.
    """

    __slots__ = ("__weakref__", "_client", "endpoint", "follow", "options")

    def __init__(self, options: ClientOptions, endpoint: str, follow: int = 0) -> None:
        self.options = options
        self.endpoint = endpoint
        self.follow = follow
        self._client: Client | None = None

    def engine_client(self) -> Client:
        """The engine's client. Any thread.

        Raises:
            ImportError: libcurl cannot be loaded.
        """
        client = self._client
        if client is None:
            with lifecycle.setting_up():
                lifecycle.start()
                for name in _LATE_IMPORTS:
                    importlib.import_module(name)
                client = self._client
                if client is None:
                    client = self._client = self._make()
        return client

    def _make(self) -> Client:
        options = self.options
        return Client(
            endpoint=self.endpoint,
            user_agent=options.user_agent,
            ca_file=self._ca_file() if self.endpoint.startswith("https") or options.proxy_url else None,
            proxy=options.proxy_url,
            no_proxy=options.proxy_excludes,
            proxy_ca_file=self._pem_file(options.proxy_ca_certificate.encode())
            if options.proxy_ca_certificate
            else None,
            connect_timeout_ms=_ms(options.connect_timeout_s),
            timeout_ms=_ms(options.timeout_s),
            read_timeout_ms=_ms(options.read_timeout_s),
            idle_timeout_ms=_ms(options.pool_idle_timeout_s),
            verify=not options.allow_invalid_certificates,
            http_version=options.http_version,
            follow=self.follow,
            shuffle_dns=options.randomize_addresses,
            insecure_http=options.allow_http,
            max_connections=options.max_connections or 0,
        )

    def _ca_file(self) -> str | None:
        """The file of trusted certificates: the system's, the user's, or both in a private file of ours."""
        from obstore._engine import libcurl

        options = self.options
        system = None if options.disable_system_certificates else libcurl.ca_file()
        if options.root_certificate is None:
            return system
        pem = options.root_certificate
        if system is not None:
            with open(system, "rb") as file:
                pem = file.read() + b"\n" + pem
        return self._pem_file(pem)

    def _pem_file(self, pem: bytes) -> str:
        """A private temporary file that lives as long as this handle."""
        import tempfile

        descriptor, path = tempfile.mkstemp(prefix="obstore-", suffix=".pem")
        with open(descriptor, "wb") as file:
            file.write(pem)
        weakref.finalize(self, _remove, path, os.getpid())
        return path


def _remove(path: str, owner: int) -> None:
    """Remove a file of ours; the children of the process that made it leave it alone."""
    if os.getpid() == owner:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _ms(seconds: float | None) -> int:
    """Milliseconds for the engine; 0 means none, so a shorter time than that becomes one."""
    return 0 if seconds is None else max(1, round(seconds * 1000))
