"""Object storage for Python: S3, local disk and memory behind one API, synchronous and asynchronous.

Every operation is a function of this module, ``get(store, path)``, and a method of the stores, ``store.get(path)``; each
with a twin ending in ``_async`` whose result is awaited. Stores are made by the classes of ``obstore.store``.
"""

from obstore import exceptions, store
from obstore._config.client import ClientConfig
from obstore._config.retry import BackoffConfig, RetryConfig
from obstore._engine import Bytes, ListItem, Timing
from obstore._functions import (
    copy,
    copy_async,
    debug_info,
    delete,
    delete_async,
    get,
    get_async,
    get_limits,
    get_range,
    get_range_async,
    get_ranges,
    get_ranges_async,
    head,
    head_async,
    list,  # noqa: A004 - the published name
    list_with_delimiter,
    list_with_delimiter_async,
    parse_scheme,
    put,
    put_async,
    rename,
    rename_async,
    set_limits,
    stats,
)
from obstore._streams import BytesStream, GetResult, ListStream
from obstore._types import (
    Attribute,
    Attributes,
    GetOptions,
    ListResult,
    ObjectMeta,
    OffsetRange,
    PutMode,
    PutResult,
    RawKey,
    SuffixRange,
    UpdateVersion,
)
from obstore._version import __version__
from obstore.exceptions import (
    AlreadyExistsError,
    Attempt,
    BaseError,
    ConnectionFailedError,
    GenericError,
    IntegrityError,
    InvalidPathError,
    JoinError,
    NotFoundError,
    NotModifiedError,
    NotSupportedError,
    PermissionDeniedError,
    PreconditionError,
    RequestTimeoutError,
    ThrottledError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import LocalStore, MemoryStore, ObjectStore, S3Store, from_url

__all__ = [
    "AlreadyExistsError",
    "Attempt",
    "Attribute",
    "Attributes",
    "BackoffConfig",
    "BaseError",
    "Bytes",
    "BytesStream",
    "ClientConfig",
    "ConnectionFailedError",
    "GenericError",
    "GetOptions",
    "GetResult",
    "IntegrityError",
    "InvalidPathError",
    "JoinError",
    "ListItem",
    "ListResult",
    "ListStream",
    "LocalStore",
    "MemoryStore",
    "NotFoundError",
    "NotModifiedError",
    "NotSupportedError",
    "ObjectMeta",
    "ObjectStore",
    "OffsetRange",
    "PermissionDeniedError",
    "PreconditionError",
    "PutMode",
    "PutResult",
    "RawKey",
    "RequestTimeoutError",
    "RetryConfig",
    "S3Store",
    "SuffixRange",
    "ThrottledError",
    "Timing",
    "UnauthenticatedError",
    "UnknownConfigurationKeyError",
    "UpdateVersion",
    "__version__",
    "copy",
    "copy_async",
    "debug_info",
    "delete",
    "delete_async",
    "exceptions",
    "from_url",
    "get",
    "get_async",
    "get_limits",
    "get_range",
    "get_range_async",
    "get_ranges",
    "get_ranges_async",
    "head",
    "head_async",
    "list",
    "list_with_delimiter",
    "list_with_delimiter_async",
    "parse_scheme",
    "put",
    "put_async",
    "rename",
    "rename_async",
    "set_limits",
    "stats",
    "store",
]


def __getattr__(name: str) -> str:
    """The published private attributes that name the engine underneath; asking for them loads it."""
    if name in ("_object_store_source", "_object_store_version"):
        info = debug_info()["libcurl"]
        return str(info["path"] if name == "_object_store_source" else f"libcurl/{info['version']}")
    raise AttributeError(f"module 'obstore' has no attribute {name!r}")
