"""URLs of stores, and what they say: which kind of store, which bucket, which prefix."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv6Address
from typing import Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from obstore._config.paths import parse_key
from obstore._config.record import repr_without
from obstore._types import SupportsAsUri
from obstore.exceptions import GenericError, redact_url

__all__ = ["Location", "Scheme", "normalise_http_url", "parse_scheme", "split_url"]

Scheme: TypeAlias = Literal["s3", "gcs", "azure", "http", "local", "memory"]


class Location(NamedTuple):
    """What a URL says.

    Attributes:
        scheme: the kind of store.
        config: configuration keys of the store, canonical; for S3, GCS and Azure.
        prefix: of the keys, or None; for S3, GCS and Azure.
        path: of the directory; for local.
        url: in normal form; for HTTP.
        user: ``user:password`` of the URL, still percent-encoded, or None; for HTTP.
    """

    scheme: Scheme
    config: Mapping[str, str] = {}
    prefix: str | None = None
    path: str | None = None
    url: str | None = None
    user: str | None = None

    def __repr__(self) -> str:
        return repr_without(self, "user")


def parse_scheme(url: str | SupportsAsUri) -> Scheme:
    """Return the kind of store that ``url`` is of.

    Raises:
        TypeError: ``url`` is no str, and no path.
        ValueError: it is no URL.
        GenericError: no store has URLs like it.
    """
    url = _text(url)
    return _scheme(_split(url), url)


def _text(url: str | SupportsAsUri) -> str:
    as_uri = getattr(url, "as_uri", None)
    text = url if as_uri is None else as_uri()
    if not isinstance(text, str):
        raise TypeError(f"url: '{type(url).__name__}' object is not an instance of 'str'")
    return text


def split_url(url: str | SupportsAsUri, scheme: Scheme | None = None) -> Location:
    """Return what ``url`` says.

    Args:
        url: of a bucket, directory, web server ...; or a path that has one.
        scheme: the kind of store wanted; None for any. Any http or https URL may be wanted as HTTP.

    Raises:
        TypeError: ``url`` is no str, and no path.
        ValueError: it is no URL; or a local one is wanted and it is not.
        GenericError: no store, or not the wanted one, has URLs like it.
    """
    url = _text(url)
    parts = _split(url)
    if scheme == "http" and parts.scheme in ("http", "https"):
        return _http(parts, url)
    found = _scheme(parts, url)
    if scheme is not None and scheme != found:
        raise _foreign(parts, url, scheme)
    return _READERS[found](parts, url)


def normalise_http_url(url: str) -> str:
    """Return the URL of a web server in normal form: host in lower case, a path, no default port, no user, no fragment.

    Raises what `split_url` raises.
    """
    parts = _split(url)
    if parts.scheme not in ("http", "https"):
        raise _foreign(parts, url, "http")
    return (
        parts.origin + _quote_path(parts.path or "/") + ("" if parts.query is None else f"?{_quote_path(parts.query)}")
    )


# ---- from text to parts -------------------------------------------------------------------------------------


class _Parts(NamedTuple):
    """A URL in parts, still percent-encoded.

    ``host`` is None without ``//``; of http, https and file it is in lower case. ``path`` has no ``.`` and ``..``.
    """

    scheme: str
    user: str | None
    host: str | None
    port: int | None
    path: str
    query: str | None

    @property
    def origin(self) -> str:
        """``scheme://host[:port]``."""
        default = {"http": 80, "https": 443}.get(self.scheme)
        port = "" if self.port in (None, default) else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?://(?P<authority>[^/?#]*))?(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?"
)
_AUTHORITY = re.compile(r"(?:(?P<user>.*)@)?(?P<host>\[[^\]]*\]?|[^:]*)(?::(?P<port>.*))?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NOT_IN_HOST = re.compile(r"[\x00-\x20\x7f\"<>\\^`{|}%]")
_SURROUNDING = "".join(map(chr, range(0x21)))


def _split(url: str) -> _Parts:
    text = url.strip(_SURROUNDING)
    if _CONTROL.search(text):
        raise _malformed("control character in URL", url)
    match = _URL.fullmatch(text)
    if match is None:
        raise _malformed("relative URL without a base", url)
    scheme = match["scheme"].lower()
    web = scheme in ("http", "https")
    if scheme in _S3_SCHEMES and (match["authority"] or "").startswith("arn:"):
        return _Parts(scheme, None, match["authority"], None, match["path"], match["query"])
    user, host, port = _split_authority(match["authority"], url)
    if web and not host:
        raise _malformed("empty host", url)
    if host and (web or scheme == "file"):
        host = _normal_host(host, url)
    return _Parts(scheme, user, host, port, _without_dots(match["path"]), match["query"])


def _split_authority(authority: str | None, url: str) -> tuple[str | None, str | None, int | None]:
    if authority is None:
        return None, None, None
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise _malformed("invalid host", url)
    user, host, port = match["user"], match["host"], match["port"]
    # A backslash ends the host for browsers and not for others: that disagreement is used for attacks.
    if _NOT_IN_HOST.search(host) or "\\" in authority:
        raise _malformed("invalid domain character", url)
    if not port:
        return user, host, None
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise _malformed("invalid port number", url)
    return user, host, int(port)


def _normal_host(host: str, url: str) -> str:
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1] if host.endswith(']') else '')}]"
        except ValueError:
            raise _malformed("invalid IPv6 address", url) from None
    try:
        return host.lower() if host.isascii() else host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        raise _malformed("invalid international domain name", url) from None


def _without_dots(path: str) -> str:
    """Resolve ``.`` and ``..``, written plainly or percent-encoded, as every reader of URLs does."""
    segments = path.split("/")
    decoded = [segment.lower().replace("%2e", ".") for segment in segments]
    if "." not in decoded and ".." not in decoded:
        return path
    kept: list[str] = []
    for segment, plain in zip(segments, decoded, strict=True):
        if plain == "..":
            del kept[max(1, len(kept) - 1) :]
        elif plain != ".":
            kept.append(segment)
    if decoded[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)


def _quote_path(text: str) -> str:
    return quote(text, safe="!$%&'()*+,/:;=?@[]^|~")


def _decode(text: str, url: str) -> str:
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise GenericError.of("URL", f'Path "{text}" of "{redact_url(url)}" is not UTF-8') from None


# ---- which kind of store ------------------------------------------------------------------------------------

_AWS = ".amazonaws.com"
_R2 = ".r2.cloudflarestorage.com"
_AZURE_HOST = re.compile(
    r"(?P<account>[^.]+)\.(?:dfs|blob)\.(?:core\.windows\.net|(?P<fabric>fabric\.microsoft\.com))"
    r"|(?P<workspace>[^.]+\.z[0-9a-z]{2})\.(?:dfs|blob)\.fabric\.microsoft\.com"
)
_S3_SCHEMES = ("s3", "s3a")
_ACCESS_POINT = re.compile(r"(?P<name>[a-z0-9.-]+)-(?P<account>[0-9]{12})")
_BUCKET_SCHEMES: dict[str, Scheme] = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "az": "azure",
    "adl": "azure",
    "azure": "azure",
    "abfs": "azure",
    "abfss": "azure",
}
_STORE_NAMES: dict[Scheme, str] = {
    "s3": "S3",
    "gcs": "GCS",
    "azure": "MicrosoftAzure",
    "http": "HTTP",
    "local": "LocalFileSystem",
    "memory": "InMemory",
}


def _scheme(parts: _Parts, url: str) -> Scheme:
    if parts.host and parts.scheme in _BUCKET_SCHEMES:
        return _BUCKET_SCHEMES[parts.scheme]
    if parts.scheme in ("http", "https"):
        host = parts.host or ""
        if parts.scheme == "https" and (host.endswith((_AWS, _R2))):
            return "s3"
        if parts.scheme == "https" and _AZURE_HOST.fullmatch(host):
            return "azure"
        return "http"
    if parts.scheme == "file" and parts.host in (None, "", "localhost"):
        return "local"
    if parts.scheme == "memory" and not parts.host:
        return "memory"
    hint = f"write {parts.scheme}://bucket/prefix" if parts.scheme in _BUCKET_SCHEMES else None
    raise GenericError.of("URL", f'Unable to recognise URL "{redact_url(url)}"', hint=hint)


# ---- what it says, by kind ----------------------------------------------------------------------------------


def _s3(parts: _Parts, url: str) -> Location:
    host = parts.host or ""
    if parts.scheme != "https":
        path = parts.path
        if host.startswith("arn:") and host.endswith((":accesspoint", ":outpost")):
            # The resource name goes on where the URL's path begins.
            segments = path.removeprefix("/").split("/")
            own = 3 if host.endswith(":outpost") else 1
            host, path = "/".join([host, *segments[:own]]), "/".join(segments[own:])
        return _bucket("s3", {"bucket": host}, path, url)
    if host.endswith(_R2):
        # An account, or an account and a jurisdiction.
        if host.removesuffix(_R2).count(".") > 1:
            raise _no_pattern(url, "s3")
        return _bucket("s3", {"endpoint": parts.origin, "region": "auto"}, parts.path, url, "bucket")
    match host.removesuffix(_AWS).split("."):
        case ["s3", region]:
            return _bucket("s3", {"region": region}, parts.path, url, "bucket")
        case [bucket, "s3"]:
            config = {"bucket": bucket, "virtual_hosted_style_request": "true"}
            return _bucket("s3", config, parts.path, url)
        case [bucket, "s3", region]:
            config = {"bucket": bucket, "region": region, "virtual_hosted_style_request": "true"}
            return _bucket("s3", config, parts.path, url)
        case [point, "s3-accesspoint", region] if match := _ACCESS_POINT.fullmatch(point):
            arn = f"arn:aws:s3:{region}:{match['account']}:accesspoint/{match['name']}"
            return _bucket("s3", {"bucket": arn}, parts.path, url)
        case [bucket, zone, region] if zone.startswith("s3express-"):
            return _bucket("s3", {"bucket": bucket, "region": region, "s3_express": "true"}, parts.path, url)
        case _:
            raise _no_pattern(url, "s3")


def _gcs(parts: _Parts, url: str) -> Location:
    return _bucket("gcs", {"bucket": parts.host or ""}, parts.path, url)


def _azure(parts: _Parts, url: str) -> Location:
    host = parts.host or ""
    if parts.scheme == "https":
        return _bucket("azure", _azure_account(host, url), parts.path, url, "container_name")
    if parts.user is None:
        if "." in host:
            raise _no_pattern(url, "azure")
        return _bucket("azure", {"container_name": host}, parts.path, url)
    if parts.scheme not in ("az", "abfs", "abfss"):
        raise _no_pattern(url, "azure")
    config = {"container_name": parts.user, **_azure_account(host.lower(), url)}
    return _bucket("azure", config, parts.path, url)


def _azure_account(host: str, url: str) -> dict[str, str]:
    match = _AZURE_HOST.fullmatch(host)
    if match is None:
        raise _no_pattern(url, "azure")
    if match["workspace"]:
        return {"account_name": match["workspace"], "endpoint": f"https://{host}", "use_fabric_endpoint": "true"}
    if match["fabric"]:
        return {"account_name": match["account"], "use_fabric_endpoint": "true"}
    return {"account_name": match["account"]}


def _bucket(scheme: Scheme, config: dict[str, str], path: str, url: str, first: str | None = None) -> Location:
    """A location in a bucket; ``first`` is the key that the first segment of the path is the value of."""
    rest = path
    if first is not None:
        name, _, rest = path.removeprefix("/").partition("/")
        if name:
            config[first] = _decode(name, url)
    try:
        prefix = parse_key(_decode(rest, url), "url")
    except ValueError as error:
        raise GenericError.of("URL", f'{error} of "{redact_url(url)}"') from None
    return Location(scheme=scheme, config=config, prefix=prefix or None)


def _http(parts: _Parts, url: str) -> Location:
    return Location(scheme="http", url=normalise_http_url(url), user=parts.user)


def _local(parts: _Parts, url: str) -> Location:
    path = os.fsdecode(unquote_to_bytes(parts.path))
    if "\0" in path:
        raise _malformed("NUL character in path", url)
    return Location(scheme="local", path="/" + path.removeprefix("/"))


def _memory(parts: _Parts, url: str) -> Location:
    del parts, url
    return Location(scheme="memory")


_READERS = {"s3": _s3, "gcs": _gcs, "azure": _azure, "http": _http, "local": _local, "memory": _memory}


# ---- what is wrong with it ----------------------------------------------------------------------------------


def _malformed(problem: str, url: str) -> ValueError:
    return ValueError(f"{problem}: {redact_url(url)!r}")


def _no_pattern(url: str, scheme: Scheme) -> GenericError:
    detail = f"URL did not match any known pattern for scheme: {redact_url(url)}"
    return GenericError.of(_STORE_NAMES[scheme], detail)


def _foreign(parts: _Parts, url: str, wanted: Scheme) -> Exception:
    """A URL of another kind of store than the one that is asked to read it."""
    if wanted == "local":
        return ValueError(f"Not a `file://` URL: {redact_url(url)!r}")
    if parts.scheme == "https":
        return _no_pattern(url, wanted)
    detail = f"Unknown url scheme cannot be parsed into storage location: {parts.scheme} ({redact_url(url)})"
    return GenericError.of(_STORE_NAMES[wanted], detail)
