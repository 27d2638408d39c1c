"""What is Azure's own, against Azurite; tokens come from oidc-provider."""

from __future__ import annotations

import asyncio
import os
import pickle
import ssl
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

import obstore as obs
from obstore.auth.azure import AzureAsyncCredentialProvider, AzureCredentialProvider
from obstore.store import AzureStore
from tests.fix_azure import AzureSubject
from tests.fix_stores import make_subject
from tests.servers.entra import TENANT, Entra, Metadata, fake_cli

pytestmark = pytest.mark.node

HOUR = timedelta(hours=1)


@pytest.fixture
def azure(request: pytest.FixtureRequest) -> Any:
    return make_subject("azurite", request)


@pytest.fixture
def tls(request: pytest.FixtureRequest) -> Any:
    return make_subject("azurite_tls", request)


def fetch(url: str, subject: AzureSubject, method: str = "GET", body: bytes | None = None, **headers: str) -> Any:
    """Use a signed URL with another client; the answer, or the HTTPError, with its body read."""
    ca_file = subject.endpoint.ca_file
    context = None if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
    request = urllib.request.Request(
        url, data=body, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


# ---- objects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [1, 3, 10, 11, 0])
def test_suffix_ranges_are_resolved_by_the_size(azure: AzureSubject, suffix: int):
    obs.put(azure.store, "k", b"0123456789")
    result = obs.get(azure.store, "k", options={"range": {"suffix": suffix}})
    assert result.bytes() == b"0123456789"[10 - min(suffix, 10) :]
    assert result.range == (10 - min(suffix, 10), 10)
    assert result.meta["size"] == 10


def test_suffix_of_an_empty_object_and_with_conditions(azure: AzureSubject):
    e_tag = obs.put(azure.store, "empty", b"", attributes={"Content-Type": "text/x"})["e_tag"]
    result = obs.get(azure.store, "empty", options={"range": {"suffix": 5}, "if_match": e_tag})
    assert (result.bytes(), result.range, result.attributes) == (b"", (0, 0), {"Content-Type": "text/x"})
    with pytest.raises(obs.PreconditionError):
        obs.get(azure.store, "empty", options={"range": {"suffix": 5}, "if_match": '"0x1"'})
    with pytest.raises(obs.NotModifiedError):
        obs.get(azure.store, "empty", options={"range": {"suffix": 5}, "if_none_match": e_tag})


def test_blocks_are_of_the_size_asked_for(azure: AzureSubject):
    part = 1 << 20
    obs.put(azure.store, "k", os.urandom(2 * part + 5), chunk_size=part)
    committed, uncommitted = azure.judge.get_blob_client("k").get_block_list("all")
    assert [block.size for block in committed] == [part, part, 5]
    assert uncommitted == []


def test_tags_are_stored(azure: AzureSubject):
    tags = {"a": "b c", "plus": "1+1=2"}
    obs.put(azure.store, "k", b"x", tags=tags)
    obs.put(azure.store, "parts", b"xy", tags=tags, use_multipart=True, chunk_size=1)
    obs.put(azure.sibling(disable_tagging=True), "without", b"x", tags=tags)
    for key, expected in (("k", tags), ("parts", tags), ("without", {})):
        assert azure.judge.get_blob_client(key).get_blob_tags() == expected


def test_storage_class_is_the_access_tier(azure: AzureSubject):
    obs.put(azure.store, "k", b"x", attributes={"Storage-Class": "Cool"})
    assert azure.judge.get_blob_client("k").get_blob_properties().blob_tier == "Cool"


def test_batches_delete_256_at_a_time_and_tell_of_each(azure: AzureSubject):
    keys = [f"dir/{number:03} &+" for number in range(300)]
    asyncio.run(_put_all(azure.store, keys))
    obs.delete(azure.store, keys[:290])
    assert azure.judge_keys() == keys[290:]
    with pytest.raises(obs.NotFoundError) as caught:
        obs.delete(azure.store, [keys[290], "dir/missing", keys[291]])
    assert caught.value.key == "dir/missing"
    assert caught.value.code == "BlobNotFound"
    obs.delete(azure.store, ["dir/missing", keys[292], "other"], missing_ok=True)
    assert azure.judge_keys() == keys[293:]


async def _put_all(store: AzureStore, keys: list[str]) -> None:
    await asyncio.gather(*(store.put_async(key, b"x") for key in keys))


@pytest.mark.parametrize("emulator", [False, True])
def test_listing_after_an_offset(azure: AzureSubject, emulator: bool):
    for key in ("p/a", "p/b", "p/b/c", "p/d", "q"):
        obs.put(azure.store, key, b"x")
    store = azure.store
    if emulator:
        url = azure.url.rpartition("/")[0]
        store = azure.sibling(use_emulator=True, endpoint=url, client_options={})
    assert [entry["path"] for entry in obs.list(store, "p", offset="p/b")] == ["p/b/c", "p/d"]
    assert [entry["path"] for entry in obs.list(store, offset="p/c")] == ["p/d", "q"]


def test_container_that_is_not_there(azure: AzureSubject):
    store = AzureStore(**azure.endpoint.config("no-such-container"))
    with pytest.raises(obs.NotFoundError) as caught:
        obs.get(store, "k")
    assert caught.value.code == "ContainerNotFound"
    assert "container_name" in (caught.value.hint or "")
    with pytest.raises(obs.GenericError, match="Error performing list request"):
        obs.list(store).collect()


# ---- settings -----------------------------------------------------------------------------------------------------


def test_connection_string_and_the_environment(azure: AzureSubject, monkeypatch: pytest.MonkeyPatch):
    end = azure.endpoint
    text = f"DefaultEndpointsProtocol=http;AccountName={end.account};AccountKey={end.key};BlobEndpoint={end.url};"
    options = end.client_options()
    obs.put(AzureStore(azure.bucket, connection_string=text, client_options=options), "k", b"x")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    monkeypatch.setenv("AZURE_CONTAINER_NAME", azure.bucket)
    store = AzureStore.from_env(client_options=options)
    assert obs.get(store, "k").bytes() == b"x"
    assert end.key.encode() not in pickle.dumps(store)
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT", end.account)
    monkeypatch.setenv("AZURE_STORAGE_KEY", end.key)
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", end.url)
    assert obs.get(AzureStore(container=azure.bucket, client_options=options), "k").bytes() == b"x"


def test_store_in_an_environment_survives_pickling(azure: AzureSubject):
    obs.put(azure.store, "k", b"x")
    again = pickle.loads(pickle.dumps(azure.store))
    assert again == azure.store
    assert obs.get(again, "k").bytes() == b"x"


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"account_key": "d3Jvbmc="}, "account_key"),
        ({"account_key": None}, "anonymous"),
    ],
)
def test_wrong_key_or_none_is_told_in_one_line(azure: AzureSubject, wrong: dict[str, Any], text: str):
    config = {**azure.endpoint.config(azure.bucket), **wrong}
    if config["account_key"] is None:
        del config["account_key"]
        config["skip_signature"] = True
    with pytest.raises((obs.PermissionDeniedError, obs.NotFoundError)) as caught:
        obs.get(AzureStore(**config), "k")
    message = str(caught.value)
    assert "\n" not in message
    assert text in message
    assert azure.endpoint.key not in message


# ---- signed URLs --------------------------------------------------------------------------------------------------


@pytest.fixture(params=["key", "token"])
def signing(request: pytest.FixtureRequest, azure: AzureSubject) -> Any:
    """A subject whose store signs by the account's key, or for the identity behind a token."""
    if request.param == "key":
        return azure
    subject = make_subject("azurite_tls", request)
    entra: Entra = request.getfixturevalue("entra")
    subject.store = AzureStore(**subject.endpoint.anonymous_config(subject.bucket), **entra.application)
    return subject


def test_signed_urls_do_what_they_say_and_nothing_else(signing: AzureSubject):
    store = signing.store
    obs.put(store, "dir/a b+c", b"content")
    url = obs.sign(store, "GET", "dir/a b+c", HOUR)
    assert fetch(url, signing)[::2] == (200, b"content")
    assert fetch(url, signing, "DELETE")[0] == 403
    assert fetch(url.replace("a%20b", "another"), signing)[0] == 403
    assert fetch(url.replace("sig=", "sig=A"), signing)[0] == 403
    assert fetch(obs.sign(store, "HEAD", "dir/a b+c", HOUR), signing, "HEAD")[0] == 200
    put = obs.sign(store, "PUT", "dir/new", HOUR)
    assert fetch(put, signing, "PUT", b"theirs", x_ms_blob_type="BlockBlob")[0] == 201
    assert fetch(put, signing)[0] == 403
    assert obs.get(store, "dir/new").bytes() == b"theirs"
    assert fetch(obs.sign(store, "DELETE", "dir/new", HOUR), signing, "DELETE")[0] == 202
    assert signing.judge_keys() == ["dir/a b+c"]


def test_signed_urls_of_many_paths_with_response_headers(signing: AzureSubject):
    for key in ("a", "b"):
        obs.put(signing.store, key, key.encode())
    headers = {"response_content_type": "text/x", "response_content_disposition": 'attachment; filename="x y"'}
    urls = asyncio.run(_sign_async(signing.store, ["a", "b"], headers))
    for key, url in zip("ab", urls, strict=True):
        status, answer, body = fetch(url, signing)
        assert (status, body) == (200, key.encode())
        assert answer["content-type"] == "text/x"
        assert answer["content-disposition"] == 'attachment; filename="x y"'
    expired = obs.sign(signing.store, "GET", "a", timedelta(0))
    assert fetch(expired, signing)[0] == 403


async def _sign_async(store: AzureStore, keys: list[str], headers: dict[str, str]) -> list[str]:
    return list(await obs.sign_async(store, "GET", keys, HOUR, **headers))  # type: ignore[arg-type]


def test_signing_is_refused_where_it_cannot_be(azure: AzureSubject):
    sas = obs.sign(azure.store, "GET", "k", HOUR).partition("?")[2]
    by_sas = AzureStore(**azure.endpoint.anonymous_config(azure.bucket), sas_key=sas)
    with pytest.raises(obs.GenericError, match="Generating SAS keys with SAS tokens auth is not supported"):
        obs.sign(by_sas, "GET", "k", HOUR)
    for method in ("POST", "PATCH"):
        with pytest.raises(obs.NotSupportedError, match=method):
            obs.sign(azure.store, method, "k", HOUR)  # type: ignore[call-overload]
    with pytest.raises(obs.NotSupportedError, match="demand headers"):
        obs.sign(azure.store, "PUT", "k", HOUR, headers={"Content-Type": "text/x"})
    with pytest.raises(ValueError, match="sig belongs to the signature"):
        obs.sign(azure.store, "GET", "k", HOUR, query={"sig": "x"})
    with pytest.raises(obs.NotSupportedError, match="customer-provided keys"):
        obs.sign(azure.sibling(encryption_key="MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="), "GET", "k", HOUR)
    with pytest.raises(obs.NotSupportedError, match="no uploads by form"):
        obs.generate_presigned_post(azure.store, "k", HOUR)


def test_sas_is_a_credential(azure: AzureSubject):
    from azure.storage.blob import ContainerSasPermissions, generate_container_sas

    end = azure.endpoint
    sas = generate_container_sas(
        end.account,
        azure.bucket,
        account_key=end.key,
        permission=ContainerSasPermissions(read=True, write=True, delete=True, list=True),
        expiry=datetime.now(UTC) + HOUR,
        version="2023-11-03",
    )
    for given in (sas, f"?{sas}"):
        store = AzureStore(**end.anonymous_config(azure.bucket), sas_key=given)
        obs.put(store, "a b", b"x" * 100, chunk_size=30)
        obs.copy(store, "a b", "copy")
        assert [entry["path"] for entry in obs.list(store)] == ["a b", "copy"]
        obs.delete(store, ["a b", "copy"])
        with pytest.raises(obs.NotFoundError) as caught:
            obs.get(store, "a b")
        signature = sas.partition("sig=")[2].partition("&")[0]
        assert signature not in str(caught.value)
        assert signature not in repr(caught.value.url)


# ---- tokens -------------------------------------------------------------------------------------------------------


def use(store: AzureStore) -> None:
    """Everything that carries a credential."""
    obs.put(store, "k", b"x" * 100, chunk_size=30)
    obs.copy(store, "k", "copy")
    assert obs.get(store, "copy").bytes() == b"x" * 100
    assert len(obs.list(store).collect()) == 2
    obs.delete(store, ["k", "copy"])


def test_client_secret(tls: AzureSubject, entra: Entra):
    store = AzureStore(**tls.endpoint.anonymous_config(tls.bucket), **entra.application)
    use(store)
    assert entra.client_secret not in repr(vars(store))


def test_workload_identity(tls: AzureSubject, entra: Entra, tmp_path):
    (tmp_path / "token").write_text(entra.assertion() + "\n")
    named = {"authority_host": entra.url, "tenant_id": TENANT, "client_id": entra.federated_client_id}
    config = tls.endpoint.anonymous_config(tls.bucket)
    use(AzureStore(**config, **named, federated_token_file=str(tmp_path / "token")))
    (tmp_path / "token").write_text(entra.assertion(audience="https://elsewhere"))
    with pytest.raises(obs.UnauthenticatedError, match="No token from Microsoft Entra"):
        obs.head(AzureStore(**config, **named, federated_token_file=str(tmp_path / "token")), "k")
    with pytest.raises(obs.UnauthenticatedError, match=r"Cannot read federated_token_file .*missing: No such file"):
        obs.head(AzureStore(**config, **named, federated_token_file=str(tmp_path / "missing")), "k")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"client_secret": "never shown"}, "401 invalid_client: .*; check client_secret"),
        ({"client_id": "nobody"}, "invalid_client"),
        ({"tenant_id": "elsewhere"}, "404 .*check authority_host and tenant_id"),
        ({"authority_host": "https://127.0.0.1:9"}, "check authority_host, and that no firewall"),
    ],
)
def test_what_is_wrong_with_an_application_is_told_in_one_line(
    tls: AzureSubject, entra: Entra, wrong: dict[str, str], text: str
):
    store = AzureStore(**tls.endpoint.anonymous_config(tls.bucket), **{**entra.application, **wrong})
    with pytest.raises(obs.UnauthenticatedError, match=text) as caught:
        obs.head(store, "k")
    assert "\n" not in str(caught.value)
    for secret in ("never shown", entra.client_secret):
        assert secret not in str(caught.value)


def test_any_number_of_requests_wait_for_one_token(tls: AzureSubject, entra: Entra, metadata: Metadata):
    store = AzureStore(
        **tls.endpoint.anonymous_config(tls.bucket), msi_endpoint=f"{metadata.url}/metadata/identity/oauth2/token"
    )

    async def main() -> None:
        await asyncio.gather(*(store.put_async(f"k{number}", b"x") for number in range(50)))

    asyncio.run(main())
    use(store.__class__(**tls.endpoint.config(tls.bucket), prefix="p"))
    assert len(metadata.requests) == 1


def test_managed_identity_of_a_machine(tls: AzureSubject, metadata: Metadata):
    metadata.identities = {("client_id", "mine"), ("object_id", "o"), ("msi_res_id", "/r")}
    config = tls.endpoint.anonymous_config(tls.bucket)
    endpoint = f"{metadata.url}/metadata/identity/oauth2/token"
    for named in ({}, {"client_id": "mine"}, {"client_id": "x", "object_id": "o"}, {"msi_resource_id": "/r"}):
        obs.put(AzureStore(**config, msi_endpoint=endpoint, **named), "k", b"x")
    with pytest.raises(obs.UnauthenticatedError, match="Identity not found; no such managed identity"):
        obs.head(AzureStore(**config, msi_endpoint=endpoint, client_id="other"), "k")
    with pytest.raises(obs.UnauthenticatedError, match="No token from the instance metadata service"):
        obs.head(AzureStore(**config, msi_endpoint="http://127.0.0.1:9/token"), "k")


def test_managed_identity_of_an_app_service(tls: AzureSubject, metadata: Metadata, monkeypatch: pytest.MonkeyPatch):
    config = tls.endpoint.anonymous_config(tls.bucket)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{metadata.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", metadata.secret)
    obs.put(AzureStore(**config), "k", b"x")
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(obs.UnauthenticatedError, match="401 unauthorized"):
        obs.head(AzureStore(**config), "k")


def test_fabric(tls: AzureSubject, metadata: Metadata):
    named = {
        "fabric_token_service_url": f"{metadata.url}/fabric",
        "fabric_workload_host": "host",
        "fabric_session_token": "session",
        "fabric_cluster_identifier": "cluster",
    }
    config = tls.endpoint.anonymous_config(tls.bucket)
    # The token service of a real workload speaks TLS; the look-alike does not.
    config["client_options"]["allow_http"] = True
    obs.put(AzureStore(**config, **named), "k", b"x")


def test_azure_cli(tls: AzureSubject, entra: Entra, tmp_path, monkeypatch: pytest.MonkeyPatch):
    config = tls.endpoint.anonymous_config(tls.bucket)
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    store = AzureStore(**config, use_azure_cli=True, tenant_id=TENANT)
    with pytest.raises(obs.UnauthenticatedError, match="there is no az on PATH"):
        obs.head(store, "k")
    (tmp_path / "az").write_text("#!/bin/sh\necho 'ERROR: Please run az login to setup account.' >&2\nexit 1\n")
    (tmp_path / "az").chmod(0o755)
    with pytest.raises(obs.UnauthenticatedError, match="Please run az login to setup account"):
        obs.head(store, "k")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fake_cli(tmp_path, entra.token())
    obs.put(store, "k", b"x")
    asked = (tmp_path / "az.log").read_text()
    assert asked == (
        f"account get-access-token --output json --scope https://storage.azure.com/.default --tenant {TENANT}\n"
    )


def test_default_credential_asks_through_our_engine(
    tls: AzureSubject, metadata: Metadata, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", metadata.url)  # where azure-identity looks for a machine's
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    store = AzureStore(**tls.endpoint.anonymous_config(tls.bucket))
    obs.put(store, "k", b"x")
    assert asyncio.run(_read(store)) == b"x"
    assert any("/metadata/identity/oauth2/token" in target for target in metadata.requests)


async def _read(store: AzureStore) -> bytes:
    return bytes(await (await store.get_async("k")).bytes_async())


def test_nothing_configured_without_azure_identity(tls: AzureSubject, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "azure.identity", None)  # as if it were not installed
    monkeypatch.setattr("obstore._auth.azure.IMDS_ENDPOINT", "http://127.0.0.1:9/token")
    store = AzureStore(**tls.endpoint.anonymous_config(tls.bucket))
    for _ in range(2):
        with pytest.raises(obs.UnauthenticatedError, match=r"No credentials are configured.*obstore\[azure\]"):
            obs.head(store, "k")


def test_providers_of_azure_identity(tls: AzureSubject, entra: Entra):
    from azure.core.credentials import AccessToken

    class Credential:
        """What azure-identity's credentials look like."""

        asked: ClassVar[list[tuple[Any, ...]]] = []

        def get_token(self, *scopes: str, tenant_id: str | None = None) -> AccessToken:
            self.asked.append((*scopes, tenant_id))
            found = entra.token()
            return AccessToken(found["access_token"], int(datetime.now(UTC).timestamp()) + found["expires_in"])

    class AsyncCredential(Credential):
        async def get_token(self, *scopes: str, tenant_id: str | None = None) -> AccessToken:  # type: ignore[override]
            return Credential.get_token(self, *scopes, tenant_id=tenant_id)

    config = tls.endpoint.anonymous_config(tls.bucket)
    use(AzureStore(**config, credential_provider=AzureCredentialProvider(Credential(), tenant_id="t")))
    assert Credential.asked == [("https://storage.azure.com/.default", "t")]
    for credential in (Credential(), AsyncCredential()):
        store = AzureStore(**config, credential_provider=AzureAsyncCredentialProvider(credential))
        asyncio.run(_put_all(store, ["k"]))
    assert len(Credential.asked) == 3


def test_expired_token_is_renewed_once(tls: AzureSubject, entra: Entra):
    calls: list[int] = []

    def provider() -> dict[str, Any]:
        calls.append(1)
        stale = len(calls) == 1
        return {"token": _expired(entra) if stale else entra.token()["access_token"], "expires_at": None}

    obs.put(AzureStore(**tls.endpoint.anonymous_config(tls.bucket), credential_provider=provider), "k", b"x")
    assert len(calls) == 2
    always = AzureStore(
        **tls.endpoint.anonymous_config(tls.bucket),
        credential_provider=lambda: {"token": _expired(entra), "expires_at": None},
    )
    with pytest.raises((obs.UnauthenticatedError, obs.PermissionDeniedError)) as caught:
        obs.head(always, "k")
    assert len(caught.value.attempts) == 2


def _expired(entra: Entra) -> str:
    """A token that has run out; Azurite looks at its claims."""
    import base64
    import json

    head, claims, signature = entra.token()["access_token"].split(".")
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    decoded["exp"] = decoded["nbf"] = int(datetime.now(UTC).timestamp()) - 100
    encoded = base64.urlsafe_b64encode(json.dumps(decoded).encode()).rstrip(b"=").decode()
    return f"{head}.{encoded}.{signature}"


def test_names_of_metadata_are_signed_in_the_order_of_the_service(azure: AzureSubject):
    metadata = dict.fromkeys(("ab", "a_b", "a1", "a_1", "a", "a_", "a__", "b"), "v")
    obs.put(azure.store, "k", b"x", attributes=metadata)
    assert azure.judge.get_blob_client("k").get_blob_properties().metadata == metadata
