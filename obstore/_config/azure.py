"""Settings of an Azure store."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias, TypedDict, get_args
from urllib.parse import unquote

from obstore._config.duration import CONTROL
from obstore._config.keys import MergedSettings
from obstore._config.record import repr_without
from obstore.exceptions import GenericError, redact_url

__all__ = ["EMULATOR_ACCOUNT", "AzureConfig", "AzureCredentialType", "AzureSettings", "parse_sas"]

AzureCredentialType: TypeAlias = Literal[
    "auto",
    "bearer_token",
    "access_key",
    "client_secret",
    "workload_identity",
    "sas_token",
    "azure_cli",
    "managed_identity",
]

# The account that the emulator is born with; name and key are published, they keep no secret.
EMULATOR_ACCOUNT = "devstoreaccount1"
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_EMULATOR_URL = "http://127.0.0.1:10000"
_AUTHORITY_HOST = "https://login.microsoftonline.com"


class AzureConfig(TypedDict, total=False):
    """Configuration of an Azure store, as ``config=`` or keyword arguments. Every key is optional but account and container.

    Keys are taken in any case, most of them also as ``azure_...`` or ``azure_storage_...``, and are then read from the
    environment too: ``AZURE_STORAGE_ACCOUNT_NAME``, ``AZURE_CLIENT_ID`` ...; and ``AZURE_STORAGE_ACCOUNT``,
    ``AZURE_STORAGE_KEY``, ``AZURE_STORAGE_CONNECTION_STRING`` as the Azure CLI has them.

    Attributes:
        account_key: key of the account, base64. Also ``access_key``, ``master_key``.
        account_name: of the storage account.
        authority_host: URL of Microsoft Entra, which hands out tokens; of the public cloud by default.
        client_id: of an application, or of a user-assigned managed identity.
        client_secret: secret of the application.
        connection_string: account, key or SAS and endpoint in one text, as the portal shows it. Ours, unknown to the Rust library.
        container_name: of the container. Also ``container``.
        credential_type: use this kind of credential only; ``auto`` by default.
        disable_tagging: ignore tags; False by default.
        encryption_key: customer-provided key that the service encrypts objects with: base64 of 32 bytes.
        endpoint: URL of the Blob service, with what comes before the container in its path.
        fabric_cluster_identifier, fabric_session_token, fabric_token_service_url, fabric_workload_host: of Microsoft
            Fabric's token service, all four together.
        federated_token_file: file of a token of a Kubernetes service account (workload identity).
        msi_endpoint: URL that hands out tokens of the managed identity. Also ``identity_endpoint`` and ``IDENTITY_ENDPOINT``.
        msi_resource_id: resource id of a user-assigned managed identity.
        object_id: object id of a user-assigned managed identity.
        sas_key: shared access signature: a query string. Also ``sas_token``.
        skip_signature: send requests without credentials; False by default.
        tenant_id: tenant of the application. Also ``authority_id``.
        token: bearer token. Also ``bearer_token``.
        use_azure_cli: take tokens from ``az``; False by default.
        use_emulator: talk to Azurite on this machine, at ``AZURITE_BLOB_STORAGE_URL`` or port 10000; False by default.
        use_fabric_endpoint: the account is one of Microsoft Fabric (OneLake); False by default.
    """

    account_key: str
    account_name: str
    authority_host: str
    client_id: str
    client_secret: str
    connection_string: str
    container_name: str
    credential_type: AzureCredentialType | str
    disable_tagging: bool
    encryption_key: str
    endpoint: str
    fabric_cluster_identifier: str
    fabric_session_token: str
    fabric_token_service_url: str
    fabric_workload_host: str
    federated_token_file: str
    msi_endpoint: str
    msi_resource_id: str
    object_id: str
    sas_key: str
    skip_signature: bool
    tenant_id: str
    token: str
    use_azure_cli: bool
    use_emulator: bool
    use_fabric_endpoint: bool


class AzureSettings(NamedTuple):
    """`AzureConfig`, merged with the environment and checked. ``repr`` shows no secret.

    Attributes:
        account: name of the storage account.
        origin: ``scheme://host[:port]`` of the Blob service.
        base_path: what comes before the container in the path, without trailing slash; the emulator has the account there.
        emulator: whether the service is the emulator.
        encryption_key: as given, known to be base64 of 32 bytes.
        sas: decoded name-value pairs.
        credential_type: as given; ``auto`` by default.
        authority_host: without trailing slash.
        identity_header: secret that the managed identity's endpoint asks for, from the environment.
    """

    account: str
    container: str
    origin: str
    base_path: str = ""
    emulator: bool = False
    skip_signature: bool = False
    disable_tagging: bool = False
    encryption_key: str | None = None
    credential_type: AzureCredentialType = "auto"
    account_key: str | None = None
    sas: tuple[tuple[str, str], ...] | None = None
    token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    tenant_id: str | None = None
    authority_host: str = _AUTHORITY_HOST
    federated_token_file: str | None = None
    msi_endpoint: str | None = None
    identity_header: str | None = None
    object_id: str | None = None
    msi_resource_id: str | None = None
    use_azure_cli: bool = False
    fabric: tuple[str, str, str, str] | None = None

    def __repr__(self) -> str:
        return repr_without(
            self, "encryption_key", "account_key", "sas", "token", "client_secret", "identity_header", "fabric"
        )

    @classmethod
    def build(cls, merged: MergedSettings, environ: Mapping[str, str] | None = None) -> AzureSettings:
        """Read the merged keys.

        Args:
            merged: of `obstore._config.keys.AZURE_KEYS`.
            environ: environment variables; None for those of the process.

        Raises:
            GenericError: account or container is missing, or a value is not understood.
        """
        environ = os.environ if environ is None else environ
        known = _Known(merged)
        emulator = known.emulator
        account = known.text("account_name") or (EMULATOR_ACCOUNT if emulator else None)
        if not account:
            raise _wrong(
                "Account must be specified",
                hint="give it as AzureStore(account_name=...) or AZURE_STORAGE_ACCOUNT_NAME",
            )
        if not _ACCOUNT.fullmatch(account):
            raise _wrong(f'Invalid account name "{account}"')
        container = merged.text("container_name")
        if not container:
            raise _wrong(
                "Container name must be specified",
                hint="give it as AzureStore(container_name=...) or AZURE_CONTAINER_NAME",
            )
        if _NOT_IN_CONTAINER.search(container):
            raise _wrong(
                f'Invalid container name "{container}"',
                hint="give the part after the slash as prefix=" if "/" in container else None,
            )
        origin, base_path = _place(known, account, environ)
        key = known.text("account_key") or None
        sas = known.text("sas_key")
        others = any(known.text(name) for name in ("token", "sas_key", "client_secret", "federated_token_file"))
        if key is None and emulator and not others:
            key = _EMULATOR_KEY
        return cls(
            account=account,
            container=container,
            origin=origin,
            base_path=base_path,
            emulator=emulator,
            skip_signature=merged.flag("skip_signature"),
            disable_tagging=merged.flag("disable_tagging"),
            encryption_key=_encryption_key(merged.text("encryption_key")),
            credential_type=_credential_type(merged.text("credential_type")),
            account_key=_account_key(key),
            sas=None if sas is None else parse_sas(sas),
            token=known.text("token") or None,
            client_id=merged.text("client_id"),
            client_secret=merged.text("client_secret"),
            tenant_id=merged.text("tenant_id"),
            authority_host=_url(merged.text("authority_host") or _AUTHORITY_HOST, "authority_host").rstrip("/"),
            federated_token_file=merged.text("federated_token_file"),
            msi_endpoint=merged.text("msi_endpoint"),
            identity_header=environ.get("IDENTITY_HEADER"),
            object_id=merged.text("object_id"),
            msi_resource_id=merged.text("msi_resource_id"),
            use_azure_cli=merged.flag("use_azure_cli"),
            fabric=_fabric(merged),
        )


# Account and container become part of the URL, the account even of the host: what would end either is refused.
_ACCOUNT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_NOT_IN_CONTAINER = re.compile(r"[\x00-\x1f\x7f/\\?#]")
_CLOUD_HOST = re.compile(r"https://[^/:?#]+\.dfs\.(?:core\.[a-z.]+|fabric\.microsoft\.com)", re.IGNORECASE)


class _Known:
    """The settings, and beneath what each place gave the connection string of that place.

    A connection string names account, endpoint and credentials together; keys that stand beside it win over its parts.
    """

    def __init__(self, merged: MergedSettings) -> None:
        self._merged = merged
        text = merged.text("connection_string")
        self._parts = {} if not text else _connection_string(text)
        self.emulator = merged.flag("use_emulator") or self._parts.pop("use_emulator", "") == "true"
        self.fabric = merged.flag("use_fabric_endpoint")
        # The environment's keys say nothing about an account that the program names by its connection string.
        self._only = merged.given if merged.is_given("connection_string") else merged.values

    def text(self, key: str) -> str | None:
        if key in self._parts and key not in self._only:
            return self._parts[key]
        return self._merged.text(key)

    def part(self, key: str) -> str | None:
        """What only a connection string says."""
        return self._parts.get(key)


def _connection_string(text: str) -> dict[str, str]:
    """``Name=value;...`` by our names. Source: "Configure Azure Storage connection strings", learn.microsoft.com."""
    fields: dict[str, str] = {}
    for pair in text.split(";"):
        name, separator, value = pair.partition("=")
        if separator:
            fields[name.strip().lower()] = value.strip()
        elif pair.strip():
            raise _wrong("connection_string is malformed: a part has no value")
    if fields.get("usedevelopmentstorage", "").lower() == "true":
        return {"use_emulator": "true"}
    parts = {
        "account_name": fields.get("accountname"),
        "account_key": fields.get("accountkey"),
        "sas_key": fields.get("sharedaccesssignature"),
        "endpoint": fields.get("blobendpoint"),
        "protocol": fields.get("defaultendpointsprotocol"),
        "suffix": fields.get("endpointsuffix"),
    }
    if parts["account_name"] is None and parts["endpoint"] is not None:
        host = parts["endpoint"].partition("://")[2]
        parts["account_name"] = host.partition(".")[0] if ".blob." in host else None
    return {name: value for name, value in parts.items() if value}


def _place(known: _Known, account: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Where the Blob service is: its origin, and the path before the container."""
    endpoint = known.text("endpoint")
    if known.emulator:
        origin, path = _split(endpoint or environ.get("AZURITE_BLOB_STORAGE_URL") or _EMULATOR_URL, "endpoint")
        return origin, path if path.endswith(f"/{account}") else f"{path}/{account}"
    if endpoint:
        # The same data by the protocol of file systems: ours is that of blobs.
        if _CLOUD_HOST.match(endpoint):
            endpoint = re.sub(r"\.dfs\.", ".blob.", endpoint, count=1, flags=re.IGNORECASE)
        return _split(endpoint, "endpoint")
    if known.fabric:
        return f"https://{account}.blob.fabric.microsoft.com", ""
    suffix = known.part("suffix") or "core.windows.net"
    return _split(f"{known.part('protocol') or 'https'}://{account}.blob.{suffix}", "connection_string")


def _split(url: str, key: str) -> tuple[str, str]:
    scheme, _, rest = _url(url, key).partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme.lower()}://{authority.lower()}", (slash + path).rstrip("/")


def _url(text: str, key: str) -> str:
    """An http or https URL without user, query and fragment."""
    url = text.strip()
    scheme, separator, rest = url.partition("://")
    authority = rest.partition("/")[0]
    if not separator or not authority or scheme.lower() not in ("http", "https") or CONTROL.search(url) or " " in url:
        raise _wrong(f"{key} is no http or https URL: {redact_url(text)}")
    if "@" in authority or "?" in rest or "#" in rest:
        raise _wrong(f"{key} must not hold a user name, a query or a fragment", hint="a SAS belongs into sas_key")
    return url


def parse_sas(text: str) -> tuple[tuple[str, str], ...]:
    """A shared access signature as decoded name-value pairs.

    Raises:
        GenericError: a part of it is no pair. The message does not show it.
    """
    pairs = []
    for pair in text.strip().removeprefix("?").split("&"):
        if not pair.strip():
            continue
        name, separator, value = pair.partition("=")
        if not separator:
            raise _wrong("Missing component in SAS query pair", hint="sas_key is the query string: sv=...&sig=...")
        pairs.append((unquote(name.strip()), unquote(value.strip())))
    if not pairs:
        raise _wrong("Missing component in SAS query pair", hint="sas_key is empty")
    return tuple(pairs)


def _account_key(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if not secret:
        raise _wrong("Invalid Access Key: it is not base64", hint="copy account_key as a whole, with the = at its end")
    return text


def _encryption_key(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        secret = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _wrong("Invalid encryption key: it is not base64") from None
    if len(secret) != 32:
        raise _wrong(
            f"Invalid encryption key: Azure customer-provided encryption key must decode to 32 bytes, got {len(secret)}"
        )
    return text


def _credential_type(text: str | None) -> AzureCredentialType:
    kind = (text or "auto").strip().lower()
    for known in get_args(AzureCredentialType):
        if kind == known:
            found: AzureCredentialType = known
            return found
    raise _wrong(
        f"Unknown credential type: '{text}'. Supported values: {', '.join(get_args(AzureCredentialType))}",
    )


def _fabric(merged: MergedSettings) -> tuple[str, str, str, str] | None:
    """Token service, host of the workload, session token, cluster; all four or none."""
    found = tuple(
        merged.text(f"fabric_{name}")
        for name in ("token_service_url", "workload_host", "session_token", "cluster_identifier")
    )
    match found:
        case (str(service), str(host), str(token), str(cluster)):
            return service, host, token, cluster
        case _:
            return None


def _wrong(detail: str, *, hint: str | None = None) -> GenericError:
    return GenericError.of("MicrosoftAzure", detail, hint=hint)
