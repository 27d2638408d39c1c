"""What Azure's Blob service answers and Azurite does not: documented exchanges, replayed byte by byte.

Each test names the page of learn.microsoft.com/rest/api/storageservices that it is from.
"""

from __future__ import annotations

import asyncio
import base64
import pickle
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import obstore as obs
from obstore.auth.planetary_computer import (
    PlanetaryComputerAsyncCredentialProvider,
    PlanetaryComputerCredentialProvider,
)
from obstore.store import AzureStore
from tests.servers.scripted import Reply, Request, ScriptedServer

KEY = base64.b64encode(b"key").decode()
CUSTOMER_KEY = base64.b64encode(bytes(range(32))).decode()
PATIENT = {
    "max_retries": 5,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=1)},
}
MODIFIED = {"last-modified": "Sun, 06 Nov 1994 08:49:37 GMT", "etag": '"0x8D"'}


def store_of(server: ScriptedServer, **config: Any) -> AzureStore:
    given = {"account_key": KEY, **config}
    if given.keys() & {"sas_key", "token", "credential_provider"}:
        del given["account_key"]
    return AzureStore(
        "cont",
        account_name="acct",
        endpoint=server.url,
        client_options={"allow_http": True},
        retry_config=PATIENT,
        **given,
    )


def refusal(status: int, code: str, message: str = "Why not.", **headers: str) -> Reply:
    """An error as "Status and error codes" has it."""
    body = (
        f'\ufeff<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}\n'
        "RequestId:5e6a3e4b-001e-0071-0b1f-000000000000\nTime:2026-11-26T01:00:00.0000000Z</Message></Error>"
    )
    return Reply(status, {"x-ms-error-code": code, "x-ms-request-id": "5e6a", **headers}, body.encode())


# ---- copies: "Copy Blob", "Get Blob Properties" -----------------------------------------------------------------------


def test_copy_is_waited_for(scripted: ScriptedServer):
    pending = {"x-ms-copy-id": "1", "x-ms-copy-status": "pending"}
    scripted.push_response(202, pending)
    scripted.push_response(200, {**MODIFIED, **pending, "content-length": "0"}, content_length=0)
    scripted.push_response(200, {**MODIFIED, "x-ms-copy-id": "1", "x-ms-copy-status": "success"}, content_length=0)
    obs.copy(store_of(scripted), "a b", "to", overwrite=False)
    put, *heads = scripted.requests
    assert [(r.method, r.target) for r in scripted.requests] == [("PUT", "/cont/to")] + [("HEAD", "/cont/to")] * 2
    assert put.headers["x-ms-copy-source"] == f"{scripted.url}/cont/a%20b"
    assert put.headers["if-none-match"] == "*"
    assert len(heads) == 2


@pytest.mark.parametrize("state", ["failed", "aborted"])
def test_copy_that_fails_later_is_an_error(scripted: ScriptedServer, state: str):
    scripted.push_response(202, {"x-ms-copy-status": "pending"})
    why = {"x-ms-copy-status": state, "x-ms-copy-status-description": "404 BlobNotFound when reading the source"}
    scripted.push_response(200, {**MODIFIED, **why}, content_length=0)
    with pytest.raises(obs.GenericError, match=rf"The copy to to {state}: 404 BlobNotFound when reading the source"):
        obs.copy(store_of(scripted), "from", "to")


def test_copy_conflicts(scripted: ScriptedServer):
    store = store_of(scripted)
    scripted.push(refusal(409, "BlobAlreadyExists"))
    with pytest.raises(obs.AlreadyExistsError):
        obs.copy(store, "from", "to", overwrite=False)
    scripted.push(refusal(409, "PendingCopyOperation"))
    with pytest.raises(obs.GenericError, match="PendingCopyOperation"):
        obs.copy(store, "from", "to")
    scripted.push(refusal(404, "BlobNotFound"))
    with pytest.raises(obs.NotFoundError) as caught:
        obs.copy(store, "from", "to")
    assert caught.value.key == "from"


# ---- batches: "Blob Batch" --------------------------------------------------------------------------------------------


def batch(*answers: tuple[int, int, str | None]) -> Reply:
    """The answer to a batch: places, statuses and codes of its requests, as the page's example is written."""
    text = ""
    for place, status, code in answers:
        head = f"HTTP/1.1 {status} Reason\r\nx-ms-request-id: 778fdc83\r\nServer: Windows-Azure-Blob/1.0\r\n"
        body = ""
        if code is not None:
            body = f'<?xml version="1.0" encoding="utf-8"?>\n<Error><Code>{code}</Code><Message>No.</Message></Error>'
            head += f"x-ms-error-code: {code}\r\nContent-Length: {len(body)}\r\nContent-Type: application/xml\r\n"
        text += (
            f"--batchresponse_66\r\nContent-Type: application/http\r\nContent-ID: {place}\r\n\r\n{head}\r\n{body}\r\n"
        )
    headers = {"content-type": "multipart/mixed; boundary=batchresponse_66", "x-ms-request-id": "778fdc83"}
    return Reply(202, headers, f"{text}--batchresponse_66--".encode(), chunked=True)


def deleted(request: Request) -> list[str]:
    return re.findall(r"^DELETE (\S+) HTTP/1.1\r$", request.body.decode(), re.MULTILINE)


def test_batch_sends_again_what_the_service_was_too_busy_for(scripted: ScriptedServer):
    scripted.push(batch((2, 503, "ServerBusy"), (0, 202, None), (1, 404, "BlobNotFound")), batch((0, 202, None)))
    obs.delete(store_of(scripted), ["a", "b", "c"], missing_ok=True)
    assert [deleted(request) for request in scripted.requests] == [["/cont/a", "/cont/b", "/cont/c"], ["/cont/c"]]
    first = scripted.requests[0]
    assert first.target == "/cont?restype=container&comp=batch"
    assert first.headers["content-type"].startswith("multipart/mixed; boundary=batch_")
    # Each request is signed, with no version of its own.
    assert first.body.count(b"authorization: SharedKey acct:") == 3
    assert b"x-ms-version" not in first.body


def test_batch_whose_answer_was_lost_may_have_deleted(scripted: ScriptedServer):
    scripted.push(Reply(drop=True), batch((0, 404, "BlobNotFound"), (1, 202, None)))
    obs.delete(store_of(scripted), ["a", "b"])
    assert len(scripted.requests) == 2


@pytest.mark.parametrize("keys", ["a", ["a"], ["a", "b"]])
def test_delete_whose_answer_was_lost_with_a_kept_connection_may_have_deleted(
    scripted: ScriptedServer, keys: str | list[str]
):
    """libcurl sends it again by itself."""
    store = store_of(scripted)
    scripted.push(Reply(404))
    with pytest.raises(FileNotFoundError):
        obs.delete(store, "other")
    one = Reply(404, {"x-ms-error-code": "BlobNotFound"})
    scripted.push(Reply(drop=True), batch((0, 404, "BlobNotFound"), (1, 202, None)) if len(keys) > 1 else one)
    obs.delete(store, keys)
    assert len(scripted.requests) == 3
    assert scripted.opened == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(202, {"content-type": "multipart/mixed; boundary=x"}, b"--x\r\n\r\nHTTP/1.1 202 Accepted\r\n\r\n"),
        Reply(202, {"content-type": "application/xml"}, b"<a/>"),
        batch((0, 202, None)),
        batch((7, 400, "InvalidInput")),
    ],
)
def test_batch_with_half_an_answer_is_an_error(scripted: ScriptedServer, reply: Reply):
    scripted.push(reply)
    with pytest.raises(obs.GenericError, match=r"Got invalid bulk delete response|due to invalid input"):
        obs.delete(store_of(scripted), ["a", "b"])


def test_batch_by_sas_and_by_token(scripted: ScriptedServer):
    scripted.push(batch((0, 202, None), (1, 202, None)), batch((0, 202, None), (1, 202, None)))
    obs.delete(store_of(scripted, sas_key="sv=1&sig=a%2Bb"), ["a", "b"])
    obs.delete(store_of(scripted, token="tok"), ["a", "b"])
    by_sas, by_token = scripted.requests
    assert deleted(by_sas) == ["/cont/a?sv=1&sig=a%2Bb", "/cont/b?sv=1&sig=a%2Bb"]
    assert by_sas.target.endswith("&sv=1&sig=a%2Bb")
    assert by_token.body.count(b"authorization: Bearer tok") == 2


# ---- refusals: "Common REST API error codes", "Blob Storage error codes" ----------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "ContainerNotFound", obs.NotFoundError),
        (403, "AuthorizationPermissionMismatch", obs.PermissionDeniedError),
        (401, "NoAuthenticationInformation", obs.UnauthenticatedError),
        (412, "ConditionNotMet", obs.PreconditionError),
        (412, "LeaseIdMissing", obs.PreconditionError),
        (409, "BlobArchived", obs.GenericError),
        (409, "ContainerBeingDeleted", obs.GenericError),
        (409, "SnapshotsPresent", obs.GenericError),
        (400, "InvalidMetadata", obs.GenericError),
        (409, "BlobAlreadyExists", obs.AlreadyExistsError),
    ],
)
def test_codes_become_exceptions_with_hints(scripted: ScriptedServer, status: int, code: str, kind: type[Exception]):
    scripted.push(refusal(status, code), refusal(status, code))
    with pytest.raises(kind) as caught:
        obs.get(store_of(scripted), "k")
    error: Any = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "5e6a")
    assert "Time:" not in str(error)
    assert error.hint or code in ("ConditionNotMet", "BlobAlreadyExists")


def test_head_is_told_why_by_a_header(scripted: ScriptedServer):
    scripted.push_response(404, {"x-ms-error-code": "BlobNotFound"}, content_length=0)
    with pytest.raises(obs.NotFoundError) as caught:
        obs.head(store_of(scripted), "k")
    assert caught.value.code == "BlobNotFound"


@pytest.mark.parametrize(
    ("status", "code"),
    [(503, "ServerBusy"), (500, "OperationTimedOut"), (500, "InternalError"), (429, "TooManyRequests")],
)
def test_what_passes_is_repeated(scripted: ScriptedServer, status: int, code: str):
    scripted.push(refusal(status, code), refusal(status, code), Reply(201, MODIFIED))
    assert obs.put(store_of(scripted), "k", b"x", mode="create")["e_tag"] == '"0x8D"'
    assert len(scripted.requests) == 3


def test_a_busy_service_that_stays_busy_is_throttling(scripted: ScriptedServer):
    scripted.handler = lambda _: refusal(503, "ServerBusy")
    with pytest.raises(obs.exceptions.ThrottledError, match="lower the number of parallel requests"):
        obs.get(store_of(scripted), "k")
    assert len(scripted.requests) == 6


def test_a_wrong_clock_is_corrected_once(scripted: ScriptedServer):
    # "Authorize with Shared Key": a request must arrive within 15 minutes of its date.
    ahead = (datetime.now(UTC) + timedelta(hours=3)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    scripted.push(refusal(403, "AuthenticationFailed", date=ahead), Reply(201, MODIFIED), Reply(201, MODIFIED))
    store = store_of(scripted)
    obs.put(store, "k", b"x")
    obs.put(store, "l", b"x")
    dates = [datetime.strptime(r.headers["x-ms-date"], "%a, %d %b %Y %H:%M:%S GMT") for r in scripted.requests]  # noqa: DTZ007
    assert [round((date - dates[0]) / timedelta(hours=1)) for date in dates] == [0, 3, 3]


# ---- user delegation: "Get User Delegation Key" ------------------------------------------------------------------------


def delegation_key() -> Reply:
    fields = {
        "SignedOid": "oid",
        "SignedTid": "tid",
        "SignedStart": "2026-11-26T00:00:00Z",
        "SignedExpiry": "2026-11-27T00:00:00Z",
        "SignedService": "b",
        "SignedVersion": "2023-11-03",
        "Value": KEY,
    }
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    body = f'\ufeff<?xml version="1.0" encoding="utf-8"?><UserDelegationKey>{inside}</UserDelegationKey>'
    return Reply(200, {"content-type": "application/xml"}, body.encode())


def test_key_of_a_user_is_fetched_once_and_with_a_fresh_token(scripted: ScriptedServer):
    tokens = iter(["stale", "fresh"])
    store = store_of(
        scripted,
        credential_provider=lambda: {"token": next(tokens), "expires_at": None},
    )
    scripted.push(
        refusal(401, "InvalidAuthenticationInfo"), refusal(401, "InvalidAuthenticationInfo"), delegation_key()
    )
    first = obs.sign(store, "GET", "k", timedelta(hours=1))
    assert "skoid=oid&sktid=tid&" in first
    assert scripted.requests[-1].headers["authorization"] == "Bearer fresh"
    assert scripted.requests[-1].target == "/?restype=service&comp=userdelegationkey"
    asked = len(scripted.requests)
    obs.sign(store, "PUT", ["k", "l"], timedelta(hours=2))
    assert len(scripted.requests) == asked
    scripted.push(delegation_key())
    obs.sign(store, "GET", "k", timedelta(days=6))  # longer than that key lives
    assert len(scripted.requests) == asked + 1
    with pytest.raises(obs.GenericError, match="can't be longer than 604800 seconds"):
        obs.sign(store, "GET", "k", timedelta(days=8))


def test_signing_without_the_role_for_it(scripted: ScriptedServer):
    scripted.push(refusal(403, "AuthorizationPermissionMismatch"))
    with pytest.raises(obs.PermissionDeniedError, match="Storage Blob Delegator"):
        obs.sign(store_of(scripted, token="tok"), "GET", "k", timedelta(hours=1))


# ---- hierarchical namespaces, versions, customer's keys ---------------------------------------------------------------


def test_directories_are_no_objects(scripted: ScriptedServer):
    # "Get Blob Properties": x-ms-resource-type of accounts with a hierarchical namespace.
    store = store_of(scripted)
    directory = {**MODIFIED, "x-ms-resource-type": "directory", "content-length": "0"}
    scripted.push_response(200, directory, content_length=0)
    scripted.push_response(200, directory)
    with pytest.raises(obs.NotFoundError, match="Not a file, got x-ms-resource-type: directory"):
        obs.head(store, "dir")
    with pytest.raises(obs.NotFoundError, match="Not a file"):
        obs.get(store, "dir")


def test_list_pages(scripted: ScriptedServer):
    # "List Blobs": markers, names that XML cannot hold, directories; startFrom is inclusive.
    def page(blobs: str, marker: str = "") -> Reply:
        body = (
            '\ufeff<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://acct.blob.core.windows.net/" '
            f'ContainerName="cont"><Prefix>p/</Prefix><Blobs>{blobs}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>'
        )
        return Reply(200, {"content-type": "application/xml"}, body.encode())

    def blob(name: str, kind: str = "file", attributes: str = "") -> str:
        return (
            f"<Blob><Name{attributes}>{name}</Name><Properties><Last-Modified>Sun, 06 Nov 1994 08:49:37 GMT</Last-Modified>"
            f"<Etag>0x8D</Etag><Content-Length>3</Content-Length><ResourceType>{kind}</ResourceType></Properties></Blob>"
        )

    scripted.push(
        page(blob("p/a") + blob("p/b") + blob("p/d", "directory"), "2!8!bQ--"),
        page("", "2!9!x"),  # pages may be empty, and the listing goes on
        page(blob("p/%EF%BF%BE", attributes=' Encoded="true"')),
    )
    store = store_of(scripted, prefix="p")
    found = obs.list(store, offset="a").collect()
    assert [entry["path"] for entry in found] == ["b", "\ufffe"]
    assert found[0]["e_tag"] == '"0x8D"'
    first, second, third = scripted.requests
    assert first.target == "/cont?restype=container&comp=list&prefix=p%2F&startFrom=p%2Fa"
    assert second.target == "/cont?restype=container&comp=list&prefix=p%2F&marker=2%218%21bQ--"
    assert third.target.endswith("marker=2%219%21x")


def test_versions(scripted: ScriptedServer):
    version = "2026-01-01T00:00:00.0000000Z"
    store = store_of(scripted)
    scripted.push(Reply(201, {**MODIFIED, "x-ms-version-id": version}), Reply(200, MODIFIED, b"old"))
    assert obs.put(store, "k", b"x")["version"] == version
    assert obs.get(store, "k", options={"version": version}).bytes() == b"old"
    assert scripted.requests[1].target == "/cont/k?versionid=2026-01-01T00%3A00%3A00.0000000Z"
    assert "&sr=bv&" in obs.sign(store, "GET", "k", timedelta(hours=1), version=version)


@pytest.mark.parametrize("credential", [{}, {"token": "tok"}, {"sas_key": "sv=1&sig=s"}])
def test_customers_keys(scripted: ScriptedServer, credential: dict[str, str]):
    # "Provide an encryption key on a request"; copies by "Put Blob From URL".
    store = store_of(scripted, encryption_key=CUSTOMER_KEY, **credential)
    scripted.handler = lambda request: Reply(
        200 if request.method == "GET" else 201, {**MODIFIED, "x-ms-copy-status": "success"}, b"x" * 4
    )
    obs.put(store, "k", b"x" * 4)
    obs.put(store, "k", b"x" * 4, use_multipart=True, chunk_size=2)
    assert obs.get(store, "k").bytes() == b"x" * 4
    obs.copy(store, "k", "to")
    for request in scripted.requests:
        assert request.headers["x-ms-encryption-key"] == CUSTOMER_KEY
        assert request.headers["x-ms-encryption-algorithm"] == "AES256"
        assert len(base64.b64decode(request.headers["x-ms-encryption-key-sha256"])) == 32
    copy = scripted.requests[-1].headers
    assert copy["x-ms-version"] == "2026-02-06"
    assert copy["x-ms-source-encryption-key"] == CUSTOMER_KEY
    assert ("sig=" in copy["x-ms-copy-source"]) is ("token" not in credential)
    assert copy.get("x-ms-copy-source-authorization") == ("Bearer tok" if "token" in credential else None)
    assert scripted.requests[0].headers["x-ms-version"] == "2023-11-03"


def test_update_and_create_conflicts(scripted: ScriptedServer):
    store = store_of(scripted)
    for status, code, mode, kind in [
        (409, "BlobAlreadyExists", "create", obs.AlreadyExistsError),
        (412, "ConditionNotMet", "create", obs.AlreadyExistsError),
        (412, "ConditionNotMet", {"e_tag": '"x"'}, obs.PreconditionError),
        (404, "BlobNotFound", {"e_tag": '"x"'}, obs.PreconditionError),
    ]:
        scripted.push(refusal(status, code))
        with pytest.raises(kind):
            obs.put(store, "k", b"x", mode=mode)


# ---- the Planetary Computer: planetarycomputer.microsoft.com/docs/concepts/sas ----------------------------------------


def test_planetary_computer(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".planetarycomputer").mkdir()
    (tmp_path / ".planetarycomputer" / "settings.env").write_text('# mine\nPC_SDK_SUBSCRIPTION_KEY = "abc"\n')
    answer = b'{"msft:expiry": "2036-01-01T00:00:00Z", "token": "sv=1&sig=s%2B"}'
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{scripted.url}/token/")
    url = "https://acct.blob.core.windows.net/cont/the/prefix"
    for kind in (PlanetaryComputerCredentialProvider, PlanetaryComputerAsyncCredentialProvider):
        provider = kind(url)
        assert provider.config == {"account_name": "acct", "container_name": "cont"}
        store = AzureStore(credential_provider=provider, endpoint=scripted.url, client_options={"allow_http": True})
        assert store.prefix == "the/prefix"
        assert pickle.loads(pickle.dumps(store)) == store
        scripted.push(Reply(200, body=answer), Reply(200, MODIFIED, b"data"))
        assert asyncio.run(_read(store)) == b"data"
        token, get = scripted.requests[-2:]
        assert token.target == "/token/acct/cont"
        assert token.headers["user-agent"].startswith("obstore-v")
        assert token.headers["ocp-apim-subscription-key"] == "abc"
        assert get.target == "/cont/the/prefix/k?sv=1&sig=s%2B"


async def _read(store: AzureStore) -> bytes:
    return bytes(await (await store.get_async("k")).bytes_async())


def test_planetary_computer_refusal_is_told(scripted: ScriptedServer):
    provider = PlanetaryComputerCredentialProvider(
        account_name="acct", container_name="cont", sas_url=f"{scripted.url}/token"
    )
    scripted.push(Reply(404, body=b'{"detail": "Container not found"}'))
    with pytest.raises(obs.UnauthenticatedError, match="404 Container not found; check account and container"):
        provider()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Must pass both container_name and account_name when url is not passed."),
        ({"account_name": "a"}, "Must pass both"),
        ({"url": "abfs://c/p"}, "account_name must be passed for abfs urls."),
        (
            {"url": "https://a.blob.core.windows.net/c", "container_name": "c"},
            "Cannot pass container_name when passing url.",
        ),
        (
            {"url": "https://a.blob.core.windows.net/c", "account_name": "a"},
            "Cannot pass account_name when passing HTTPS blob storage url.",
        ),
        ({"url": "https://example.org/c"}, "Invalid blob URL"),
        ({"url": "https://a.blob.core.windows.net/"}, "Invalid blob URL"),
    ],
)
def test_planetary_computer_arguments(arguments: dict[str, str], text: str):
    with pytest.raises(ValueError, match=re.escape(text)):
        PlanetaryComputerCredentialProvider(**arguments)


def test_planetary_computer_asset():
    asset = {"href": "abfs://cont/a/b", "xarray:storage_options": {"account_name": "acct"}}
    provider = PlanetaryComputerCredentialProvider.from_asset(asset)
    assert (provider.config, provider.prefix) == ({"account_name": "acct", "container_name": "cont"}, "a/b")
