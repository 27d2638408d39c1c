"""Stores as values: repr, equality, pickling, properties."""

from __future__ import annotations

import copy
import pickle

import pytest

import obstore as obs
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store
from tests.fix_stores import Subject

SECRET = "SECRETKEY/never+shown"
CONFIG = {
    "region": "eu-west-1",
    "access_key_id": "AKID",
    "secret_access_key": SECRET,
    "client_options": {"timeout": "5s", "allow_http": True},
    "retry_config": {"max_retries": 3},
}


def test_repr_names_the_store_and_no_secret(tmp_path):
    assert repr(S3Store("b", **CONFIG)) == 'S3Store(bucket="b")'
    assert repr(S3Store("b", prefix="/p/q/", **CONFIG)) == 'S3Store(bucket="b", prefix="p/q")'
    assert repr(LocalStore(tmp_path)) == f'LocalStore("{tmp_path}")'
    assert repr(LocalStore()) == "LocalStore"
    assert "MemoryStore" in repr(MemoryStore())


def test_repr_of_a_store_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_BUCKET", "from-env")
    assert repr(S3Store()) == 'S3Store(bucket="from-env")'


def test_equality(tmp_path):
    (tmp_path / "other").mkdir()
    assert S3Store("b", **CONFIG) == S3Store(bucket="b", **CONFIG)
    assert S3Store("b", config={"aws_region": "x"}) == S3Store("b", region="x")
    assert S3Store("b", virtual_hosted_style_request=True) == S3Store("b", virtual_hosted_style_request="true")
    for other in (
        S3Store("c", **CONFIG),
        S3Store("b", prefix="p", **CONFIG),
        S3Store("b", **{**CONFIG, "region": "us-east-1"}),
        S3Store("b", **{**CONFIG, "secret_access_key": "another"}),
        S3Store("b", **{**CONFIG, "client_options": {"timeout": "6s", "allow_http": True}}),
        S3Store("b", **{**CONFIG, "retry_config": {"max_retries": 4}}),
        MemoryStore(),
        "b",
    ):
        assert S3Store("b", **CONFIG) != other
    assert LocalStore(tmp_path) == LocalStore(str(tmp_path))
    assert LocalStore(tmp_path) != LocalStore(tmp_path / "other")
    assert LocalStore(tmp_path) != LocalStore(tmp_path, automatic_cleanup=True)
    memory = MemoryStore()
    assert memory == memory  # noqa: PLR0124 - identity is the rule
    assert memory != MemoryStore()
    for store in (S3Store("b", **CONFIG), LocalStore(tmp_path)):
        with pytest.raises(TypeError, match="unhashable"):
            hash(store)


@pytest.mark.parametrize("how", ["pickle2", "pickle", "deepcopy"])
def test_stores_survive_pickling(how: str, tmp_path):
    def again(store):
        if how == "deepcopy":
            return copy.deepcopy(store)
        return pickle.loads(pickle.dumps(store, protocol=2 if how == "pickle2" else pickle.HIGHEST_PROTOCOL))

    store = S3Store("b", prefix="p", **CONFIG)
    store.mine = "kept"
    made = again(store)
    assert made == store
    assert type(made) is S3Store
    assert made.prefix == "p"
    assert made.mine == "kept"
    assert made.config == store.config
    assert again(LocalStore(tmp_path, automatic_cleanup=True)) == LocalStore(tmp_path, automatic_cleanup=True)


def test_a_pickled_store_works(s3: Subject):
    obs.put(s3.store, "k", b"1")
    assert obs.get(pickle.loads(pickle.dumps(s3.store)), "k").bytes() == b"1"


def test_what_comes_from_the_environment_is_not_pickled(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    assert SECRET.encode() not in pickle.dumps(S3Store("b"))


def test_properties():
    store = S3Store("b", prefix="/p/", **CONFIG)
    assert store.prefix == "p"
    assert store.config == {
        "bucket": "b",
        "region": "eu-west-1",
        "access_key_id": "AKID",
        "secret_access_key": SECRET,
    }
    assert store.client_options in ({"timeout": "5s", "allow_http": True}, {"timeout": "5s", "allow_http": "true"})
    assert store.retry_config["max_retries"] == 3
    assert set(store.retry_config) == {"max_retries", "retry_timeout", "backoff"}
    assert store.credential_provider is None
    bare = S3Store("b")
    assert (bare.prefix, bare.client_options, bare.retry_config) == (None, None, None)
    for name in ("prefix", "config", "client_options"):
        with pytest.raises(AttributeError):
            setattr(store, name, None)
    store.config["bucket"] = "changed"
    assert store.config["bucket"] == "b", "a fresh dict each time"


def test_local_store_properties(tmp_path):
    assert LocalStore(tmp_path).prefix == tmp_path
    assert LocalStore(str(tmp_path)).prefix == tmp_path
    assert LocalStore().prefix is None
    with pytest.raises(obs.GenericError, match="root"):
        LocalStore(tmp_path / "missing")
    LocalStore(tmp_path / "made/deep", mkdir=True)
    assert (tmp_path / "made/deep").is_dir()
    assert LocalStore.from_url(f"file://{tmp_path}") == LocalStore(tmp_path)


def test_stores_are_what_object_store_says(tmp_path):
    for store in (S3Store("b"), LocalStore(tmp_path), MemoryStore()):
        assert isinstance(store, ObjectStore)
        assert type(store).__module__.startswith("obstore")


def test_user_subclasses_are_stores(s3: Subject):
    class Mine(S3Store):
        def greet(self) -> str:
            return "hello"

    mine = Mine(**s3.endpoint.config(s3.bucket))
    obs.put(mine, "k", b"1")
    assert bytes(mine.get("k").bytes()) == b"1"
    assert mine.greet() == "hello"


def test_s3_from_url(s3: Subject):
    config = s3.endpoint.config(s3.bucket)
    del config["bucket"]
    store = S3Store.from_url(f"s3://{s3.bucket}/base/dir", **config)
    obs.put(store, "k", b"1")
    assert s3.judge_get("base/dir/k")["Body"] == b"1"
