"""What the arguments name: a URL of an object, prefix or pattern, a local path, or ``-``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore._bulk.match import is_glob
from obstore._config.url import split_url
from obstore.store import from_url

_CLOUD = ("s3", "gcs", "azure")


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
        if kind not in _CLOUD:
            return {} if kind == "memory" else {"client_options": {"allow_http": True}} if kind == "http" else {}
        config: dict[str, Any] = dict(self._config)
        for name in ("endpoint", "region", "profile"):
            if self._options.get(name) and (kind == "s3" or name == "endpoint"):
                config[name] = self._options[name]
        if self._options.get("no_sign_request"):
            config["skip_signature"] = True
        client: dict[str, Any] = {}
        endpoint = str(config.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL") or "")
        if endpoint.startswith("http://"):
            client["allow_http"] = True  # who writes http:// means it
        if self._options.get("insecure"):
            client["allow_invalid_certificates"] = True
        return {"config": config, **({"client_options": client} if client else {})}


class Place:
    """One argument.

    Attributes:
        text: as given.
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
        if self.is_pipe:
            return
        scheme = text.partition("://")[0] if "://" in text else ""
        if scheme == "file":
            self.path = Path(split_url(text, "local").path or "/")
        elif scheme:
            self._split(text, scheme, connection)
        else:
            self.path = Path(text).expanduser()

    def _split(self, text: str, scheme: str, connection: Connection) -> None:
        head, _, rest = text.partition("://")
        authority, _, key = rest.partition("/")
        base = f"{head}://{authority}"
        kind: str = "memory" if scheme == "memory" else split_url(base + "/").scheme
        if scheme in ("http", "https"):
            found = split_url(text if not is_glob(text) else urlsplit(text)._replace(query="", fragment="").geturl())
            kind = found.scheme
            if kind in _CLOUD:
                key = found.prefix or ""
                base = text[: len(text) - len(key)] if key and text.endswith(key) else text
        self._base = base.rstrip("/") + "/"
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
        return f"{self._base}{key}"

    def needs_store(self, command: str) -> Any:
        """The store.

        Raises:
            UsageError: it is a local path.
        """
        if self.store is None:
            raise UsageError(f"{command} takes URLs such as s3://bucket/key, not {self.text!r}")
        return self.store

    def is_object(self) -> bool:
        """Whether the key is that of an object."""
        if not self.key or self.key.endswith("/") or self.is_pattern:
            return False
        try:
            obstore.head(self.store, self.key)
        except FileNotFoundError:
            return False
        return True
