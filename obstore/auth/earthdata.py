"""Temporary S3 credentials of NASA's Earthdata, as its archives hand them out to who has an account there.

Needs no other library: requests go by the library's own connections, unless a session of ``requests`` or ``aiohttp`` is given.
See https://data.lpdaac.earthdatacloud.nasa.gov/s3credentialsREADME
"""

from __future__ import annotations

import json
import netrc
import os
from base64 import b64encode
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from obstore._auth.sources import ANONYMOUS, Static
from obstore._config.client import ClientOptions
from obstore._config.paths import parse_key
from obstore._config.retry import RetryPolicy
from obstore._config.url import normalise_http_url
from obstore._dialect.http import HttpDialect
from obstore._effects import Op
from obstore._ops.http import HttpBackend
from obstore._run import ClientHandle, run, start
from obstore._types import PLAIN_GET
from obstore.exceptions import UnauthenticatedError

if TYPE_CHECKING:
    import aiohttp
    import requests

    from obstore.store import S3Credential

__all__ = ["DEFAULT_EARTHDATA_HOST", "NasaEarthdataAsyncCredentialProvider", "NasaEarthdataCredentialProvider"]

DEFAULT_EARTHDATA_HOST = "urs.earthdata.nasa.gov"
_REGION = "us-west-2"  # of all its buckets
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REQUESTS = 10
_HINT = (
    "set EARTHDATA_TOKEN, or EARTHDATA_USERNAME and EARTHDATA_PASSWORD, or have a netrc entry for {host}; the account must have "
    "approved the archive's application"
)


class _Answer(NamedTuple):
    status: int
    location: str | None
    cookies: list[str]
    body: bytes


_Exchange = Generator[tuple[str, dict[str, str]], _Answer, "S3Credential"]


class _Login:
    """Who asks, and the exchange of requests that gets the credentials; without I/O."""

    def __init__(self, credentials_url: str, host: str | None, auth: str | tuple[str, str] | None) -> None:
        if not isinstance(credentials_url, str):
            raise TypeError(f"credentials_url: '{type(credentials_url).__name__}' object is not an instance of 'str'")
        self.url = normalise_http_url(credentials_url)
        self.host = host or os.environ.get("EARTHDATA_HOST") or DEFAULT_EARTHDATA_HOST
        self._auth = _checked(auth)

    def exchange(self) -> _Exchange:
        """Yields URLs and headers to GET without following redirects, and takes the answers."""
        auth = self._auth or _from_environment() or _from_netrc(self.host)
        if isinstance(auth, str):
            answer = yield self.url, {"authorization": f"Bearer {auth}"}
            if answer.status in _REDIRECTS:  # to the page that asks for a login
                raise self._refused(answer.status, "the token was not accepted")
            return self._read(answer)
        basic = None if auth is None else "Basic " + b64encode(f"{auth[0]}:{auth[1]}".encode()).decode("ascii")
        url = self.url
        cookies: dict[str, dict[str, str]] = {}
        for _ in range(_MAX_REQUESTS):
            here = urlsplit(url).hostname or ""
            headers = {}
            if basic is not None and here == self.host:  # nobody else gets to see the password
                headers["authorization"] = basic
            if held := cookies.get(here):
                headers["cookie"] = "; ".join(f"{name}={value}" for name, value in held.items())
            answer = yield url, headers
            for cookie in answer.cookies:
                name, _, value = cookie.partition(";")[0].strip().partition("=")
                cookies.setdefault(here, {})[name] = value
            if answer.status not in _REDIRECTS or answer.location is None:
                return self._read(answer)
            url = normalise_http_url(urljoin(url, answer.location))
        raise self._refused(answer.status, "too many redirects")

    def _read(self, answer: _Answer) -> S3Credential:
        if answer.status != 200:
            raise self._refused(answer.status, "it refused")
        try:
            found = json.loads(answer.body)
            expires = datetime.fromisoformat(found["expiration"])
            return {
                "access_key_id": found["accessKeyId"],
                "secret_access_key": found["secretAccessKey"],
                "token": found["sessionToken"],
                "expires_at": expires.replace(tzinfo=UTC) if expires.tzinfo is None else expires.astimezone(UTC),
            }
        except (ValueError, TypeError, KeyError):
            pass  # out of here: the cause of an error would show the body
        raise self._refused(answer.status, "it answered with something else than credentials")

    def _refused(self, status: int, why: str) -> UnauthenticatedError:
        return UnauthenticatedError(
            f"No credentials from {self.url.partition('?')[0]}: {why} ({status})",
            status=status,
            hint=_HINT.format(host=self.host),
        )


def _checked(auth: Any) -> str | tuple[str, str] | None:
    if auth is None or isinstance(auth, str):
        return auth
    if isinstance(auth, tuple) and len(auth) == 2 and all(isinstance(part, str) for part in auth):
        return auth
    raise TypeError("auth must be a token (str), or a tuple of user name and password")


def _from_environment(env: Mapping[str, str] = os.environ) -> str | tuple[str, str] | None:
    if token := env.get("EARTHDATA_TOKEN"):
        return token
    user, password = env.get("EARTHDATA_USERNAME"), env.get("EARTHDATA_PASSWORD")
    return (user, password) if user and password else None


def _from_netrc(host: str) -> tuple[str, str] | None:
    """The entry in ``NETRC`` or ``~/.netrc``."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return None if found is None or not found[2] else (found[0] or "", found[2])


class _Provider:
    """What both providers share."""

    config = {"region": _REGION}  # noqa: RUF012 - never changed

    def __init__(
        self,
        credentials_url: str,
        *,
        host: str | None = None,
        auth: str | tuple[str, str] | None = None,
        session: Any = None,
    ) -> None:
        self._login = _Login(credentials_url, host, auth)
        self._session = session
        self._closed = False
        options = ClientOptions.parse({"allow_http": self._login.url.startswith("http:")})
        self._client = ClientHandle(options, self._login.url.partition("?")[0], roams=True)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._login.url.partition('?')[0]!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._session is not None:
            raise TypeError("a provider with a session of yours cannot be pickled")
        login = self._login
        return _rebuild, (type(self), login.url, login.host, login._auth)  # noqa: SLF001 - its own

    @property
    def session(self) -> Any:
        """The session that was given; ``None`` where requests go by the library's own connections.

        Raises:
            ValueError: the provider was closed.
        """
        if self._closed:
            raise ValueError("credential provider was closed")
        return self._session

    def _by_engine(self) -> Op[S3Credential]:
        exchange = self._login.exchange()
        url, headers = next(exchange)
        while True:
            dialect = HttpDialect(url, default_headers=list(headers.items()))
            backend = HttpBackend(dialect, self._client, Static(ANONYMOUS), RetryPolicy.parse(None), parse_key)
            response = yield from backend.request(dialect.build_get("", PLAIN_GET), accept=_is_answer)
            cookies = [value for name, value in response.headers() if name == "set-cookie"]
            answer = _Answer(response.status, response.header("location"), cookies, bytes(response.body()))
            try:
                url, headers = exchange.send(answer)
            except StopIteration as stop:
                found: S3Credential = stop.value
                return found


def _rebuild(kind: type[_Provider], url: str, host: str, auth: Any) -> _Provider:
    return kind(url, host=host, auth=auth)


def _is_answer(response: Any) -> bool:
    return response.status < 500 and response.status != 429  # type: ignore[no-any-return]


class NasaEarthdataCredentialProvider(_Provider):
    """Credentials from an archive's endpoint, for `S3Store`.

    Args:
        credentials_url: the archive's endpoint, such as ``https://data.lpdaac.earthdatacloud.nasa.gov/s3credentials``.
        host: of the login; ``EARTHDATA_HOST`` or ``urs.earthdata.nasa.gov`` by default.
        auth: a token, or user name and password. By default ``EARTHDATA_TOKEN``, ``EARTHDATA_USERNAME`` with
            ``EARTHDATA_PASSWORD``, or the host's entry in netrc.
        session: a ``requests.Session`` to send with; stays open. By default the library's own connections.

    Attributes:
        config: the region of all buckets there.

    Raises:
        TypeError, ValueError: an argument is wrong.
    """

    def __init__(
        self,
        credentials_url: str,
        *,
        host: str | None = None,
        auth: str | tuple[str, str] | None = None,
        session: requests.Session | None = None,
    ) -> None:
        super().__init__(credentials_url, host=host, auth=auth, session=session)

    def __call__(self) -> S3Credential:
        """New credentials.

        Raises:
            UnauthenticatedError: the login or the archive refuses.
            ValueError: the provider was closed.
        """
        session = self.session
        if session is None:
            return run(self._by_engine())
        exchange = self._login.exchange()
        url, headers = next(exchange)
        while True:
            with session.get(url, headers=headers, allow_redirects=False) as response:
                answer = _Answer(response.status_code, response.headers.get("location"), [], response.content)
            try:
                url, headers = exchange.send(answer)
            except StopIteration as stop:
                found: S3Credential = stop.value
                return found

    def close(self) -> None:
        """Use no more; a session that was given stays open, it is its maker's."""
        self._closed = True


class NasaEarthdataAsyncCredentialProvider(_Provider):
    """As `NasaEarthdataCredentialProvider`, for asynchronous programs.

    Args:
        credentials_url, host, auth: see there.
        session: an ``aiohttp.ClientSession`` to send with; stays open. By default the library's own connections.
    """

    def __init__(
        self,
        credentials_url: str,
        *,
        host: str | None = None,
        auth: str | tuple[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        super().__init__(credentials_url, host=host, auth=auth, session=session)

    async def __call__(self) -> S3Credential:
        """New credentials. Raises what the synchronous one raises."""
        session = self.session
        if session is None:
            return await start(self._by_engine())
        exchange = self._login.exchange()
        url, headers = next(exchange)
        while True:
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                answer = _Answer(response.status, response.headers.get("location"), [], await response.read())
            try:
                url, headers = exchange.send(answer)
            except StopIteration as stop:
                found: S3Credential = stop.value
                return found

    async def close(self) -> None:
        """Use no more; a session that was given stays open, it is its maker's."""
        self._closed = True
