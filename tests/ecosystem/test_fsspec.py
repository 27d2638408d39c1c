"""FsspecStore beyond fsspec's own suites: paths, options, bulk, trees, progress, transactions, pickles."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import fnmatch
import functools
import http.server
import io
import json
import os
import pickle
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.callbacks import Callback
from fsspec.implementations.local import LocalFileSystem

import obstore as obs
import obstore.fsspec
from obstore._config.fsspec import translate
from obstore.fsspec import BufferedFile, FsspecStore
from tests.ecosystem.conftest import CLOUDS, Place, make_place
from tests.fix_stores import make_subject
from tests.servers.dav import PASSWORD, USER

DATA = random.Random(2).randbytes(100_000)


# ---- paths and options --------------------------------------------------------------------------------


def test_bound_bucket_takes_paths_with_and_without_it(place: Place):
    if place.kind == "local":
        fs = FsspecStore.from_store(place.store)
    else:
        fs = FsspecStore("s3", bucket=place.bare, **place.options)
    fs.pipe_file("a/b", b"1")
    for path in ("a/b", f"{place.bare}/a/b", f"{place.root}/a/b"):
        assert fs.cat_file(path) == b"1"
        assert fs.info(path)["name"] == f"{place.bare}/a/b"
    assert fs.ls("") == fs.ls(place.bare) == [f"{place.bare}/a"]
    assert fs.find("a") == [f"{place.bare}/a/b"]
    assert fs.glob("a/*") == [f"{place.bare}/a/b"]
    with fs.open("a/b") as file:
        assert file.read() == b"1"


def test_from_store_with_a_prefix(place: Place):
    obs.put(place.store, "pre/fix/k", b"1")
    if place.kind == "local":
        store: Any = obs.LocalStore(Path(place.bare) / "pre/fix")
    else:
        store = obs.S3Store(**place.more["endpoint"].config(place.bare), prefix="pre/fix")
    fs = FsspecStore.from_store(store)
    assert fs.cat_file("k") == b"1"
    assert fs.find("") == [f"{place.bare}/pre/fix/k"]
    assert fs.cat_file(fs.find("")[0]) == b"1"
    again = pickle.loads(pickle.dumps(fs))
    assert again == fs
    assert again.cat_file("k") == b"1"
    with pytest.raises(ValueError, match="store"):
        FsspecStore.from_store("store")


def test_split_path_and_construct_store_as_published():
    fs = FsspecStore("s3", region="us-east-1", skip_signature=True)
    assert fs._split_path("s3://bkt/a/b") == fs._split_path("bkt/a/b") == ("bkt", "a/b")
    assert fs._split_path("bkt") == fs._split_path("bkt/") == ("bkt", "")
    with pytest.raises(ValueError, match=r"Expected protocol to be s3\. Got gs"):
        fs._split_path("gs://bkt/a")
    assert isinstance(fs._construct_store("bkt"), obs.S3Store)
    assert fs._construct_store.cache_info().currsize == 1
    assert fs._strip_protocol("abfs://c@account.dfs.core.windows.net/p/q/") == "c/p/q"
    with pytest.raises(ValueError, match="protocol"):
        FsspecStore("ftp")
    with pytest.raises(ValueError, match="no bucket"):
        fs.cat_file("/key")


@pytest.mark.parametrize(
    ("scheme", "options", "config", "client"),
    [
        (
            "s3",
            {
                "key": "K",
                "secret": "S",
                "token": "T",
                "endpoint_url": "http://h:1",
                "client_kwargs": {"region_name": "r"},
            },
            {
                "access_key_id": "K",
                "secret_access_key": "S",
                "session_token": "T",
                "endpoint": "http://h:1",
                "region": "r",
            },
            {"allow_http": True},
        ),
        ("s3", {"anon": True, "requester_pays": True}, {"skip_signature": True, "request_payer": True}, {}),
        (
            "s3",
            {
                "config_kwargs": {"connect_timeout": 3, "s3": {"addressing_style": "path"}},
                "client_kwargs": {"verify": False},
            },
            {"virtual_hosted_style_request": False},
            {"connect_timeout": "3s", "allow_invalid_certificates": True},
        ),
        ("s3", {"access_key_id": "ours", "key": "theirs", "default_block_size": 5}, {"access_key_id": "ours"}, {}),
        ("gcs", {"token": "anon", "project": "p"}, {"skip_signature": True}, {}),
        ("gcs", {"token": {"type": "x"}}, {"service_account_key": '{"type": "x"}'}, {}),
        ("gcs", {"token": "/key.json"}, {"application_credentials": "/key.json"}, {}),
        ("azure", {"account_name": "a", "sas_token": "s"}, {"account_name": "a", "sas_key": "s"}, {}),
        (
            "azure",
            {
                "connection_string": "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=aw==;BlobEndpoint=http://h:1/a;"
            },
            {"account_name": "a", "account_key": "aw==", "endpoint": "http://h:1/a"},
            {"allow_http": True},
        ),
        (
            "azure",
            {"account_name": "a", "credential": "sv=1&sig=%2B"},
            {"account_name": "a", "sas_key": "sv=1&sig=%2B"},
            {},
        ),
        ("http", {"headers": {"x": "y"}}, {}, {"default_headers": {"x": "y"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_of_other_implementations(scheme: str, options: dict, config: dict, client: dict):
    found = translate(scheme, options)
    if "access_key_id" in options:
        assert found.config["access_key_id"] == "ours"
    else:
        assert found.config == config
    assert found.client == client


def test_unknown_options_are_refused(place: Place):
    if place.kind == "s3":
        with pytest.raises(obs.UnknownConfigurationKeyError, match="no_such"):
            FsspecStore("s3", no_such="option", **place.options).ls(place.bare)
    with pytest.raises(ValueError, match="s3_additional_kwargs"):
        translate("s3", {"s3_additional_kwargs": {"ACL": "public"}})


# ---- looking ------------------------------------------------------------------------------------------


def test_info_ls_exists(any_place: Place):
    fs = any_place.fs()
    root = any_place.bare
    fs.pipe({f"{root}/a/b": b"12", f"{root}/a/c/d": b"345"})
    info = fs.info(f"{root}/a/b")
    assert {name: info[name] for name in ("name", "size", "type")} == {"name": f"{root}/a/b", "size": 2, "type": "file"}
    assert info["e_tag"] == obs.head(any_place.store, "a/b" if any_place.kind != "memory" else f"{root}/a/b")["e_tag"]
    assert fs.info(f"{root}/a") == {"name": f"{root}/a", "size": 0, "type": "directory"}
    assert fs.ls(f"{root}/a") == [f"{root}/a/b", f"{root}/a/c"]
    assert sorted((e["name"], e["type"]) for e in fs.ls(f"{root}/a", detail=True)) == [
        (f"{root}/a/b", "file"),
        (f"{root}/a/c", "directory"),
    ]
    assert fs.ls(f"{root}/a/b") == [f"{root}/a/b"]
    assert fs.isdir(root)
    assert fs.isdir(f"{root}/a")
    assert fs.isfile(f"{root}/a/b")
    assert not fs.exists(f"{root}/a/x")
    assert not fs.isdir(f"{root}/a/x")
    for call in (fs.info, fs.ls, fs.cat_file):
        with pytest.raises(FileNotFoundError):
            call(f"{root}/nowhere/x")
    assert fs.modified(f"{root}/a/b") == info["last_modified"]
    assert fs.ukey(f"{root}/a/b") == fs.ukey(f"{root}/a/b") != fs.ukey(f"{root}/a/c/d")
    assert fs.du(root) == 5
    with pytest.raises(NotImplementedError):
        fs.created(f"{root}/a/b")


def test_trees_equal_those_of_the_local_file_system(tmp_path: Path, any_place: Place):
    dice = random.Random(11)
    names = ["a", "b1", "b2", "c.txt", "d[x]", "é", "f g"]
    mirror = tmp_path / "mirror"
    fs, local = any_place.fs(), LocalFileSystem()
    paths = sorted({"/".join(dice.choices(names, k=dice.randrange(1, 5))) for _ in range(60)})
    paths = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    for path in paths:
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(path.encode())
    fs.pipe({f"{any_place.bare}/{path}": path.encode() for path in paths})

    def below(root: str, found: Any) -> list[str]:
        return sorted(str(name).removeprefix(root).lstrip("/") for name in found)

    ours, theirs = any_place.bare, str(mirror)
    for arguments in ({}, {"withdirs": True}, {"maxdepth": 1}, {"maxdepth": 2, "withdirs": True}):
        for start in ("", "/a", "/b1", "/nowhere"):
            assert below(ours, fs.find(ours + start, **arguments)) == below(
                theirs, local.find(theirs + start, **arguments)
            )
    walked = [(below(ours, [top])[0], sorted(dirs), sorted(files)) for top, dirs, files in fs.walk(ours)]
    expected = [(below(theirs, [top])[0], sorted(dirs), sorted(files)) for top, dirs, files in local.walk(theirs)]
    assert sorted(walked) == sorted(expected)
    for pattern in (
        "*",
        "*/*",
        "**",
        "a/**",
        "**/c.txt",
        "b?",
        "b[12]/*",
        "b[!1]*",
        "[[]*",
        "d[[]x]/*",
        "{a,b1}/*",
        "*/",
        "é*",
        "a/",
        "**/*.txt",
    ):
        assert below(ours, fs.glob(f"{ours}/{pattern}")) == below(theirs, local.glob(f"{theirs}/{pattern}")), pattern
    some = below(ours, fs.glob(f"{ours}/*"))
    assert all(fnmatch.fnmatch(name, "*") for name in some)
    assert some


def test_listings_are_cached_if_asked_for(place: Place):
    fs = place.fs(use_listings_cache=True)
    fs.pipe_file(f"{place.bare}/d/a", b"1")
    assert fs.ls(f"{place.bare}/d") == [f"{place.bare}/d/a"]
    obs.put(place.store, "d/b", b"2")  # by somebody else
    assert fs.ls(f"{place.bare}/d") == [f"{place.bare}/d/a"]
    assert fs.ls(f"{place.bare}/d", refresh=True) == [f"{place.bare}/d/a", f"{place.bare}/d/b"]
    fs.pipe_file(f"{place.bare}/d/c", b"3")  # by ourselves
    assert len(fs.ls(f"{place.bare}/d")) == 3
    assert fs.info(f"{place.bare}/d/c")["size"] == 1
    plain = place.fs()
    assert len(plain.ls(f"{place.bare}/d")) == 3
    assert not plain.dircache


# ---- reading and writing ------------------------------------------------------------------------------


def test_cat_file_and_cat_ranges(any_place: Place):
    fs = any_place.fs()
    one, two = f"{any_place.bare}/one", f"{any_place.bare}/two"
    fs.pipe({one: DATA, two: b"0123456789"})
    for start, end in [
        (None, None),
        (5, None),
        (None, 5),
        (-5, None),
        (None, -5),
        (-10, -5),
        (3, 3),
        (0, 200_000),
        (7, 9),
    ]:
        assert fs.cat_file(one, start, end) == DATA[start:end], (start, end)
    paths = [one, two, one, two, one, f"{any_place.bare}/none"]
    starts, ends = [0, 2, 50_000, -3, 99_990, 0], [10, 4, 60_000, None, 200_000, 5]
    out = fs.cat_ranges(paths, starts, ends)
    assert out[:5] == [DATA[:10], b"23", DATA[50_000:60_000], b"789", DATA[99_990:]]
    assert all(type(piece) is bytes for piece in out[:5])
    assert isinstance(out[5], FileNotFoundError)
    assert fs.cat_ranges([one, two], 1, 3) == [DATA[1:3], b"12"]
    out = fs.cat_ranges([two, two], [0, 50], [5, 60])
    assert out[0] == b"01234"
    assert isinstance(out[1], Exception)
    with pytest.raises(FileNotFoundError):
        fs.cat_ranges(paths, starts, ends, on_error="raise")
    with pytest.raises(ValueError, match="paths"):
        fs.cat_ranges([one], [1, 2], [3, 4])


def test_cat_of_one_is_bytes_and_dict(place: Place):
    fs = place.fs()
    one, two = f"{place.bare}/d/one", f"{place.bare}/d/two"
    fs.pipe({one: b"1", two: b"2"})
    assert fs.cat(one) == b"1"
    assert isinstance(fs.cat(one), bytes)
    assert fs.cat(one)[one] == b"1"
    assert dict(fs.cat(one).items()) == {one: b"1"}
    assert fs.cat(one)[0] == ord("1")
    assert fs.cat([one, two]) == fs.cat(f"{place.bare}/d", recursive=True) == {one: b"1", two: b"2"}
    assert fs.cat([one, f"{place.bare}/x"], on_error="omit") == {one: b"1"}
    with pytest.raises(KeyError):
        fs.cat(one)[two]


def test_create_only(any_place: Place):
    fs = any_place.fs()
    path = f"{any_place.bare}/once"
    fs.pipe_file(path, b"1", mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe_file(path, b"2", mode="create")
    with pytest.raises(ValueError, match="mode"):
        fs.pipe_file(path, b"2", mode="perhaps")
    assert fs.cat_file(path) == b"1"


def test_files(any_place: Place):
    fs = any_place.fs()
    path = f"{any_place.bare}/f"
    with fs.open(path, "wb") as file:
        assert isinstance(file, BufferedFile)
        assert (file.writable(), file.readable()) == (True, False)
        file.write(b"one\n")
        with pytest.raises(io.UnsupportedOperation):
            file.read()
    with fs.open(path, "ab") as file:
        file.write(b"two\n")
    with fs.open(path, "rb") as file:
        assert file.size == 8
        assert (file.readline(), file.tell(), file.loc) == (b"one\n", 4, 4)
        copy = pickle.loads(pickle.dumps(file)) if any_place.kind != "memory" else file
        assert copy.read() == b"two\n"
        file.seek(0)
        assert list(file) == file.seek(0) * [b""] + [b"one\n", b"two\n"]
        file.seek(0)
        assert file.readlines() == [b"one\n", b"two\n"]
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"")
    with pytest.raises(ValueError, match="closed"):
        file.read()
    with fs.open(path, "w", encoding="utf-8") as text:
        text.write("ä\n")
    assert fs.open(path, "r", encoding="utf-8").read() == "ä\n"
    with fs.open(f"{path}.gz", "wb", compression="gzip") as file:
        file.write(DATA)
    assert fs.open(f"{path}.gz", compression="infer").read() == DATA
    with pytest.raises(ValueError, match="modes"):
        fs.open(path, "r+b")
    with pytest.raises(FileNotFoundError):
        fs.open(f"{path}x")
    with contextlib.suppress(RuntimeError), fs.open(f"{any_place.bare}/half", "wb") as file:
        file.write(b"half")
        raise RuntimeError
    assert not fs.exists(f"{any_place.bare}/half")
    fs.touch(path)
    assert fs.cat_file(path) == b""
    assert (fs.head(f"{path}.gz", 2), fs.tail(f"{path}.gz", 0)) == (b"\x1f\x8b", b"")


def test_transaction(place: Place):
    fs = place.fs()
    with fs.transaction:
        with fs.open(f"{place.bare}/a", "wb") as file:
            file.write(b"1")
        assert not fs.exists(f"{place.bare}/a")
    assert fs.cat_file(f"{place.bare}/a") == b"1"
    with contextlib.suppress(RuntimeError), fs.transaction:
        with fs.open(f"{place.bare}/b", "wb") as file:
            file.write(b"1")
        raise RuntimeError
    assert not fs.exists(f"{place.bare}/b")


class Counter(Callback):
    """Remembers what it was told, and makes one of itself for each file."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.files: list[Counter] = []

    def branched(self, path_1: str, path_2: str, **kwargs: Any) -> Counter:
        self.files.append(Counter())
        return self.files[-1]


def test_progress_and_trees_both_ways(place: Place, scratch: Path):
    fs = place.fs()
    for name in ("a", "d/b", "d/e/c"):
        (scratch / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch / "in" / name).write_bytes(DATA[: len(name) * 10_000])
    up, down = Counter(), Counter()
    fs.put(f"{scratch}/in/", f"{place.bare}/tree/", recursive=True, callback=up)
    assert fs.find(f"{place.bare}/tree") == [f"{place.bare}/tree/{name}" for name in ("a", "d/b", "d/e/c")]
    fs.get(f"{place.bare}/tree/", f"{scratch}/out/", recursive=True, callback=down)
    for name in ("a", "d/b", "d/e/c"):
        assert (scratch / "out" / name).read_bytes() == (scratch / "in" / name).read_bytes()
    for counter in (up, down):
        assert counter.size == counter.value
        assert sorted((each.size, each.value) for each in counter.files if each.size) == [
            (size, size) for size in (10_000, 30_000, 50_000)
        ]
    target = io.BytesIO()
    fs.get_file(f"{place.bare}/tree/a", target)
    assert target.getvalue() == DATA[:10_000]
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{place.bare}/tree/none", str(scratch / "none"))
    assert os.listdir(scratch) == ["in", "out"] or sorted(os.listdir(scratch)) == ["in", "out"]
    fs.mv(f"{place.bare}/tree", f"{place.bare}/moved", recursive=True)
    assert fs.find(place.bare) == [f"{place.bare}/moved/{name}" for name in ("a", "d/b", "d/e/c")]
    fs.rm(f"{place.bare}/moved", recursive=True)
    assert fs.find(place.bare) == []
    assert not fs.exists(f"{place.bare}/moved")


@pytest.fixture(params=["s3", *CLOUDS])
def cloud(request: pytest.FixtureRequest) -> Place:
    """Every service in turn."""
    return make_place(request.param, request)


def test_many_are_one_transfer(cloud: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch):
    """Trees and dicts go by `obstore.bulk`; no file is an operation of fsspec's."""

    async def never(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("an operation for one file")

    for name in ("_get_file", "_put_file", "_cat_file", "_pipe_file"):
        monkeypatch.setattr(FsspecStore, name, never)
    fs, root = cloud.fs(), cloud.bare
    contents = {f"{root}/t/{name}": DATA[: 100 * len(name)] for name in ("a", "b c", "d/e", "d/f/ü", "d%20g")}
    fs.pipe(contents, attributes={"Content-Type": "text/x-own"})
    assert obs.get(cloud.store, "t/d/e").attributes["Content-Type"] == "text/x-own"
    assert fs.cat(f"{root}/t", recursive=True) == contents
    told = Callback()
    fs.get(f"{root}/t", f"{scratch}/out", recursive=True, callback=told)
    assert (told.size, told.value) == (5, 5)
    assert {
        str(path.relative_to(scratch / "out")): path.read_bytes() for path in scratch.rglob("*") if path.is_file()
    } == {name.removeprefix(f"{root}/t/"): data for name, data in contents.items()}
    told = Callback()
    fs.put(f"{scratch}/out/", f"{root}/back/", recursive=True, callback=told, batch_size=2)
    assert (told.size, told.value) == (5, 5)
    assert fs.cat(f"{root}/back", recursive=True, batch_size=2) == {
        path.replace("/t/", "/back/"): data for path, data in contents.items()
    }
    with pytest.raises(FileExistsError):
        fs.put([f"{scratch}/out/a", f"{scratch}/out/b c"], [f"{root}/new", f"{root}/t/a"], mode="create")
    with pytest.raises(FileExistsError):
        fs.pipe({f"{root}/newer": b"1", f"{root}/t/a": b"1"}, mode="create")
    assert obs.get(cloud.store, "t/a").bytes() == contents[f"{root}/t/a"]


def test_large_file_is_got_in_ranges(cloud: Place, scratch: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(obstore.fsspec, "_LARGE_BYTES", 20 << 20)
    fs, root = cloud.fs(), cloud.bare
    data = os.urandom(24 << 20)
    fs.pipe_file(f"{root}/large", data)
    store, _ = fs.locate(f"{root}/large")
    before = store.stats()["requests"]
    told = Callback()
    fs.get_file(f"{root}/large", f"{scratch}/new/large", callback=told)
    assert (scratch / "new" / "large").read_bytes() == data
    assert (told.size, told.value) == (len(data), len(data))
    assert os.listdir(scratch / "new") == ["large"]
    assert store.stats()["requests"] - before > 2, "one for its size, one for all of it"
    with pytest.raises(OSError, match="large"):
        fs.get_file(f"{root}/large", f"{scratch}/new/large/below")


def test_many_of_which_some_fail(cloud: Place, scratch: Path):
    fs, root = cloud.fs(), cloud.bare
    fs.pipe({f"{root}/a": b"1", f"{root}/d//e": b"2"})
    found = fs.cat([f"{root}/a", f"{root}/d//e", f"{root}/none"], on_error="return")
    assert (found[f"{root}/a"], found[f"{root}/d//e"]) == (b"1", b"2")
    assert isinstance(found[f"{root}/none"], FileNotFoundError)
    with pytest.raises(FileNotFoundError):
        fs.cat([f"{root}/a", f"{root}/none"])
    pairs = [f"{root}/a", f"{root}/none"], [f"{scratch}/a", f"{scratch}/none"]
    with pytest.raises(FileNotFoundError):
        fs.get(*pairs)
    assert os.listdir(scratch) == ["a"]
    with pytest.raises(FileNotFoundError):
        fs.put([f"{scratch}/a", f"{scratch}/none"], [f"{root}/b", f"{root}/none"])
    assert fs.cat_file(f"{root}/b") == b"1"


def test_copies_between_buckets(request: pytest.FixtureRequest):
    one, two = make_place("s3", request), make_place("s3", request)
    fs = one.fs()
    fs.pipe_file(f"{one.bare}/k", DATA, attributes={"Content-Type": "text/x-own"})
    fs.cp(f"{one.bare}/k", f"{two.bare}/k")
    assert fs.cat_file(f"{two.bare}/k") == DATA
    assert obs.get(two.store, "k").attributes["Content-Type"] == "text/x-own"
    fs.mv(f"{one.bare}/k", f"{two.bare}/moved")
    assert not fs.exists(f"{one.bare}/k")
    assert fs.cat_file(f"{two.bare}/moved") == DATA
    import urllib.request

    with urllib.request.urlopen(fs.sign(f"{two.bare}/moved", expiration=60)) as answer:
        assert answer.read() == DATA


def test_keys_as_they_are(request: pytest.FixtureRequest):
    place = make_place("s3", request)
    fs = place.fs()
    keys = ["a//b", "/lead", "p%20q", "r?s#t", "u v+w", "dir/./x", "ü/ß"]
    for key in keys:
        fs.pipe_file(f"{place.bare}/{key}", key.encode())
    assert fs.find(place.bare) == sorted(f"{place.bare}/{key}" for key in keys)
    for key in keys:
        assert fs.cat_file(f"{place.bare}/{key}") == key.encode()
        fs.rm_file(f"{place.bare}/{key}")
    assert fs.find(place.bare) == []


# ---- objects that travel, registration ----------------------------------------------------------------


def test_pickle_json_and_equality(place: Place):
    from obstore.fsspec import _class_for

    protocol = place.root.partition("://")[0]
    for fs in (FsspecStore(protocol, **place.options), _class_for(protocol, False)(**place.options)):
        fs.pipe_file(f"{place.bare}/k", b"1")
        for again in (pickle.loads(pickle.dumps(fs)), fsspec.AbstractFileSystem.from_json(fs.to_json())):
            assert again == fs
            assert type(again) is type(fs)
            assert again.cat_file(f"{place.bare}/k") == b"1"
        assert json.loads(fs.to_json())["protocol"] == protocol
        assert FsspecStore(protocol, **place.options) is FsspecStore(protocol, **place.options)


@pytest.mark.usefixtures("registered")
def test_registered_urls(place: Place):
    with fsspec.open(f"{place.root}/k.txt", "wt", **place.options) as text:
        text.write("hello")
    fs, path = fsspec.url_to_fs(f"{place.root}/k.txt", **place.options)
    assert type(fs).__module__ == "obstore.fsspec"
    assert path == f"{place.bare}/k.txt"
    assert fs.cat_file(path) == b"hello"
    assert [file.path for file in fsspec.open_files(f"{place.root}/*.txt", **place.options)] == [path]
    mapper = fsspec.get_mapper(place.root, **place.options)
    mapper["x/y"] = b"2"
    assert sorted(mapper) == ["k.txt", "x/y"]
    assert mapper.getitems(["x/y", "k.txt"]) == {"x/y": b"2", "k.txt": b"hello"}
    assert fsspec.filesystem("simplecache", fs=fs).cat_file(path) == b"hello"


def test_entry_points_work_without_registration(place: Place):
    fs, path = fsspec.url_to_fs(f"obstore+{place.root}/k", **place.options)
    assert type(fs).__module__ == "obstore.fsspec"
    fs.pipe_file(path, b"1")
    assert pickle.loads(pickle.dumps(fs)).cat_file(path) == b"1"
    assert fs.unstrip_protocol(path) == f"obstore+{place.root}/k"


def test_registering():
    program = """
import fsspec
from obstore.fsspec import register, FsspecStore
register(); register("s3"); register(["memory"], asynchronous=True)
for name in ("s3", "s3a", "gs", "gcs", "abfs", "https"):
    assert issubclass(fsspec.get_filesystem_class(name), FsspecStore), name
assert not issubclass(fsspec.get_filesystem_class("file"), FsspecStore)
assert fsspec.filesystem("memory").asynchronous
for wrong in ("ftp", ["s3", "ftp"]):
    try: register(wrong)
    except ValueError: pass
    else: raise AssertionError(wrong)
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("fine\n", "")


def test_asynchronous(place: Place):
    async def main() -> None:
        fs = place.fs(asynchronous=True)
        await fs._pipe({f"{place.bare}/k{number}": b"%d" % number for number in range(50)})
        assert await fs._cat([f"{place.bare}/k1", f"{place.bare}/k2"]) == {
            f"{place.bare}/k1": b"1",
            f"{place.bare}/k2": b"2",
        }
        assert len(await fs._find(place.bare)) == 50
        async with await fs.open_async(f"{place.bare}/new", "wb") as file:
            await file.write(b"new")
        async with await fs.open_async(f"{place.bare}/new") as file:
            assert await file.read() == b"new"
        await fs._rm(place.bare, recursive=True)
        assert await fs._find(place.bare) == []

    asyncio.run(main())


def test_web_server(scratch: Path):
    """An ordinary one: URLs are taken as they are, a query with them, and what is not there is not there."""
    (scratch / "d e").mkdir()
    (scratch / "d e" / "a b%.txt").write_bytes(b"hello")
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            asked.append(self.requestline.rpartition(" ")[0])

    handler = functools.partial(Handler, directory=str(scratch))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            host = f"127.0.0.1:{server.server_port}"
            url = f"obstore+http://{host}/d%20e/a%20b%25.txt"
            fs, path = fsspec.url_to_fs(url)
            assert fs.cat_file(path) == b"hello"
            assert fs.info(path)["size"] == 5
            assert fs._split_path(path) == (host, "d%20e/a%20b%25.txt")
            asked.clear()
            query = "?sig=a%2Bb&p=/x/"
            assert fs.cat(url + query) == b"hello"
            assert asked == [f"GET /d%20e/a%20b%25.txt{query}"]
            with fsspec.open(url + query) as file:
                assert file.read() == b"hello"
            assert fs.cat_ranges([url + query], [1], [3]) == [b"el"]
            fs.get(f"{url}?sig=1", str(scratch / "out"))
            fs.get(f"{url}?sig=1", f"{scratch}/into/")
            assert (scratch / "out").read_bytes() == (scratch / "into" / "a b%.txt").read_bytes() == b"hello"
            assert fs.cat([url, url + query]) == {path: b"hello", path + query: b"hello"}
            assert fs.glob(url + query) == [path + query]
            assert {each.partition("?")[2] for each in asked} == {"", query[1:], "sig=1"}
            assert not fs.exists(f"{url}x")
            assert not fs.isdir(f"obstore+http://{host}/nothing")
            assert fs.glob(f"{url}x{query}") == []
            for call in (fs.cat_file, fs.info, fs.open):
                with pytest.raises(FileNotFoundError):
                    call(f"{url}x{query}")
        finally:
            server.shutdown()
            serving.join()


def test_web_server_that_lists(request: pytest.FixtureRequest, scratch: Path):
    subject = make_subject("webdav", request)
    subject.judge_put("a b/ü%?.txt", b"1")
    root = str(subject.store.url).partition("://")[2]
    token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    fs = FsspecStore("http", headers={"Authorization": f"Basic {token}"}, skip_instance_cache=True)
    shown = f"{root}/a%20b/%C3%BC%25%3F.txt"
    assert fs.find(root) == fs.glob(f"{root}/**/*.txt") == [shown]
    assert fs.ls(root) == [f"{root}/a%20b"]
    assert fs.isdir(f"{root}/a%20b")
    assert fs.cat(root, recursive=True) == {shown: b"1"}
    fs.pipe({f"{root}/n/{number}%20": b"2" for number in range(3)})
    assert subject.judge_keys() == ["a b/ü%?.txt", "n/0 ", "n/1 ", "n/2 "]
    fs.get(f"{root}/n", f"{scratch}/out", recursive=True)
    assert sorted(os.listdir(scratch / "out")) == ["0%20", "1%20", "2%20"]
    fs.rm(f"{root}/n", recursive=True)
    fs.rm(shown)
    assert subject.judge_keys() == []
