"""The names that users see, frozen: adding or removing one is a decision, and shows here."""

from __future__ import annotations

import collections.abc
import inspect
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any

import pytest

import obstore
import obstore.exceptions
import obstore.store
from obstore import _functions
from obstore.store import ObjectStoreMethods

VERBS = ["copy", "delete", "get", "get_range", "get_ranges", "head", "list_with_delimiter", "put", "rename", "sign"]
VERBS += ["generate_presigned_post"]
FILES = ["open_reader", "open_reader_async", "open_writer", "open_writer_async"]
FUNCTIONS = [*VERBS, *[f"{verb}_async" for verb in VERBS], "list", *FILES]
EXCEPTIONS = [
    "AlreadyExistsError",
    "Attempt",
    "BaseError",
    "ConnectionFailedError",
    "GenericError",
    "IntegrityError",
    "InvalidPathError",
    "JoinError",
    "NotFoundError",
    "NotModifiedError",
    "NotSupportedError",
    "PermissionDeniedError",
    "PreconditionError",
    "RequestTimeoutError",
    "ThrottledError",
    "UnauthenticatedError",
    "UnknownConfigurationKeyError",
]
RESULTS = [
    "ArrowListStream",
    "AsyncReadableFile",
    "AsyncWritableFile",
    "RangeStream",
    "ReadableFile",
    "WritableFile",
    "Bytes",
    "BytesStream",
    "GetResult",
    "ListItem",
    "ListStream",
    "RawKey",
    "Timing",
]
TYPES = [
    "HTTP_METHOD",
    "Attribute",
    "Attributes",
    "BackoffConfig",
    "ClientConfig",
    "GetOptions",
    "ListResult",
    "ObjectMeta",
    "OffsetRange",
    "PresignedPost",
    "PutMode",
    "PutResult",
    "RetryConfig",
    "SignCapableStore",
    "StoreStats",
    "SuffixRange",
    "UpdateVersion",
]
STORES = ["AzureStore", "GCSStore", "HTTPStore", "LocalStore", "MemoryStore", "S3Store"]
MORE = [
    "ObjectStore",
    "__version__",
    "debug_info",
    "exceptions",
    "from_url",
    "get_limits",
    "get_options",
    "parse_scheme",
]
MORE += ["set_limits", "set_options", "stats", "store"]
IN_STORE = [
    "AzureAccessKey",
    "AzureBearerToken",
    "AzureConfig",
    "AzureCredential",
    "AzureCredentialProvider",
    "AzureCredentialType",
    "AzureSASToken",
    "AzureStore",
    "BackoffConfig",
    "BaseError",
    "ClientConfig",
    "GCSConfig",
    "GCSCredential",
    "GCSCredentialProvider",
    "GCSStore",
    "HTTPStore",
    "LocalStore",
    "MemoryStore",
    "ObjectStore",
    "ObjectStoreMethods",
    "RetryConfig",
    "S3ChecksumAlgorithm",
    "S3Config",
    "S3Credential",
    "S3CredentialProvider",
    "S3EncryptionAlgorithm",
    "S3Regions",
    "S3Store",
    "SignCapableStore",
    "from_url",
]


def test_names_of_the_package() -> None:
    assert sorted(obstore.__all__) == sorted([*FUNCTIONS, *EXCEPTIONS, *RESULTS, *TYPES, *STORES, *MORE])


def test_names_of_the_modules() -> None:
    assert sorted(obstore.store.__all__) == IN_STORE
    classes = [name for name, value in vars(obstore.exceptions).items() if inspect.isclass(value)]
    public = [name for name in classes if vars(obstore.exceptions)[name].__module__ == "obstore.exceptions"]
    assert set(EXCEPTIONS) <= set(public)
    for name in EXCEPTIONS:
        assert getattr(obstore, name) is getattr(obstore.exceptions, name)


@pytest.mark.parametrize("module", ["obstore", "obstore.store"])
def test_star_import_and_submodules_of_a_plain_import(module: str) -> None:
    program = (
        f"import obstore; obstore.store.from_url; obstore.exceptions.BaseError\nfrom {module} import *\nprint(S3Store)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("<class 'obstore.store.S3Store'>\n", "")


def test_what_a_plain_import_loads() -> None:
    """All else comes with the first name that is asked for: what takes time to import is not here by accident."""
    where = str(Path(obstore.__file__).parents[1])
    program = f"""
import os, sys
sys.path.insert(0, {where!r})
before = set(sys.modules)
import obstore
print(*sorted(set(sys.modules) - before - {{"__future__"}}))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("obstore obstore._lazy obstore._version\n", "")


@pytest.mark.parametrize("name", ["get", "S3Store", "exceptions", "BytesStream", "from_url"])
def test_threads_that_ask_for_a_name_at_once_get_the_same(name: str) -> None:
    program = f"""
import sys, threading, obstore
sys.setswitchinterval(1e-6)
start, found = threading.Barrier(8), []
def ask(wanted):
    start.wait()
    if wanted == "exceptions":
        from obstore import exceptions as value
    else:
        value = getattr(obstore, wanted)
    found.append((wanted, value))
threads = [threading.Thread(target=ask, args=(("{name}", "get", "exceptions", "LocalStore")[i % 4],)) for i in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
print(len(found), len(set(found)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    different = len({name, "get", "exceptions", "LocalStore"})
    assert (done.stdout, done.stderr) == (f"8 {different}\n", "")


def test_importing_loads_neither_libcurl_nor_optional_packages() -> None:
    program = """
import sys, obstore
store = obstore.store.S3Store("b", region="r")
loaded = [name for name in ("pyarrow", "boto3", "botocore", "numpy", "requests", "pycurl") if name in sys.modules]
print(loaded, obstore._engine._core.loaded())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[] False\n", "")


@pytest.mark.parametrize(
    ("made", "spared"),
    [
        ('S3Store("b", region="r", access_key_id="a", secret_access_key="s")', {"hashlib"}),
        ('GCSStore("b", skip_signature=True)', set()),
        ('AzureStore("b", account_name="a", account_key="a2V5")', set()),
        ('HTTPStore("https://localhost")', set()),
    ],
)
def test_first_store_loads_no_module_that_takes_long(made: str, spared: set[str]) -> None:
    """Each of them is a tenth and more of the time that a script waits for its first store."""
    where = str(Path(obstore.__file__).parents[1])
    program = f"""
import sys
sys.path.insert(0, {where!r})
from obstore import store
store.{made}
print(*sorted({spared | {"asyncio", "dataclasses", "inspect", "logging", "ssl"}} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


def parameters(function: Any) -> list[Any]:
    return list(inspect.signature(function).parameters.values())


@pytest.mark.parametrize("verb", VERBS)
def test_async_twins_take_the_same(verb: str) -> None:
    plain, later = parameters(getattr(obstore, verb)), parameters(getattr(obstore, f"{verb}_async"))
    if verb == "put":  # takes asynchronous iterables besides
        plain[2], later[2] = plain[2].replace(annotation=None), later[2].replace(annotation=None)
    assert plain == later


@pytest.mark.parametrize("name", FUNCTIONS)
def test_methods_take_the_same_without_the_store(name: str) -> None:
    function, method = getattr(obstore, name), getattr(ObjectStoreMethods, name)
    assert parameters(function)[0].name == "store"
    assert parameters(function)[1:] == parameters(method)[1:]
    returned = inspect.signature(function).return_annotation
    if returned.startswith("Awaitable["):  # the awaitables of methods are coroutines as well
        returned = f"CoroutineType[Any, Any, {returned.removeprefix('Awaitable[')}"
    assert inspect.signature(method).return_annotation == returned


def test_methods_are_no_more_than_the_functions() -> None:
    public = [name for name in vars(ObjectStoreMethods) if not name.startswith("_")]
    assert sorted(public) == sorted([*FUNCTIONS, "list_async", "stats"])


EXPECTED = {
    "put": "store path file *attributes tags mode use_multipart chunk_size max_concurrency",
    "get": "store path *options",
    "get_range": "store path *start end length offset into",
    "get_ranges": "store path *starts ends lengths coalesce into stream",
    "head": "store path",
    "list": "store prefix *offset chunk_size return_arrow match concurrency",
    "list_with_delimiter": "store prefix *return_arrow match",
    "delete": "store paths *missing_ok",
    "copy": "store from_ to *overwrite",
    "rename": "store from_ to *overwrite",
    "sign": "store method paths expires_in *query headers version response_cache_control response_content_disposition "
    "response_content_encoding response_content_language response_content_type",
    "generate_presigned_post": "store path expires_in *fields conditions",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_argument_names(name: str) -> None:
    words, keyword = [], False
    for parameter in parameters(getattr(obstore, name)):
        star = "*" if parameter.kind is parameter.KEYWORD_ONLY and not keyword else ""
        keyword = keyword or bool(star)
        words.append(star + parameter.name)
    assert " ".join(words) == EXPECTED[name]


def test_defaults_that_users_rely_on() -> None:
    defaults = {parameter.name: parameter.default for parameter in parameters(obstore.put)}
    assert defaults["chunk_size"] == 5 * 1024 * 1024
    assert defaults["max_concurrency"] == 12
    assert inspect.signature(obstore.get_ranges).parameters["coalesce"].default == 1024 * 1024
    assert inspect.signature(obstore.copy).parameters["overwrite"].default is True
    assert inspect.signature(obstore.GetResult.stream).parameters["min_chunk_size"].default == 10 * 1024 * 1024


PUBLIC = sorted({*obstore.__all__, *obstore.store.__all__} - {"__version__", "exceptions", "store"})


def public(name: str) -> Any:
    return getattr(obstore, name, None) or getattr(obstore.store, name)


@pytest.mark.parametrize("name", PUBLIC)
def test_where_public_names_say_they_come_from(name: str) -> None:
    """zarr and others look at ``__module__``, Rust programs at ``__name__``."""
    value = public(name)
    if inspect.isclass(value) and not isinstance(value, types.GenericAlias) and name != "SignCapableStore":  # an alias
        assert value.__module__.startswith("obstore")
        assert value.__name__ == name


@pytest.mark.parametrize("name", [name for name in PUBLIC if callable(public(name))])
def test_public_names_are_documented(name: str) -> None:
    value = public(name)
    if typing.get_origin(value) is None:
        assert value.__doc__
        assert value.__doc__.strip()
    if inspect.isclass(value) and not issubclass(value, dict):
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and (callable(member) or isinstance(member, property)):
                assert member.__doc__, f"{name}.{attribute}"


def test_object_store_works_with_isinstance() -> None:
    assert isinstance(obstore.MemoryStore(), obstore.ObjectStore)
    assert not isinstance(object(), obstore.ObjectStore)


def test_types_resolve_at_run_time() -> None:
    for name in ("ObjectMeta", "PutResult", "GetOptions", "ListResult", "OffsetRange", "SuffixRange", "UpdateVersion"):
        assert typing.get_type_hints(public(name))
    assert set(typing.get_type_hints(obstore.store.S3Credential)) == {
        "access_key_id",
        "secret_access_key",
        "token",
        "expires_at",
    }


def test_private_version_attributes_name_the_engine() -> None:
    assert obstore._object_store_version.startswith("libcurl/")
    assert "libcurl" in obstore._object_store_source
    with pytest.raises(AttributeError, match="module 'obstore' has no attribute 'nonsense'"):
        _ = obstore.nonsense


def test_builtins_are_not_shadowed_where_it_matters() -> None:
    """`list` and `bytes` are published names: annotations of ours must not mean those."""
    hints = typing.get_type_hints(
        _functions.get_ranges, localns={"ObjectStore": ObjectStoreMethods, "builtins": __import__("builtins")}
    )
    assert hints["return"] == list[Any] | obstore.RangeStream
    assert hints["starts"] == collections.abc.Sequence[int]


# ---- limits, stats -------------------------------------------------------------------------------------------------


def test_limits_keep_what_is_left_out() -> None:
    before = obstore.get_limits()
    try:
        obstore.set_limits(connections=77)
        assert obstore.get_limits() == {**before, "connections": 77}
        obstore.set_limits(memory=1 << 30)
        assert obstore.get_limits() == {**before, "connections": 77, "memory": 1 << 30}
        obstore.set_limits()
        assert obstore.get_limits()["connections"] == 77
    finally:
        obstore.set_limits(**before)
    assert obstore.get_limits() == before


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        ({"connections": 0}, ValueError),
        ({"threads": 0}, ValueError),
        ({"connections": -1}, OverflowError),
        ({"memory": 1.5}, TypeError),
        ({"memory": True}, TypeError),
    ],
)
def test_wrong_limits_are_named_and_change_nothing(limits: dict[str, Any], error: type[Exception]) -> None:
    before = obstore.get_limits()
    with pytest.raises(error, match=rf"^{next(iter(limits))}\b"):
        obstore.set_limits(**{"connections": 5, **limits})
    assert obstore.get_limits() == before


def test_debug_info_is_plain_data() -> None:
    info = obstore.debug_info()
    assert info["python"] == sys.version.split()[0]
    assert info["limits"] == obstore.get_limits()
    assert info["libcurl"]["path"] == obstore._object_store_source
    assert {"live_transfers", "live_clients", "loops"} <= info["stats"].keys()


def test_import_loads_no_store() -> None:
    """A program pays for the kinds of store that it uses."""
    program = """
import sys, obstore
loaded = sorted(name for name in sys.modules if name.startswith(("obstore._stores.", "obstore._dialect.s3")))
print(loaded)
obstore.MemoryStore()
print("obstore._stores.memory" in sys.modules, "obstore._stores.s3" in sys.modules)
from obstore.store import *
print(all(name in globals() for name in obstore.store.__all__))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\nTrue False\nTrue\n", "")
