"""Settings of an Azure store: from keys, the environment and connection strings to what they mean."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest

from obstore._auth.azure import AccountKey, BearerToken, SasToken, default_source, provider_source
from obstore._auth.azure_tokens import (
    AppServiceTokens,
    ClientTokens,
    CliTokens,
    FabricTokens,
    IdentityTokens,
    ImdsTokens,
    jwt_expiry,
)
from obstore._auth.sources import ANONYMOUS, Anonymous
from obstore._config.azure import AzureSettings, parse_sas
from obstore._config.keys import AZURE_KEYS
from obstore.exceptions import GenericError, UnknownConfigurationKeyError
from obstore.store import AzureStore, from_url

KEY = base64.b64encode(b"the key").decode()
CUSTOMER_KEY = base64.b64encode(bytes(32)).decode()


def settings(environ: dict[str, str] | None = None, **config: Any) -> AzureSettings:
    environ = environ or {}
    merged = AZURE_KEYS.merge(None, config={"container": "cont", **config}, environ=environ)
    return AzureSettings.build(merged, environ)


@pytest.mark.parametrize(
    ("config", "origin", "path"),
    [
        ({"account_name": "acct"}, "https://acct.blob.core.windows.net", ""),
        ({"account_name": "acct", "use_fabric_endpoint": True}, "https://acct.blob.fabric.microsoft.com", ""),
        ({"account_name": "acct", "endpoint": "HTTP://Host:1/base/"}, "http://host:1", "/base"),
        ({"account_name": "acct", "endpoint": "https://acct.dfs.core.windows.net"}, "https://acct.blob.core.windows.net", ""),
        ({"account_name": "acct", "endpoint": "https://a.z1.dfs.fabric.microsoft.com"}, "https://a.z1.blob.fabric.microsoft.com", ""),
        ({"use_emulator": True}, "http://127.0.0.1:10000", "/devstoreaccount1"),
        ({"use_emulator": True, "account_name": "a", "endpoint": "http://h:1/a/"}, "http://h:1", "/a"),
        ({"connection_string": "UseDevelopmentStorage=true"}, "http://127.0.0.1:10000", "/devstoreaccount1"),
        (
            {"connection_string": f"DefaultEndpointsProtocol=https;AccountName=acct;AccountKey={KEY};EndpointSuffix=core.cn"},
            "https://acct.blob.core.cn",
            "",
        ),
        ({"connection_string": "BlobEndpoint=https://acct.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=a%2B"}, "https://acct.blob.core.windows.net", ""),
    ],
)  # fmt: skip
def test_where_the_service_is(config: dict[str, Any], origin: str, path: str):
    found = settings(**config)
    assert (found.origin, found.base_path) == (origin, path)


def test_environment_and_its_spellings():
    environ = {
        "AZURE_STORAGE_ACCOUNT_NAME": "long",
        "AZURE_STORAGE_ACCOUNT": "short",
        "AZURE_STORAGE_KEY": KEY,
        "AZURE_STORAGE_SAS_TOKEN": "?sv=1&sig=6hidden",
        "AZURE_CLIENT_ID": "id",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_AUTHORITY_HOST": "https://login.example/",
        "IDENTITY_ENDPOINT": "http://identity",
        "IDENTITY_HEADER": "secret header",
        "AZURE_STORAGE_ENCRYPTION_KEY": CUSTOMER_KEY,
    }
    found = settings(environ)
    assert (found.account, found.account_key) == ("long", KEY)
    assert found.sas == (("sv", "1"), ("sig", "6hidden"))
    assert (found.client_id, found.tenant_id, found.authority_host) == ("id", "tenant", "https://login.example")
    assert (found.msi_endpoint, found.identity_header) == ("http://identity", "secret header")
    assert found.encryption_key == CUSTOMER_KEY
    del environ["AZURE_STORAGE_ACCOUNT_NAME"]
    assert settings(environ).account == "short"
    shown = repr(found)
    for secret in (KEY, "secret header", CUSTOMER_KEY, "6hidden"):
        assert secret not in shown


def test_keys_beside_a_connection_string_win_over_its_parts():
    text = f"AccountName=acct;AccountKey={KEY}"
    assert settings(connection_string=text, account_name="other").account == "other"
    # What the environment says of another account is nothing to the program's.
    environ = {"AZURE_STORAGE_ACCOUNT_NAME": "environment"}
    assert settings(environ, connection_string=text).account == "acct"
    assert settings({**environ, "AZURE_STORAGE_CONNECTION_STRING": text}).account == "environment"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({}, "Account must be specified"),
        ({"account_name": "a/b"}, 'Invalid account name "a/b"'),
        ({"account_name": "a", "container": "c/d"}, 'Invalid container name "c/d"; give the part after the slash'),
        ({"account_name": "a", "account_key": "***"}, "Invalid Access Key"),
        ({"account_name": "a", "sas_key": "abc"}, "Missing component in SAS query pair"),
        ({"account_name": "a", "encryption_key": KEY}, "must decode to 32 bytes, got 7"),
        ({"account_name": "a", "encryption_key": "***"}, "Invalid encryption key"),
        (
            {"account_name": "a", "credential_type": "magic"},
            "Unknown credential type: 'magic'. Supported values: auto,",
        ),
        ({"account_name": "a", "endpoint": "host"}, "endpoint is no http or https URL"),
        ({"account_name": "a", "endpoint": "https://h/?sig=6hidden"}, "endpoint must not hold a user name, a query"),
        ({"connection_string": "nonsense"}, "connection_string is malformed"),
    ],
)
def test_what_is_wrong_is_named(config: dict[str, Any], text: str):
    with pytest.raises(GenericError, match=r"^Generic MicrosoftAzure error: ") as caught:
        settings(**config)
    assert text in str(caught.value)
    assert "6hidden" not in str(caught.value)


def test_container_is_demanded():
    merged = AZURE_KEYS.merge(None, config={"account_name": "a"}, environ={})
    with pytest.raises(GenericError, match="Container name must be specified"):
        AzureSettings.build(merged, {})


# ---- which credential ---------------------------------------------------------------------------------------------

EVERYTHING = {
    "account_name": "acct",
    "token": "tok",
    "account_key": KEY,
    "client_id": "id",
    "tenant_id": "tenant",
    "federated_token_file": "/f",
    "client_secret": "secret",
    "sas_key": "sig=x",
    "use_azure_cli": True,
    "msi_endpoint": "http://msi",
    **{
        f"fabric_{name}": name for name in ("token_service_url", "workload_host", "session_token", "cluster_identifier")
    },
}


def test_the_first_that_is_there():
    config = dict(EVERYTHING)
    found = []
    for gone in (
        "fabric_session_token",
        "token",
        "account_key",
        "federated_token_file",
        "client_secret",
        "sas_key",
        "use_azure_cli",
        "msi_endpoint",
        "client_id",
    ):
        source = default_source(settings(**config))
        held = source.current(0.0)
        found.append(type(source if held is None else held))
        del config[gone]
    assert found == [
        FabricTokens,
        BearerToken,
        AccountKey,
        ClientTokens,
        ClientTokens,
        SasToken,
        CliTokens,
        ImdsTokens,
        IdentityTokens,
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("bearer_token", BearerToken),
        ("access_key", AccountKey),
        ("client_secret", ClientTokens),
        ("workload_identity", ClientTokens),
        ("sas_token", SasToken),
        ("azure_cli", CliTokens),
        ("managed_identity", ImdsTokens),
    ],
)
def test_a_named_kind_is_the_only_one(kind: str, expected: type):
    source = default_source(settings(**EVERYTHING, credential_type=kind))
    assert type(source.current(0.0) or source) is expected
    if kind not in ("azure_cli", "managed_identity"):
        with pytest.raises(GenericError, match=f"Credential type '{kind}' was requested but required configuration"):
            default_source(settings(account_name="a", credential_type=kind))


def test_app_service_and_anonymous():
    environ = {"IDENTITY_ENDPOINT": "http://i", "IDENTITY_HEADER": "h"}
    assert type(default_source(settings(environ, account_name="a"))) is AppServiceTokens
    source = default_source(settings(account_name="a", account_key=KEY, skip_signature=True))
    assert isinstance(source, Anonymous)
    assert source.current(0.0) is ANONYMOUS
    assert type(source.beneath.current(0.0)) is AccountKey


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"access_key": KEY}, "returned no expires_at"),
        ({"expires_at": None}, "none of access_key, sas_token and token"),
        ({"token": "t", "access_key": KEY, "expires_at": None}, "access_key and token; exactly one"),
        ({"token": b"t", "expires_at": None}, "token as bytes, not str"),
        ({"token": "never shown\n", "expires_at": None}, "token begins or ends with white space"),
        ({"access_key": "never*shown", "expires_at": None}, "access_key: the key is not base64"),
        ({"sas_token": "nevershown", "expires_at": None}, "Missing component in SAS query pair"),
        ({"sas_token": [("a", 1)], "expires_at": None}, "something else than pairs of str"),
        ({"token": "t", "expires_at": "soon"}, "expires_at as str, not datetime"),
        ("text", "returned str, not a dict"),
    ],
)
def test_what_is_wrong_with_a_providers_answer(given: Any, text: str):
    problem = provider_source(lambda: given)._read(given)
    assert isinstance(problem, str)
    assert text in problem
    assert "never" not in problem


def test_sas_in_any_form():
    assert parse_sas("?sv=1&sig=a%2Bb%3D&") == (("sv", "1"), ("sig", "a+b="))
    for value in ("?sv=1&sig=a%2B", [("sv", "1"), ("sig", "a+")]):
        found = provider_source(lambda: None)._read({"sas_token": value, "expires_at": None})
        assert isinstance(found, SasToken)
        assert found.pairs == (("sv", "1"), ("sig", "a+"))


def test_expiry_of_a_token():
    claims = base64.urlsafe_b64encode(b'{"exp": 1795659281}').rstrip(b"=").decode()
    assert jwt_expiry(f"x.{claims}.y") == 1795659281.0
    for text in ("", "x", "x.y.z", f"x.{claims}"):
        assert jwt_expiry(text) is None


# ---- the store ----------------------------------------------------------------------------------------------------


def test_repr_equality_and_pickling(monkeypatch: pytest.MonkeyPatch):
    store = AzureStore("c", account_name="a", account_key=KEY, prefix="/p/")
    assert repr(store) == 'AzureStore(container_name="c", account_name="a", prefix="p")'
    assert store.config == {"container_name": "c", "account_name": "a", "account_key": KEY}
    assert store == AzureStore(container="c", azure_storage_account_name="a", master_key=KEY, prefix="p")
    assert store != AzureStore("c", account_name="a", account_key=KEY)
    assert pickle.loads(pickle.dumps(store)) == store
    by_string = AzureStore("c", connection_string=f"AccountName=a;AccountKey={KEY}")
    assert repr(by_string) == 'AzureStore(container_name="c", account_name="a")'
    assert "connection_string" not in by_string.config
    assert pickle.loads(pickle.dumps(by_string)) == by_string
    assert by_string != AzureStore("c", connection_string=f"AccountName=b;AccountKey={KEY}")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "from-env")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    from_env = AzureStore.from_env("c")
    assert repr(from_env) == 'AzureStore(container_name="c", account_name="from-env")'
    assert KEY.encode() not in pickle.dumps(from_env)


@pytest.mark.parametrize(
    ("url", "account", "container", "prefix"),
    [
        ("az://cont/p/q", "given", "cont", "p/q"),
        ("abfss://cont@acct.dfs.core.windows.net/p", "acct", "cont", "p"),
        ("https://acct.blob.core.windows.net/cont", "acct", "cont", None),
        ("https://acct.dfs.fabric.microsoft.com/cont/p", "acct", "cont", "p"),
    ],
)
def test_from_url(url: str, account: str, container: str, prefix: str | None):
    given = {"account_name": "given"} if account == "given" else {}
    for make in (AzureStore.from_url, from_url):
        store = make(url, skip_signature=True, **given)
        assert isinstance(store, AzureStore)
        assert store.prefix == prefix
        assert f'container_name="{container}", account_name="{account}"' in repr(store)


def test_wrong_keys_and_twice_the_same():
    with pytest.raises(
        UnknownConfigurationKeyError, match="'azure_account_name' is not valid for store 'MicrosoftAzure'"
    ):
        AzureStore("c", azure_account_name="a")
    with pytest.raises(GenericError, match="Duplicate key azure_storage_account_key provided"):
        AzureStore("c", account_name="a", access_key=KEY, master_key=KEY)
