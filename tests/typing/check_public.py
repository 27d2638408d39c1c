"""The types that users see: checked by mypy and pyright, never run.

``assert_type`` fails the check where the type is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import assert_type

import obstore as obs
from obstore import Bytes, BytesStream, GetResult, ListResult, ListStream, ObjectMeta, PresignedPost, PutResult
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, ObjectStore, S3Store


def stores(root: Path) -> list[ObjectStore]:
    assert_type(S3Store.from_env("bucket"), S3Store)
    return [
        S3Store("bucket", region="us-east-1", client_options={"allow_http": True, "timeout": timedelta(seconds=5)}),
        S3Store(bucket="bucket", retry_config={"max_retries": 2}),
        AzureStore("container", account_name="account", account_key="a2V5", client_options={"allow_http": True}),
        AzureStore.from_url("az://container/prefix", config={"account_name": "account", "use_azure_cli": True}),
        AzureStore(credential_provider=lambda: {"sas_token": "sig=x", "expires_at": None}, container_name="c"),
        GCSStore("bucket", service_account="key.json", client_options={"timeout": "10s"}),
        GCSStore.from_url("gs://bucket/prefix", config={"skip_signature": True}, user_project="project"),
        LocalStore(root, mkdir=True),
        LocalStore("/somewhere"),
        MemoryStore(),
    ]


def reading(store: ObjectStore) -> None:
    result = obs.get(store, "key", options={"range": (0, 10), "if_match": "etag"})
    assert_type(result, GetResult)
    assert_type(result.meta, ObjectMeta)
    assert_type(result.meta["size"], int)
    assert_type(result.meta["last_modified"], datetime)
    assert_type(result.meta["e_tag"], str | None)
    assert_type(result.bytes(), Bytes)
    stream = result.stream(min_chunk_size=1024)
    assert_type(stream, BytesStream)
    for chunk in stream:
        assert_type(chunk, bytes)
    assert_type(obs.get_range(store, "key", start=0, end=4), Bytes)
    assert_type(obs.get_range(store, "key", offset=0, length=4), Bytes)
    assert_type(obs.get_range(store, "key", start=0, length=4, into=bytearray(4)), int)
    assert_type(obs.get_ranges(store, "key", starts=[0], ends=[4]), list[Bytes])
    assert_type(obs.head(store, "key"), ObjectMeta)


def writing(store: ObjectStore, path: Path) -> None:
    assert_type(obs.put(store, "key", b"bytes"), PutResult)
    assert_type(obs.put(store, "key", path, mode="create")["e_tag"], str | None)
    obs.put(store, "key", (b"part" for _ in range(3)), attributes={"Content-Type": "text/plain"}, tags={"a": "b"})
    obs.put(store, "key", memoryview(b"view"), mode={"e_tag": "x"})
    with path.open("rb") as file:
        obs.put(store, "key", file)
    assert_type(obs.delete(store, ["a", "b"]), None)
    assert_type(obs.copy(store, "a", "b", overwrite=False), None)
    assert_type(obs.rename(store, "a", "b"), None)


def listing(store: ObjectStore) -> None:
    for item in obs.list(store, prefix="a"):
        assert_type(item["path"], str)
        assert_type(item["size"], int)
    for batch in obs.list(store, chunk_size=10):
        assert_type(batch, list[ObjectMeta])
    level = obs.list_with_delimiter(store, prefix="a")
    assert_type(level, ListResult[Sequence[ObjectMeta]])
    assert_type(level["common_prefixes"], Sequence[str])


def signing(store: ObjectStore) -> None:
    hour = timedelta(hours=1)
    assert_type(obs.sign(store, "GET", "key", hour), str)
    assert_type(obs.sign(store, "PUT", ["a", "b"], hour, headers={"Content-Type": "text/plain"}), list[str])
    assert_type(store.sign("GET", "key", expires_in=hour, version="1", response_content_type="text/plain"), str)
    assert_type(obs.generate_presigned_post(store, "key", hour, conditions=[["eq", "$acl", "private"]]), PresignedPost)


async def asynchronous(store: ObjectStore) -> None:
    result = await obs.get_async(store, "key")
    assert_type(result, GetResult)
    assert_type(await result.bytes_async(), Bytes)
    async for chunk in result.stream():
        assert_type(chunk, bytes)
    assert_type(await obs.put_async(store, "key", b"bytes"), PutResult)
    assert_type(await obs.head_async(store, "key"), ObjectMeta)
    assert_type(await obs.get_range_async(store, "key", start=0, end=4), Bytes)
    assert_type(await obs.delete_async(store, "key"), None)
    async for item in obs.list(store):
        assert_type(item["path"], str)


def methods(store: S3Store) -> None:
    assert_type(store.get("key"), GetResult)
    assert_type(store.head("key"), ObjectMeta)
    assert_type(store.put("key", b"bytes"), PutResult)
    stream = store.list(prefix="a")
    for item in stream:
        assert_type(item["path"], str)
    assert isinstance(stream, ListStream)


def errors(store: ObjectStore) -> str | None:
    try:
        obs.head(store, "key")
    except obs.NotFoundError as error:
        assert_type(error.key, str | None)
        assert_type(error.status, int | None)
        return error.hint
    return None
