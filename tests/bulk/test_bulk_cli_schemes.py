"""Every command on every kind of place that it can name: what works on one works on all, or says at once that it cannot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from obstore._cli.main import run
from tests.fix_stores import make_subject

Shell = Callable[..., tuple[int, str, str]]


@dataclass
class Site:
    """A place of one kind, empty.

    Attributes:
        kind: of it.
        root: its URL, with a slash at the end.
        options: that reach it.
        shown: what names in listings begin with, below the root's own.
    """

    kind: str
    root: str
    options: list[str]
    shown: str = ""

    @property
    def level(self) -> str:
        """What the names of one level begin with: those of a directory are its own."""
        return "" if self.is_local else self.shown

    @property
    def is_local(self) -> bool:
        return self.kind in ("file", "path")


@pytest.fixture(
    params=["moto_gunicorn", "fake_gcs", pytest.param("azurite", marks=pytest.mark.node), "webdav", "file", "path"]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """All settings are options: the environment says nothing."""
    kind = request.param
    if kind in ("file", "path"):
        root = tmp_path / "a directory"
        root.mkdir()
        return Site(kind, f"{root.as_uri() if kind == 'file' else root}/", [], f"{root}/")
    subject = make_subject(kind, request)
    endpoint: Any = subject.endpoint
    if kind == "moto_gunicorn":
        given = tmp_path / "settings"
        given.write_text(
            f"# of the test server\naccess_key_id={endpoint.access_key_id}\n\n"
            f"s3:secret_access_key={endpoint.secret_access_key}\n"
        )
        options = [f"--endpoint={endpoint.url}", f"--region={endpoint.region}", f"--config-file={given}"]
        return Site(kind, f"s3://{subject.bucket}/", options)
    if kind == "fake_gcs":
        return Site(kind, f"gs://{subject.bucket}/", [f"--endpoint={subject.url}", "--no-sign-request"])
    if kind == "azurite":
        config = endpoint.config(subject.bucket)
        options = [f"--config=az:{name}={config[name]}" for name in ("account_name", "account_key", "endpoint")]
        return Site(kind, f"az://{subject.bucket}/", options)
    assert subject.root is not None
    subject.root.mkdir(parents=True)
    server = request.getfixturevalue("webdav").endpoint
    below = subject.root.relative_to(server.root)
    return Site(kind, f"{server.url}/{below}/".replace("://", f"://{server.user}@"), [], f"{below}/")


@pytest.fixture
def sh(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, site: Site) -> Shell:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def shell(*arguments: str) -> tuple[int, str, str]:
        capfdbinary.readouterr()
        command, *rest = arguments
        code = run([command, *site.options, *rest])
        out, err = capfdbinary.readouterr()
        for secret in (b"pass%3A", b"pass:w"):
            assert secret not in out + err
        return code, out.decode(), err.decode()

    return shell


def fill(site: Site, sh: Shell) -> Path:
    """Three objects; returns the directory that holds the same as files."""
    source = Path("source")
    for name in ("a b.txt", "d/x.bin", "d/e/y.bin"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * 10)
    assert sh("sync", str(source), site.root)[0] == 0
    return source


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


ALL = ["a b.txt", "d/e/y.bin", "d/x.bin"]


def test_looking(site: Site, sh: Shell) -> None:
    fill(site, sh)
    code, out, _ = sh("ls", site.root)
    assert (code, out.splitlines()) == (0, [site.level + "d/", site.level + "a b.txt"])
    code, out, _ = sh("ls", "-r", site.root)
    assert (code, sorted(out.splitlines())) == (0, [site.shown + name for name in ALL])
    code, out, _ = sh("ls", "-lH", site.root)
    assert "DIR" in out
    assert "70 B" in out
    assert "  y.bin" in sh("ls", "--tree", site.root)[1]
    lines = [json.loads(line) for line in sh("ls", "-r", "--json", site.root)[1].splitlines()]
    assert sorted(line["size"] for line in lines) == [70, 70, 90]
    code, out, _ = sh("find", "--name", "*.bin", "--larger", "80", site.root)
    assert code == 0
    (found,) = out.splitlines()
    assert found.endswith("d/e/y.bin")
    assert "@" not in found
    assert sh("du", site.root)[1].startswith("230 in 3 objects: ")
    assert sh("cat", site.root + "d/x.bin")[1] == "d/x.bin" * 10
    assert sh("cat", site.root + "a b.txt")[1] == "a b.txt" * 10
    assert sh("head", "-c", "4", site.root + "d/x.bin")[1] == "d/x."
    assert json.loads(sh("stat", "--json", site.root + "d/x.bin")[1])["size"] == 70
    assert sh("ls", site.root + "none")[0] == 3
    assert sh("cat", site.root + "none")[0] == 3
    assert sh("stat", site.root + "none")[0] == 3


def test_copying_moving_deleting(site: Site, sh: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    source = fill(site, sh)
    code, out, _ = sh("sync", str(source), site.root)
    assert (code, out.split(" in ")[0]) == (0, "0 objects, 0 B, 3 skipped")
    assert sh("sync", site.root, "back")[0] == 0
    assert names(Path("back")) == ALL
    (source / "new").write_bytes(b"1")
    assert "new" in sh("sync", "-n", str(source), site.root)[1]
    assert sh("sync", "--delete", str(source), site.root)[0] == 0
    (source / "new").unlink()
    assert sh("sync", "--delete", str(source), site.root)[1].split(" in ")[0] == "0 objects, 0 B, 3 skipped, 1 deleted"

    if site.is_local:
        code, _, err = sh("cp", "back/a b.txt", site.root)
        assert (code, "both are local" in err) == (2, True)
        assert sh("rm", site.root + "a b.txt")[0] == 2
        assert sh("sign", site.root + "a b.txt")[0] == 2
        return

    assert sh("cp", "back/a b.txt", site.root + "up/")[0] == 0
    assert sh("cp", "back/d/*.bin", "back/d/e/*.bin", site.root + "globbed/")[0] == 0
    assert sh("cp", "-r", site.root + "d", site.root + "copy")[0] == 0
    assert sh("cp", site.root + "up/a b.txt", "down.txt")[0] == 0
    assert Path("down.txt").read_bytes() == b"a b.txt" * 10
    assert sh("cp", "-r", "--exclude", "e/*", site.root + "d", "part")[0] == 0
    assert names(Path("part")) == ["x.bin"]
    assert sh("cp", "--no-clobber", "down.txt", site.root + "up/a b.txt")[1].startswith("0 objects, 0 B, 1 skipped")
    assert sh("cp", site.root + "none", "down.txt")[0] == 3
    body = os.urandom(1 << 20)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(body)))
    assert sh("cp", "-", site.root + "piped")[0] == 0
    assert sh("cp", "-q", site.root + "piped", "piped") == (0, "", "")
    assert Path("piped").read_bytes() == body
    assert sh("mv", site.root + "piped", site.root + "moved")[0] == 0
    assert sh("stat", site.root + "piped")[0] == 3
    assert sh("mv", site.root + "moved", "moved")[0] == 0
    assert Path("moved").read_bytes() == body
    found = sh("find", site.root)[1].replace("%20", " ").splitlines()
    assert sorted(line.partition(site.shown)[2] if site.shown else line.split("/", 3)[3] for line in found) == sorted(
        [*ALL, "up/a b.txt", "globbed/x.bin", "globbed/y.bin", "copy/x.bin", "copy/e/y.bin"]
    )
    assert sh("rm", site.root + "none")[0] == 3
    assert sh("rm", site.root + "up/a b.txt")[0] == 0
    assert sh("rm", "-n", "-r", site.root + "copy")[1].count("(dry run) delete") == 2
    assert sh("rm", "-r", site.root + "copy")[0] == 0
    assert sh("bench", "--size", "1KiB", "--count", "4", site.root + "bench")[0] == 0
    code, out, err = sh("sign", "--expires", "90s", site.root + "a b.txt")
    if site.kind in ("fake_gcs", "webdav"):  # one has no credentials that sign, the other no signatures
        assert (code, out, err.startswith("obstore: ")) == (1, "", True)
    else:
        assert (code, out.startswith("http")) == (0, True)
    assert sh("du", site.root)[1].startswith("390 in 5 objects")
