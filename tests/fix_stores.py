"""Fixtures: stores under test, with what each server is known to lack, and the faces of the API.

A lacking capability never skips a test: tests ask ``subject.lacks`` and then expect the typed error instead.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.s3 import S3Endpoint

if TYPE_CHECKING:
    from obstore import PutResult
    from obstore.store import ObjectStore

# What no WebDAV server has, or none of those at hand.
_DAV = frozenset({"tags", "any_key", "missing_delete", "parts", "kept_attributes", "atomic_create"})

LACKS: dict[str, frozenset[str]] = {
    # update: replacing a version with put(mode={"e_tag": ...}); attributes: anything stored beside the bytes;
    # tags: storing them; tags_refused: the server answers 501 to them rather than ignoring them;
    # any_key: keys with //, ., .. or a trailing slash; order: listings in key order;
    # copy_create: copy and rename with overwrite=False, without further configuration;
    # complete_create: a condition on the completion of a multipart upload;
    # complete_e_tag: the ETag in the answer to that completion, which Ceph leaves empty;
    # missing_delete: deleting what is not there goes unnoticed; atomic_create: one winner among concurrent creates;
    # copy_condition: the server takes the condition of a copy that must not overwrite, and does not look at it;
    # range_at_end: a range that begins at the end is refused, instead of being answered by 206 and a Content-Range of nothing;
    # backslash: keys with backslashes, which Azure takes for slashes;
    # parts: uploads in parts, as their ETag shows; kept_attributes: attributes are sent, and the server keeps none;
    # attributes_refused: the server answers 501 to some of them; conditions: it ignores some of a GET; list_e_tag: ETags in listings;
    # strong_e_tag: ETags that If-Match may name, which Apache has a second after the write only;
    # dot_names: listings of names that begin with a dot; long_names: names of 255 bytes.
    "memory": frozenset({"tags", "any_key"}),
    "local": frozenset({"update", "attributes", "tags", "any_key", "order", "missing_delete"}),
    "swift": frozenset({"update", "tags", "tags_refused", "copy_create", "atomic_create"}),
    "moto_auth": frozenset({"copy_create"}),
    "moto_gunicorn": frozenset({"copy_create"}),
    "localstack": frozenset({"copy_create"}),
    # Ceph compares the quoted If-Match of a PUT with its unquoted ETag, so the right one never matches.
    "ceph": frozenset({"update", "copy_create", "complete_create", "complete_e_tag"}),
    # It looks at generations when it takes uploads, and there only. The JSON API's ETags do not show parts.
    "fake_gcs": frozenset({"copy_condition", "missing_delete", "parts", "tags"}),
    **dict.fromkeys(("azurite", "azurite_tls"), frozenset({"missing_delete", "parts", "range_at_end", "backslash"})),
    "webdav": _DAV | {"attributes_refused"},
    "apache": _DAV | {"strong_e_tag"},
    "nginx": _DAV | {"list_e_tag", "dot_names"},
    "lighttpd": _DAV | {"long_names", "conditions"},
}

AZURE_KINDS = [
    pytest.param("azurite", marks=pytest.mark.node),
    pytest.param("azurite_tls", marks=pytest.mark.node),
]
S3_KINDS = [
    "swift",
    "moto_auth",
    "moto_gunicorn",
    pytest.param("ceph", marks=pytest.mark.ceph),
    pytest.param("localstack", marks=pytest.mark.localstack),
]
DAV_KINDS = [
    "webdav",
    pytest.param("apache", marks=pytest.mark.webservers),
    pytest.param("nginx", marks=pytest.mark.webservers),
    pytest.param("lighttpd", marks=pytest.mark.webservers),
]
ALL_KINDS = ["memory", "local", *S3_KINDS, *AZURE_KINDS, "fake_gcs", *DAV_KINDS]

# Faces do not depend on the server: one of each nature sees them all, the slow servers one or two.
FACES = ["sync", "asyncio", "uvloop"]
FACES_OF = {
    "swift": {"sync", "asyncio"},
    "fake_gcs": {"sync", "asyncio"},
    "webdav": {"sync", "asyncio"},
    "moto_auth": {"sync"},
    "ceph": {"sync"},
    "localstack": {"sync"},
    "azurite": {"sync", "asyncio"},
    "azurite_tls": {"sync"},
    "apache": {"sync"},
    "nginx": {"sync"},
    "lighttpd": {"sync"},
}


def is_wanted(parameters: dict[str, object]) -> bool:
    """Whether a test of these parameters is in the matrix of stores and faces."""
    kind = parameters.get("subject", parameters.get("s3"))
    faces = FACES_OF.get(str(kind), FACES)
    return parameters.get("face", "sync") in faces


@dataclass
class Subject:
    """A store under test and all that a test may want to know of it.

    Attributes:
        kind: name of the kind: memory, local, swift, moto_auth ...
        store: the store, empty.
        lacks: capabilities that the server behind it does not have.
        root: directory of a local store.
        endpoint, bucket: of an S3 store.
        judge: boto3 client on the same bucket, to look at what really is there.
    """

    kind: str
    store: ObjectStore
    lacks: frozenset[str]
    root: Path | None = None
    endpoint: S3Endpoint | None = None
    bucket: str = ""
    judge: Any = None
    versioned = False
    """Whether every object has a version, without the bucket being told to keep old ones."""

    @property
    def remote(self) -> bool:
        """Whether a server is behind the store."""
        return self.endpoint is not None

    @property
    def url(self) -> str:
        """Of the server, or what of it all requests begin with."""
        assert self.endpoint is not None
        return self.endpoint.url

    def e_tag_of(self, result: PutResult, key: str) -> str | None:
        """The ETag that a put returned; that of the object where the server has none to return."""
        import obstore

        if result["e_tag"] is None and "complete_e_tag" in self.lacks:
            return obstore.head(self.store, key)["e_tag"]
        return result["e_tag"]

    def sibling(self, **config: Any) -> ObjectStore:
        """Another S3 store on the same bucket with other settings; ``client_options`` are merged."""
        from obstore.store import S3Store

        assert self.endpoint is not None
        base = self.endpoint.config(self.bucket)
        client = {**base.pop("client_options"), **config.pop("client_options", {})}
        return S3Store(**{**base, **config}, client_options=client)

    def judge_get(self, key: str) -> dict[str, Any]:
        """What boto3 reads at ``key``; the body under ``Body`` as bytes."""
        answer = self.judge.get_object(Bucket=self.bucket, Key=key)
        with answer["Body"] as body:
            return {**answer, "Body": body.read()}

    def judge_put(self, key: str, body: bytes, **kwargs: Any) -> None:
        """Have boto3 write ``key``."""
        self.judge.put_object(Bucket=self.bucket, Key=key, Body=body, **kwargs)

    def judge_keys(self) -> list[str]:
        """All keys that boto3 lists, in its order."""
        pages = self.judge.get_paginator("list_objects_v2").paginate(Bucket=self.bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def judge_uploads(self) -> list[str]:
        """Keys with an unfinished multipart upload."""
        return [u["Key"] for u in self.judge.list_multipart_uploads(Bucket=self.bucket).get("Uploads", ())]


def make_subject(kind: str, request: pytest.FixtureRequest) -> Subject:
    """The subject of this kind, empty: a new bucket, directory or memory."""
    from obstore.store import LocalStore, MemoryStore, S3Store

    if kind == "memory":
        return Subject(kind, MemoryStore(), LACKS[kind])
    if kind == "local":
        root = request.getfixturevalue("tmp_path") / "store"
        root.mkdir()
        return Subject(kind, LocalStore(root), LACKS[kind], root=root)
    server = request.getfixturevalue(kind)
    if kind == "fake_gcs":
        from tests.fix_gcs import make_gcs_subject  # which is made of what stands here

        return make_gcs_subject(kind, server)
    if kind in ("azurite", "azurite_tls"):
        from tests.fix_azure import make_azure_subject

        return make_azure_subject(kind, request)
    if kind in ("webdav", "apache", "nginx", "lighttpd"):
        from tests.fix_dav import make_dav_subject

        return make_dav_subject(kind, server)
    judge = request.getfixturevalue("judges")(server.endpoint)
    bucket = f"b-{secrets.token_hex(8)}"
    judge.create_bucket(Bucket=bucket)
    store = S3Store(**server.endpoint.config(bucket))
    return Subject(kind, store, LACKS[kind], endpoint=server.endpoint, bucket=bucket, judge=judge)


@pytest.fixture(scope="session")
def judges() -> Iterator[Callable[[S3Endpoint], Any]]:
    """One boto3 client for each endpoint."""
    clients: dict[S3Endpoint, Any] = {}

    def client(endpoint: S3Endpoint) -> Any:
        if endpoint not in clients:
            clients[endpoint] = endpoint.client()
        return clients[endpoint]

    yield client
    for made in clients.values():
        made.close()


@pytest.fixture(params=ALL_KINDS)
def subject(request: pytest.FixtureRequest) -> Subject:
    """Every kind of store in turn."""
    return make_subject(request.param, request)


@pytest.fixture(params=S3_KINDS)
def s3(request: pytest.FixtureRequest) -> Subject:
    """Every S3 server in turn."""
    return make_subject(request.param, request)


@pytest.fixture(params=["memory", "local", "moto_gunicorn"])
def quick(request: pytest.FixtureRequest) -> Subject:
    """One store of each nature, for tests of what does not depend on the server."""
    return make_subject(request.param, request)


class Face:
    """One way into the API: ``face.get(store, "key")`` calls the function or method and returns its result.

    The asynchronous faces keep one event loop for the whole test, since results are read on the loop they came from.
    """

    is_async = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import obstore

        return getattr(obstore, name)

    def run(self, make: Callable[[], Awaitable[Any]] | Callable[[], Any]) -> Any:
        """Call ``make`` and, if it returns an awaitable, await it; on the loop where there is one."""
        return make()

    def body(self, result: Any) -> bytes:
        """The whole body of a ``GetResult``."""
        return bytes(result.bytes())

    def chunks(self, result: Any, size: int | None = None) -> list[bytes]:
        """The chunks that ``stream()`` yields."""
        return list(result if size is None else result.stream(min_chunk_size=size))

    def items(self, stream: Any) -> list[Any]:
        """What iterating a ``ListStream`` yields."""
        return list(stream)

    def collect(self, stream: Any) -> Any:
        return stream.collect()

    def close(self) -> None:
        """Nothing to close."""


class AsyncFace(Face):
    """The asynchronous functions or methods, on one event loop."""

    is_async = True

    def __init__(self, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None, *, methods: bool) -> None:
        self._runner = asyncio.Runner(loop_factory=loop_factory)
        self._methods = methods

    def __getattr__(self, name: str) -> Callable[..., Any]:
        import obstore

        if name == "list":
            return self._list

        def call(store: Any, *args: Any, **kwargs: Any) -> Any:
            if self._methods and hasattr(store, f"{name}_async"):
                return self.run(lambda: getattr(store, f"{name}_async")(*args, **kwargs))
            return self.run(lambda: getattr(obstore, f"{name}_async")(store, *args, **kwargs))

        return call

    def _list(self, store: Any, *args: Any, **kwargs: Any) -> Any:
        import obstore

        return self.run(lambda: obstore.list(store, *args, **kwargs))

    def run(self, make: Callable[[], Any]) -> Any:
        async def main() -> Any:
            made = make()
            return await made if inspect.isawaitable(made) else made

        return self._runner.run(main())

    def body(self, result: Any) -> bytes:
        return bytes(self.run(result.bytes_async))

    def chunks(self, result: Any, size: int | None = None) -> list[bytes]:
        async def main() -> list[bytes]:
            return [chunk async for chunk in (result if size is None else result.stream(min_chunk_size=size))]

        return self.run(main)

    def items(self, stream: Any) -> list[Any]:
        async def main() -> list[Any]:
            return [item async for item in stream]

        return self.run(main)

    def collect(self, stream: Any) -> Any:
        return self.run(stream.collect_async)

    def close(self) -> None:
        self._runner.close()


def make_face(name: str) -> Face:
    """``sync``: functions; ``asyncio``: functions on asyncio; ``uvloop``: methods of the store on uvloop."""
    if name == "sync":
        return Face()
    if name == "asyncio":
        return AsyncFace(None, methods=False)
    import uvloop

    return AsyncFace(uvloop.new_event_loop, methods=True)


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    """Every way into the API in turn."""
    made = make_face(request.param)
    yield made
    made.close()
