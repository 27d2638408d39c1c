"""delete, copy, rename."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.fix_stores import Face, Subject
from tests.servers.fakes3 import FakeS3
from tests.servers.scripted import Reply


def _keys(subject: Subject) -> list[str]:
    return sorted(entry["path"] for entry in obs.list(subject.store))


@pytest.fixture
def stored(subject: Subject) -> Subject:
    for key in ("a", "b", "dir/c"):
        obs.put(subject.store, key, key.encode() * 3)
    return subject


# ---- delete ---------------------------------------------------------------------------------------------


def test_delete_one_and_many(stored: Subject, face: Face):
    assert face.delete(stored.store, "a") is None
    assert _keys(stored) == ["b", "dir/c"]
    assert face.delete(stored.store, ["b", "dir/c"]) is None
    assert _keys(stored) == []
    assert face.delete(stored.store, []) is None
    with pytest.raises(obs.NotFoundError):
        face.get(stored.store, "a")


def test_delete_of_a_missing_key_is_as_published(stored: Subject, face: Face):
    if "missing_delete" in stored.lacks:
        with pytest.raises(obs.NotFoundError):
            face.delete(stored.store, "missing")
    else:
        face.delete(stored.store, "missing")
        face.delete(stored.store, ["missing", "a"])
        assert _keys(stored) == ["b", "dir/c"]


def test_delete_of_a_missing_key_is_as_wished(stored: Subject, face: Face):
    face.delete(stored.store, "missing", missing_ok=True)
    face.delete(stored.store, ["missing", "a"], missing_ok=True)
    assert _keys(stored) == ["b", "dir/c"]
    with pytest.raises(obs.NotFoundError, match="missing"):
        face.delete(stored.store, "missing", missing_ok=False)
    with pytest.raises(obs.NotFoundError, match="missing"):
        face.delete(stored.store, ["b", "missing"], missing_ok=False)
    face.delete(stored.store, "dir/c", missing_ok=False)


def test_delete_of_more_than_a_batch(subject: Subject):
    keys = [f"k{i:04}" for i in range(1200)]
    if subject.kind == "swift":
        keys = keys[:150]  # one request a key inside; a thousand of them take half a minute
    # All the same whether they exist: the answer lists each.
    obs.put(subject.store, keys[0], b"")
    obs.put(subject.store, keys[-1], b"")
    obs.delete(subject.store, keys, missing_ok=True)
    assert _keys(subject) == []


@pytest.mark.parametrize(
    "paths",
    [None, 1, b"a", {"a"}, {"a": 1}, (key for key in "ab"), ["a", 1], ["a", b"b"]],
    ids=lambda p: type(p).__name__,
)
def test_delete_refuses_other_than_strings(stored: Subject, paths):
    with pytest.raises(TypeError, match="paths"):
        obs.delete(stored.store, paths)
    assert _keys(stored) == ["a", "b", "dir/c"]


def test_delete_names_the_key_that_failed(fake_s3: FakeS3):
    body = (
        "<DeleteResult><Deleted><Key>a</Key></Deleted><Error><Key>b&amp;c</Key><Code>AccessDenied</Code>"
        "<Message>Access Denied</Message></Error></DeleteResult>"
    )
    fake_s3.push(Reply(200, {"content-type": "application/xml"}, body.encode()))
    with pytest.raises(obs.BaseError, match=r"b&c.*Access Denied.*AccessDenied"):
        obs.delete(S3Store(**fake_s3.config()), ["a", "b&c"])


def test_delete_sends_a_thousand_keys_a_request(fake_s3: FakeS3):
    keys = [f"k{i}" for i in range(2001)]
    obs.delete(S3Store(**fake_s3.config()), keys)
    counts = [sum(node.tag.endswith("Key") for node in ET.fromstring(r.body).iter()) for r in fake_s3.requests]
    assert sorted(counts) == [1, 1000, 1000]
    assert all("content-md5" in r.headers for r in fake_s3.requests)


def test_delete_one_by_one_where_bulk_is_disabled(s3: Subject):
    store = s3.sibling(disable_bulk_delete=True)
    for key in ("a b", "c/d"):
        obs.put(store, key, b"")
    obs.delete(store, ["a b", "c/d"])
    assert s3.judge_keys() == []


def test_delete_cleans_up_local_directories_on_request(tmp_path):
    for cleanup in (False, True):
        store = obs.store.LocalStore(tmp_path / str(cleanup), mkdir=True, automatic_cleanup=cleanup)
        obs.put(store, "a/b/c", b"")
        obs.put(store, "a/d", b"")
        obs.delete(store, "a/b/c")
        assert (tmp_path / str(cleanup) / "a" / "b").exists() is not cleanup
        obs.delete(store, "a/d")
        assert (tmp_path / str(cleanup)).exists()
        assert (tmp_path / str(cleanup) / "a").exists() is not cleanup


# ---- copy and rename ------------------------------------------------------------------------------------


def test_copy_leaves_the_source(stored: Subject, face: Face):
    assert face.copy(stored.store, "a", "new dir/copy") is None
    assert face.body(face.get(stored.store, "new dir/copy")) == b"aaa"
    assert _keys(stored) == ["a", "b", "dir/c", "new dir/copy"]


def test_copy_carries_attributes(stored: Subject):
    attributes = {} if stored.lacks & {"attributes", "kept_attributes"} else {"Content-Type": "text/x", "mine": "value"}
    obs.put(stored.store, "with", b"x", attributes=attributes)
    obs.copy(stored.store, "with", "copied")
    obs.rename(stored.store, "copied", "renamed")
    got = obs.get(stored.store, "renamed").attributes
    assert {name: got[name] for name in attributes} == attributes


def test_rename_moves(stored: Subject, face: Face):
    assert face.rename(stored.store, "a", "new dir/moved") is None
    assert face.body(face.get(stored.store, "new dir/moved")) == b"aaa"
    assert _keys(stored) == ["b", "dir/c", "new dir/moved"]


@pytest.mark.parametrize("operation", ["copy", "rename"])
def test_copy_and_rename_replace_by_default(stored: Subject, face: Face, operation: str):
    getattr(face, operation)(stored.store, "a", "b")
    assert face.body(face.get(stored.store, "b")) == b"aaa"
    getattr(face, operation)(stored.store, "dir/c", "b", overwrite=True)
    assert face.body(face.get(stored.store, "b")) == b"dir/c" * 3


@pytest.mark.parametrize("operation", ["copy", "rename"])
def test_copy_and_rename_onto_themselves_change_nothing(stored: Subject, face: Face, operation: str):
    before = face.head(stored.store, "a")
    getattr(face, operation)(stored.store, "a", "a")
    getattr(face, operation)(stored.store, "a", "a", overwrite=True)
    assert face.body(face.get(stored.store, "a")) == b"aaa"
    assert face.head(stored.store, "a") == before
    assert _keys(stored) == ["a", "b", "dir/c"]


@pytest.mark.parametrize("operation", ["copy", "rename"])
def test_copy_and_rename_without_overwriting(stored: Subject, face: Face, operation: str):
    act = getattr(face, operation)
    if "copy_create" in stored.lacks:
        with pytest.raises(obs.NotSupportedError, match="copy-if-not-exists"):
            act(stored.store, "a", "new", overwrite=False)
        assert _keys(stored) == ["a", "b", "dir/c"]
        return
    if "copy_condition" in stored.lacks:
        obs.copy(stored.store, "a", "b", overwrite=False)
        assert obs.get(stored.store, "b").bytes() == b"aaa", "the server began to check the condition: update LACKS"
    else:
        with pytest.raises(obs.AlreadyExistsError, match="b"):
            act(stored.store, "a", "b", overwrite=False)
        assert face.body(face.get(stored.store, "b")) == b"bbb"
    assert face.body(face.get(stored.store, "a")) == b"aaa"
    act(stored.store, "a", "new", overwrite=False)
    assert face.body(face.get(stored.store, "new")) == b"aaa"


def test_copy_without_overwriting_by_multipart(s3: Subject):
    store = s3.sibling(copy_if_not_exists="multipart")
    obs.put(store, "a", b"aaa")
    obs.put(store, "b", b"bbb")
    if "complete_create" in s3.lacks:
        obs.copy(store, "a", "b", overwrite=False)
        assert obs.get(store, "b").bytes() == b"aaa", "the server began to check the condition: update LACKS"
    else:
        with pytest.raises(obs.AlreadyExistsError):
            obs.copy(store, "a", "b", overwrite=False)
        assert obs.get(store, "b").bytes() == b"bbb"
    obs.copy(store, "a", "new", overwrite=False)
    assert obs.get(store, "new").bytes() == b"aaa"
    assert s3.judge_uploads() == []


@pytest.mark.parametrize("operation", ["copy", "rename"])
def test_copy_and_rename_of_a_missing_object_fail(stored: Subject, face: Face, operation: str):
    with pytest.raises(obs.NotFoundError):
        getattr(face, operation)(stored.store, "missing", "new")
    assert _keys(stored) == ["a", "b", "dir/c"]


@pytest.mark.parametrize("operation", ["copy", "rename"])
@pytest.mark.parametrize(
    ("arguments", "kwargs", "message"),
    [((1, "b"), {}, "from_"), (("a", b"b"), {}, "to"), (("a", "b"), {"overwrite": 1}, "overwrite")],
    ids=str,
)
def test_copy_and_rename_refuse_wrong_arguments(stored: Subject, operation: str, arguments, kwargs, message):
    with pytest.raises(TypeError, match=message):
        getattr(obs, operation)(stored.store, *arguments, **kwargs)
    assert _keys(stored) == ["a", "b", "dir/c"]


def test_arguments_may_be_given_by_name(quick: Subject):
    obs.put(store=quick.store, path="a", file=b"1")
    obs.copy(store=quick.store, from_="a", to="b", overwrite=True)
    obs.rename(store=quick.store, from_="b", to="c")
    assert obs.get(store=quick.store, path="c", options=None).bytes() == b"1"
    assert obs.head(store=quick.store, path="c")["size"] == 1
    obs.delete(store=quick.store, paths=["a", "c"])
    assert list(obs.list(store=quick.store, prefix=None)) == []
