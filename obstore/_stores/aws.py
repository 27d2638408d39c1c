"""What an S3 store gets from the surroundings: the credentials of whoever runs the program.

Imported when a store first needs it: programs that give all they need do not pay for it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Hashable, Mapping

from obstore._auth.aws import AwsSource
from obstore._auth.aws_chain import ChainSource
from obstore._auth.aws_express import ExpressSource
from obstore._config.aws_chain import ChainSettings
from obstore._config.aws_files import files_state
from obstore._config.client import ClientOptions
from obstore._config.keys import MergedSettings
from obstore._dialect.s3 import S3Dialect
from obstore._run import ClientHandle

__all__ = ["AwsClients", "chain", "sessions"]

# Nobody waits longer than this for the answer of a service that gives credentials.
_SERVICE_TIMEOUT_S = 10.0


def chain(
    merged: MergedSettings, region: str | None, client: ClientOptions, environ: Mapping[str, str] = os.environ
) -> ChainSource:
    """The source of credentials of whoever runs the program.

    Stores that look in the same places by the same connection options share one, and with it what it found: as long as one of
    them lives, and the command line's files stay as they are.
    """
    settings = ChainSettings.build(merged, environ, region)
    clients = AwsClients(client)
    key = (settings.identity(), clients.identity(), files_state(settings.paths))
    found = _shared.get(key)
    if found is None:  # two threads may both make one: then there are two, to the same effect
        found = _shared[key] = ChainSource(settings, clients)
    return found


_shared: weakref.WeakValueDictionary[Hashable, ChainSource] = weakref.WeakValueDictionary()


def sessions(base: AwsSource, dialect: S3Dialect, client: ClientOptions) -> ExpressSource:
    """The source of sessions with a directory bucket."""
    return ExpressSource(base, dialect.endpoint, dialect.host, dialect.bucket_path, dialect.region, AwsClients(client))


class AwsClients:
    """See `obstore._auth.aws_http.Clients`. Threads may race for a client: then there are two, to the same effect."""

    def __init__(self, options: ClientOptions) -> None:
        timeout = min(options.timeout_s or _SERVICE_TIMEOUT_S, _SERVICE_TIMEOUT_S)
        # Headers and limits of the store are meant for its own requests.
        self._options = options._replace(default_headers=(), max_connections=0, timeout_s=timeout)
        self._services: dict[str, ClientHandle] = {}
        self._metadata: dict[float, ClientHandle] = {}

    def identity(self) -> Hashable:
        """Equal for clients that send alike."""
        # Dicts are what is read back, no more.
        return tuple(value for value in self._options if not isinstance(value, dict))

    def service(self, url: str) -> ClientHandle:
        """For a service of the cloud."""
        origin = "/".join(url.split("/", 3)[:3])
        handle = self._services.get(origin)
        if handle is None:
            handle = self._services[origin] = ClientHandle(self._options, origin)
        return handle

    def metadata(self, timeout_s: float) -> ClientHandle:
        """For this machine and its host."""
        handle = self._metadata.get(timeout_s)
        if handle is None:
            options = self._options._replace(
                allow_http=True,
                proxy_url="",  # not even the environment's
                proxy_excludes=None,
                connect_timeout_s=timeout_s,
                timeout_s=timeout_s * 2,
                read_timeout_s=timeout_s,
            )
            handle = self._metadata[timeout_s] = ClientHandle(options, "http://metadata")
        return handle
