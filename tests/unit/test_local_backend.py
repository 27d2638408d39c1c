"""The local backend, driven without a runner, on a real file system."""

from __future__ import annotations

import errno
import gc
import os
import random
import re
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from obstore import _localfs
from obstore._effects import Cancelled
from obstore._local import LocalBackend
from obstore._types import GetSpec, PutSpec, Range, RawKey
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    InvalidPathError,
    NotFoundError,
    NotModifiedError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
)
from tests.unit.drive import cancel_during, keys, pages, read_all, run, run_counted

DIGITS = b"0123456789"
LARGE = 100_000  # more than is read with the opening
STAGING = re.compile(r"#\d+$")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


@pytest.fixture
def backend(root: Path) -> Iterator[LocalBackend]:
    """A backend; whatever the test did, it leaves neither staging files nor open descriptors."""
    before = open_descriptors()
    yield LocalBackend(root, automatic_cleanup=False, mkdir=False)
    if open_descriptors() != before:
        gc.collect()  # a failed operation's traceback may form a cycle
    assert open_descriptors() == before
    assert staging_files(root) == []


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def staging_files(root: Path) -> list[str]:
    return [name for _, _, names in os.walk(root) for name in names if STAGING.search(name)]


def put(backend: LocalBackend, key: str, data: bytes = DIGITS, **spec: object) -> str:
    result = run(backend.put(key, [data], PutSpec(**spec)))
    assert result["version"] is None
    return result["e_tag"]


def body(backend: LocalBackend, key: str, **spec: object) -> bytes:
    return bytes(run(run(backend.get(key, GetSpec(**spec))).collect()))


def failing(code: int) -> Callable[..., int]:
    def fail(*_args: object, **_kwargs: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


# ---- roots ----------------------------------------------------------------------------------------------


def test_root_is_resolved_once(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    backend = LocalBackend(Path("link"), automatic_cleanup=False, mkdir=False)
    assert backend.root == (tmp_path / "real").resolve()
    monkeypatch.chdir("/")
    (tmp_path / "link").unlink()
    put(backend, "k")
    assert (tmp_path / "real/k").read_bytes() == DIGITS
    assert str(backend) == f"LocalFileSystem(file://{backend.root})"


def test_root_must_be_a_directory(tmp_path):
    (tmp_path / "file").touch()
    for name, error in [("missing", "No such file"), ("file", "Not a directory")]:
        with pytest.raises(GenericError, match=f"Unable to canonicalize filesystem root: .*{name}: {error}"):
            LocalBackend(tmp_path / name, automatic_cleanup=False, mkdir=False)
    with pytest.raises(GenericError, match="Unable to canonicalize filesystem root"):
        LocalBackend(tmp_path / "file", automatic_cleanup=False, mkdir=True)
    assert LocalBackend(tmp_path / "a/b", automatic_cleanup=False, mkdir=True).root == (tmp_path / "a/b").resolve()


def test_no_root_is_the_whole_file_system(tmp_path):
    backend = LocalBackend(None, automatic_cleanup=False, mkdir=False)
    assert backend.root is None
    key = f"{tmp_path}/a/b".lstrip("/")
    put(backend, key)
    (tmp_path / "link").symlink_to("/etc")
    assert (tmp_path / "a/b").read_bytes() == DIGITS
    assert keys(backend, f"{tmp_path}/a".lstrip("/")) == [key]
    assert body(backend, f"{tmp_path}/link/passwd".lstrip("/")) == Path("/etc/passwd").read_bytes()


def test_lost_root_is_not_made_again(root):
    backend = LocalBackend(root, automatic_cleanup=False, mkdir=True)
    root.rmdir()
    with pytest.raises(GenericError, match="root directory of the store is gone"):
        put(backend, "a/b")
    assert not root.exists()
    assert keys(backend) == []


# ---- keys -----------------------------------------------------------------------------------------------

MAPPABLE = ["a", "a b", "%2F", "a?b", "#", "a#", "a#1x", "#1/b", "a\\b", "*", "ключ", "...", "..a", "~", "a" * 255, "-"]


@pytest.mark.parametrize("key", [*MAPPABLE, RawKey("a\nb"), RawKey("caf\udce9")])
def test_keys_are_paths_letter_by_letter(backend, root, key):
    assert backend.parse_key(key, "path") == key
    put(backend, key, b"x")
    assert Path(f"{root}/{key}").read_bytes() == b"x"
    assert body(backend, key) == b"x"
    assert run(backend.head(key, None))["path"] == key
    (listed,) = keys(backend)
    assert listed == key
    assert backend.parse_key(listed, "path") == key
    assert isinstance(listed, RawKey) == isinstance(key, RawKey)
    assert run(backend.delete([listed])) == [None]


def test_keys_may_be_deeper_than_the_stack(backend, root):
    tidy = LocalBackend(root, automatic_cleanup=True, mkdir=False)
    key = "/".join(["d"] * 1500)
    put(tidy, key)
    assert keys(tidy) == keys(tidy, key[:2000]) == [key]
    assert run(tidy.delete([key])) == [None]
    assert os.listdir(root) == []


HOSTILE = ["..", "../x", "a/../../x", "a/..", "/etc/passwd", "a//b", "a/", "./a", "a/.", "a\0b", "\ud800", "a\n/../.."]


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_keys_reach_no_file(backend, tmp_path, key):
    put(backend, "a/inside")
    (tmp_path / "x").write_bytes(b"secret")
    tree = sorted(tmp_path.rglob("*"))
    for op in every_operation(backend, RawKey(key)):
        with pytest.raises(InvalidPathError):
            run(op)
    assert isinstance(run(backend.delete([RawKey(key)]))[0], InvalidPathError)
    assert sorted(tmp_path.rglob("*")) == tree
    assert key == "a/" or keys(backend, RawKey(key)) == []
    with pytest.raises(ValueError, match="from_"):
        backend.parse_key(RawKey(key), "from_")


@pytest.mark.parametrize("key", ["a#1", "d/a#0123", "#9", ""])
def test_staging_names_are_refused(backend, root, key):
    if key:
        Path(f"{root}/{key}").parent.mkdir(exist_ok=True)
        Path(f"{root}/{key}").write_bytes(b"x")
    for op in every_operation(backend, key):
        with pytest.raises(GenericError, match=r"Filenames containing trailing '/#\\d\+/' are not supported:"):
            run(op)
    assert keys(backend) == []
    assert isinstance(run(backend.delete([key]))[0], GenericError)
    if key:
        Path(f"{root}/{key}").unlink()


def every_operation(backend: LocalBackend, key: str) -> list:
    return [
        backend.get(key, GetSpec()),
        backend.get(key, GetSpec(head=True)),
        backend.get_range(key, 0, 1, None),
        backend.head(key, None),
        backend.put(key, [b"x"], PutSpec()),
        backend.start_upload(key, PutSpec()),
        backend.copy(key, "copy", overwrite=True),
        backend.rename(key, "renamed", overwrite=True),
    ]


def test_parse_key_refuses_what_has_no_place_in_a_directory(backend):
    assert backend.parse_key("/a/b/", "path") == "a/b"
    for path in ("a//b", "a/../b", ".", "a\nb"):
        with pytest.raises(ValueError, match="path"):
            backend.parse_key(path, "path")


# ---- symbolic links -------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    path = tmp_path / "root-outside"  # begins like the root, and is not inside
    (path / "sub").mkdir(parents=True)
    (path / "secret").write_bytes(b"secret")
    return path


def test_links_inside_the_root_are_followed(backend, root):
    put(backend, "real/file", b"x")
    (root / "dir").symlink_to("real")
    (root / "file").symlink_to(root / "real/file")
    assert body(backend, "dir/file") == body(backend, "file") == b"x"
    assert run(backend.head("file", None))["size"] == 1
    put(backend, "dir/new/deep", b"y")
    assert (root / "real/new/deep").read_bytes() == b"y"
    assert keys(backend) == ["dir/file", "dir/new/deep", "file", "real/file", "real/new/deep"]
    assert keys(backend, "dir/") == ["dir/file", "dir/new/deep"]


def test_links_out_of_the_root_are_refused(backend, root, outside):
    (root / "file").symlink_to(outside / "secret")
    (root / "dir").symlink_to(outside)
    (root / "up").symlink_to("..")
    put(backend, "mine", b"x")
    for key in ("file", "dir/secret", "up/root-outside/secret"):
        for op in (
            backend.get(key, GetSpec()),
            backend.get(key, GetSpec(head=True)),
            backend.head(key, None),
            backend.get_range(key, 0, 3, None),
            backend.copy(key, "stolen", overwrite=True),
        ):
            with pytest.raises(InvalidPathError, match="symbolic link") as caught:
                run(op)
            assert caught.value.key == key
    for key in ("dir/new", "dir/sub/new", "dir/missing/new", "dir/secret", "up/new"):
        for op in (
            backend.put(key, [b"x"], PutSpec()),
            backend.start_upload(key, PutSpec()),
            backend.copy("mine", key, overwrite=True),
            backend.rename("mine", key, overwrite=True),
            backend.rename(key, "stolen", overwrite=True),
        ):
            with pytest.raises((InvalidPathError, NotFoundError)):
                run(op)
        assert isinstance(run(backend.delete([key]))[0], (InvalidPathError, NotFoundError))
    with pytest.raises(InvalidPathError):
        run(backend.rename("file", "stolen", overwrite=True))
    assert keys(backend) == ["mine"]
    for prefix in ("dir/", "dir/sub/", "up/"):
        with pytest.raises(InvalidPathError, match="symbolic link"):
            pages(backend, prefix)
    assert sorted(path.name for path in outside.rglob("*")) == ["secret", "sub"]
    assert (outside / "secret").read_bytes() == b"secret"


def test_put_replaces_a_link_and_delete_removes_it(backend, root, outside):
    for name in ("a", "b"):
        (root / name).symlink_to(outside / "secret")
    put(backend, "a", b"x")
    assert run(backend.delete(["b"])) == [None]
    assert body(backend, "a") == b"x"
    assert not (root / "a").is_symlink()
    assert (outside / "secret").read_bytes() == b"secret"


def test_dangling_link_is_no_way_to_make_directories_outside(backend, root, tmp_path):
    (root / "gone").symlink_to(tmp_path / "made")
    with pytest.raises(GenericError):
        put(backend, "gone/x")
    assert not (tmp_path / "made").exists()
    with pytest.raises(NotFoundError):
        body(backend, "gone")
    assert keys(backend) == []


def test_listing_ends_where_links_lead_in_circles(backend, root):
    put(backend, "a/b/file", b"")
    (root / "a/b/up").symlink_to("..")
    (root / "a/b/root").symlink_to(root)
    (root / "self").symlink_to("self")
    assert keys(backend) == ["a/b/file"]
    assert keys(backend, "a/b/") == ["a/b/file"]
    (page,) = pages(backend, "a/b/", delimiter=True)
    assert page.prefixes == []
    with pytest.raises(GenericError, match="circle"):
        body(backend, "self")


def test_rename_of_a_link_moves_what_it_stands_for(backend, root):
    put(backend, "real", b"x")
    (root / "link").symlink_to("real")
    run(backend.rename("link", "deep/copy", overwrite=False))
    assert keys(backend) == ["deep/copy", "real"]
    assert body(backend, "deep/copy") == b"x"


def test_link_is_checked_where_there_is_no_proc(backend, root, outside, monkeypatch):
    monkeypatch.setattr(os, "readlink", failing(errno.ENOENT))
    (root / "file").symlink_to(outside / "secret")
    put(backend, "fine")
    assert body(backend, "fine") == DIGITS


# ---- get ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3_000_001])
def test_get_returns_what_was_put(backend, size):
    data = random.Random(size).randbytes(size)
    put(backend, "k", data)
    opened, calls = run_counted(backend.get("k", GetSpec()))
    assert calls == 1
    assert (opened.range, opened.meta["size"], opened.attributes) == ((0, size), size, {})
    whole, calls = run_counted(opened.collect())
    assert calls == (size > 65536)
    assert whole == data
    assert run(opened.collect()) == b""
    for step in (0, 1, 1 << 21):
        chunks = read_all(run(backend.get("k", GetSpec())), step)
        assert b"".join(chunks) == data
        assert all(len(chunk) == max(step, 1 << 20) for chunk in chunks[:-1])


def test_get_collects_what_read_left(backend):
    data = random.Random(1).randbytes(3_000_000)
    put(backend, "k", data)
    opened = run(backend.get("k", GetSpec(range=Range(5))))
    first = run(opened.read(0))
    assert first + bytes(run(opened.collect())) == data[5:]
    assert run(opened.read(10)) == b""


def test_blocks_of_huge_pages_hold_the_same_bytes(backend, monkeypatch):
    monkeypatch.setattr(_localfs, "_HUGE_BYTES", LARGE)
    monkeypatch.setattr(_localfs, "_MAX_TRANSFER_BYTES", 30_000)
    data = random.Random(2).randbytes(3 * LARGE)
    put(backend, "k", data)
    block = run(backend.get_range("k", 7, 7 + 2 * LARGE, None))
    assert isinstance(block, memoryview)
    assert block.readonly
    assert block == data[7 : 7 + 2 * LARGE]
    assert b"".join(read_all(run(backend.get("k", GetSpec())), 0)) == data


def test_small_objects_leave_no_file_open(backend):
    put(backend, "k")
    put(backend, "large", bytes(LARGE))
    before = open_descriptors()
    small = run(backend.get("k", GetSpec()))
    assert open_descriptors() == before
    large = [run(backend.get("large", GetSpec())) for _ in range(4)]
    assert open_descriptors() == before + 4
    run(large[0].collect())
    assert read_all(large[1], 0) == [bytes(LARGE)]
    large[2].close()
    large[2].close()
    assert open_descriptors() == before + 1
    del large
    assert open_descriptors() == before
    assert run(small.collect()) == DIGITS


@pytest.mark.parametrize("size", [1, LARGE])
def test_closed_object_does_not_look_like_an_empty_one(backend, size):
    put(backend, "k", bytes(size))
    opened = run(backend.get("k", GetSpec()))
    opened.close()
    for op in (opened.read(1), opened.collect()):
        with pytest.raises(ValueError, match="closed"):
            run(op)


def test_close_during_a_read_does_not_take_the_file_away(backend):
    """The number of a closed descriptor is soon that of another file: the thread that reads has to hold its own."""
    data = random.Random(3).randbytes(LARGE)
    put(backend, "k", data)
    opened = run(backend.get("k", GetSpec()))
    op = opened.collect()
    call = next(op)
    opened.close()
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
    result = call.fn(*call.args)
    for each in others:
        os.close(each)
    with pytest.raises(StopIteration) as stop:
        op.send(result)
    assert stop.value.value == data
    with pytest.raises(ValueError, match="closed"):
        run(opened.read(1))
    del op, call, stop


def test_reader_keeps_the_version_that_it_opened(backend):
    put(backend, "k", b"old" * LARGE)
    opened = run(backend.get("k", GetSpec()))
    put(backend, "k", b"new")
    run(backend.delete(["k"]))
    assert run(opened.collect()) == b"old" * LARGE


@pytest.mark.parametrize("how", ["collect", "read", "range", "into"])
def test_file_cut_while_read_is_an_error(backend, root, how, monkeypatch):
    put(backend, "k", bytes(LARGE))
    if how in ("collect", "read"):
        opened = run(backend.get("k", GetSpec()))
        op = opened.collect() if how == "collect" else opened.read(1)
    else:
        op = backend.get_range("k", 0, LARGE, bytearray(LARGE) if how == "into" else None)
        real = os.fstat

        def fstat(fd: int) -> os.stat_result:
            status = real(fd)
            os.truncate(root / "k", 10)
            return status

        monkeypatch.setattr(os, "fstat", fstat)
    os.truncate(root / "k", 10) if how in ("collect", "read") else None
    with pytest.raises(GenericError, match=r"Unable to read file .*/k: the file was cut while it was being read"):
        run(op)


@pytest.mark.parametrize(
    ("wanted", "span"),
    [
        (Range(0, 10), (0, 10)),
        (Range(3, 5), (3, 5)),
        (Range(9, 100), (9, 10)),
        (Range(4), (4, 10)),
        (Range(suffix=3), (7, 10)),
        (Range(suffix=0), (10, 10)),
        (Range(suffix=11), (0, 10)),
    ],
)
def test_get_returns_the_range(backend, wanted, span):
    put(backend, "k")
    opened = run(backend.get("k", GetSpec(range=wanted)))
    assert (opened.range, opened.meta["size"]) == (span, 10)
    assert run(opened.collect()) == DIGITS[slice(*span)]


@pytest.mark.parametrize("wanted", [Range(5, 5), Range(5, 3), Range(10, 12), Range(10), Range(1 << 62)])
def test_get_refuses_ranges_without_bytes(backend, wanted):
    put(backend, "k")
    with pytest.raises(GenericError, match="Generic LocalFileSystem error: Requested range was invalid") as caught:
        run(backend.get("k", GetSpec(range=wanted)))
    assert caught.value.key == "k"


def test_get_range_is_one_call(backend):
    put(backend, "k")
    assert run_counted(backend.get_range("k", 2, 5, None)) == (b"234", 1)
    assert run(backend.get_range("k", 8, 1 << 62, None)) == b"89"
    target = bytearray(b"." * 6)
    assert run_counted(backend.get_range("k", 8, 14, target)) == (2, 1)
    assert target == b"89...."
    with pytest.raises(ValueError, match="into holds 6 bytes"):
        run(backend.get_range("k", 0, 7, target))
    with pytest.raises(TypeError, match="into"):
        run(backend.get_range("k", 0, 2, b"readonly"))
    with pytest.raises(GenericError, match="Requested range was invalid"):
        run(backend.get_range("k", 10, 12, None))


def test_get_with_head_has_no_body(backend, root):
    put(backend, "k", bytes(LARGE))
    (root / "k").chmod(0)  # telling the size needs no permission to read
    opened = run(backend.get("k", GetSpec(head=True, range=Range(2, 4))))
    assert (opened.range, opened.meta["size"]) == ((0, LARGE), LARGE)
    assert run(opened.collect()) == b""


def test_get_holds_conditions(backend, root):
    put(backend, "k")
    os.utime(root / "k", ns=(0, 1_700_000_000_123_456_789))
    meta = run(backend.head("k", None))
    e_tag, modified = meta["e_tag"], meta["last_modified"]
    before = modified - timedelta(microseconds=1)
    for spec, expected in [
        ({"if_match": e_tag}, None),
        ({"if_match": '"x"'}, PreconditionError),
        ({"if_unmodified_since": modified}, None),
        ({"if_unmodified_since": before}, PreconditionError),
        ({"if_none_match": '"x"'}, None),
        ({"if_none_match": e_tag}, NotModifiedError),
        ({"if_modified_since": modified}, NotModifiedError),
        ({"if_modified_since": before}, None),
    ]:
        for head in (False, True):
            if expected is None:
                run(backend.get("k", GetSpec(head=head, **spec)))
            else:
                with pytest.raises(expected):
                    run(backend.get("k", GetSpec(head=head, **spec)))


@pytest.mark.parametrize("ns", [1_700_000_000_123_456_789, 0, -1_500, 999])
def test_meta_has_the_published_shape(backend, root, ns):
    put(backend, "k")
    os.utime(root / "k", ns=(0, ns))
    status = (root / "k").stat()
    meta = run(backend.head("k", "ignored"))
    assert list(meta) == ["path", "last_modified", "size", "e_tag", "version"]
    assert meta["last_modified"] == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ns // 1000)
    assert meta["e_tag"] == f'"{status.st_ino:x}-{ns // 1000:x}-a"'
    assert (meta["path"], meta["size"], meta["version"]) == ("k", 10, None)
    assert pages(backend)[0].objects == [meta]


def test_dates_beyond_the_calendar_spoil_no_listing():
    status = os.stat_result([0] * 10, {"st_mtime_ns": 10**21})
    assert _localfs.last_modified(status).year == 9999
    assert _localfs.last_modified(os.stat_result([0] * 10, {"st_mtime_ns": -(10**21)})).year == 1


# ---- what is not there ----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["missing", "no/such/dir", "file/below", "dir", "pipe", "socket"])
def test_what_is_no_file_is_not_found(backend, root, key, monkeypatch):
    put(backend, "file")
    (root / "dir").mkdir()
    os.mkfifo(root / "pipe")
    monkeypatch.chdir(root)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    for op in (
        backend.get(key, GetSpec()),
        backend.get(key, GetSpec(head=True)),
        backend.get_range(key, 0, 1, None),
        backend.head(key, None),
        backend.copy(key, "copy", overwrite=True),
        backend.copy(key, key, overwrite=True),
        backend.rename(key, "renamed", overwrite=True),
        backend.rename(key, "renamed", overwrite=False),
        backend.rename(key, key, overwrite=True),
    ):
        with pytest.raises(FileNotFoundError, match=f"Object at location {root}/{key} not found: ") as caught:
            run(op)
        assert type(caught.value) is NotFoundError
        assert caught.value.key == key
    assert keys(backend) == ["file"]


@pytest.mark.parametrize("key", ["missing", "no/such/dir", "file/below", "dir"])
def test_delete_reports_each_key(backend, root, key):
    for name in ("file", "other"):
        put(backend, name)
    (root / "dir").mkdir()
    outcomes = run(backend.delete(["other", key]))
    assert outcomes[0] is None
    assert type(outcomes[1]) is NotFoundError
    assert backend.missing_is_error
    assert keys(backend) == ["file"]


# ---- put ------------------------------------------------------------------------------------------------


def test_put_is_one_call_and_tells_the_e_tag(backend, root):
    result, calls = run_counted(backend.put("a/b/c", [b"12", bytearray(b"3"), memoryview(b"x45")[1:], b""], PutSpec()))
    assert calls == 1
    assert (root / "a/b/c").read_bytes() == b"12345"
    assert result == {"e_tag": run(backend.head("a/b/c", None))["e_tag"], "version": None}
    put(backend, "a/b/c", b"", tags={"ignored": "yes"})
    assert body(backend, "a/b/c") == b""
    assert stat.S_IMODE((root / "a/b/c").stat().st_mode) == 0o666 & ~umask()


def umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_put_writes_any_number_of_buffers(backend, monkeypatch):
    """More buffers than one call takes, and a system that writes a little at a time."""
    rng = random.Random(4)
    buffers = [rng.randbytes(rng.randrange(6)) for _ in range(5000)]
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, views, at: real(fd, [b"".join(views)[:777]], at))
    run(backend.put("k", buffers, PutSpec()))
    assert body(backend, "k") == b"".join(buffers)


def test_put_takes_wide_buffers(backend):
    run(backend.put("k", [memoryview(bytes(range(16))).cast("I"), memoryview(b"abcd").cast("B", (2, 2))], PutSpec()))
    assert body(backend, "k") == bytes(range(16)) + b"abcd"


def test_put_creates_only_what_is_missing(backend, root):
    put(backend, "k", b"1", mode="create")
    with pytest.raises(AlreadyExistsError, match=f"Object at location {root}/k already exists: "):
        put(backend, "k", b"2", mode="create")
    (root / "dangling").symlink_to("nowhere")
    with pytest.raises(AlreadyExistsError):
        put(backend, "dangling", b"2", mode="create")
    assert body(backend, "k") == b"1"


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_create_works_without_hard_links(backend, monkeypatch, code):
    monkeypatch.setattr(os, "link", failing(code))
    put(backend, "k", b"1", mode="create")
    with pytest.raises(AlreadyExistsError):
        put(backend, "k", b"2", mode="create")
    assert body(backend, "k") == b"1"


def test_create_has_one_winner_among_threads(backend):
    barrier = threading.Barrier(8)

    def create(who: int) -> list[int]:
        won = []
        for round_ in range(25):
            barrier.wait()
            try:
                put(backend, f"new/{round_}/k", bytes([who]) * 100, mode="create")
            except AlreadyExistsError:
                continue
            won.append(round_)
        return won

    with ThreadPoolExecutor(8) as pool:
        winners = {round_: who for who, won in enumerate(pool.map(create, range(8))) for round_ in won}
    assert sorted(winners) == list(range(25))
    for round_, who in winners.items():
        assert body(backend, f"new/{round_}/k") == bytes([who]) * 100


def test_readers_see_whole_versions(backend):
    stop = threading.Event()
    put(backend, "k", b"a" * LARGE)

    def overwrite(letter: bytes) -> None:
        while not stop.is_set():
            put(backend, "k", letter * LARGE)

    with ThreadPoolExecutor(2) as pool:
        writers = [pool.submit(overwrite, letter) for letter in (b"b", b"c")]
        try:
            for _ in range(200):
                data = body(backend, "k")
                assert len(data) == LARGE
                assert data == data[:1] * LARGE
        finally:
            stop.set()
        for writer in writers:
            writer.result()


def test_put_passes_over_leftovers_of_a_crash(backend, root):
    (root / "k#1").write_bytes(b"left over")
    (root / "k#2").write_bytes(b"left over")
    put(backend, "k", b"x")
    assert body(backend, "k") == b"x"
    assert keys(backend) == ["k"]
    (root / "k#1").unlink()
    (root / "k#2").unlink()


@pytest.mark.parametrize("name", ["x" * 255, "ж" * 127, "x" * 250])
def test_longest_names_find_room_for_staging(backend, name):
    put(backend, name, b"x")
    upload = run(backend.start_upload(name, PutSpec()))
    run(upload.part(1, [b"y"]))
    run(upload.finish())
    assert keys(backend) == [name]
    assert body(backend, name) == b"y"


def test_unsupported_options(backend, root):
    for start in (lambda spec: backend.put("k", [b""], spec), lambda spec: backend.start_upload("k", spec)):
        for spec, what in [
            (PutSpec(mode="update", e_tag='"x"'), "mode `update`"),
            (PutSpec(attributes={"Content-Type": "x"}), "`opts.attributes` specified"),
        ]:
            with pytest.raises(NotImplementedError) as caught:
                run(start(spec))
            assert type(caught.value) is NotSupportedError
            assert str(caught.value) == (
                f"Operation `put_opts` with {what} not yet implemented by LocalFileSystem(file://{root})."
            )
    assert keys(backend) == []


def test_file_and_directory_of_one_name(backend, root):
    put(backend, "file")
    put(backend, "dir/x")
    cases = [("file/below", "a parent of that name is a file"), ("dir", "a directory of that name exists")]
    for key, hint in cases:
        for op in (
            backend.put(key, [b"x"], PutSpec()),
            backend.copy("file", key, overwrite=True),
            backend.rename("file", key, overwrite=True),
        ):
            with pytest.raises(GenericError, match=f"Unable to .* file {root}/{key}: .*{hint}"):
                run(op)
    with pytest.raises(GenericError, match="a parent of that name is a file"):
        run(backend.start_upload("file/below", PutSpec()))
    upload = run(backend.start_upload("dir", PutSpec()))
    with pytest.raises(GenericError, match="a directory of that name exists"):
        run(upload.finish())
    assert keys(backend) == ["dir/x", "file"]


@pytest.mark.parametrize(
    ("code", "kind", "text"),
    [
        (errno.ENOSPC, GenericError, "the disk is full"),
        (errno.EDQUOT, GenericError, "quota"),
        (errno.EROFS, GenericError, "read-only"),
        (errno.EIO, GenericError, "Input/output error"),
        (errno.EACCES, PermissionDeniedError, "lacked the necessary privileges to complete for path"),
        (errno.EPERM, PermissionDeniedError, "Operation not permitted"),
    ],
)
@pytest.mark.parametrize("function", ["pwritev", "rename"])
def test_failed_put_leaves_nothing(backend, root, monkeypatch, code, kind, text, function):
    put(backend, "k", b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing(code))
        with pytest.raises(kind, match=text) as caught:
            put(backend, "k", b"after")
        assert f"{root}/k" in str(caught.value)
        assert caught.value.key == "k"
        with pytest.raises(kind):
            put(backend, "new", b"after")
        if function == "pwritev":
            upload = run(backend.start_upload("k", PutSpec()))
            with pytest.raises(kind, match=text):
                run(upload.part(1, [b"after"]))
            run(upload.abort())
    assert body(backend, "k") == b"before"
    assert keys(backend) == ["k"]
    assert staging_files(root) == []


def test_late_write_errors_are_reported(backend, monkeypatch):
    """Network file systems tell of a full disk when the file is closed."""
    put(backend, "k", b"before")

    def close(descriptor: _localfs.Descriptor) -> None:
        fd, descriptor.fd = descriptor.fd, -1
        os.close(fd)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_localfs.Descriptor, "close", close)
    with pytest.raises(GenericError, match="the disk is full"):
        put(backend, "k", b"after")
    assert body(backend, "k") == b"before"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may do everything")
def test_permissions_are_the_callers(backend, root):
    put(backend, "dir/k")
    (root / "dir/k").chmod(0)
    with pytest.raises(PermissionDeniedError):
        body(backend, "dir/k")
    (root / "dir").chmod(0)
    try:
        with pytest.raises(PermissionDeniedError):
            put(backend, "dir/other")
        with pytest.raises(PermissionDeniedError):
            keys(backend)
    finally:
        (root / "dir").chmod(0o755)


def test_cancelled_put_is_not_committed(backend, root):
    put(backend, "k", b"before")
    op = backend.put("k", [b"after"], PutSpec())
    with pytest.raises(Cancelled):
        cancel_during(op, Cancelled(), finish_call=True)  # the thread's end: it gives up, too
    assert body(backend, "k") == b"before"
    cancel_during(backend.put("k", [b"after"], PutSpec()), Cancelled(), finish_call=False)
    assert body(backend, "k") == b"before"
    assert staging_files(root) == []


# ---- multipart ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_parts_land_in_place_in_any_order(backend, seed):
    rng = random.Random(seed)
    parts = [rng.randbytes(1000) for _ in range(9)] + [rng.randbytes(rng.randrange(1, 1000))]
    if seed % 2:
        parts = [rng.randbytes(rng.randrange(1, 2000)) for _ in range(10)]  # sizes may differ, too
    upload = run(backend.start_upload("deep/k", PutSpec()))
    assert (upload.max_parts, upload.min_part_bytes) == (None, 0)
    order = list(range(1, 11))
    rng.shuffle(order)
    started = []
    for number in order:  # as the runner does: any number under way, ending in any order
        buffer = bytearray(parts[number - 1])
        started.append((upload.part(number, [memoryview(buffer)[:3], memoryview(buffer)[3:]]), buffer))
        if rng.random() < 0.5:
            finish_part(*started.pop(rng.randrange(len(started))))
    rng.shuffle(started)
    for op, buffer in started:
        finish_part(op, buffer)
    result = run(upload.finish())
    assert body(backend, "deep/k") == b"".join(parts)
    assert result == {"e_tag": run(backend.head("deep/k", None))["e_tag"], "version": None}
    assert keys(backend) == ["deep/k"]


def finish_part(op: object, buffer: bytearray) -> None:
    run(op)
    buffer[:] = bytes(len(buffer))  # the caller may use its memory again


def test_parts_in_threads(backend):
    parts = [bytes([number]) * 10_000 for number in range(50)]
    upload = run(backend.start_upload("k", PutSpec()))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, [upload.part(number, [part]) for number, part in enumerate(parts, 1)]))
    run(upload.finish())
    assert body(backend, "k") == b"".join(parts)


def test_part_may_be_sent_again(backend):
    upload = run(backend.start_upload("k", PutSpec()))
    run(upload.part(1, [b"lost"]))
    run(upload.part(2, [b"-end"]))
    run(upload.part(1, [b"kept"]))
    with pytest.raises(ValueError, match="another size"):
        upload.part(1, [b"longer"])
    run(upload.finish())
    assert body(backend, "k") == b"kept-end"


def test_upload_refuses_to_lose_a_part(backend):
    for numbers, missing in [((1, 3), 2), ((2,), 1), ((3, 2), 1)]:
        upload = run(backend.start_upload("k", PutSpec()))
        for number in numbers:
            run(upload.part(number, [b"x"]))
        with pytest.raises(GenericError, match=f"part {missing} of the upload is missing"):
            run(upload.finish())
        run(upload.abort())
    upload = run(backend.start_upload("k", PutSpec()))
    upload.part(1, [b"announced, never written"])
    with pytest.raises(GenericError, match="part 1 of the upload is missing"):
        run(upload.finish())
    run(upload.abort())
    assert keys(backend) == []


def test_upload_without_parts_is_an_empty_object(backend):
    run(run(backend.start_upload("k", PutSpec())).finish())
    assert body(backend, "k") == b""


def test_upload_is_invisible_until_finished(backend, root):
    put(backend, "k", b"before")
    upload = run(backend.start_upload("k", PutSpec()))
    run(upload.part(1, [b"after"]))
    assert staging_files(root) == ["k#1"]
    assert keys(backend) == ["k"]
    assert body(backend, "k") == b"before"
    run(upload.finish())
    assert body(backend, "k") == b"after"
    with pytest.raises(GenericError, match="ended"):
        run(upload.part(2, [b"late"]))
    with pytest.raises(GenericError, match="ended"):
        run(upload.finish())
    run(upload.abort())
    assert body(backend, "k") == b"after"


def test_upload_creates_only_what_is_missing(backend, root):
    upload = run(backend.start_upload("k", PutSpec(mode="create")))
    run(upload.part(1, [b"late"]))
    put(backend, "k", b"first")
    with pytest.raises(AlreadyExistsError):
        run(upload.finish())
    assert staging_files(root) == []
    run(upload.abort())
    assert body(backend, "k") == b"first"


def test_abort_during_a_part_writes_to_no_other_file(backend, root):
    upload = run(backend.start_upload("k", PutSpec()))
    op = upload.part(1, [b"x" * 100])
    call = next(op)
    run(upload.abort())
    assert staging_files(root) == []
    others = [os.open(root / f"other{number}", os.O_RDWR | os.O_CREAT) for number in range(4)]
    call.fn(*call.args)
    for other in others:
        assert os.fstat(other).st_size == 0
        os.close(other)
    op.close()
    del op, call


def test_dropped_upload_leaves_nothing(backend, root):
    upload = run(backend.start_upload("k", PutSpec()))
    run(upload.part(1, [b"x"]))
    assert staging_files(root) != []
    del upload
    gc.collect()
    assert staging_files(root) == []


def test_upload_open_at_exit_leaves_nothing_and_a_fork_takes_nothing(root):
    program = f"""
import os, sys
from pathlib import Path
from obstore._local import LocalBackend
from obstore._types import PutSpec
from tests.unit.drive import run
upload = run(LocalBackend(Path({str(root)!r}), automatic_cleanup=False, mkdir=False).start_upload("k", PutSpec()))
child = os.fork()
if child == 0:
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
assert os.listdir({str(root)!r}) == ["k#1"], "the child took the file away"
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(root) == []


# ---- copy, rename, delete -------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_copy_makes_an_independent_file(backend, root, monkeypatch, fast, size):
    if not fast:
        monkeypatch.setattr(os, "copy_file_range", failing(errno.EXDEV))
    data = random.Random(5).randbytes(size)
    put(backend, "a", data)
    run(backend.copy("a", "new/b", overwrite=False))
    assert body(backend, "new/b") == data
    with open(root / "a", "ab") as file:
        file.write(b"more")
    assert body(backend, "new/b") == data
    assert (root / "a").stat().st_ino != (root / "new/b").stat().st_ino


def test_copy_and_rename_hold_back_from_what_exists(backend):
    put(backend, "a", b"a")
    put(backend, "b", b"b")
    for op in (backend.copy("a", "b", overwrite=False), backend.rename("a", "b", overwrite=False)):
        with pytest.raises(AlreadyExistsError, match="/b already exists"):
            run(op)
    assert (body(backend, "a"), body(backend, "b")) == (b"a", b"b")
    run(backend.copy("a", "b", overwrite=True))
    run(backend.rename("b", "new/c", overwrite=False))
    run(backend.rename("a", "new/c", overwrite=True))
    assert keys(backend) == ["new/c"]


@pytest.mark.parametrize("overwrite", [True, False])
def test_copy_and_rename_onto_itself_do_nothing(backend, overwrite):
    put(backend, "a")
    meta = run(backend.head("a", None))
    run(backend.copy("a", "a", overwrite=overwrite))
    run(backend.rename("a", "a", overwrite=overwrite))
    assert run(backend.head("a", None)) == meta


def test_rename_between_hard_links_removes_the_source(backend, root):
    """rename(2) would do nothing and leave both."""
    put(backend, "a", b"x")
    os.link(root / "a", root / "b")
    run(backend.rename("a", "b", overwrite=True))
    assert keys(backend) == ["b"]
    os.link(root / "b", root / "other")
    (root / "here").symlink_to(".")
    run(backend.rename("here/b", "b", overwrite=True))  # one place, spelt in two ways
    assert keys(backend) == ["b", "other"]
    assert body(backend, "b") == b"x"


def test_rename_across_file_systems_copies(backend, monkeypatch):
    put(backend, "a", b"x")
    real_rename, real_link = os.rename, os.link

    def across(real: Callable[..., None]) -> Callable[..., None]:
        def move(source: str, target: str, **where: object) -> None:
            if not STAGING.search(source):
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            real(source, target, **where)

        return move

    monkeypatch.setattr(os, "rename", across(real_rename))
    monkeypatch.setattr(os, "link", across(real_link))
    run(backend.rename("a", "b", overwrite=True))
    run(backend.rename("b", "c", overwrite=False))
    assert keys(backend) == ["c"]
    assert body(backend, "c") == b"x"


def test_failed_copy_leaves_nothing(backend, monkeypatch):
    put(backend, "a")
    monkeypatch.setattr(os, "copy_file_range", failing(errno.ENOSPC))
    with pytest.raises(GenericError, match=r"Unable to copy file .*/b: .*the disk is full"):
        run(backend.copy("a", "b", overwrite=True))
    assert keys(backend) == ["a"]


def test_delete_leaves_empty_directories_unless_told(backend, root):
    put(backend, "a/b/c/k")
    put(backend, "a/other")
    assert run(backend.delete(["a/b/c/k"])) == [None]
    assert (root / "a/b/c").is_dir()
    tidy = LocalBackend(root, automatic_cleanup=True, mkdir=False)
    put(tidy, "a/b/c/k")
    assert run(tidy.delete(["a/b/c/k"])) == [None]
    assert sorted(path.name for path in root.rglob("*")) == ["a", "other"]
    assert run(tidy.delete(["a/other"])) == [None]
    assert root.is_dir()
    assert os.listdir(root) == []


def test_put_survives_clean_ups(backend, root):
    """A directory may vanish between being made and being written to."""
    tidy = LocalBackend(root, automatic_cleanup=True, mkdir=False)

    def churn(who: int) -> None:
        for _ in range(100):
            put(tidy, f"a/b/{who}", b"x", mode="create")
            run(tidy.rename(f"a/b/{who}", f"c/d/{who}", overwrite=True))
            assert run(tidy.delete([f"c/d/{who}"])) == [None]
            with suppress(OSError):  # not empty just now
                os.rmdir(root / "a/b")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert keys(tidy) == []


# ---- listings -------------------------------------------------------------------------------------------

TREE = [
    "a!b",
    "a-b/c",
    "a.txt",
    "a/1",
    "a/2/x",
    "a/2/y",
    "a/3",
    "a0",
    "ab/c",
    "b",
    "z/#1/q",
    "é/ü",
    "\U00010000",
    "\uffff",
]


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/2", "a/2/", "a/2/x", "a/2/x/", "é", "é/", "none", "none/", "/", "a-"]
)
@pytest.mark.parametrize("offset", [None, "", "a", "a/2", "a/2/", "a/2/x", "a0", "zzz", "0", "a."])
def test_list_orders_by_the_bytes_of_the_keys(backend, prefix, offset):
    for key in TREE:
        put(backend, key, b"")
    ordered = sorted(TREE, key=lambda key: key.encode())
    expected = [key for key in ordered if key.startswith(prefix) and (offset is None or key > offset)]
    assert keys(backend, prefix, offset) == expected


@pytest.mark.parametrize(
    ("prefix", "objects", "prefixes"),
    [
        ("", ["a!b", "a.txt", "a0", "b", "\uffff", "\U00010000"], ["a-b", "a", "ab", "empty", "z", "é"]),
        ("a/", ["a/1", "a/3"], ["a/2"]),
        ("a", ["a!b", "a.txt", "a0"], ["a-b", "a", "ab"]),
        ("a/2/", ["a/2/x", "a/2/y"], []),
        ("z/", [], ["z/#1"]),
        ("empty/", [], []),
        ("b/", [], []),
        ("none/", [], []),
    ],
)
def test_list_with_delimiter_stops_at_the_next_slash(backend, root, prefix, objects, prefixes):
    for key in TREE:
        put(backend, key, b"")
    (root / "empty").mkdir()
    (page,) = pages(backend, prefix, delimiter=True)
    assert [meta["path"] for meta in page.objects] == objects
    assert page.prefixes == prefixes


def test_list_shows_files_only(backend, root):
    put(backend, "k")
    (root / "empty").mkdir()
    (root / "dangling").symlink_to("nowhere")
    (root / "staging#12").touch()
    os.mkfifo(root / "pipe")
    assert keys(backend) == ["k"]
    (root / "staging#12").unlink()


def test_list_of_ten_thousand(backend, root):
    rng = random.Random(6)
    expected = []
    for number in rng.sample(range(10**9), 10_000):
        folder = rng.choice(["", "d/", "d/e/", "d.e/", "d0/"])
        expected.append(f"{folder}{number}")
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / str(number)).touch()
    expected.sort()
    found, calls = [], 0
    cursor = None
    while True:
        page, taken = run_counted(backend.list_page("", None, delimiter=False, cursor=cursor))
        calls += taken
        found += [meta["path"] for meta in page.objects]
        cursor = page.cursor
        if cursor is None:
            break
        assert len(page.objects) == 1000
    assert found == expected
    assert calls <= 11
    assert keys(backend, "d/", expected[5000]) == [key for key in expected[5001:] if key.startswith("d/")]


def test_list_goes_on_while_files_vanish(backend, root):
    for number in range(1500):
        (root / f"{number:04d}").touch()
    (root / "x").mkdir()
    (root / "x/y").touch()
    first = run(backend.list_page("", None, delimiter=False, cursor=None))
    (root / "1200").unlink()
    (root / "x/y").unlink()
    (root / "x").rmdir()
    second = run(backend.list_page("", None, delimiter=False, cursor=first.cursor))
    found = [meta["path"] for page in (first, second) for meta in page.objects]
    assert found == [f"{number:04d}" for number in range(1500) if number != 1200]


def test_dropped_listing_holds_nothing_open(backend, root):
    for number in range(1100):
        (root / f"d{number:04d}").mkdir()
        (root / f"d{number:04d}/k").touch()
    before = open_descriptors()
    first = run(backend.list_page("", None, delimiter=False, cursor=None))
    assert first.cursor is not None
    assert open_descriptors() == before


def test_unreadable_directory_is_reported(backend, root, monkeypatch):
    put(backend, "dir/k")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("/dir"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(PermissionDeniedError, match=f"{root}/dir"):
        keys(backend)
