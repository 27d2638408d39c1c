"""obstore._config.client: what client_options take, refuse and read back as."""

import base64
import pickle
from datetime import timedelta
from typing import Any

import pytest

from obstore._config.client import CLIENT_KEYS, ClientConfig, ClientOptions
from obstore._config.duration import Setting
from obstore._version import __version__
from obstore.exceptions import GenericError

PEM = (
    f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(bytes([0x30, 3, 2, 1, 5])).decode()}\n-----END CERTIFICATE-----\n"
)


def test_defaults() -> None:
    for options in (ClientOptions.parse(None), ClientOptions()):
        assert (options.connect_timeout_s, options.read_timeout_s, options.timeout_s) == (5.0, 30.0, None)
        assert (options.allow_http, options.allow_invalid_certificates, options.randomize_addresses) == (
            False,
            False,
            True,
        )
        assert (options.http_version, options.max_connections, options.default_headers) == (11, 0, ())
        assert options.user_agent == f"obstore/{__version__}"
        assert options.published() is None


def test_every_documented_key_is_known() -> None:
    assert {"default_headers", "root_certificate", *CLIENT_KEYS} == set(ClientConfig.__annotations__)


@pytest.mark.parametrize(
    ("key", "value", "attribute", "parsed", "text"),
    [
        ("allow_http", True, "allow_http", True, "true"),
        ("ALLOW_HTTP", "yes", "allow_http", True, "yes"),
        ("allow_invalid_certificates", "on", "allow_invalid_certificates", True, "on"),
        ("disable_system_certificates", "1", "disable_system_certificates", True, "1"),
        ("randomize_addresses", False, "randomize_addresses", False, "false"),
        ("connect_timeout", "250ms", "connect_timeout_s", 0.25, "250ms"),
        ("timeout", timedelta(seconds=90), "timeout_s", 90.0, "1m 30s"),
        ("read_timeout", "0", "read_timeout_s", 0.0, "0"),
        ("pool_idle_timeout", "20s", "pool_idle_timeout_s", 20.0, "20s"),
        ("pool_max_idle_per_host", "7", "pool_max_idle_per_host", 7, "7"),
        ("http2_max_frame_size", "4294967295", "http2_max_frame_size", 4294967295, "4294967295"),
        ("http2_keep_alive_interval", "1s", "http2_keep_alive_interval_s", 1.0, "1s"),
        ("http2_keep_alive_timeout", "2s", "http2_keep_alive_timeout_s", 2.0, "2s"),
        ("http2_keep_alive_while_idle", True, "http2_keep_alive_while_idle", True, "true"),
        ("http1_only", False, "http_version", 20, "false"),
        ("http1_only", True, "http_version", 11, "true"),
        ("http2_only", True, "http_version", 21, "true"),
        ("default_content_type", "text/plain", "default_content_type", "text/plain", "text/plain"),
        ("user_agent", "me/1", "user_agent", "me/1", "me/1"),
        ("proxy_url", "http://u:p@h:3128", "proxy_url", "http://u:p@h:3128", "http://u:p@h:3128"),
        ("proxy_url", "proxy.local:3128", "proxy_url", "proxy.local:3128", "proxy.local:3128"),
        ("proxy_url", "socks5h://[::1]:1080", "proxy_url", "socks5h://[::1]:1080", "socks5h://[::1]:1080"),
        ("proxy_excludes", "a,b", "proxy_excludes", "a,b", "a,b"),
        ("proxy_ca_certificate", PEM, "proxy_ca_certificate", PEM, PEM),
        ("root_certificate", PEM, "root_certificate", PEM.encode(), PEM.encode()),
        ("root_certificate", PEM.encode() * 2, "root_certificate", PEM.encode() * 2, PEM.encode() * 2),
    ],
)  # fmt: skip
def test_value_is_read_and_reads_back(key: str, value: Any, attribute: str, parsed: Any, text: Any) -> None:
    options = ClientOptions.parse({key: value})
    assert getattr(options, attribute) == parsed
    assert options.published() == {key.lower(): text}
    assert ClientOptions.parse(options.published()) == options


def test_same_key_in_another_case_overrides() -> None:
    options = ClientOptions.parse({"timeout": "5s", "Timeout": "6s"})
    assert (options.timeout_s, options.published()) == (6.0, {"timeout": "6s"})


def test_our_own_key_is_taken_and_not_read_back() -> None:
    for value in (5, "5"):
        options = ClientOptions.parse({"max_connections": value, "timeout": "5s"})
        assert options.max_connections == 5
        assert options.published() == {"timeout": "5s"}


def test_headers_are_lower_case_and_read_back_as_bytes() -> None:
    options = ClientOptions.parse(
        {"default_headers": {"X-A": "b", "Authorization": b"Bearer s3cr3t", "x-\u0041": " \u00e9\t"}}
    )
    assert options.default_headers == (("x-a", "\u00e9"), ("authorization", "Bearer s3cr3t"))
    published = options.published()
    assert published == {"default_headers": {"x-a": "\u00e9".encode(), "authorization": b"Bearer s3cr3t"}}
    published["default_headers"].clear()
    assert options.published() != published
    assert "s3cr3t" not in repr(options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (5, TypeError, "client_options: 'int' object is not an instance of 'dict'"),
        ([("timeout", "5s")], TypeError, "client_options: 'list' object"),
        ({5: "x"}, TypeError, "'int' object is not an instance of 'str'"),
        ({"x": "y"}, ValueError, "Invalid key: x."),
        ({"aws_timeout": "5s"}, ValueError, "Invalid key: aws_timeout."),
        ({"Default_Headers": {}}, ValueError, "Invalid key: Default_Headers."),
        ({"timeout": 5}, TypeError, "client_options['timeout']: 'int' object is not an instance of 'str'"),
        ({"timeout": None}, TypeError, "client_options['timeout']: 'NoneType' object"),
        ({"timeout": timedelta(-1)}, TypeError, "client_options['timeout']: a duration cannot be negative"),
        ({"timeout": True}, GenericError, 'failed to parse "true" as Duration (client_options[\'timeout\'])'),
        ({"allow_http": "z"}, GenericError, 'failed to parse "z" as boolean (client_options[\'allow_http\'])'),
        ({"http2_only": "z"}, GenericError, 'failed to parse "z" as boolean'),
        ({"pool_max_idle_per_host": "x"}, GenericError, 'failed to parse "x" as usize'),
        ({"pool_max_idle_per_host": "\u0661"}, GenericError, "as usize"),
        ({"pool_max_idle_per_host": "9" * 5000}, GenericError, "as usize"),
        ({"http2_max_frame_size": "4294967296"}, GenericError, 'failed to parse "4294967296" as u32'),
        ({"max_connections": -1}, GenericError, 'failed to parse "-1" as a number of connections'),
        ({"max_connections": 1.5}, TypeError, "client_options['max_connections']"),
        ({"user_agent": "a\nb"}, GenericError, "as HeaderValue (client_options['user_agent'])"),
        ({"default_content_type": "a\r"}, GenericError, "as HeaderValue (client_options['default_content_type'])"),
        ({"default_headers": 5}, TypeError, "client_options['default_headers']: 'int' object is not an instance of 'dict'"),
        ({"default_headers": {5: "a"}}, TypeError, "default_headers"),
        ({"default_headers": {"a": 5}}, TypeError, "client_options['default_headers']['a']: 'int' object"),
        ({"default_headers": {"A b": "c"}}, ValueError, "client_options['default_headers']: invalid HTTP header name 'A b'"),
        ({"default_headers": {"": "c"}}, ValueError, "invalid HTTP header name"),
        ({"default_headers": {"a\n": "c"}}, ValueError, "invalid HTTP header name"),
        ({"default_headers": {"a": "x\nb: c"}}, ValueError, "client_options['default_headers']['a']: failed to parse header value"),
        ({"default_headers": {"a": b"\xff"}}, ValueError, "failed to parse header value"),
        ({"default_headers": {"Content-Length": "5"}}, ValueError, "Content-Length cannot be set"),
        ({"root_certificate": 5}, TypeError, "client_options['root_certificate']"),
        ({"root_certificate": "x"}, ValueError, "No certificates found in `root_certificate` input"),
        ({"root_certificate": PEM.replace("=", "!")}, GenericError, "certificate 1 of `root_certificate` is malformed"),
        ({"root_certificate": PEM + PEM.replace("M", "A", 1)}, GenericError, "certificate 2 of `root_certificate`"),
        ({"proxy_ca_certificate": "x"}, ValueError, "No certificates found in `proxy_ca_certificate` input"),
        ({"proxy_url": "http://h:99999999"}, GenericError, "as proxy URL (client_options['proxy_url'])"),
        ({"proxy_url": "ftp://h"}, GenericError, "as proxy URL"),
        ({"proxy_url": "http://"}, GenericError, "as proxy URL"),
        ({"proxy_url": "http://a b"}, GenericError, "as proxy URL"),
    ],
)  # fmt: skip
def test_wrong_options_are_refused_by_name(options: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        ClientOptions.parse(options)
    assert text in str(caught.value)


def test_refusals_show_no_secret() -> None:
    for options in ({"proxy_url": "http://u:hunter2@h:x"}, {"default_headers": {"authorization": "hunter2\n"}}):
        with pytest.raises((GenericError, ValueError)) as caught:
            ClientOptions.parse(options)
        assert "hunter2" not in str(caught.value)


def test_precedence_is_under_options_over() -> None:
    def settings(**texts: str) -> dict[str, Setting]:
        return {key: Setting(text, key) for key, text in texts.items()}

    options = ClientOptions.parse(
        {"timeout": "2s", "connect_timeout": "2s"},
        under=settings(timeout="1s", connect_timeout="1s", read_timeout="1s"),
        over=settings(connect_timeout="3s"),
    )
    assert (options.timeout_s, options.connect_timeout_s, options.read_timeout_s) == (2.0, 3.0, 1.0)
    assert options.published() == {"timeout": "2s", "connect_timeout": "2s"}


def test_options_read_alike_whatever_the_environment_says() -> None:
    under = {"timeout": Setting("1s", "environment variable AWS_TIMEOUT")}
    options = ClientOptions.parse({"allow_http": True})
    assert options.reads_like(ClientOptions.parse({"Allow_HTTP": "true"}, under=under))
    assert not options.reads_like(ClientOptions.parse({"allow_http": "1"}))
    assert not ClientOptions.parse({}).reads_like(ClientOptions.parse(None))


def test_options_survive_pickle() -> None:
    options = ClientOptions.parse({"default_headers": {"a": "b"}, "timeout": "5s", "max_connections": 3})
    copy = pickle.loads(pickle.dumps(options))
    assert copy == options
    assert (copy.timeout_s, copy.max_connections, copy.default_headers) == (5.0, 3, (("a", "b"),))
