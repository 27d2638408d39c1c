"""What goes wrong in bulk transfers: each a clear entry of the result, the rest is done, nothing half-written is left."""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore import bulk
from obstore._engine._core import crc32c, crc64nvme
from obstore.store import MemoryStore, S3Store
from tests.servers.fakes3 import FakeS3, cut, flip_bit, gets, status

QUICK = {"backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=20)}}
LARGE = random.Random(3).randbytes(20 << 20)


@pytest.fixture
def store(fake_s3: FakeS3) -> S3Store:
    return S3Store(**fake_s3.config(retry_config=QUICK))


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def crc_header(body: bytes, kind: str = "crc32c") -> dict[str, str]:
    value = crc32c(body).to_bytes(4, "big") if kind == "crc32c" else crc64nvme(body).to_bytes(8, "big")
    return {f"x_amz_checksum_{kind}": base64.b64encode(value).decode()}


def fill(fake_s3: FakeS3, count: int = 20) -> dict[str, bytes]:
    bodies = {f"d/k{n:02}": os.urandom(n * 100 + 1) for n in range(count)}
    for key, body in bodies.items():
        fake_s3.add(key, body)
    return bodies


def names(bodies: dict[str, bytes]) -> dict[str, bytes]:
    return {key[2:]: body for key, body in bodies.items()}


# ---- the service --------------------------------------------------------------------------------------------------


def test_faults_are_retried(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    bodies = fill(fake_s3)
    fake_s3.inject(status(503), times=3, when=gets)
    fake_s3.inject(cut(0), times=2, when=gets, after=2)
    fake_s3.inject(status(500), times=1, when=gets, after=5)
    result = bulk.download(store, "d", tmp_path)
    assert (result.objects, result.failures) == (20, [])
    assert tree(tmp_path) == names(bodies)


def test_object_gone_since_it_was_listed(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    bodies = fill(fake_s3)
    fake_s3.inject(
        status(404, error="NoSuchKey"), times=float("inf"), when=lambda r: gets(r) and r.path.endswith("k07")
    )
    result = bulk.download(store, "d", tmp_path)
    assert [(failure.path, type(failure.error)) for failure in result.failures] == [("d/k07", obs.NotFoundError)]
    del bodies["d/k07"]
    assert result.objects == 19
    assert tree(tmp_path) == names(bodies)


@pytest.mark.parametrize("kind", ["crc32c", "crc64nvme"])
def test_flipped_bit_is_found_and_mended(fake_s3: FakeS3, store: S3Store, tmp_path: Path, kind: str) -> None:
    small, large = os.urandom(5000), LARGE
    fake_s3.add("d/small", small, **crc_header(small, kind))
    fake_s3.add("d/large", large, **crc_header(large, kind))
    fake_s3.inject(flip_bit(17), when=lambda r: gets(r) and r.path.endswith("small"))
    fake_s3.inject(flip_bit(4321), when=lambda r: gets(r) and r.path.endswith("large"), after=1)
    result = bulk.download(store, "d", tmp_path)
    assert (result.objects, result.failures) == (2, [])
    assert tree(tmp_path) == {"small": small, "large": large}
    assert dict(bulk.get_many(store, ["d/small"])) == {"d/small": small}


def test_bit_that_stays_flipped_is_reported(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    for name, body in (("d/small", b"s" * 5000), ("d/large", LARGE), ("d/right", b"r")):
        fake_s3.add(name, body, **crc_header(body))
    fake_s3.inject(flip_bit(100), times=float("inf"), when=lambda r: gets(r) and not r.path.endswith("right"))
    result = bulk.download(store, "d", tmp_path)
    assert sorted((f.path, type(f.error)) for f in result.failures) == [
        ("d/large", obs.IntegrityError),
        ("d/small", obs.IntegrityError),
    ]
    assert "CRC32C" in str(result.failures[0].error)
    assert tree(tmp_path) == {"right": b"r"}
    assert bulk.download(store, "d", tmp_path, verify=False).objects == 3


@pytest.mark.parametrize("large", [False, True])
def test_e_tags_that_are_an_md5_are_compared(fake_s3: FakeS3, store: S3Store, tmp_path: Path, large: bool) -> None:
    bodies = {f"d/{n}": os.urandom(n) for n in range(1, 200)} if not large else {"d/large": LARGE}
    for key, body in bodies.items():
        fake_s3.add(key, body)
    fake_s3.inject(flip_bit(0), times=1, when=gets, after=0 if large else 20)
    result = bulk.download(store, "d", tmp_path)
    assert (result.objects, result.failures) == (len(bodies), [])
    assert tree(tmp_path) == names(bodies)
    fake_s3.inject(flip_bit(0), times=2, when=gets)
    read = dict(bulk.get_many(store, list(bodies), errors="return", connections=1))
    assert sum(isinstance(body, obs.IntegrityError) for body in read.values()) <= 1
    assert all(isinstance(body, obs.IntegrityError) or body == bodies[key] for key, body in read.items())


@pytest.mark.parametrize(
    "headers",
    [
        {"etag": '"0123456789abcdef0123456789abcdef-3"'},
        {"etag": 'W/"0123456789abcdef0123456789abcdef"'},
        {"etag": '"0123456789abcdef0123456789abcdeg"'},
        {"x-amz-server-side-encryption": "aws:kms"},
        {"x-amz-server-side-encryption": "aws:kms:dsse"},
        {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
        {"x-amz-storage-class": "EXPRESS_ONEZONE"},
    ],
    ids=str,
)
def test_e_tags_that_are_no_md5_say_nothing(
    fake_s3: FakeS3, store: S3Store, tmp_path: Path, headers: dict[str, str]
) -> None:
    fake_s3.add("k", b"abc")
    fake_s3.objects["k"].e_tag = '"0123456789abcdef0123456789abcdef"'
    assert not bulk.download(store, "k", tmp_path).ok
    fake_s3.objects["k"].headers.update(headers)
    assert bulk.download(store, "k", tmp_path).ok
    assert dict(bulk.get_many(store, ["k"])) == {"k": b"abc"}


def test_content_md5_is_compared(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    import hashlib

    right = base64.b64encode(hashlib.md5(b"abc", usedforsecurity=False).digest()).decode()
    fake_s3.add("right", b"abc", content_md5=right)
    fake_s3.add("wrong", b"xyz", content_md5=right)
    result = bulk.download(store, ["right", "wrong"], tmp_path)
    assert (result.objects, [type(failure.error) for failure in result.failures]) == (1, [obs.IntegrityError])
    assert "verify=False" in str(result.failures[0].error)
    assert result.verified == 1
    assert bulk.download(store, ["right"], tmp_path / "unverified", verify=False).verified == 0


def test_composite_checksums_say_nothing_of_the_whole(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    fake_s3.add("d/k", b"abc", **{**crc_header(b"other"), "x_amz_checksum_type": "COMPOSITE"})
    assert bulk.download(store, "d", tmp_path).objects == 1


def test_large_object_that_changes_meanwhile_starts_over(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    fake_s3.add("k", LARGE)
    newer = LARGE[::-1]

    def change(request: Any, proceed: Any) -> Any:
        fake_s3.add("k", newer)
        return proceed()

    fake_s3.inject(change, when=lambda r: gets(r) and "range" in r.headers)
    result = bulk.download_file(store, "k", tmp_path / "k")
    assert result.ok, result.failures
    assert tree(tmp_path) == {"k": newer}


def test_ranges_that_break_are_resumed(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    fake_s3.add("k", LARGE, **crc_header(LARGE))
    fake_s3.inject(cut(1_000_000), times=4, when=gets)
    result = bulk.download_file(store, "k", tmp_path / "k")
    assert result.ok, result.failures
    assert result.verified == 1
    assert tree(tmp_path) == {"k": LARGE}


def test_one_request_a_small_object_and_no_head(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    bodies = fill(fake_s3)
    fake_s3.add("d/large", LARGE)
    assert bulk.download(store, [*bodies, "d/large"], tmp_path).ok
    assert [r.method for r in fake_s3.requests if r.method != "GET"] == []
    assert len([r for r in fake_s3.requests if not r.path.endswith("large")]) == 20
    large = [r for r in fake_s3.requests if r.path.endswith("large")]
    assert "range" not in large[0].headers
    assert all("range" in r.headers and r.headers["if-match"] for r in large[1:])


def test_ranges_need_not_be_known_to_the_service(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    """A server without ETags: the object is read in one go."""
    fake_s3.add("k", LARGE)

    def without_tag(request: Any, proceed: Any) -> Any:
        reply = proceed()
        reply.headers = {name: value for name, value in dict(reply.headers).items() if name != "etag"}
        return reply

    fake_s3.inject(without_tag, times=float("inf"), when=gets)
    assert bulk.download_file(store, "k", tmp_path / "k").ok
    assert tree(tmp_path) == {"k": LARGE}


def test_connections_are_bounded(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    fill(fake_s3, 100)
    fake_s3.add("d/large", LARGE)
    assert bulk.download(store, "d", tmp_path, connections=4).ok
    assert 1 < fake_s3.peak_in_flight <= 4


# ---- the disk -----------------------------------------------------------------------------------------------------


def test_keys_that_are_no_paths(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    for key in ("d/../../escape", "d//double", "d/./dot", "d/ok", "d/sub/", "d/" + "n" * 300):
        fake_s3.add(key, b"x")
    result = bulk.download(store, "d", tmp_path / "in")
    assert {f.path: type(f.error) for f in result.failures} == {
        "d/../../escape": obs.exceptions.InvalidPathError,
        "d//double": obs.exceptions.InvalidPathError,
        "d/./dot": obs.exceptions.InvalidPathError,
        "d/" + "n" * 300: OSError,
    }
    assert tree(tmp_path) == {"in/ok": b"x"}
    assert (tmp_path / "in/sub").is_dir()  # an object that stands for a directory


def test_name_clashes(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    for key in ("d/a", "d/a/b", "d/c"):
        fake_s3.add(key, b"x")
    result = bulk.download(store, "d", tmp_path)
    assert len(result.failures) == 1
    assert isinstance(result.failures[0].error, (NotADirectoryError, IsADirectoryError, FileExistsError))
    assert result.failures[0].error.filename.startswith(str(tmp_path))
    assert result.objects == 2
    assert tree(tmp_path) in ({"a": b"x", "c": b"x"}, {"a/b": b"x", "c": b"x"})


def test_case_clashes(fake_s3: FakeS3, store: S3Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from obstore._bulk.dest import Destination

    monkeypatch.setattr(Destination, "_tells_case", lambda self: False)
    for key in ("d/A", "d/a", "d/b"):
        fake_s3.add(key, key.encode())
    result = bulk.download(store, "d", tmp_path)
    assert [(f.path, type(f.error)) for f in result.failures] == [("d/a", FileExistsError)]
    assert tree(tmp_path) == {"A": b"d/A", "b": b"d/b"}


def run_limited(body: str, config: dict[str, Any], **extra: Any) -> dict[str, Any]:
    """A program in a process of its own, which may be limited in what it can write; prints JSON."""
    program = """
import json, os, resource, sys
from obstore import bulk
from obstore.store import S3Store
config = json.loads(sys.argv[1])
store = S3Store(**config)
def tell(result):
    print(json.dumps({"objects": result.objects, "failures": {f.path: [type(f.error).__name__, str(f.error)] for f in result.failures}}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program + textwrap.dedent(body), json.dumps(config)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **extra,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_full_disk(fake_s3: FakeS3, tmp_path: Path) -> None:
    """A file may not grow beyond 1 MiB: what the kernel says of a full disk it says of that."""
    fill(fake_s3)
    fake_s3.add("d/large", LARGE)
    fake_s3.add("d/medium", b"m" * (2 << 20))
    found = run_limited(
        f"""
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        tell(bulk.download(store, "d", {str(tmp_path)!r}))
        """,
        fake_s3.config(),
    )
    assert found["objects"] == 20
    assert {path: kind for path, (kind, _) in found["failures"].items()} == {
        "d/large": "OSError",
        "d/medium": "OSError",
    }
    assert "File too large" in found["failures"]["d/medium"][1]
    assert len([name for name in tree(tmp_path) if not name.startswith(".obstore")]) == 20
    assert list(tmp_path.rglob("slot-*")) == []


def test_directories_that_may_not_be_written_to(fake_s3: FakeS3, tmp_path: Path) -> None:
    fake_s3.add("d/locked/x", b"x")
    fake_s3.add("d/open/y", b"y")
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked").chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:  # to whom nothing is locked
        for path in (tmp_path, *tmp_path.parents):
            if path.stat().st_uid == 0 and path != Path("/") and str(path).startswith("/tmp/"):
                path.chmod(path.stat().st_mode | 0o055)
        os.chown(tmp_path, 65534, 65534)
    found = run_limited(
        f"""
        list(store.list())  # loads what is loaded late from where nobody may not read
        if {is_root}:
            os.setgid(65534)
            os.setuid(65534)
        tell(bulk.download(store, "d", {str(tmp_path)!r}))
        """,
        fake_s3.config(),
    )
    assert found["objects"] == 1
    assert list(found["failures"]) == ["d/locked/x"]
    assert found["failures"]["d/locked/x"][0] == "PermissionError"
    assert tree(tmp_path) == {"open/y": b"y"}


def test_destination_that_is_none_is_told_before_anything_is_sent(
    fake_s3: FakeS3, store: S3Store, tmp_path: Path
) -> None:
    fill(fake_s3)
    (tmp_path / "file").write_bytes(b"not a directory")
    with pytest.raises((FileExistsError, NotADirectoryError)):
        bulk.download(store, "d", tmp_path / "file")
    assert tree(tmp_path) == {"file": b"not a directory"}
    with pytest.raises(OSError, match="proc"):  # nobody may write there
        bulk.download(store, "d", "/proc/obstore")
    assert fake_s3.requests == []


def test_unreadable_sources_are_entries(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"g")
    os.symlink("nowhere", tmp_path / "dangling")
    store = MemoryStore()
    result = bulk.upload(store, tmp_path)
    assert result.objects == 1
    assert [(Path(f.path).name, type(f.error)) for f in result.failures] == [("dangling", FileNotFoundError)]
    result = bulk.upload(store, [tmp_path / "good", tmp_path / "none"])
    assert result.objects == 1
    assert [type(f.error) for f in result.failures] == [FileNotFoundError]


def test_sync_deletes_nothing_where_the_source_was_not_seen_whole(tmp_path: Path) -> None:
    store = MemoryStore()
    obs.put(store, "elsewhere", b"x")
    os.symlink("nowhere", tmp_path / "dangling")
    result = bulk.sync(tmp_path, store, delete=True)
    assert result.deleted == 0
    assert [item["path"] for item in obs.list(store)] == ["elsewhere"]
    assert "not deleted" in str(result.failures[-1])


def test_uploads_that_fail_leave_nothing(fake_s3: FakeS3, store: S3Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(LARGE)
    (tmp_path / "small").write_bytes(b"s")
    refused = status(403, error="AccessDenied")
    fake_s3.inject(refused, times=float("inf"), when=lambda r: r.method == "PUT" and r.query.get("partNumber") == "2")
    result = bulk.upload(store, tmp_path, resume=False)
    assert result.objects == 1
    assert [type(f.error) for f in result.failures] == [obs.exceptions.PermissionDeniedError]
    assert fake_s3.uploads == {}
    assert list(fake_s3.objects) == ["small"]


# ---- memory -------------------------------------------------------------------------------------------------------


def test_memory_is_bounded(fake_s3: FakeS3, store: S3Store) -> None:
    for n in range(60):
        fake_s3.add(f"k{n}", bytes(1 << 20))
    from obstore._engine import stats

    peak = 0
    before = stats()["block_bytes"]
    for _, body in bulk.get_many(store, [f"k{n}" for n in range(60)], memory="8MiB"):
        peak = max(peak, stats()["block_bytes"] - before)
        del body
    assert peak <= 10 << 20


def iterate(count: int) -> Iterator[tuple[str, bytes]]:
    for n in range(count):
        yield f"k{n}", bytes(100)


def test_iterators_are_taken_as_room_comes(fake_s3: FakeS3, store: S3Store) -> None:
    result = bulk.put_many(store, iterate(300), connections=8)
    assert result.objects == 300
    assert len(fake_s3.objects) == 300
