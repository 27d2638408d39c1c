"""The options of s3fs, gcsfs and adlfs, as ``storage_options`` carry them, in terms of our stores."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["StoreArguments", "translate"]

# fsspec's own, and hints for other implementations that say nothing about a store.
_IGNORED = frozenset(
    [
        "access",
        "assume_container_exists",
        "auto_mkdir",
        "block_size",
        "blocksize",
        "cache_regions",
        "cache_storage",
        "check_connection",
        "consistency",
        "default_block_size",
        "default_cache_type",
        "default_fill_cache",
        "fixed_upload_size",
        "max_concurrency",
        "project",
        "request_session",
        "s3_additional_kwargs",
        "secure_serialize",
        "session",
        "session_kwargs",
        "socket_timeout",
        "use_ssl",
        "use_listings_cache",
        "listings_expiry_time",
        "max_paths",
        "version_aware",
        "location_mode",
    ]
)

_S3 = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
}
_S3_CLIENT = {
    **_S3,
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
_S3_EXTRA = {"ServerSideEncryption": "server_side_encryption", "SSEKMSKeyId": "sse_kms_key_id"}
_GCS = {"endpoint_url": "base_url"}
_AZURE = {"credential": "account_key", "sas_token": "sas_key", "account_url": "endpoint"}
_CONNECTION_STRING = {
    "accountname": "account_name",
    "accountkey": "account_key",
    "sharedaccesssignature": "sas_key",
    "blobendpoint": "endpoint",
}


class StoreArguments:
    """What a store is made with.

    Attributes:
        config: settings, under our names or any that the store knows.
        client: client options.
        retry: retry options.
    """

    def __init__(
        self, config: Mapping[str, Any], client: Mapping[str, Any] | None, retry: Mapping[str, Any] | None
    ) -> None:
        self.config = dict(config)
        self.client = dict(client or {})
        self.retry = dict(retry or {})

    def give(self, name: str, value: Any) -> None:
        """A setting that another name stands for; what the program says under our name wins."""
        if value is not None:
            self.config.setdefault(name, value)


def translate(
    scheme: str,
    options: Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    client: Mapping[str, Any] | None = None,
    retry: Mapping[str, Any] | None = None,
) -> StoreArguments:
    """Sort ``storage_options`` into what our stores take.

    Args:
        scheme: ``s3``, ``gcs``, ``azure``, ``http``, ``local`` or ``memory``.
        options: under the names of fsspec's implementation for the scheme, or ours.
        config, client, retry: given under our names.

    Raises:
        TypeError, ValueError: an option has a value that we cannot make sense of.
    """
    found = StoreArguments(config or {}, client, retry)
    rest = {name: value for name, value in options.items() if value is not None}
    if scheme == "s3":
        _s3(found, rest)
    elif scheme == "gcs":
        _gcs(found, rest)
    elif scheme == "azure":
        _azure(found, rest)
    elif scheme == "http":
        _http(found, rest)
    for name, value in rest.items():
        if name not in _IGNORED:
            found.config[name] = value
    endpoint = found.config.get("endpoint") or found.config.get("base_url") or ""
    if isinstance(endpoint, str) and endpoint.startswith("http://"):
        # Whoever writes it out means it; fsspec's options have no word for it.
        found.client.setdefault("allow_http", True)
    return found


def _s3(found: StoreArguments, rest: dict[str, Any]) -> None:
    if rest.pop("anon", False):
        found.give("skip_signature", True)
    if rest.pop("requester_pays", False):
        found.give("request_payer", True)
    client_kwargs: dict[str, Any] = dict(rest.pop("client_kwargs", {}))
    for name, value in client_kwargs.items():
        if name == "verify":
            _verify(found, value)
        else:
            found.give(_S3_CLIENT.get(name, name), value)
    for name, value in dict(rest.pop("s3_additional_kwargs", {})).items():
        if name not in _S3_EXTRA:
            raise ValueError(f"s3_additional_kwargs[{name!r}] has no counterpart; it takes {', '.join(_S3_EXTRA)}")
        found.give(_S3_EXTRA[name], value)
    kwargs = dict(rest.pop("config_kwargs", {}))
    for name in ("connect_timeout", "read_timeout"):
        if name in kwargs:
            found.client.setdefault(name, f"{kwargs[name]}s")
    style = dict(kwargs.get("s3") or {}).get("addressing_style")
    if style in ("path", "virtual"):
        found.give("virtual_hosted_style_request", style == "virtual")
    if isinstance(attempts := dict(kwargs.get("retries") or {}).get("max_attempts"), int):
        found.retry.setdefault("max_retries", attempts)
    _rename(found, rest, _S3)


def _gcs(found: StoreArguments, rest: dict[str, Any]) -> None:
    token = rest.pop("token", None)
    if token == "anon" or rest.pop("anon", False):  # noqa: S105 - gcsfs's word for none at all
        found.give("skip_signature", True)
    elif isinstance(token, Mapping):
        found.give("service_account_key", json.dumps(dict(token)))
    elif isinstance(token, str) and token not in ("google_default", "cloud", "cache", "browser"):
        found.give("application_credentials", token)
    if isinstance(payer := rest.pop("requester_pays", None), str):
        found.give("user_project", payer)
    _rename(found, rest, _GCS)


def _azure(found: StoreArguments, rest: dict[str, Any]) -> None:
    text = rest.pop("connection_string", None)
    if text is not None:
        for field in str(text).split(";"):
            name, _, value = field.partition("=")
            setting = _CONNECTION_STRING.get(name.strip().lower())
            if setting is not None:
                found.give(setting, value.strip())
    if rest.pop("anon", False):
        found.give("skip_signature", True)
    credential = rest.get("credential")
    if isinstance(credential, str) and not _is_base64(credential):
        del rest["credential"]
        found.give("sas_key", credential)
    elif credential is not None and not isinstance(credential, str):
        raise TypeError(
            f"credential: '{type(credential).__name__}' object is not an instance of 'str'; pass credential_provider instead"
        )
    _rename(found, rest, _AZURE)


def _http(found: StoreArguments, rest: dict[str, Any]) -> None:
    headers = rest.pop("headers", None)
    client_kwargs = dict(rest.pop("client_kwargs", {}))
    headers = headers or client_kwargs.pop("headers", None)
    if headers:
        found.client.setdefault("default_headers", dict(headers))
    for name in ("simple_links", "same_scheme", "size_policy", "get_client", "encoded", "ssl"):
        rest.pop(name, None)


def _verify(found: StoreArguments, value: Any) -> None:
    if value is False:
        found.client.setdefault("allow_invalid_certificates", True)
    elif isinstance(value, str):
        with open(value, encoding="ascii") as file:
            found.client.setdefault("root_certificate", file.read())


def _rename(found: StoreArguments, rest: dict[str, Any], names: Mapping[str, str]) -> None:
    for name, ours in names.items():
        if rest.get(name) is not None:
            found.give(ours, rest.pop(name))


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True
