"""Keys: whatever a service takes as a key can be written, listed, read, copied and deleted, byte for byte."""

from __future__ import annotations

import pytest

import obstore as obs
from obstore import RawKey
from tests.fix_stores import Face, Subject

# Keys that mean themselves when given as plain strings.
PLAIN = [
    "plain",
    "with space",
    "two  spaces and trailing ",
    " leading",
    "uml\u00e4ut",  # one code point
    "umla\u0308ut",  # the same to the eye, another key
    "\u65e5\u672c\u8a9e/\u30d5\u30a1\u30a4\u30eb",
    "emoji \U0001f680",
    "percent%",
    "percent%2F",
    "percent%2f",
    "percent%252F",
    "plus+plus",
    "a+b c%20d",
    "question?mark",
    "hash#tag",
    "a&b=c",
    "semi;colon:at@comma,",
    "quotes'\"`",
    "angle<br/>",
    "<key>&amp;</key>",
    "back\\slash",
    "dollar$!*'()",
    "brackets[]{}|^~",
    "tilde~under_dash-dot.",
    ".hidden",
    "...",
    "a/.../b",
    "dir/.hidden",
    "~",
    "CON",
    "a=b&prefix=c?list-type=2",
    "?uploads",
    "?delete",
    "x" * 255,
    "/".join(["segment " + "y" * 60] * 13),  # 900 bytes and more
    "\u00fc" * 100,
]

# Keys with slashes where people put none; plain strings lose one at either end.
RAW = ["dir/", "dir//", "/leading", "//two", "a//b", "a///b", "a/b//"]

# What S3 takes and many HTTP stacks resolve or swallow.
DOTS = ["a/./b", "a/../b", "./a", "../a", "a/..", "a/."]


def _takes(subject: Subject, keys: list[str]) -> list[str]:
    """The keys of the corpus that the server behind the subject can store at all."""
    if subject.kind == "swift":
        return [key for key in keys if key.strip("/")]
    if "backslash" in subject.lacks:
        keys = [key for key in keys if "\\" not in key]
    if subject.kind == "local":  # such names are those of files on their way
        keys = [key for key in keys if "#" not in key or not key.rpartition("#")[2].isdigit()]
    if "dot_names" in subject.lacks:
        keys = [key for key in keys if not any(name.startswith(".") for name in key.split("/"))]
    if "long_names" in subject.lacks:
        keys = [key for key in keys if max(map(len, key.encode().split(b"/"))) < 240]
    return keys


def test_plain_keys_make_the_round_trip(subject: Subject, face: Face):
    keys = _takes(subject, PLAIN)
    for key in keys:
        face.put(subject.store, key, key.encode())
    listed = [entry["path"] for entry in face.items(face.list(subject.store))]
    assert sorted(listed) == sorted(keys)
    if subject.remote:
        assert sorted(subject.judge_keys()) == sorted(keys)
    for key in keys:
        result = face.get(subject.store, key)
        assert (result.meta["path"], face.body(result)) == (key, key.encode())
        assert face.head(subject.store, key)["path"] == key
    target = "copies/" + keys[0]
    for key in keys:
        face.copy(subject.store, key, target)
        assert face.body(face.get(subject.store, target)) == key.encode()
    face.delete(subject.store, [*keys, target])
    assert face.items(face.list(subject.store)) == []


def test_raw_keys_make_the_round_trip(s3: Subject, face: Face):
    keys = _takes(s3, [*RAW, *DOTS])
    for key in keys:
        face.put(s3.store, RawKey(key), key.encode())
    assert sorted(s3.judge_keys()) == sorted(keys)
    listed = face.items(face.list(s3.store))
    assert sorted(entry["path"] for entry in listed) == sorted(keys)
    for entry in listed:
        # What a listing returns can be given back as it is.
        assert face.body(face.get(s3.store, entry["path"])) == str(entry["path"]).encode()
        # Raw exactly where a plain string would lose a slash.
        assert isinstance(entry["path"], RawKey) == (entry["path"].startswith("/") or entry["path"].endswith("/"))
        assert face.head(s3.store, entry["path"])["size"] == entry["size"]
    for key in keys:
        face.copy(s3.store, RawKey(key), "target")
        assert face.body(face.get(s3.store, "target")) == key.encode()
        face.copy(s3.store, "target", RawKey(key))
    face.delete(s3.store, [*(RawKey(key) for key in keys), "target"])
    assert s3.judge_keys() == []


def test_slashes_at_both_ends_are_stripped_from_plain_strings(subject: Subject, face: Face):
    face.put(subject.store, "/dir/key/", b"1")
    assert face.body(face.get(subject.store, "dir/key")) == b"1"
    assert [entry["path"] for entry in face.items(face.list(subject.store))] == ["dir/key"]
    face.copy(subject.store, "/dir/key", "copy/")
    face.delete(subject.store, ["/dir/key/", "/copy/"])
    assert face.items(face.list(subject.store)) == []


def test_a_marker_and_its_namesake_are_two_objects(s3: Subject):
    obs.put(s3.store, RawKey("dir/"), b"marker")
    obs.put(s3.store, "dir", b"object")
    obs.put(s3.store, "dir/child", b"child")
    assert obs.get(s3.store, RawKey("dir/")).bytes() == b"marker"
    assert obs.get(s3.store, "dir/").bytes() == b"object", "as published, a plain trailing slash is stripped"
    assert sorted(entry["path"] for entry in obs.list(s3.store)) == ["dir", "dir/", "dir/child"]
    level = obs.list_with_delimiter(s3.store)
    assert (level["common_prefixes"], [entry["path"] for entry in level["objects"]]) == (["dir"], ["dir"])
    obs.delete(s3.store, RawKey("dir/"))
    assert s3.judge_keys() == ["dir", "dir/child"]


def test_an_odd_neighbour_does_not_break_a_listing(s3: Subject):
    odd = _takes(s3, ["a//b", "a/../c", "tab\t", "\x7f", "end/"])
    for key in odd:
        s3.judge_put(key, b"1")
    obs.put(s3.store, "plain", b"1")
    paths = [entry["path"] for entry in obs.list(s3.store)]
    assert sorted(paths) == sorted([*odd, "plain"])
    for path in paths:
        assert obs.get(s3.store, path).bytes() == b"1"
    obs.delete(s3.store, paths)
    assert s3.judge_keys() == []


def test_the_judge_reads_and_writes_the_same_keys(s3: Subject):
    for key in PLAIN:
        s3.judge_put(key, key.encode())
    for key in PLAIN:
        assert obs.get(s3.store, key).bytes() == key.encode()
        obs.put(s3.store, key, b"mine")
        assert s3.judge_get(key)["Body"] == b"mine"
    assert len(s3.judge_keys()) == len(PLAIN)


@pytest.mark.parametrize("prefix", ["odd %2F+?", "\u00e4 \u65e5", "a&b=c", "p'(*)"])
def test_prefixes_and_offsets_of_odd_characters(s3: Subject, prefix: str):
    for name in ("1 +%", "2", "3"):
        obs.put(s3.store, f"{prefix}/{name}", b"")
    obs.put(s3.store, f"{prefix}x/1", b"")
    paths = [f"{prefix}/{name}" for name in ("1 +%", "2", "3")]
    assert [entry["path"] for entry in obs.list(s3.store, prefix)] == paths
    assert [entry["path"] for entry in obs.list(s3.store, prefix, offset=paths[0])] == paths[1:]
    assert obs.list_with_delimiter(s3.store)["common_prefixes"] == sorted([prefix, f"{prefix}x"])
    store = s3.sibling(prefix=prefix)
    assert [entry["path"] for entry in obs.list(store)] == ["1 +%", "2", "3"]
    assert obs.get(store, "1 +%").meta["path"] == "1 +%"


@pytest.mark.parametrize(
    "key", ["..", "../x", "a/../../x", "a/../b", "/../x", "a/./b", ".", "a//b", "nul\0byte"], ids=repr
)
@pytest.mark.parametrize("raw", [False, True])
def test_a_local_store_refuses_what_could_leave_its_root(tmp_path, key: str, raw: bool):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x").write_bytes(b"outside")
    store = obs.store.LocalStore(root)
    name = RawKey(key) if raw else key
    for act in (
        lambda: obs.put(store, name, b"inside"),
        lambda: obs.get(store, name),
        lambda: obs.head(store, name),
        lambda: obs.copy(store, name, "b"),
        lambda: obs.rename(store, name, "b"),
    ):
        with pytest.raises(ValueError, match=r"(?i)path|below the store's root"):
            act()
    with pytest.raises((ValueError, TypeError)):
        obs.delete(store, name)
    assert (tmp_path / "x").read_bytes() == b"outside"
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("key", [1, None, b"key", ["key"]], ids=repr)
def test_keys_are_strings(subject: Subject, key):
    for act in (
        lambda: obs.put(subject.store, key, b""),
        lambda: obs.get(subject.store, key),
        lambda: obs.head(subject.store, key),
        lambda: obs.get_range(subject.store, key, start=0, end=1),
        lambda: obs.get_ranges(subject.store, key, starts=[0], ends=[1]),
    ):
        with pytest.raises(TypeError, match="path"):
            act()


def test_lone_surrogates_are_refused(subject: Subject):
    with pytest.raises((UnicodeEncodeError, ValueError)):
        obs.put(subject.store, "half \ud800", b"")
