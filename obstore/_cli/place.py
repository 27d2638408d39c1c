"""What the arguments name: a URL of an object, prefix or pattern, a local path, or ``-``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from obstore._bulk.match import is_glob
from obstore._config.url import split_url
from obstore.exceptions import GenericError
from obstore.store import LocalStore, from_url

_CLOUD = ("s3", "gcs", "azure")
# What a setting may be meant for: ``--config gs:base_url=...``.
SCHEMES = {"s3": "s3", "gs": "gcs", "az": "azure"}
# An endpoint that the environment names is meant, also where it is not encrypted.
_ENDPOINTS = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "gcs": ("STORAGE_EMULATOR_HOST", "GOOGLE_BASE_URL"),
    "azure": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}


class UsageError(ValueError):
    """The command line makes no sense."""


class Connection:
    """How stores are reached: the options that all commands share."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._config = dict(options.pop("config", ()))
        self._options = options
        self._stores: dict[str, Any] = {}

    def store(self, base: str, kind: str) -> Any:
        """The store at ``base``; one object for one base, so that copies see that it is the same."""
        if base not in self._stores:
            self._stores[base] = from_url(base, **self._arguments(kind))
        return self._stores[base]

    def _arguments(self, kind: str) -> dict[str, Any]:
        client: dict[str, Any] = {"allow_invalid_certificates": True} if self._options.get("insecure") else {}
        if kind == "http":
            return {"client_options": {**client, "allow_http": True}}
        if kind not in _CLOUD:
            return {}
        config: dict[str, Any] = {}
        for name, value in self._config.items():  # those of one kind of store after those of all
            scheme, colon, rest = name.partition(":")
            if not colon:
                config.setdefault(name, value)
            elif SCHEMES[scheme] == kind:
                config[rest] = value
        address = "base_url" if kind == "gcs" else "endpoint"
        if self._options.get("endpoint"):
            config.setdefault(address, self._options["endpoint"])
        for name in ("region", "profile"):
            if self._options.get(name) and kind == "s3":
                config[name] = self._options[name]
        if self._options.get("no_sign_request"):
            config["skip_signature"] = True
        named = [config.get("endpoint"), config.get("endpoint_url"), config.get("base_url")]
        named += [os.environ.get(name) for name in _ENDPOINTS[kind]]
        if any(str(endpoint).startswith("http://") for endpoint in named if endpoint):
            client["allow_http"] = True  # who writes http:// means it
        return {"config": config, **({"client_options": client} if client else {})}


class Place:
    """One argument.

    Attributes:
        text: as given, without a password.
        store: of a URL, else ``None``.
        key: in the store: an object's, a prefix, or a pattern; "" for all.
        path: on this machine, else ``None``.
        is_pipe: standard input or output.
    """

    def __init__(self, text: str, connection: Connection) -> None:
        self.text = text
        self.store: Any = None
        self.key = ""
        self.path: Path | None = None
        self.is_pipe = text == "-"
        self._base = ""
        self._is_http = False
        if self.is_pipe:
            return
        scheme = text.partition("://")[0] if "://" in text else ""
        if scheme == "file":
            self.path = Path(split_url(text, "local").path or "/")
        elif scheme:
            try:
                self._split(text, scheme, connection)
            except GenericError as error:
                if error.status is None and error.url is None:  # not a service's: the URL is none
                    raise UsageError(f"{self.text}: {error}") from None
                raise
        else:
            self.path = Path(text).expanduser()

    def _split(self, text: str, scheme: str, connection: Connection) -> None:
        head, _, rest = text.partition("://")
        authority, _, key = rest.partition("/")
        base = f"{head}://{authority}"
        kind: str
        if scheme in ("http", "https"):
            # A question mark before an equals sign begins a query, as of a presigned URL; else it is a wildcard.
            path, mark, query = key.partition("?")
            if "=" not in query:
                path, mark, query = key, "", ""
            found = split_url(f"{base}/{quote(path, safe='/%')}")
            kind = found.scheme
            if kind in _CLOUD and not query:
                key = found.prefix or ""
                base = text[: len(text) - len(key)] if key and text.endswith(key) else text
            else:
                # URLs are pasted as browsers show them: encoded. The query goes with every request.
                self._is_http = True
                kind = "http"
                key = unquote(path)
                base = f"{base}/{mark}{query}"
                shown = f"{head}://{authority.rpartition('@')[2]}"
                self.text = f"{shown}/{path}"
                self._base = f"{shown}/"
        else:
            kind = "memory" if scheme == "memory" else split_url(base + "/").scheme
        self._base = self._base or base.rstrip("/") + "/"
        self.store = connection.store(base, kind)
        self.key = key

    @property
    def is_remote(self) -> bool:
        """Whether it is in a store."""
        return self.store is not None

    @property
    def is_folder(self) -> bool:
        """Whether it is written as a directory: it ends with a slash, names a bucket, or is a directory that exists."""
        if self.path is not None:
            return self.text.endswith(("/", os.sep)) or self.path.is_dir()
        return self.key == "" or self.key.endswith("/")

    @property
    def is_file(self) -> bool:
        """Whether it is a local path that is no directory."""
        return self.path is not None and not self.path.is_dir()

    @property
    def is_pattern(self) -> bool:
        """Whether it has wildcards."""
        return is_glob(self.key if self.is_remote else self.text) and not (self.path is not None and self.path.exists())

    def url(self, key: str) -> str:
        """The URL of a key in the same store."""
        return f"{self._base}{quote(key) if self._is_http else key}"

    def needs_store(self, command: str) -> Any:
        """The store.

        Raises:
            UsageError: it is a local path.
        """
        if self.store is None:
            raise UsageError(f"{command} takes URLs such as s3://bucket/key, not {self.text!r}")
        return self.store

    def opened(self, command: str) -> tuple[Any, str]:
        """Store and key, of a local file as well.

        Raises:
            UsageError: it is standard input, or a directory.
        """
        if self.path is None:
            return self.needs_store(command), self.key
        if self.path.is_dir():
            raise UsageError(f"{self.text} is a directory")
        path = self.path.absolute()
        return LocalStore(path.parent), path.name
