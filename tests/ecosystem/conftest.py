"""Where the programs of others meet ours: stores of every nature as they are named to fsspec."""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fix_stores import make_subject


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of this room is run on request, by ``make ecosystem``."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ecosystem)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine functions, of which zarr's suite consists, each on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@dataclass
class Place:
    """An empty place to write to.

    Attributes:
        kind: ``local``, ``memory``, ``s3`` ...
        root: its URL, without a slash at the end.
        options: ``storage_options`` with which fsspec reaches it.
        store: the store at the root.
        bare: the root as our file system shows it.
    """

    kind: str
    root: str
    options: dict[str, Any]
    store: Any
    bare: str
    more: dict[str, Any] = field(default_factory=dict)

    def fs(self, **kwargs: Any) -> Any:
        """The file system, a new one."""
        from obstore.fsspec import FsspecStore

        return FsspecStore(self.root.partition("://")[0], **self.options, **kwargs, skip_instance_cache=True)


def make_place(kind: str, request: pytest.FixtureRequest) -> Place:
    from obstore._fsspec.paths import shared_memory
    from obstore.store import LocalStore, S3Store

    if kind == "local":
        root = request.getfixturevalue("tmp_path") / "place"
        root.mkdir()
        return Place(kind, f"file://{root}", {}, LocalStore(root), str(root))
    if kind == "memory":
        name = f"m-{secrets.token_hex(6)}"
        return Place(kind, f"memory://{name}", {}, shared_memory(), name)
    if kind in ("gcs", "azure"):
        return cloud_place(kind, request)
    subject = make_subject("moto_gunicorn", request)
    assert subject.endpoint is not None
    endpoint = subject.endpoint
    options = {
        "key": endpoint.access_key_id,
        "secret": endpoint.secret_access_key,
        "endpoint_url": endpoint.url,
        "client_kwargs": {"region_name": endpoint.region},
    }
    store = S3Store(**endpoint.config(subject.bucket))
    return Place(kind, f"s3://{subject.bucket}", options, store, subject.bucket, {"endpoint": endpoint})


def cloud_place(kind: str, request: pytest.FixtureRequest) -> Place:
    """Google's or Azure's, on their emulators, under the option names of gcsfs and adlfs."""
    subject: Any = make_subject({"gcs": "fake_gcs", "azure": "azurite"}[kind], request)
    endpoint = subject.endpoint
    if kind == "gcs":
        options = {"endpoint_url": endpoint.url, "token": "anon"}
        return Place(kind, f"gs://{subject.bucket}", options, subject.store, subject.bucket)
    text = f"DefaultEndpointsProtocol=http;AccountName={endpoint.account};AccountKey={endpoint.key};BlobEndpoint={endpoint.url};"
    return Place(kind, f"abfs://{subject.bucket}", {"connection_string": text}, subject.store, subject.bucket)


CLOUDS = ["gcs", pytest.param("azure", marks=pytest.mark.node)]


@pytest.fixture(params=["local", "s3"])
def place(request: pytest.FixtureRequest) -> Place:
    """Local disk and a real S3 server in turn."""
    return make_place(request.param, request)


@pytest.fixture(params=["local", "memory", "s3"])
def any_place(request: pytest.FixtureRequest) -> Place:
    """Every nature of store in turn."""
    return make_place(request.param, request)


@pytest.fixture
def registered() -> Iterator[None]:
    """Ours are the file systems of s3:// and file:// until the test is over."""
    from fsspec.registry import _registry

    from obstore.fsspec import register

    before = dict(_registry)
    register()
    register(["file", "memory"])
    yield
    _registry.clear()
    _registry.update(before)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A local directory beside the place."""
    path = tmp_path / "scratch"
    path.mkdir()
    return path
