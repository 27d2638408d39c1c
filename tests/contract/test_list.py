"""list and list_with_delimiter."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face, Subject
from tests.servers.fakes3 import FakeS3

KEYS = ["a", "b/1", "b/2", "b/sub/3", "b2/4", "bc", "c/d/e/f"]


@pytest.fixture
def tree(subject: Subject) -> Subject:
    for key in KEYS:
        obs.put(subject.store, key, key.encode())
    return subject


def _paths(subject: Subject, entries) -> list[str]:
    paths = [entry["path"] for entry in entries]
    return sorted(paths) if "order" in subject.lacks else paths


def test_list_yields_everything_in_key_order(tree: Subject, face: Face):
    assert _paths(tree, face.items(face.list(tree.store))) == KEYS


def test_list_tells_of_each_object_what_head_tells(tree: Subject, face: Face):
    entries = {entry["path"]: entry for entry in face.items(face.list(tree.store))}
    for key in ("a", "b/sub/3"):
        entry, head = entries[key], face.head(tree.store, key)
        assert list(entry) == [entry], "a ListItem iterates as a batch of one"
        assert set(entry.keys()) == {"path", "last_modified", "size", "e_tag", "version"}
        e_tag = None if "list_e_tag" in tree.lacks else head["e_tag"]
        assert (entry["size"], entry["e_tag"], entry["version"]) == (len(key), e_tag, head["version"])
        assert (entry["version"] is not None) is tree.versioned
        assert entry["last_modified"].utcoffset() == timedelta(0)
        assert abs(entry["last_modified"] - datetime.now(UTC)) < timedelta(minutes=2)


def test_list_item_is_a_dict_and_a_batch(tree: Subject):
    item = next(iter(obs.list(tree.store, "c")))
    assert isinstance(item, dict)
    assert item[0] is item
    assert [entry["path"] for entry in item] == ["c/d/e/f"]
    assert dict(item.items())["path"] == "c/d/e/f"
    assert {**item}["path"] == "c/d/e/f"
    assert item == dict(item.items())
    with pytest.raises((KeyError, IndexError)):
        item[1]


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 7, 50])
def test_list_in_batches(tree: Subject, face: Face, chunk_size: int):
    batches = face.items(face.list(tree.store, chunk_size=chunk_size))
    assert all(type(batch) is list for batch in batches)
    assert [len(batch) for batch in batches[:-1]] == [chunk_size] * (len(batches) - 1)
    assert 0 < len(batches[-1]) <= chunk_size
    assert _paths(tree, [entry for batch in batches for entry in batch]) == KEYS


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_list_collects_what_remains(tree: Subject, face: Face, chunk_size: int | None):
    everything = face.collect(face.list(tree.store, chunk_size=chunk_size))
    assert _paths(tree, everything) == KEYS
    stream = obs.list(tree.store, chunk_size=chunk_size)
    first = next(iter(stream))
    rest = stream.collect()
    assert len(rest) == len(KEYS) - (1 if chunk_size is None else len(first))
    assert stream.collect() == []
    with pytest.raises(StopIteration):
        next(stream)


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        (None, KEYS),
        ("", KEYS),
        ("/", KEYS),
        ("b", ["b/1", "b/2", "b/sub/3"]),
        ("b/", ["b/1", "b/2", "b/sub/3"]),
        ("/b/", ["b/1", "b/2", "b/sub/3"]),
        ("b/s", []),
        ("b/sub", ["b/sub/3"]),
        ("c/d", ["c/d/e/f"]),
        ("a", []),  # the object itself is not under it
        ("missing", []),
    ],
)
def test_list_prefix_is_of_whole_segments(tree: Subject, face: Face, prefix: str | None, expected: list[str]):
    assert _paths(tree, face.items(face.list(tree.store, prefix))) == expected
    assert _paths(tree, face.items(face.list(tree.store, prefix=prefix))) == expected


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("b", ["b/1", "b/2", "b/sub/3", "b2/4", "bc"]),
        ("b/", ["b/1", "b/2", "b/sub/3"]),
        ("b/s", ["b/sub/3"]),
        ("b/sub/3", ["b/sub/3"]),
        ("a", ["a"]),
        ("", KEYS),
        ("x", []),
    ],
)
def test_list_prefix_is_a_string_on_request(tree: Subject, face: Face, prefix: str, expected: list[str]):
    assert _paths(tree, face.items(face.list(tree.store, prefix, match="string"))) == expected


@pytest.mark.parametrize(
    ("prefix", "offset", "expected"),
    [
        (None, "b/2", ["b/sub/3", "b2/4", "bc", "c/d/e/f"]),
        (None, "b/20", ["b/sub/3", "b2/4", "bc", "c/d/e/f"]),
        (None, "a", KEYS[1:]),
        (None, "zzz", []),
        ("b", "b/1", ["b/2", "b/sub/3"]),
    ],
)
def test_list_begins_after_the_offset(tree: Subject, face: Face, prefix: str | None, offset: str, expected: list[str]):
    assert _paths(tree, face.items(face.list(tree.store, prefix, offset=offset))) == expected


def test_list_of_an_empty_store(subject: Subject, face: Face):
    assert face.items(face.list(subject.store)) == []
    assert face.items(face.list(subject.store, chunk_size=10)) == []
    assert face.collect(face.list(subject.store)) == []
    assert face.list_with_delimiter(subject.store) == {"common_prefixes": [], "objects": []}


@pytest.mark.parametrize(
    ("prefix", "prefixes", "objects"),
    [
        (None, ["b", "b2", "c"], ["a", "bc"]),
        ("b", ["b/sub"], ["b/1", "b/2"]),
        ("b/", ["b/sub"], ["b/1", "b/2"]),
        ("c", ["c/d"], []),
        ("c/d/e", [], ["c/d/e/f"]),
        ("missing", [], []),
    ],
)
def test_list_with_delimiter_shows_one_level(
    tree: Subject, face: Face, prefix: str | None, prefixes: list[str], objects: list[str]
):
    result = face.list_with_delimiter(tree.store, prefix)
    assert result["common_prefixes"] == prefixes
    assert _paths(tree, result["objects"]) == objects


def test_list_under_a_store_prefix_is_relative_to_it(s3: Subject, face: Face):
    store = s3.sibling(prefix="/base/dir/")
    for key in KEYS:
        face.put(store, key, b"")
    s3.judge_put("base/dirx", b"")
    s3.judge_put("elsewhere", b"")
    assert [entry["path"] for entry in face.items(face.list(store))] == KEYS
    assert [entry["path"] for entry in face.items(face.list(store, "b", offset="b/1"))] == ["b/2", "b/sub/3"]
    assert face.list_with_delimiter(store)["common_prefixes"] == ["b", "b2", "c"]
    assert face.get(store, "a").meta["path"] == "a"
    assert s3.judge_keys() == sorted([f"base/dir/{key}" for key in KEYS] + ["base/dirx", "elsewhere"])


def test_list_errors_come_with_the_iteration(s3: Subject):
    store = S3Store(**s3.endpoint.config("no-such-bucket-anywhere"))
    stream = obs.list(store)
    with pytest.raises(obs.BaseError):
        next(iter(stream))
    with pytest.raises(obs.BaseError):
        obs.list_with_delimiter(store)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ({"prefix": 1}, TypeError, "prefix"),
        ({"prefix": b"a"}, TypeError, "prefix"),
        ({"offset": 1}, TypeError, "offset"),
        ({"chunk_size": -1}, OverflowError, "chunk_size"),
        ({"chunk_size": "2"}, TypeError, "chunk_size"),
        ({"match": "glob"}, ValueError, "match"),
    ],
    ids=str,
)
def test_list_refuses_wrong_arguments_at_the_call(quick: Subject, arguments, kind, message):
    with pytest.raises(kind, match=message):
        obs.list(quick.store, **arguments)


def test_list_goes_through_all_pages(quick: Subject):
    many = 1100  # a page has 1000
    keys = [f"{i % 23:02}/{i:05}" for i in range(many)]

    def put(key: str) -> None:
        if quick.remote:
            quick.judge_put(key, b"")
        else:
            obs.put(quick.store, key, b"")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, keys))
    assert _paths(quick, obs.list(quick.store)) == sorted(keys)
    batches = list(obs.list(quick.store, chunk_size=700))
    assert [len(batch) for batch in batches] == [700, 400]
    assert sorted(entry["path"] for batch in batches for entry in batch) == sorted(keys)
    assert len(obs.list(quick.store, offset="05/").collect()) == sum(key > "05/" for key in keys)
    assert len(obs.list_with_delimiter(quick.store)["common_prefixes"]) == 23

    async def main() -> list[str]:
        return [entry["path"] async for entry in obs.list(quick.store)]

    assert sorted(asyncio.run(main())) == sorted(keys)


def test_list_asks_for_pages_as_they_are_needed(fake_s3: FakeS3):
    fake_s3.page = 10
    for i in range(35):
        fake_s3.add(f"{i:02}", b"")
    store = S3Store(**fake_s3.config())
    stream = iter(obs.list(store))
    assert fake_s3.requests == []
    for _ in range(10):
        next(stream)
    assert len(fake_s3.requests) <= 2, "one page in hand, one ahead"
    assert [entry["path"] for entry in stream] == [f"{i:02}" for i in range(10, 35)]
    assert len(fake_s3.requests) == 4
    assert len(list(obs.list(store, chunk_size=3))) == 12


def test_list_passes_over_empty_pages(fake_s3: FakeS3):
    from tests.servers.scripted import Reply

    def page(body: str) -> Reply:
        return Reply(200, {"content-type": "application/xml"}, f"<ListBucketResult>{body}</ListBucketResult>".encode())

    item = "<Contents><Key>k</Key><LastModified>2024-01-02T03:04:05.678Z</LastModified><ETag>&quot;x&quot;</ETag><Size>7</Size></Contents>"
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}+/=&amp;</NextContinuationToken>"
    fake_s3.push(page(more.format(1)), page(item + more.format(2)), page("<IsTruncated>false</IsTruncated>"))
    (entry,) = obs.list(S3Store(**fake_s3.config()))
    assert entry == {
        "path": "k",
        "last_modified": datetime(2024, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
        "size": 7,
        "e_tag": '"x"',
        "version": None,
    }
    assert [r.query.get("continuation-token") for r in fake_s3.requests] == [None, "1+/=&", "2+/=&"]


def test_local_listing_hides_nothing_but_staging_files(tmp_path):
    store = obs.store.LocalStore(tmp_path)
    obs.put(store, "a", b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".hidden").write_bytes(b"12")
    (tmp_path / "a#1").write_bytes(b"being written")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    assert sorted(entry["path"] for entry in obs.list(store)) == [".hidden", "a", "link"]
    assert obs.list_with_delimiter(store)["common_prefixes"] == ["empty"]
