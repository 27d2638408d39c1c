"""A store's connection options on their way to the engine."""

from __future__ import annotations

import contextlib
import importlib
import os
import weakref
from typing import TYPE_CHECKING, Any

from obstore._config.client import check_proxy
from obstore._config.proxy import proxy_of, without_proxy
from obstore._engine import Bulk, Client, Form, lifecycle
from obstore._engine._core import curl_info
from obstore.exceptions import GenericError, NotSupportedError

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
        roams: whether requests may be redirected to other endpoints, encrypted ones among them.
        pace: requests a second, and a name: all handles of that name in this process keep within the rate together.
    """

    __slots__ = ("__weakref__", "_client", "_origin", "endpoint", "options", "pace", "roams")

    def __init__(
        self, options: ClientOptions, endpoint: str, *, roams: bool = False, pace: tuple[float, str] | None = None
    ) -> None:
        self.options = options
        self.endpoint = endpoint
        self.roams = roams
        self.pace = pace
        self._client: Client | None = None
        self._origin: ClientHandle | None = None  # that this one is a limited form of

    def engine_client(self) -> Client:
        """The engine's client. Any thread.

        Raises:
            ImportError: libcurl cannot be loaded.
            GenericError: a file of certificates cannot be read, or the environment's proxy is none.
            NotSupportedError: the options ask for a protocol that this libcurl does not speak.
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

    def stats(self) -> dict[str, int]:
        """What became of the requests so far; empty before the first one."""
        return {} if self._client is None else self._client.stats()

    def bulk(self, **options: Any) -> Bulk:
        """Many small reads at once; the options are those of `Bulk`."""
        return Bulk(self.engine_client(), **options)

    def form(self, form: Any) -> Form:
        """A dialect's form as the engine has it."""
        return Form(form)

    def limited(self, connections: int, pace: tuple[float, str] | None = None) -> ClientHandle:
        """A handle of the same options whose requests, all together, use so many connections, and keep a pace.

        They are counted with those of this one. This one, where it does so already.
        """
        wanted = min(self.options.max_connections or connections, connections)
        if wanted == self.options.max_connections and pace in (None, self.pace):
            return self
        options = self.options._replace(max_connections=wanted)
        limited = ClientHandle(options, self.endpoint, roams=self.roams, pace=pace or self.pace)
        limited._origin = self
        return limited

    def _make(self) -> Client:
        options = self.options
        rate, name = self.pace or (0.0, "")
        # What is paced by its user shares nothing with what is not.
        endpoint = f"{self.endpoint} {name}" if rate else self.endpoint
        if self._origin is not None:
            return self._origin.engine_client().limited(endpoint, options.max_connections or 0, rate)
        _check_protocol(options.http_version)
        proxy, excludes = options.proxy_url, options.proxy_excludes
        if proxy is None:
            proxy, excludes = proxy_of(self.endpoint)
            check_proxy(proxy)
        return Client(
            endpoint=endpoint,
            max_rate=rate,
            user_agent=options.user_agent,
            ca_file=self._ca_file() if self.roams or proxy or self.endpoint.startswith("https") else None,
            proxy=proxy,
            no_proxy=without_proxy(excludes, self.endpoint),
            proxy_ca_file=self._pem_file(options.proxy_ca_certificate.encode())
            if options.proxy_ca_certificate
            else None,
            connect_timeout_ms=_ms(options.connect_timeout_s),
            timeout_ms=_ms(options.timeout_s),
            read_timeout_ms=_ms(options.read_timeout_s),
            idle_timeout_ms=_ms(options.pool_idle_timeout_s),
            verify=not options.allow_invalid_certificates,
            http_version=options.http_version,
            shuffle_dns=options.randomize_addresses,
            insecure_http=options.allow_http,
            max_connections=options.max_connections or 0,
        )

    def _ca_file(self) -> str | None:
        """The file of trusted certificates: the system's, or those of several sources in a private file of ours."""
        from obstore._engine.certificates import ca_files

        options = self.options
        files = [] if options.disable_system_certificates else ca_files()
        if options.root_certificate is None and len(files) < 2:
            return files[0] if files else None
        pems = [_read_pem(file) for file in files]
        if options.root_certificate is not None:
            pems.append(options.root_certificate)
        return self._pem_file(b"\n".join(pems))

    def _pem_file(self, pem: bytes) -> str:
        """A private temporary file that lives as long as this handle."""
        import tempfile

        descriptor, path = tempfile.mkstemp(prefix="obstore-", suffix=".pem")
        with open(descriptor, "wb") as file:
            file.write(pem)
        weakref.finalize(self, _remove, path, os.getpid())
        return path


def _read_pem(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise GenericError.of("HTTP client", f"certificates cannot be read from {path}: {error.strerror}") from None


def _check_protocol(http_version: int) -> None:
    """Say at once what libcurl would only say of each request."""
    needs = {20: "http2", 21: "http2", 30: "http3"}.get(http_version)
    if needs is not None and not curl_info()[needs]:
        raise NotSupportedError.of(
            "",
            f"libcurl {curl_info()['version']} speaks no HTTP/{needs[-1]}",
            hint="pip install -U pycurl brings one that does; see obstore.debug_info()",
        )


def _remove(path: str, owner: int) -> None:
    """Remove a file of ours; the children of the process that made it leave it alone."""
    if os.getpid() == owner:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _ms(seconds: float | None) -> int:
    """Milliseconds for the engine; 0 means none, so a shorter time than that becomes one."""
    return 0 if seconds is None else max(1, round(seconds * 1000))
