"""A request of a plain web or WebDAV server, and where it was redirected to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote, urljoin, urlsplit

from obstore._dialect.request import Header, ObjectRequest
from obstore._effects import Request
from obstore._types import Buffer

__all__ = ["HttpRequest", "is_foreign", "own_http", "quote_path", "resolve"]

# What a path may hold as it is (RFC 3986, section 3.3) but "+", which some servers read as a blank.
_SAFE = "!$&'()*,/:;=@~"
_PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*,/:;=@-]*")
_PORTS = {"http": 80, "https": 443}


class HttpRequest(ObjectRequest):
    """A request that the HTTP dialect built.

    Attributes:
        own: the headers that the dialect made itself; all that another host gets to see.
        target: absolute URL that the server redirected to, or ``None``.
        foreign: whether that one has another origin, which must see no credentials.
        redirects: how often it was redirected.
        slashed: whether to the same path with a slash at its end: then it is that of a collection, or of a page.
    """

    __slots__ = ("foreign", "own", "redirects", "slashed", "target")

    def __init__(
        self,
        method: str,
        path: str,
        operation: str,
        own: Sequence[Header],
        common: Sequence[Header],
        *,
        key: str | None,
        body: Sequence[Buffer] | None = None,
        idempotent: bool = True,
        slice_: tuple[int, int] | None = None,
        condition: str | None = None,
        source: str | None = None,
    ) -> None:
        super().__init__(
            method,
            path,
            operation,
            (),
            _merged(common, own) if common else own,
            key=key,
            body=body,
            idempotent=idempotent,
            slice_=slice_,
            condition=condition,
            source=source,
        )
        self.own = own
        self.target: str | None = None
        self.foreign = False
        self.redirects = 0
        self.slashed = False


def _merged(common: Sequence[Header], own: Sequence[Header]) -> Sequence[Header]:
    """``own`` after what every request carries, of which it replaces what it also names."""
    if not own:
        return common
    names = {name for name, _ in own}
    return (*(header for header in common if header[0] not in names), *own)


def own_http(request: Request) -> HttpRequest:
    """``request`` as one that the HTTP dialect built. Raises TypeError if it is not."""
    if isinstance(request, HttpRequest):
        return request
    raise TypeError(f"not built by the HTTP dialect: {type(request).__name__}")


def quote_path(key: str) -> str:
    """A key as a URL's path."""
    return key if _PLAIN.fullmatch(key) else quote(key, safe=_SAFE)


def is_foreign(origin: str, target: str) -> bool:
    """Whether a URL belongs to another origin, which must see no credentials of this one.

    Scheme, host and port count, but a site that sends from its http to its https is still itself.
    """
    here, there = _origin_of(origin), _origin_of(target)
    return here != there and (here, there) != (("http", there[1], 80), ("https", here[1], 443))


def _origin_of(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)


def resolve(base: str, location: str) -> str | None:
    """Where a ``Location`` leads: an absolute http or https URL without fragment and user; ``None`` where it is none.

    A location that needs escapes is escaped; what is escaped already stays.
    """
    text = quote(location.strip(), safe="!#$%&'()*+,/:;=?@[]~")
    try:
        parts = urlsplit(urljoin(base, text))
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not host:
        return None
    # User information in a redirect would be a credential of the server's choice.
    authority = f"[{host}]" if ":" in host else host
    if port is not None:
        authority = f"{authority}:{port}"
    return parts._replace(netloc=authority, fragment="").geturl()
