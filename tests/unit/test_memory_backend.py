"""The memory backend, driven without a runner."""

from __future__ import annotations

import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from obstore import _memory
from obstore._memory import MemoryBackend
from obstore._types import GetSpec, PutSpec, Range, RawKey
from obstore.exceptions import (
    AlreadyExistsError,
    GenericError,
    NotFoundError,
    NotModifiedError,
    PreconditionError,
)
from tests.unit.drive import keys, pages, read_all, run, run_counted

DIGITS = b"0123456789"
SECOND = timedelta(seconds=1)


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


def put(backend: MemoryBackend, key: str, data: bytes = DIGITS, **spec: object) -> str:
    result = run(backend.put(key, [data], PutSpec(**spec)))
    assert result["version"] is None
    return result["e_tag"]


def body(backend: MemoryBackend, key: str, **spec: object) -> bytes:
    return bytes(run(run(backend.get(key, GetSpec(**spec))).collect()))


@pytest.mark.parametrize(
    "key", ["a", "", "/", "a//b", "a/../b", "dir/", "ключ", "a\nb", "\U0010ffff", "%2F?#", RawKey("raw/"), "k" * 5000]
)
def test_put_stores_under_any_key(backend, key):
    e_tag = put(backend, key, b"x")
    opened = run(backend.get(key, GetSpec()))
    assert run(opened.collect()) == b"x"
    assert opened.meta == run(backend.head(key, None))
    assert opened.meta["e_tag"] == e_tag
    assert keys(backend) == [key]
    assert isinstance(keys(backend)[0], RawKey) == (key[:1] == "/" or key[-1:] == "/" or "\n" in key)


def test_meta_has_the_published_shape(backend):
    before = datetime.now(UTC)
    put(backend, "k")
    meta = run(backend.head("k", "ignored"))
    assert list(meta) == ["path", "last_modified", "size", "e_tag", "version"]
    assert before <= meta["last_modified"] <= datetime.now(UTC)
    assert meta["last_modified"].tzinfo is UTC
    assert (meta["size"], meta["e_tag"], meta["version"]) == (10, '"0"', None)


def test_e_tags_count_the_writes_of_the_store(backend):
    assert [put(backend, "a"), put(backend, "b"), put(backend, "a")] == ['"0"', '"1"', '"2"']
    run(backend.copy("a", "c", overwrite=True))
    assert run(backend.head("c", None))["e_tag"] == '"3"'


def test_operations_never_yield(backend):
    upload, calls = run_counted(backend.start_upload("u", PutSpec()))
    for op in (
        backend.put("a", [b"x"], PutSpec()),
        backend.get("a", GetSpec()),
        backend.head("a", None),
        backend.get_range("a", 0, 1, None),
        backend.list_page("", None, delimiter=False, cursor=None),
        backend.copy("a", "b", overwrite=True),
        backend.rename("a", "c", overwrite=True),
        backend.delete(["c"]),
        upload.part(1, [b"x"]),
        upload.finish(),
        upload.abort(),
    ):
        calls += run_counted(op)[1]
    assert calls == 0


def test_put_copies_what_the_caller_may_change(backend):
    data = bytearray(b"before")
    run(backend.put("k", [data, b"-", memoryview(b"xyz")[1:]], PutSpec()))
    data[:] = b"after!"
    assert body(backend, "k") == b"before-yz"


def test_whole_reads_copy_nothing(backend):
    data = os.urandom(1000)
    put(backend, "k", data)
    assert run(run(backend.get("k", GetSpec())).collect()) is data
    assert run(run(backend.get("k", GetSpec())).read(1)) is data
    part = run(backend.get_range("k", 10, 20, None))
    assert isinstance(part, memoryview)
    assert part.obj is data
    assert part == data[10:20]


def test_reader_keeps_the_version_that_it_opened(backend):
    put(backend, "k", b"old")
    opened = run(backend.get("k", GetSpec()))
    put(backend, "k", b"new")
    run(backend.delete(["k"]))
    assert read_all(opened, 1) == [b"old"]


def test_closed_object_does_not_look_like_an_empty_one(backend):
    put(backend, "k")
    opened = run(backend.get("k", GetSpec()))
    opened.close()
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        run(opened.read(1))
    with pytest.raises(ValueError, match="closed"):
        run(opened.collect())


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
        (None, (0, 10)),
    ],
)
def test_get_returns_the_range(backend, wanted, span):
    put(backend, "k")
    opened = run(backend.get("k", GetSpec(range=wanted)))
    assert opened.range == span
    assert opened.meta["size"] == 10
    assert run(opened.collect()) == DIGITS[slice(*span)]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Range(5, 5), "Generic InMemory error: Invalid range: Range started at 5 and ended at 5"),
        (Range(5, 3), "Range started at 5 and ended at 3"),
        (Range(10, 12), "Wanted range starting at 10, but object was only 10 bytes long"),
        (Range(10), "Wanted range starting at 10, but object was only 10 bytes long"),
    ],
)
def test_get_refuses_ranges_without_bytes(backend, wanted, message):
    put(backend, "k")
    with pytest.raises(GenericError, match=message) as caught:
        run(backend.get("k", GetSpec(range=wanted)))
    assert caught.value.key == "k"


def test_ranges_of_an_empty_object(backend):
    put(backend, "k", b"")
    assert body(backend, "k") == b""
    assert body(backend, "k", range=Range(suffix=5)) == b""
    for wanted in (Range(0), Range(0, 1)):
        with pytest.raises(GenericError, match="only 0 bytes long"):
            body(backend, "k", range=wanted)


def test_get_range_writes_into_a_buffer(backend):
    put(backend, "k")
    target = bytearray(b"." * 6)
    assert run(backend.get_range("k", 8, 14, target)) == 2
    assert target == b"89...."
    with pytest.raises(ValueError, match="into holds 6 bytes"):
        run(backend.get_range("k", 0, 7, target))
    with pytest.raises(TypeError, match="into"):
        run(backend.get_range("k", 0, 2, b"readonly"))


def test_get_with_head_has_no_body(backend):
    put(backend, "k")
    opened = run(backend.get("k", GetSpec(head=True, range=Range(2, 4))))
    assert opened.range == (0, 10)
    assert opened.meta["size"] == 10
    assert run(opened.collect()) == b""


def conditions(e_tag: str, modified: datetime) -> list[tuple[dict[str, object], type[Exception] | None]]:
    """Every condition that matters, and what it leads to for an object of that e_tag and date."""
    before, after = modified - timedelta(microseconds=1), modified + timedelta(microseconds=1)
    return [
        ({"if_match": e_tag}, None),
        ({"if_match": "*"}, None),
        ({"if_match": f'"x", {e_tag}'}, None),
        ({"if_match": '"x"'}, PreconditionError),
        ({"if_match": e_tag, "if_unmodified_since": before}, None),
        ({"if_unmodified_since": modified}, None),
        ({"if_unmodified_since": after}, None),
        ({"if_unmodified_since": before}, PreconditionError),
        ({"if_none_match": e_tag}, NotModifiedError),
        ({"if_none_match": "*"}, NotModifiedError),
        ({"if_none_match": f'"x",{e_tag}'}, NotModifiedError),
        ({"if_none_match": '"x"'}, None),
        ({"if_none_match": '"x"', "if_modified_since": after}, None),
        ({"if_modified_since": before}, None),
        ({"if_modified_since": modified}, NotModifiedError),
        ({"if_modified_since": after}, NotModifiedError),
        ({"if_match": '"x"', "if_none_match": e_tag}, PreconditionError),
    ]


def test_get_holds_conditions(backend):
    e_tag = put(backend, "k")
    modified = run(backend.head("k", None))["last_modified"]
    for spec, expected in conditions(e_tag, modified):
        for head in (False, True):
            if expected is None:
                run(backend.get("k", GetSpec(head=head, **spec)))
            else:
                with pytest.raises(expected, match="k"):
                    run(backend.get("k", GetSpec(head=head, **spec)))


def test_missing_objects(backend):
    for op in (
        backend.get("k", GetSpec()),
        backend.head("k", None),
        backend.get_range("k", 0, 1, None),
        backend.copy("k", "l", overwrite=True),
        backend.copy("k", "k", overwrite=True),
        backend.rename("k", "l", overwrite=True),
        backend.rename("k", "k", overwrite=True),
    ):
        with pytest.raises(FileNotFoundError, match="Object at location k not found") as caught:
            run(op)
        assert type(caught.value) is NotFoundError
    assert keys(backend) == []


def test_put_creates_only_what_is_missing(backend):
    put(backend, "k", b"1", mode="create")
    with pytest.raises(AlreadyExistsError, match="Object at location k already exists"):
        put(backend, "k", b"2", mode="create")
    assert body(backend, "k") == b"1"


def test_put_updates_only_the_expected_version(backend):
    with pytest.raises(PreconditionError, match="not found"):
        put(backend, "k", mode="update", e_tag='"0"')
    first = put(backend, "k", b"1")
    with pytest.raises(GenericError, match="ETag required for conditional update"):
        put(backend, "k", mode="update")
    second = put(backend, "k", b"2", mode="update", e_tag=first)
    with pytest.raises(PreconditionError, match=f"{second} does not match {first}"):
        put(backend, "k", b"3", mode="update", e_tag=first)
    assert body(backend, "k") == b"2"


def test_attributes_are_returned_and_tags_ignored(backend):
    given = {"Content-Type": "text/plain", "owner": "me"}
    put(backend, "k", attributes=given, tags={"a": "b"})
    given["owner"] = "changed"
    run(backend.copy("k", "c", overwrite=True))
    for key in ("k", "c"):
        opened = run(backend.get(key, GetSpec()))
        assert opened.attributes == {"Content-Type": "text/plain", "owner": "me"}
        opened.attributes.clear()
        assert run(backend.get(key, GetSpec())).attributes != {}


def test_copy_and_rename(backend):
    put(backend, "a", b"a")
    put(backend, "b", b"b")
    for op in (backend.copy("a", "b", overwrite=False), backend.rename("a", "b", overwrite=False)):
        with pytest.raises(AlreadyExistsError):
            run(op)
    assert body(backend, "b") == b"b"
    run(backend.copy("a", "b", overwrite=True))
    run(backend.rename("a", "c", overwrite=False))
    assert (keys(backend), body(backend, "b"), body(backend, "c")) == (["b", "c"], b"a", b"a")


@pytest.mark.parametrize("overwrite", [True, False])
def test_copy_and_rename_onto_itself_do_nothing(backend, overwrite):
    e_tag = put(backend, "a")
    run(backend.copy("a", "a", overwrite=overwrite))
    run(backend.rename("a", "a", overwrite=overwrite))
    assert run(backend.head("a", None))["e_tag"] == e_tag


def test_delete_reports_each_key(backend):
    put(backend, "a")
    outcomes = run(backend.delete(["a", "b", "a"]))
    assert outcomes[0] is None
    assert [type(each) for each in outcomes[1:]] == [NotFoundError, NotFoundError]
    assert not backend.missing_is_error
    assert keys(backend) == []


# ---- listings -------------------------------------------------------------------------------------------

TREE = ["", "/z", "a", "a!", "a/", "a/1", "a/2/x", "a/2/y", "a/3", "a//x", "ab/c", "b", "é", "\U00010000", "\uffff"]


def test_list_orders_by_the_bytes_of_the_keys(backend):
    for key in reversed(TREE):
        put(backend, key)
    assert keys(backend) == sorted(TREE, key=lambda key: key.encode())


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/2", "a/2/", "é", "none", "/", "a//"])
@pytest.mark.parametrize("offset", [None, "", "a", "a/2", "a/2/x", "zzz", "0"])
def test_list_filters_by_prefix_and_offset(backend, prefix, offset):
    for key in TREE:
        put(backend, key)
    expected = [key for key in sorted(TREE) if key.startswith(prefix) and (offset is None or key > offset)]
    assert keys(backend, prefix, offset) == expected


@pytest.mark.parametrize(
    ("prefix", "objects", "prefixes"),
    [
        ("", ["", "a", "a!", "b", "é", "\uffff", "\U00010000"], ["", "a", "ab"]),
        ("a/", ["a/", "a/1", "a/3"], ["a/", "a/2"]),
        ("a", ["a", "a!"], ["a", "ab"]),
        ("a/2/", ["a/2/x", "a/2/y"], []),
        ("none/", [], []),
    ],
)
def test_list_with_delimiter_stops_at_the_next_slash(backend, prefix, objects, prefixes):
    for key in TREE:
        put(backend, key)
    (page,) = pages(backend, prefix, delimiter=True)
    assert [meta["path"] for meta in page.objects] == objects
    assert page.prefixes == prefixes


@pytest.mark.parametrize("count", [0, 999, 1000, 1001, 2000, 2500])
def test_list_pages_hold_a_thousand(backend, count):
    names = [f"{number:05d}" for number in range(count)]
    for name in reversed(names):
        put(backend, name, b"")
        put(backend, f"deep/{name}/x", b"")
    found = pages(backend, delimiter=False)
    assert [len(page.objects) for page in found[:-1]] == [1000] * (len(found) - 1)
    assert len(found) == max(1, -(-2 * count // 1000))
    assert keys(backend) == names + [f"deep/{name}/x" for name in names]
    levels = pages(backend, "deep/", delimiter=True)
    assert [each for page in levels for each in page.prefixes] == [f"deep/{name}" for name in names]
    assert len(levels) == max(1, -(-count // 1000))


def test_list_goes_on_with_its_snapshot(backend):
    for number in range(1500):
        put(backend, f"{number:04d}", b"old")
    first = run(backend.list_page("", None, delimiter=False, cursor=None))
    run(backend.delete(["1400"]))
    put(backend, "1401", b"newer")
    put(backend, "9999")
    second = run(backend.list_page("", None, delimiter=False, cursor=first.cursor))
    again = run(backend.list_page("", None, delimiter=False, cursor=first.cursor))
    assert [meta["path"] for meta in second.objects] == [f"{number:04d}" for number in range(1000, 1500)]
    assert {meta["size"] for meta in second.objects} == {3}
    assert again.objects == second.objects
    assert "1400" not in keys(backend)
    assert keys(backend)[-1] == "9999"


def test_list_sees_every_change_between_listings(backend):
    """Small changes go into the order one by one, large ones sort anew: both have to agree with a plain sort."""
    present = {f"{number * 7919 % 1000:03d}" for number in range(500)}
    for key in present:
        put(backend, key)
    for step in range(200):
        key = f"{step * 271 % 1000:03d}"
        if key in present:
            run(backend.delete([key]))
            present.remove(key)
        else:
            put(backend, key)
            present.add(key)
        assert keys(backend) == sorted(present)


# ---- uploads --------------------------------------------------------------------------------------------


def test_upload_assembles_parts_by_number(backend):
    upload = run(backend.start_upload("k", PutSpec(attributes={"Content-Type": "x/y"})))
    assert (upload.max_parts, upload.min_part_bytes) == (None, 0)
    buffer = bytearray(b"33")
    run(upload.part(3, [buffer]))
    buffer[:] = b"!!"
    run(upload.part(1, [b"1", b"1"]))
    run(upload.part(2, [b"lost"]))
    run(upload.part(2, [b"22"]))
    with pytest.raises(NotFoundError):
        body(backend, "k")
    assert run(upload.finish()) == {"e_tag": '"0"', "version": None}
    assert body(backend, "k") == b"112233"
    assert run(backend.get("k", GetSpec())).attributes == {"Content-Type": "x/y"}
    with pytest.raises(GenericError, match="ended"):
        run(upload.finish())


def test_upload_without_parts_is_an_empty_object(backend):
    run(run(backend.start_upload("k", PutSpec())).finish())
    assert body(backend, "k") == b""


def test_upload_refuses_to_lose_a_part(backend):
    upload = run(backend.start_upload("k", PutSpec()))
    run(upload.part(1, [b"1"]))
    run(upload.part(3, [b"3"]))
    with pytest.raises(GenericError, match="part 2 of the upload is missing"):
        run(upload.finish())
    assert keys(backend) == []


def test_upload_aborts(backend):
    upload = run(backend.start_upload("k", PutSpec()))
    run(upload.part(1, [b"1"]))
    run(upload.abort())
    run(upload.abort())
    with pytest.raises(GenericError, match="ended"):
        run(upload.part(2, [b"2"]))
    assert keys(backend) == []


def test_upload_creates_only_what_is_missing(backend):
    upload = run(backend.start_upload("k", PutSpec(mode="create")))
    put(backend, "k", b"first")
    with pytest.raises(AlreadyExistsError):
        run(upload.finish())
    assert body(backend, "k") == b"first"


# ---- threads, forks, pickles ----------------------------------------------------------------------------


def test_create_has_one_winner_among_threads(backend):
    barrier = threading.Barrier(8)

    def create(who: int) -> int:
        won = 0
        for round_ in range(50):
            barrier.wait()
            try:
                put(backend, f"k{round_}", bytes([who]), mode="create")
            except AlreadyExistsError:
                continue
            won += 1
        return won

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(8))) == 50


def test_update_loses_no_increment(backend):
    put(backend, "n", b"0")

    def add(times: int) -> None:
        while times:
            opened = run(backend.get("n", GetSpec()))
            value = int(run(opened.collect())) + 1
            try:
                put(backend, "n", str(value).encode(), mode="update", e_tag=opened.meta["e_tag"])
            except PreconditionError:
                continue
            times -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, [100] * 4))
    assert body(backend, "n") == b"400"


def test_listing_while_others_write(backend):
    stop = threading.Event()

    def churn(name: str) -> None:
        number = 0
        while not stop.is_set():
            put(backend, f"{name}{number % 50}", b"")
            run(backend.delete([f"{name}{(number + 25) % 50}"]))
            number += 1

    for number in range(100):
        put(backend, f"stays/{number:03d}", b"")
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(churn, name) for name in "abz"]
        try:
            for _ in range(200):
                found = keys(backend)
                assert found == sorted(found)
                assert sum(key.startswith("stays/") for key in found) == 100
        finally:
            stop.set()
        for writer in writers:
            writer.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_fork_waits_for_the_lock_and_leaves_the_child_a_free_one(backend):
    put(backend, "k", b"parent")
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with _memory._lock:
            inside.set()
            leave.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    inside.wait(10)
    threading.Timer(0.1, leave.set).start()
    child = os.fork()
    if child == 0:
        ok = leave.is_set() and body(backend, "k") == b"parent" and put(backend, "k", b"child") == '"1"'
        with ThreadPoolExecutor(1) as pool:  # the lock is free for other threads, and they may fork again
            ok = ok and pool.submit(_read_in_fork, backend).result(10) == 0
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    holder.join()
    assert body(backend, "k") == b"parent"


def _read_in_fork(backend: MemoryBackend) -> int:
    child = os.fork()
    if child == 0:
        os._exit(0 if body(backend, "k") == b"child" else 1)
    return os.waitpid(child, 0)[1]


def test_finalizer_may_use_the_store_while_its_thread_is_inside(backend):
    """What a garbage collection runs inside a locked section must not wait for its own thread."""
    with _memory._lock:
        put(backend, "k", b"x")
        assert body(backend, "k") == b"x"


def test_pickle_goes_by_value(backend):
    put(backend, "k", b"x", attributes={"owner": "me"})
    twin = pickle.loads(pickle.dumps(backend))
    put(backend, "other")
    assert keys(twin) == ["k"]
    assert run(twin.get("k", GetSpec())).attributes == {"owner": "me"}
    assert twin.parse_key("/a/", "path") == "a"
    assert put(twin, "new") == '"1"'


def test_parse_key_takes_any_key(backend):
    for given, key in [("", ""), ("/", ""), ("/a/", "a"), ("a//b", "a//b"), ("../x", "../x"), (RawKey("/d/"), "/d/")]:
        assert backend.parse_key(given, "path") == key
    with pytest.raises(TypeError, match="from_"):
        backend.parse_key(3, "from_")
