"""How requests are sent: timeouts, TLS, proxies, headers."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple, TypedDict
from urllib.parse import urlsplit

from obstore._config.duration import CONTROL, Setting
from obstore._config.record import repr_without
from obstore._version import __version__
from obstore.exceptions import GenericError, redact_url

__all__ = ["CLIENT_KEYS", "OUR_CLIENT_KEYS", "ClientConfig", "ClientOptions"]


class ClientConfig(TypedDict, total=False):
    """HTTP client options. Every key is optional; keys are taken in any case, but for the two given as bytes or dict.

    Durations are ``timedelta`` or texts such as ``"30s"``, numbers are texts such as ``"10"``.

    Attributes:
        allow_http: take ``http://`` URLs; False by default (True for GCS).
        allow_invalid_certificates: do not verify TLS certificates; False by default. Dangerous.
        connect_timeout: until a connection is made; 5 s by default.
        default_content_type: content type of objects that are put without one.
        default_headers: sent with every request.
        disable_system_certificates: trust ``root_certificate`` only; False by default.
        http1_only: True by default. False lets TLS connections use HTTP/2.
        http3: try HTTP/3 (QUIC) where TLS is spoken, and fall back to what the server has; False by default. Ours, unknown to
            the Rust library.
        http2_only: use HTTP/2 without asking; False by default.
        http2_keep_alive_interval: pause between HTTP/2 pings. Checked and read back only: libcurl has no such setting.
        http2_keep_alive_timeout: wait for the answer to one. Likewise without effect.
        http2_keep_alive_while_idle: ping connections without requests too. Likewise without effect.
        http2_max_frame_size: bytes. Likewise without effect.
        max_connections: connections of this store at a time, an int; more requests queue. Ours, unknown to the
            Rust library.
        pool_idle_timeout: idle connections older than this are not used again.
        pool_max_idle_per_host: idle connections kept for a host. Checked and read back only: the limit of connections
            (``obstore.set_limits``) bounds them.
        proxy_ca_certificate: PEM text of certificates that an HTTPS proxy is verified with.
        proxy_excludes: hosts reached without the proxy, with commas between them: names with all below them, addresses,
            networks (``10.0.0.0/8``), ``*``.
        proxy_url: proxy of all requests: ``http``, ``https``, ``socks5``, ``socks5h`` ..., with user and password where it wants
            them. Without it ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` are obeyed.
        randomize_addresses: take a host's addresses in random order; True by default.
        read_timeout: a transfer that moves no byte for so long has failed; 30 s by default.
        root_certificate: PEM bundle of certificates to trust beside the system's, or beside those that ``SSL_CERT_FILE`` and its
            kin name.
        timeout: whole request, body included, per attempt; none by default.
        user_agent: ``obstore/<version>`` by default.
    """

    allow_http: bool
    allow_invalid_certificates: bool
    connect_timeout: str | timedelta
    default_content_type: str
    default_headers: dict[str, str] | dict[str, bytes]
    disable_system_certificates: bool
    http1_only: bool
    http3: bool
    http2_keep_alive_interval: str | timedelta
    http2_keep_alive_timeout: str | timedelta
    http2_keep_alive_while_idle: bool | str
    http2_max_frame_size: str
    http2_only: bool
    max_connections: int
    pool_idle_timeout: str | timedelta
    pool_max_idle_per_host: str
    proxy_ca_certificate: str
    proxy_excludes: str
    proxy_url: str
    randomize_addresses: bool
    read_timeout: str | timedelta
    root_certificate: str | bytes
    timeout: str | timedelta
    user_agent: str


# Key -> attribute of ClientOptions, by kind of value.
_BOOLEANS = {
    "allow_http": "allow_http",
    "allow_invalid_certificates": "allow_invalid_certificates",
    "disable_system_certificates": "disable_system_certificates",
    "http2_keep_alive_while_idle": "http2_keep_alive_while_idle",
    "http3": "http3",
    "randomize_addresses": "randomize_addresses",
}
_DURATIONS = {
    "connect_timeout": "connect_timeout_s",
    "http2_keep_alive_interval": "http2_keep_alive_interval_s",
    "http2_keep_alive_timeout": "http2_keep_alive_timeout_s",
    "pool_idle_timeout": "pool_idle_timeout_s",
    "read_timeout": "read_timeout_s",
    "timeout": "timeout_s",
}
_INTEGERS = {
    "http2_max_frame_size": ("u32", 2**32 - 1),
    "max_connections": ("a number of connections", 2**31 - 1),
    "pool_max_idle_per_host": ("usize", 2**64 - 1),
}
_HEADER_VALUES = ("default_content_type", "user_agent")
_PROTOCOLS = ("http1_only", "http2_only")
_OTHER_TEXTS = ("proxy_ca_certificate", "proxy_excludes", "proxy_url")

# Keys that may also stand in a store's configuration and in the environment.
CLIENT_KEYS = frozenset({*_BOOLEANS, *_DURATIONS, *_INTEGERS, *_HEADER_VALUES, *_PROTOCOLS, *_OTHER_TEXTS})
# Those that the Rust library does not know, and that are therefore never read back.
OUR_CLIENT_KEYS = frozenset({"http3", "max_connections"})

_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FRAMING = ("content-length", "transfer-encoding")
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)


class ClientOptions(NamedTuple):
    """`ClientConfig`, checked, with its defaults filled in; durations in seconds.

    Attributes:
        default_headers: names in lower case.
        http_version: 11; 20 where TLS may negotiate HTTP/2; 21 for HTTP/2 without asking; 30 where HTTP/3 is tried.
        max_connections: 0 for no limit of the store's own.
        given: what `published` returns a copy of.
        ours: what was given for keys that the Rust library does not know, as text.
    """

    allow_http: bool = False
    allow_invalid_certificates: bool = False
    disable_system_certificates: bool = False
    connect_timeout_s: float = 5.0
    timeout_s: float | None = None
    read_timeout_s: float | None = 30.0
    default_content_type: str | None = None
    default_headers: tuple[tuple[str, str], ...] = ()
    http_version: Literal[11, 20, 21, 30] = 11
    http3: bool = False
    http2_keep_alive_interval_s: float | None = None
    http2_keep_alive_timeout_s: float | None = None
    http2_keep_alive_while_idle: bool = False
    http2_max_frame_size: int | None = None
    pool_idle_timeout_s: float | None = None
    pool_max_idle_per_host: int | None = None
    proxy_url: str | None = None
    proxy_ca_certificate: str | None = None
    proxy_excludes: str | None = None
    randomize_addresses: bool = True
    root_certificate: bytes | None = None
    user_agent: str = f"obstore/{__version__}"
    max_connections: int = 0
    given: dict[str, Any] | None = None
    ours: Mapping[str, str] = {}

    def __repr__(self) -> str:
        return repr_without(self, "default_headers", "proxy_url", "proxy_ca_certificate", "root_certificate", "given")

    @classmethod
    def parse(
        cls,
        options: ClientConfig | dict[str, Any] | None,
        *,
        under: Mapping[str, Setting] | None = None,
        over: Mapping[str, Setting] | None = None,
    ) -> ClientOptions:
        """Check what a user gave as ``client_options``.

        Args:
            options: the user's.
            under: values that ``options`` override: those of the environment, and a provider's defaults.
            over: values that override ``options``: client keys in a store's configuration.

        Raises:
            TypeError: ``options`` is no dict, or a value is of the wrong type.
            ValueError: a key is unknown; a header or certificate cannot be used.
            GenericError: a text does not stand for a value of the key's kind.
        """
        texts = dict(under or {})
        fields: dict[str, Any] = {}
        given: dict[str, Any] | None = None
        ours: dict[str, str] = {}
        if options is not None:
            if not isinstance(options, dict):
                raise TypeError(f"client_options: '{type(options).__name__}' object is not an instance of 'dict'")
            given = {}
            for key, value in options.items():
                _take(key, value, texts, fields, given)
            ours = {key: texts[key].text for key in map(str.lower, options) if key in OUR_CLIENT_KEYS}
        texts.update(over or {})
        return cls(**_read(texts), **fields, given=given, ours=ours)

    def published(self) -> dict[str, Any] | None:
        """The options as given, for ``store.client_options``: None if none were, and only keys the Rust library knows.

        Header names are in lower case, header values and certificates bytes, all else text.
        """
        if self.given is None:
            return None
        copy = dict(self.given)
        if "default_headers" in copy:
            copy["default_headers"] = dict(copy["default_headers"])
        return copy

    def reads_like(self, other: ClientOptions) -> bool:
        """Whether both read back alike, whatever the environment added to them."""
        return self.given == other.given


def _take(key: Any, value: Any, texts: dict[str, Setting], fields: dict[str, Any], given: dict[str, Any]) -> None:
    """Sort one pair of the user's into texts to be read, or fields that are ready; and into what is read back."""
    if not isinstance(key, str):
        raise TypeError(f"client_options: '{type(key).__name__}' object is not an instance of 'str'")
    if key == "default_headers":
        headers = _headers(value)
        given[key] = {name: text.encode() for name, text in headers.items()}
        fields[key] = tuple(headers.items())
    elif key == "root_certificate":
        if not isinstance(value, (str, bytes)):
            raise TypeError(f"client_options['{key}']: '{type(value).__name__}' object is not an instance of 'str'")
        pem = value.encode() if isinstance(value, str) else value
        _check_pem(pem, key)
        given[key] = fields[key] = pem
    else:
        name = key.lower()
        if name not in CLIENT_KEYS:
            raise ValueError(f"Invalid key: {key}.")
        source = f"client_options['{name}']"
        if name in OUR_CLIENT_KEYS:
            texts[name] = our_setting(value, source)
        else:
            texts[name] = Setting.of(value, source)
            given[name] = texts[name].text


def our_setting(value: Any, source: str) -> Setting:
    """A value of one of our own keys: as `Setting.of`, and an int as well."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Setting(str(value), source)
    return Setting.of(value, source)


def _read(texts: Mapping[str, Setting]) -> dict[str, Any]:
    """Fields of ClientOptions from texts."""
    fields: dict[str, Any] = {}
    for key, setting in texts.items():
        if key in _BOOLEANS:
            fields[_BOOLEANS[key]] = setting.as_bool()
        elif key in _DURATIONS:
            fields[_DURATIONS[key]] = setting.as_seconds()
        elif key in _INTEGERS:
            fields[key] = setting.as_int(*_INTEGERS[key])
        elif key in _HEADER_VALUES:
            fields[key] = setting.as_header()
        elif key == "proxy_url":
            fields[key] = _proxy(setting)
        elif key == "proxy_ca_certificate":
            _check_pem(setting.text.encode(), key)
            fields[key] = setting.text
        elif key == "proxy_excludes":
            fields[key] = setting.text
    fields["http_version"] = _http_version(texts)
    return fields


def _http_version(texts: Mapping[str, Setting]) -> Literal[11, 20, 21, 30]:
    if "http3" in texts and texts["http3"].as_bool():
        return 30
    if "http2_only" in texts and texts["http2_only"].as_bool():
        return 21
    if "http1_only" in texts and not texts["http1_only"].as_bool():
        return 20
    return 11


def check_proxy(url: str | None) -> None:
    """Raise GenericError where the environment's proxy is no URL of one."""
    if url is not None:
        _proxy(Setting(url, "the proxy variables of the environment"))


def _proxy(setting: Setting) -> str:
    """The URL of a proxy; a host without scheme is one too."""
    url = setting.text
    usable = not CONTROL.search(url) and " " not in url
    if usable and url:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            usable = parts.scheme in _PROXY_SCHEMES and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        except ValueError:
            usable = False
    if not usable:
        raise GenericError.of("Config", f'failed to parse "{redact_url(url)}" as proxy URL ({setting.source})')
    return url


def _headers(value: Any) -> dict[str, str]:
    where = "client_options['default_headers']"
    if not isinstance(value, dict):
        raise TypeError(f"{where}: '{type(value).__name__}' object is not an instance of 'dict'")
    headers: dict[str, str] = {}
    for name, content in value.items():
        if not isinstance(name, str):
            raise TypeError(f"{where}: '{type(name).__name__}' object is not an instance of 'str'")
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{where}: invalid HTTP header name {name!r}")
        if name.lower() in _FRAMING:
            raise ValueError(f"{where}: {name} cannot be set, it belongs to each request")
        headers[name.lower()] = _header_value(content, f"{where}[{name!r}]")
    return headers


def _header_value(content: Any, where: str) -> str:
    """Header values are often secrets: no message shows one."""
    if isinstance(content, bytes):
        try:
            content = content.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{where}: failed to parse header value, it is not UTF-8") from None
    if not isinstance(content, str):
        raise TypeError(f"{where}: '{type(content).__name__}' object is not an instance of 'str'")
    if CONTROL.search(content.replace("\t", " ")):
        raise ValueError(f"{where}: failed to parse header value, it holds a control character")
    return content.strip(" \t")


def _check_pem(pem: bytes, key: str) -> None:
    blocks = _PEM.findall(pem)
    if not blocks:
        raise ValueError(
            f"No certificates found in `{key}` input; expected one or more PEM-encoded certificates "
            "(-----BEGIN CERTIFICATE-----)."
        )
    for number, block in enumerate(blocks, 1):
        try:
            der = binascii.a2b_base64(b"".join(block.split()), strict_mode=True)
        except binascii.Error:
            der = b""
        # Every certificate is an ASN.1 SEQUENCE.
        if der[:1] != b"\x30":
            raise GenericError.of("HTTP client", f"certificate {number} of `{key}` is malformed")
