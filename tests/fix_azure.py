"""Fixtures: Azure's servers, and the subject of the contract suite on them."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fix_stores import LACKS, Subject
from tests.servers.azurite import AzureEndpoint, Azurite
from tests.servers.entra import Entra, Metadata
from tests.servers.tls import Authority

# The judge names its requests by it, and the first call leaves a file open for good: before any test looks for leaks.
uuid.uuid1()


class AzureSubject(Subject):
    """An `AzureStore`; the judge is a container client of azure-storage-blob, by the account's key.

    Attributes:
        credentials: of the store, as keyword arguments.
    """

    endpoint: AzureEndpoint  # type: ignore[assignment]
    credentials: dict[str, str]

    @property
    def url(self) -> str:
        return self.endpoint.url

    def sibling(self, **config: Any) -> Any:
        from obstore.store import AzureStore

        base = {**self.endpoint.anonymous_config(self.bucket), **self.credentials}
        client = {**base.pop("client_options"), **config.pop("client_options", {})}
        return AzureStore(**{**base, **config}, client_options=client)

    def judge_get(self, key: str) -> dict[str, Any]:
        """What the judge reads, under the names that boto3 has."""
        blob = self.judge.get_blob_client(key)
        download = blob.download_blob()
        settings = download.properties.content_settings
        return {
            "Body": download.readall(),
            "Metadata": download.properties.metadata,
            "ETag": download.properties.etag,
            "ContentType": settings.content_type,
            "ContentEncoding": settings.content_encoding,
            "ContentLanguage": settings.content_language,
            "ContentDisposition": settings.content_disposition,
            "CacheControl": settings.cache_control,
        }

    def judge_put(self, key: str, body: bytes, **kwargs: Any) -> None:
        assert not kwargs
        self.judge.upload_blob(key, body, overwrite=True)

    def judge_keys(self) -> list[str]:
        return [blob.name for blob in self.judge.list_blobs()]

    def judge_uploads(self) -> list[str]:
        """Objects of which there are blocks only."""
        return [blob.name for blob in self.judge.list_blobs(include=["uncommittedblobs"]) if blob.etag is None]


def make_azure_subject(kind: str, request: pytest.FixtureRequest) -> AzureSubject:
    """The subject on a new container: by Shared Key, or, where the server has TLS, by tokens of an application."""
    from obstore.store import AzureStore

    endpoint = request.getfixturevalue(kind).endpoint
    judge = request.getfixturevalue("azure_judges")(endpoint)
    credentials = {"account_key": endpoint.key}
    if kind == "azurite_tls":
        credentials = request.getfixturevalue("entra").application
    container = f"c-{secrets.token_hex(8)}"
    subject = AzureSubject(
        kind,
        AzureStore(**endpoint.anonymous_config(container), **credentials),
        LACKS[kind],
        endpoint=endpoint,
        bucket=container,
        judge=judge.create_container(container),
    )
    subject.credentials = credentials
    return subject


@pytest.fixture(scope="session")
def azure_judges() -> Iterator[Callable[[AzureEndpoint], Any]]:
    """One azure-storage-blob client for each endpoint."""
    clients: dict[AzureEndpoint, Any] = {}

    def client(endpoint: AzureEndpoint) -> Any:
        if endpoint not in clients:
            clients[endpoint] = endpoint.client()
        return clients[endpoint]

    yield client
    for made in clients.values():
        made.close()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    with Azurite() as server:
        yield server


@pytest.fixture(scope="session")
def azurite_tls(authority: Authority) -> Iterator[Azurite]:
    """With TLS and OAuth."""
    with Azurite(authority) as server:
        yield server


@pytest.fixture(scope="session")
def entra(authority: Authority) -> Iterator[Entra]:
    """Microsoft Entra's token endpoint."""
    with Entra(authority) as server:
        yield server


@pytest.fixture
def metadata(entra: Entra) -> Iterator[Metadata]:
    """Metadata services that hand out Entra's tokens."""
    with Metadata(entra.token) as server:
        yield server
