"""`HTTPStore`."""

from __future__ import annotations

from base64 import b64encode
from typing import Any, Self
from urllib.parse import unquote

from obstore._auth.sources import ANONYMOUS, Static
from obstore._config.client import ClientConfig, ClientOptions
from obstore._config.paths import parse_key
from obstore._config.retry import RetryConfig, RetryPolicy
from obstore._config.url import split_url
from obstore._dialect.http import HttpDialect
from obstore._methods import ObjectStoreMethods
from obstore._ops.http import HttpBackend
from obstore._run import ClientHandle
from obstore._stores.rebuild import added_attributes, rebuild
from obstore._types import SupportsAsUri

__all__ = ["HTTPStore"]


class HTTPStore(ObjectStoreMethods):
    """What is below a URL of a web server, or of a WebDAV server that also lists and changes it.

    Args:
        url: http or https. A query in it goes with every request, so that a presigned URL is used as given: its object has
            the key ``""``. A user and password in it are sent as HTTP basic authentication and shown nowhere.
        client_options: how requests are sent, see `ClientConfig`; headers of your own (a token, say) are its
            ``default_headers``. Plain http needs ``allow_http``.
        retry_config: how often and how patiently they are repeated, see `RetryConfig`.

    Keys are relative paths; as servers resolve ``.``, ``..`` and empty segments, they are refused. Servers may lack HEAD,
    ETag, Last-Modified, Content-Length and ranges. Up to ten redirects are followed; another host gets neither the URL's
    credentials nor ``default_headers``.

    Raises:
        TypeError, ValueError: an argument or option is wrong, or ``url`` is no URL.
        GenericError: it is none of http or https.
    """

    __module__ = "obstore.store"  # where users find it
    _backend: HttpBackend
    _own = frozenset({"_backend", "_client_options", "_policy", "_retry_given", "_url", "_user"})

    def __init__(
        self,
        url: str | SupportsAsUri,
        *,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
    ) -> None:
        location = split_url(url, "http")
        self._url = location.url or ""
        self._user = location.user
        self._client_options = ClientOptions.parse(client_options)
        self._retry_given = retry_config is not None
        self._policy = RetryPolicy.parse(retry_config)
        dialect = HttpDialect(
            self._url,
            authorization=_basic(self._user),
            default_headers=self._client_options.default_headers,
            default_content_type=self._client_options.default_content_type,
        )
        self._backend = HttpBackend(
            dialect,
            ClientHandle(self._client_options, dialect.endpoint, roams=True),
            Static(ANONYMOUS),
            self._policy,
            _parse_key,
        )

    @classmethod
    def from_url(
        cls,
        url: str | SupportsAsUri,
        *,
        client_options: ClientConfig | dict[str, Any] | None = None,
        retry_config: RetryConfig | dict[str, Any] | None = None,
    ) -> Self:
        """The same as the constructor."""
        return cls(url, client_options=client_options, retry_config=retry_config)

    def __repr__(self) -> str:
        path, mark, _ = self._url.partition("?")
        return f'HTTPStore("{path}{"?REDACTED" if mark else ""}")'  # a query is often a credential as a whole

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HTTPStore):
            return NotImplemented
        return (
            self._url == other._url
            and self._user == other._user
            and self._client_options.reads_like(other._client_options)
            and self.retry_config == other.retry_config
        )

    __hash__ = None  # type: ignore[assignment]

    @property
    def url(self) -> str:
        """The URL in normal form, without user and password; with its query, which may be a secret."""
        return self._url

    @property
    def client_options(self) -> dict[str, Any] | None:
        """The client options as given, or ``None``."""
        return self._client_options.published()

    def describe(self) -> dict[str, Any]:
        """What the store is set to and what it has learnt of its server, for people and bug reports; without secrets.

        Under ``learnt`` stands what the server does not do, and what is done instead.
        """
        path, mark, _ = self._url.partition("?")
        return {
            "store": type(self).__name__,
            "url": f"{path}?REDACTED" if mark else path,
            "credentials": "none" if self._user is None else "user and password of the URL",
            "learnt": self._backend.learnt(),
        }

    @property
    def retry_config(self) -> RetryConfig | None:
        """The retry options with their defaults filled in, or ``None`` where none were given."""
        return self._policy.as_dict() if self._retry_given else None

    def __getnewargs_ex__(self) -> tuple[tuple[str], dict[str, Any]]:
        """What another library rebuilds the store from; it gets the URL's password as the header that it is sent as."""
        client = self.client_options
        if (authorization := _basic(self._user)) is not None:
            client = client or {}
            headers = client.get("default_headers", {})
            client["default_headers"] = {"authorization": authorization.encode(), **headers}
        arguments = {"client_options": client, "retry_config": self.retry_config}
        return (self._url,), {name: value for name, value in arguments.items() if value is not None}

    def __reduce__(self) -> tuple[Any, ...]:
        client = self.client_options
        if self._client_options.ours:
            client = {**(client or {}), **self._client_options.ours}
        url = self._url if self._user is None else self._url.replace("://", f"://{self._user}@", 1)
        arguments = {"url": url, "client_options": client, "retry_config": self.retry_config}
        return rebuild, (type(self), HTTPStore, arguments, added_attributes(self, self._own))


def _parse_key(path: str, argument: str) -> str:
    return parse_key(path, argument, strict=True)


def _basic(user: str | None) -> str | None:
    """A URL's ``user:password`` as the header that it is sent as (RFC 7617)."""
    if user is None:
        return None
    name, _, password = user.partition(":")
    return "Basic " + b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode("ascii")
