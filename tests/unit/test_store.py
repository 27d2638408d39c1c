"""Stores as objects: equal, copied, pickled, subclassed, shown; and what of them never leaves the process."""

from __future__ import annotations

import copy
import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore.store import LocalStore, MemoryStore, S3Config, S3Store, from_url

SECRET = "do-not-show-this"
# What the Rust library knows: a program that rebuilds our store from `__getnewargs_ex__` refuses all other keys.
RUST_CONFIG = set(S3Config.__annotations__) - {"max_connections", "profile"}


class MyStore(S3Store):
    """A subclass with its own constructor, which is not called again by a copy."""

    def __init__(self, name: str, color: str) -> None:
        super().__init__(name, region="r")
        self.color = color


class MyMemory(MemoryStore):
    """A subclass that adds nothing."""


class Provider:
    """A credential provider that can be compared and pickled."""

    def __call__(self) -> Any:
        return {"access_key_id": "a", "secret_access_key": "b", "expires_at": None}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Provider)

    __hash__ = None  # type: ignore[assignment]


def s3(**more: Any) -> S3Store:
    return S3Store("b", region="r", **more)


STORES = {
    "plain": lambda: s3(),
    "prefix": lambda: s3(prefix="/a/b/"),
    "config": lambda: s3(config={"AWS_ENDPOINT": "http://host", "virtual_hosted_style_request": "true"}),
    "secrets": lambda: s3(access_key_id="a", secret_access_key=SECRET, session_token="t"),
    "client": lambda: s3(client_options={"allow_http": True, "timeout": timedelta(seconds=3), "user_agent": "me"}),
    "limit": lambda: s3(client_options={"max_connections": 7}),
    "retry": lambda: s3(retry_config={"max_retries": 3, "backoff": {"base": 3}}),
    "provider": lambda: s3(credential_provider=Provider()),
    "subclass": lambda: MyStore("b", "red"),
    "local": lambda: LocalStore("/tmp", automatic_cleanup=True),
    "root": lambda: LocalStore(),
}
COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle {protocol}": lambda store, protocol=protocol: pickle.loads(pickle.dumps(store, protocol))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("name", STORES)
def test_copies_are_equal_and_alike(name: str, how: str) -> None:
    store = STORES[name]()
    again = COPIES[how](store)
    assert again is not store
    assert type(again) is type(store)
    assert again == store
    assert repr(again) == repr(store)
    assert again.__getnewargs_ex__() == store.__getnewargs_ex__()
    if isinstance(store, S3Store):
        assert again._client_options.max_connections == store._client_options.max_connections
        assert again._backend.dialect.endpoint == store._backend.dialect.endpoint
    if isinstance(store, MyStore):
        assert again.color == "red"


def test_stores_that_differ_are_not_equal() -> None:
    stores = [make() for make in STORES.values() if make is not STORES["subclass"]]
    for number, store in enumerate(stores):
        assert [number] == [index for index, other in enumerate(stores) if other == store]
        assert store != "store"
        with pytest.raises(TypeError, match="unhashable"):
            hash(store)


def test_memory_stores_equal_themselves_only() -> None:
    one, two = MemoryStore(), MemoryStore()
    assert one == one  # noqa: PLR0124 - that is the question
    assert one != two
    assert {one: 1}[one] == 1


@pytest.mark.parametrize("kind", [MemoryStore, MyMemory])
def test_memory_stores_are_copied_with_their_objects(kind: type[MemoryStore]) -> None:
    store = kind()
    store.label = "mine"  # type: ignore[attr-defined]
    store.put("a", b"1")
    for how in ("deepcopy", "pickle 5"):
        again = COPIES[how](store)
        assert type(again) is kind
        assert again.label == "mine"
        assert again.get("a").bytes() == b"1"
        again.put("a", b"2")
        assert store.get("a").bytes() == b"1"
    shared = copy.copy(store)
    shared.put("b", b"")
    assert store.head("b")["size"] == 0


# ---- secrets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA" + SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")


def test_what_the_environment_gave_stays_in_the_process(environment: None) -> None:
    store = S3Store("b")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert SECRET.encode() not in pickle.dumps(store, protocol)
    assert SECRET not in repr(store.config) + repr(store.__getnewargs_ex__()) + repr(vars(store)) + repr(store)
    assert store.config == {"bucket": "b"}
    assert store._backend.source.current(0.0).secret_access_key == SECRET


def test_secrets_that_were_given_are_in_config_and_nowhere_else() -> None:
    store = STORES["secrets"]()
    assert store.config["secret_access_key"] == SECRET
    shown = {name: value for name, value in vars(store).items() if name != "config"}
    assert SECRET not in repr(store) + repr(shown) + repr(vars(store._backend))
    assert SECRET.encode() in pickle.dumps(store)  # or the copy could not sign


# ---- what other programs read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in STORES if name not in ("local", "root")])
def test_arguments_for_rust_programs(name: str) -> None:
    positional, keywords = STORES[name]().__getnewargs_ex__()
    assert positional == ()
    assert set(keywords) <= {"prefix", "config", "client_options", "retry_config", "credential_provider"}
    assert None not in keywords.values()
    assert set(keywords["config"]) <= RUST_CONFIG
    assert all(type(value) is str for value in keywords["config"].values())
    assert "max_connections" not in keywords.get("client_options", {})


def test_arguments_for_rust_programs_rebuild_the_store() -> None:
    for name, make in STORES.items():
        store = make()
        positional, keywords = store.__getnewargs_ex__()
        if name not in ("subclass", "limit"):
            assert type(store)(*positional, **keywords) == store


def test_local_arguments_for_rust_programs() -> None:
    arguments = LocalStore("/tmp", automatic_cleanup=True).__getnewargs_ex__()
    assert arguments == ((Path("/tmp"),), {"automatic_cleanup": True, "mkdir": False})
    assert LocalStore().__getnewargs_ex__() == ((None,), {"automatic_cleanup": False, "mkdir": False})


def test_getters() -> None:
    store = s3(
        prefix="/a/",
        config={"AWS_SKIP_SIGNATURE": True},
        client_options={"allow_http": True},
        retry_config={"max_retries": 3},
    )
    assert store.prefix == "a"
    assert store.config == {"bucket": "b", "region": "r", "skip_signature": "true"}
    assert store.client_options == {"allow_http": "true"}
    assert store.retry_config is not None
    assert store.retry_config["max_retries"] == 3
    assert store.credential_provider is None
    store.config["bucket"] = "other"
    assert store.config["bucket"] == "b"
    plain = s3()
    assert (plain.prefix, plain.client_options, plain.retry_config) == (None, None, None)
    assert LocalStore("/tmp").prefix == Path("/tmp")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", 'S3Store(bucket="b")'),
        ("prefix", 'S3Store(bucket="b", prefix="a/b")'),
        ("local", 'LocalStore("/tmp")'),
        ("root", "LocalStore"),
    ],
)
def test_repr(name: str, text: str) -> None:
    assert repr(STORES[name]()) == text


# ---- who is a store --------------------------------------------------------------------------------------------------


class Half(S3Store):
    """Forgot to call the constructor it extends."""

    def __init__(self) -> None:
        pass


class Pretender:
    """Looks like a store, is none."""

    _backend = MemoryStore()._backend


class Hostile:
    """Answers no question."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


FOREIGN = {
    "None": None,
    "int": 5,
    "str": "s3://b",
    "object": object(),
    "pretender": Pretender(),
    "hostile": Hostile(),
    "class": MemoryStore,
    "half": Half(),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("name", ["get", "head", "list", "list_with_delimiter", "delete", "put"])
def test_foreign_objects_are_refused(foreign: str, name: str) -> None:
    arguments = {"put": ("k", b""), "list": (), "list_with_delimiter": ()}.get(name, ("k",))
    with pytest.raises(ValueError, match=r"^Expected an object store instance, got "):
        getattr(obs, name)(FOREIGN[foreign], *arguments)


def test_subclasses_are_stores() -> None:
    class Local(LocalStore):
        pass

    store = MyMemory()
    obs.put(store, "a", b"1")
    assert obs.get(store, "a").bytes() == b"1"
    assert obs.list(Local("/tmp")) is not None


# ---- from_url --------------------------------------------------------------------------------------------------------


def test_from_url(tmp_path: Path) -> None:
    assert from_url("s3://b/a", region="r") == s3(prefix="a")
    assert from_url("s3://b/a", config={"region": "r"}) == s3(prefix="a")
    assert from_url(tmp_path.as_uri()) == LocalStore(tmp_path)
    assert from_url(f"{tmp_path.as_uri()}/new", mkdir=True) == LocalStore(tmp_path / "new", mkdir=True)
    assert type(from_url("memory:///")) is MemoryStore


@pytest.mark.parametrize(
    ("url", "arguments", "error", "text"),
    [
        ("memory:///", {"config": {"a": 1}}, obs.BaseError, "MemoryStore does not accept any configuration"),
        ("memory:///", {"credential_provider": Provider()}, obs.BaseError, "MemoryStore does not accept"),
        ("file:///tmp", {"credential_provider": Provider()}, obs.BaseError, "LocalStore does not accept a credential"),
        ("az://b", {}, obs.GenericError, "Account must be specified"),
        ("nonsense://b", {}, obs.GenericError, "nonsense"),
        ("nonsense", {}, ValueError, "relative URL without a base"),
        ("s3://b", {"nonsense": 1}, obs.UnknownConfigurationKeyError, "nonsense"),
    ],
)
def test_from_url_refuses(url: str, arguments: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        from_url(url, **arguments)
