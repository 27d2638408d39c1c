"""Every Python example in the README and the guides runs as written and prints what its comments say.

The blocks of one file run in order in one namespace, in an empty directory. ``S3Store("my-bucket")`` is a bucket of a
real server, which the examples find the way a user's program finds AWS: through the environment; so are ``GCSStore("my-bucket")`` and
``AzureStore("my-container")``. A comment after
``print(...)`` is what the call must print.
"""

from __future__ import annotations

import inspect
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.azurite import Azurite
from tests.servers.gcs import FakeGCS
from tests.servers.moto import MotoGunicorn

ROOT = Path(__file__).parents[2]
# Their examples need packages that only `make ecosystem` installs, and are run by it.
ECOSYSTEM_PAGES = [ROOT / "docs" / name for name in ("ecosystem.md", "fsspec.md", "migrate-s3fs.md")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BUCKET = "my-bucket"

_FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# On one line, or as the formatter breaks it: the comment then follows the closing bracket.
_PRINT = re.compile(r"^[ \t]*print\((?:.*?\)|\n(?:[ \t]+.*\n)*?[ \t]*\))(?:  # (.*))?$", re.MULTILINE)


def python_blocks(page: Path) -> list[tuple[int, str]]:
    """Line number and source of each Python example of a page."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, found.start(1)) + 1, found[1]) for found in _FENCE.finditer(text)]


def promised_output(source: str) -> list[str]:
    """What the comments say will be printed; a print without such a comment is a mistake in the page."""
    promised = [found[1] for found in _PRINT.finditer(source)]
    assert all(promised), "an example prints something without saying what"
    return promised


@pytest.fixture
def aws(moto_gunicorn: MotoGunicorn, judges: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which ``S3Store("my-bucket")`` is an empty bucket on moto, and nothing else is configured."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    endpoint = moto_gunicorn.endpoint
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex(8))
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    judge = judges(endpoint)
    if BUCKET in [bucket["Name"] for bucket in judge.list_buckets()["Buckets"]]:
        for page in judge.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for entry in page.get("Contents", ()):
                judge.delete_object(Bucket=BUCKET, Key=entry["Key"])
    else:
        judge.create_bucket(Bucket=BUCKET)


@pytest.fixture
def google(fake_gcs: FakeGCS, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which ``GCSStore("my-bucket")`` is a bucket on fake-gcs-server."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_gcs.endpoint.url)
    if fake_gcs.endpoint.call("GET", f"/storage/v1/b/{BUCKET}")[0] != 200:
        fake_gcs.endpoint.create_bucket(BUCKET)


@pytest.fixture
def azure(azurite: Azurite, azure_judges: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which ``AzureStore("my-container")`` is a container on Azurite."""
    end = azurite.endpoint
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", end.url)
    monkeypatch.setenv("AZURE_STORAGE_KEY", end.key)
    monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
    container = azure_judges(end).get_container_client("my-container")
    if not container.exists():
        container.create_container()


@pytest.fixture
def networks(request: pytest.FixtureRequest, page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the pages about HTTP and networks find: a WebDAV server in ``DAV_URL``, a certificate in ``private-ca.pem``."""
    if page.name == "http.md":
        endpoint = request.getfixturevalue("webdav").endpoint
        url = f"{endpoint.url}/{endpoint.new_directory()}"
        monkeypatch.setenv("DAV_URL", url.replace("://", f"://{endpoint.user}@"))
    if page.name == "networks.md":
        (tmp_path / "private-ca.pem").write_bytes(request.getfixturevalue("authority").pem)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.node if page.name == "azure.md" else ())
        for page in PAGES
        if page not in ECOSYSTEM_PAGES
    ],
    ids=lambda page: page.name,
)
@pytest.mark.usefixtures("aws", "google", "networks")
def test_examples_run_as_written(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    if page.name == "azure.md":
        request.getfixturevalue("azure")
    monkeypatch.chdir(tmp_path)
    run_page(page, capsys)


def run_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Run the examples of a page in the current directory."""
    blocks = python_blocks(page)
    assert blocks, f"{page.name} has no example"
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, source in blocks:
        code = compile("\n" * (line - 1) + source, str(page), "exec")  # tracebacks name the page's own line
        exec(code, namespace)  # noqa: S102 - our own pages
        assert capsys.readouterr().out.splitlines() == promised_output(source), f"{page.name}:{line}"


def test_links_lead_somewhere() -> None:
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_public_function_has_an_example() -> None:
    """The page of functions leaves none out, nor any twin."""
    import obstore

    functions = {name for name in obstore.__all__ if inspect.isfunction(getattr(obstore, name))}
    source = "".join(block for _, block in python_blocks(ROOT / "docs" / "functions.md"))
    assert functions - set(re.findall(r"obs\.(\w+)\(", source)) == set()
