"""Bulk transfers over every kind of store, synchronously and on asyncio."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore import bulk
from obstore.store import LocalStore, MemoryStore
from tests.fix_stores import Face, Subject, make_subject

BODIES = {f"d{n % 3}/k {n:03} ü": random.Random(n).randbytes(n * 37) for n in range(60)}


def run(face: Face, name: str, *args: Any, **kwargs: Any) -> Any:
    """``bulk.name`` or its asynchronous twin."""
    if face.is_async:
        return face.run(lambda: getattr(bulk, f"{name}_async")(*args, **kwargs))
    return getattr(bulk, name)(*args, **kwargs)


def read_all(face: Face, make: Callable[[], Any]) -> list[tuple[str, bytes]]:
    """All items of a `ManyStream`."""
    if not face.is_async:
        return [(key, bytes(body)) for key, body in make()]

    async def collect() -> list[tuple[str, bytes]]:
        return [(key, bytes(body)) async for key, body in make()]

    return face.run(collect)


def tree(root: Path) -> dict[str, bytes]:
    """All files below a directory; nothing of ours may be among them."""
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def fill(root: Path, bodies: dict[str, bytes] = BODIES) -> Path:
    for name, body in bodies.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    return root


@pytest.fixture
def filled(quick: Subject) -> Subject:
    assert bulk.put_many(quick.store, {f"in/{key}": body for key, body in BODIES.items()}).ok
    return quick


def test_round_trip_through_files(quick: Subject, face: Face, tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    sent = run(face, "upload", quick.store, source, "up")
    assert (sent.objects, sent.bytes, sent.failures) == (60, sum(map(len, BODIES.values())), [])
    got = run(face, "download", quick.store, "up", tmp_path / "out")
    assert (got.objects, got.bytes, got.failures) == (60, sent.bytes, [])
    assert tree(tmp_path / "out") == BODIES
    gone = run(face, "delete_many", quick.store, "up")
    assert gone.objects == 60
    assert list(obs.list(quick.store, "up")) == []


def test_get_many(filled: Subject, face: Face) -> None:
    keys = [f"in/{key}" for key in BODIES]
    expected = {f"in/{key}": body for key, body in BODIES.items()}
    assert dict(read_all(face, lambda: bulk.get_many(filled.store, keys))) == expected
    assert read_all(face, lambda: bulk.get_many(filled.store, keys, ordered=True)) == list(expected.items())
    assert dict(read_all(face, lambda: bulk.get_many(filled.store, "in/d1"))) == {
        key: body for key, body in expected.items() if key.startswith("in/d1/")
    }
    assert read_all(face, lambda: bulk.get_many(filled.store, [])) == []


def test_get_many_of_what_is_missing(filled: Subject) -> None:
    keys = ["in/d0/k 000 ü", "gone", "in/d1/k 001 ü"]
    found = list(bulk.get_many(filled.store, keys, ordered=True, errors="return"))
    assert [key for key, _ in found] == keys
    assert isinstance(found[1][1], obs.NotFoundError)
    stream = bulk.get_many(filled.store, keys, ordered=True)
    assert next(stream)[0] == keys[0]
    with pytest.raises(obs.NotFoundError):
        next(stream)
    assert next(stream)[0] == keys[2]  # the others are still there
    assert list(stream) == []


def test_get_many_can_be_left(filled: Subject) -> None:
    keys = [f"in/{key}" for key in BODIES]
    with bulk.get_many(filled.store, keys) as stream:
        next(stream)
    assert list(stream) == []
    dropped = bulk.get_many(filled.store, keys)
    next(dropped)
    del dropped


def test_what_can_be_selected(filled: Subject, tmp_path: Path) -> None:
    def names(what: Any, **options: Any) -> set[str]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        assert bulk.download(filled.store, what, out, **options).ok
        return set(tree(out))

    d1 = {key for key in BODIES if key.startswith("d1/")}
    assert names("in/d1") == {key[3:] for key in d1}
    assert names("in/d1/") == {key[3:] for key in d1}
    assert names("in/d1/k 001 ü") == {"k 001 ü"}
    assert names("in/*/k 00? ü") == {key for key in BODIES if "/k 00" in key}
    assert names("in/**/k 00? ü") == {key for key in BODIES if "/k 00" in key}
    assert names(["in/d1/k 001 ü"]) == {"in/d1/k 001 ü"}
    assert names(obs.list(filled.store, "in/d2")) == {f"in/{key}" for key in BODIES if key.startswith("d2/")}
    assert names("in", include="d1/*", exclude=["*1 ü"]) == {key for key in d1 if not key.endswith("1 ü")}
    assert names("in", recursive=False) == set()
    assert names("nothing/") == set()


def test_prefix_that_names_nothing_is_a_failure(filled: Subject, tmp_path: Path) -> None:
    result = bulk.download(filled.store, "in/none", tmp_path / "out")
    assert [type(failure.error) for failure in result.failures] == [obs.NotFoundError]
    assert tree(tmp_path / "out") == {}


def test_copy_many(filled: Subject, face: Face) -> None:
    assert run(face, "copy_many", filled.store, filled.store, "in", "copy").objects == 60
    memory = MemoryStore()
    assert run(face, "copy_many", filled.store, memory, "in/d0", "x").objects == 20
    assert run(face, "copy_many", memory, filled.store, "x", "back").objects == 20
    found = dict(bulk.get_many(filled.store, obs.list(filled.store)))
    assert {key: bytes(body) for key, body in found.items()} == {
        **{f"in/{key}": body for key, body in BODIES.items()},
        **{f"copy/{key}": body for key, body in BODIES.items()},
        **{f"back/{key[3:]}": body for key, body in BODIES.items() if key.startswith("d0/")},
    }
    assert all(
        a.path.startswith("in/d1") for a in bulk.copy_many(filled.store, memory, "in/d1", "y", dry_run=True).actions
    )
    assert list(obs.list(memory, "y")) == []


def test_sync_makes_equal_and_then_does_nothing(filled: Subject, face: Face, tmp_path: Path) -> None:
    store = filled.store
    out = tmp_path / "out"
    fill(out, {"d0/k 000 ü": b"other size", "extra/e": b"x", "extra.txt": b"y"})
    planned = run(face, "sync", store, out, source_prefix="in", delete=True, dry_run=True)
    assert sorted({(action.kind, action.path) for action in planned.actions if action.kind == "delete"}) == [
        ("delete", "extra.txt"),
        ("delete", "extra/e"),
    ]
    assert len(planned.actions) == 62
    assert len(tree(out)) == 3
    first = run(face, "sync", store, out, source_prefix="in", delete=True)
    assert (first.objects, first.deleted, first.skipped, first.failures) == (60, 2, 0, [])
    assert tree(out) == BODIES
    assert not (out / "extra").exists()
    again = run(face, "sync", store, out, source_prefix="in", delete=True)
    assert (again.objects, again.deleted, again.skipped) == (0, 0, 60)

    (out / "d1/k 001 ü").write_bytes(b"changed")
    (out / "d2/k 002 ü").unlink()
    up = run(face, "sync", out, store, target_prefix="in", delete=True)
    assert (up.objects, up.deleted, up.skipped, up.failures) == (1, 1, 58, [])
    assert run(face, "sync", out, store, target_prefix="in", delete=True).objects == 0
    assert bytes(obs.get(store, "in/d1/k 001 ü").bytes()) == b"changed"

    across = run(face, "sync", store, store, source_prefix="in", target_prefix="other")
    assert across.objects == 59
    assert run(face, "sync", store, store, source_prefix="in", target_prefix="other").objects == 0


def test_sync_between_directories(tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    assert bulk.sync(source, tmp_path / "target").objects == 60
    assert tree(tmp_path / "target") == BODIES
    assert bulk.sync(LocalStore(source), LocalStore(tmp_path / "target")).skipped == 60


def test_many_pages(s3: Subject, tmp_path: Path) -> None:
    """Every S3 server: signatures made by the C core are right, keys of all kinds arrive."""
    bodies = {f"p/{n}/ä+b&c=~{n}%20x": os.urandom(n) for n in range(40)}
    assert bulk.put_many(s3.store, bodies).ok
    result = bulk.download(s3.store, "p", tmp_path)
    assert (result.objects, result.failures) == (40, [])
    assert tree(tmp_path) == {key[2:]: body for key, body in bodies.items()}
    assert {key: bytes(body) for key, body in bulk.get_many(s3.store, list(bodies))} == bodies


def test_large_objects_in_ranges(s3: Subject, tmp_path: Path) -> None:
    body = random.Random(7).randbytes(23_456_789)
    (tmp_path / "large").write_bytes(body)
    assert bulk.upload_file(s3.store, tmp_path / "large", "x/large").ok
    assert s3.judge_get("x/large")["Body"] == body
    result = bulk.download_file(s3.store, "x/large", tmp_path / "again")
    assert (result.objects, result.bytes, result.failures) == (1, len(body), [])
    assert (tmp_path / "again").read_bytes() == body
    assert bulk.download(s3.store, ["x/large"], tmp_path / "unknown size").ok
    assert tree(tmp_path / "unknown size") == {"x/large": body}
    assert s3.judge_uploads() == []


def test_copy_between_buckets_is_done_by_the_service(
    moto_gunicorn: Any, judges: Any, request: pytest.FixtureRequest
) -> None:
    from obstore._engine import stats
    from tests.fix_stores import make_subject

    one, two = (make_subject("moto_gunicorn", request) for _ in range(2))
    one.judge_put("k", b"x" * 3_000_000, ContentType="text/plain")
    before = stats()["bytes_in"] + stats()["bytes_out"]
    assert bulk.copy_many(one.store, two.store, "k", "to").objects == 1
    assert stats()["bytes_in"] + stats()["bytes_out"] - before < 100_000
    assert two.judge_get("to/k")["Body"] == b"x" * 3_000_000
    assert two.judge_get("to/k")["ContentType"] == "text/plain"


def test_put_many_takes_what_put_takes(quick: Subject, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"from a file")
    items = [("bytes", b"b"), ("path", tmp_path / "file"), ("pieces", iter([b"a", b"b"])), ("empty", b"")]
    result = bulk.put_many(quick.store, items)
    assert (result.objects, result.failures) == (4, [])
    assert bytes(obs.get(quick.store, "path").bytes()) == b"from a file"
    assert bytes(obs.get(quick.store, "pieces").bytes()) == b"ab"
    assert obs.head(quick.store, "empty")["size"] == 0
    again = bulk.put_many(quick.store, {"bytes": b"c", "new": b"n"}, overwrite=False)
    assert (again.objects, [type(f.error) for f in again.failures]) == (1, [obs.AlreadyExistsError])


def test_existing_files_are_left_alone_if_wished(filled: Subject, tmp_path: Path) -> None:
    fill(tmp_path, {"k 001 ü": b"mine"})
    result = bulk.download(filled.store, "in/d1", tmp_path, overwrite=False)
    assert (result.objects, result.skipped) == (19, 1)
    assert (tmp_path / "k 001 ü").read_bytes() == b"mine"


def test_downloads_on_an_executor(filled: Subject, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as executor:
        result = bulk.download(filled.store, "in", tmp_path / "out", executor=executor)
    assert (result.objects, result.failures) == (60, [])
    assert tree(tmp_path / "out") == BODIES


def test_progress_of_a_download(filled: Subject, tmp_path: Path) -> None:
    seen: list[bulk.Progress] = []
    bulk.download(filled.store, "in", tmp_path, progress=seen.append)
    total = sum(map(len, BODIES.values()))
    assert (seen[-1].objects, seen[-1].bytes, seen[-1].total_objects, seen[-1].total_bytes) == (60, total, 60, total)
    assert all(a.bytes <= b.bytes for a, b in pairwise(seen))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda s, p: bulk.download(s, 7, p), "what"),
        (lambda s, p: bulk.download(s, "x", 7), "dest"),
        (lambda s, p: bulk.download(s, "x", p, connections=-1), "connections"),
        (lambda s, p: bulk.download(s, "x", p, memory="lots"), "memory"),
        (lambda s, p: bulk.download(s, "x", p, include=[7]), "include"),
        (lambda s, p: bulk.download(s, "x", p, progress=7), "progress"),
        (lambda s, p: bulk.download(s, "x", p, executor=7), "executor"),
        (lambda s, p: bulk.download(s, [7], p), "what"),
        (lambda s, p: bulk.download("s3://x", "x", p), "store"),
        (lambda s, p: bulk.upload(s, 7), "what"),
        (lambda s, p: bulk.put_many(s, 7), "items"),
        (lambda s, p: bulk.put_many(s, [(7, b"")]), "items"),
        (lambda s, p: bulk.get_many(s, ["x"], errors="no"), "errors"),
        (lambda s, p: bulk.get_many(s, ["x"], ordered=1), "ordered"),
        (lambda s, p: bulk.sync(s, 7), "target"),
        (lambda s, p: bulk.sync(s, p, delete="yes"), "delete"),
        (lambda s, p: bulk.delete_many(s, "x", dry_run=1), "dry_run"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[Any, Path], Any], name: str, tmp_path: Path) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError), match=name):
        call(MemoryStore(), tmp_path / "new")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        bulk.upload(MemoryStore(), tmp_path / "none")
    with pytest.raises(FileNotFoundError):
        bulk.upload_file(MemoryStore(), tmp_path / "none", "k")
    with pytest.raises(FileNotFoundError):
        bulk.sync(tmp_path / "none", MemoryStore(), delete=True)


def test_async_download_is_cancelled_at_once(filled: Subject, tmp_path: Path) -> None:
    async def main() -> None:
        task = bulk.download_async(filled.store, "in", tmp_path / "out")
        await asyncio.sleep(0)
        task.cancel()  # type: ignore[attr-defined]
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    for name, body in tree(tmp_path / "out").items():
        assert name.startswith(".obstore-") or body == BODIES[name]


@pytest.mark.parametrize("kind", ["fake_gcs", "azurite"])
def test_other_services(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Requests that are built one by one in Python, and answered by services that are not S3."""
    subject = make_subject(kind, request)
    bodies = {f"p/{n}/k{n}": os.urandom(n * 10) for n in range(30)} | {"p/large": os.urandom(20 << 20)}
    fill(tmp_path / "source", {key[2:]: body for key, body in bodies.items()})
    sent = bulk.upload(subject.store, tmp_path / "source", "p")
    assert (sent.objects, sent.failures) == (31, [])
    result = bulk.download(subject.store, "p", tmp_path / "out")
    assert (result.objects, result.failures) == (31, [])
    assert tree(tmp_path / "out") == {key[2:]: body for key, body in bodies.items()}
    assert {key: bytes(body) for key, body in bulk.get_many(subject.store, list(bodies))} == bodies
    assert bulk.sync(subject.store, tmp_path / "out", source_prefix="p").objects == 0
    copied = bulk.copy_many(subject.store, subject.store, "p", "q")
    assert (copied.objects, copied.failures) == (31, [])
    assert bulk.delete_many(subject.store, "p").objects == 31
