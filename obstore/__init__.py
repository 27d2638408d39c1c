"""Object storage for Python: S3, local disk and memory behind one API, synchronous and asynchronous.

Every operation is a function of this module, ``get(store, path)``, and a method of the stores, ``store.get(path)``; each
with a twin ending in ``_async`` whose result is awaited. Stores are made by the classes of ``obstore.store``.
"""

from typing import TYPE_CHECKING, Any

from obstore import exceptions, store
from obstore._config.client import ClientConfig
from obstore._config.retry import BackoffConfig, RetryConfig
from obstore._engine import Bytes, ListItem, Timing
from obstore._file_functions import open_reader, open_reader_async, open_writer, open_writer_async
from obstore._files import AsyncReadableFile, AsyncWritableFile, ReadableFile, WritableFile
from obstore._functions import (
    copy,
    copy_async,
    debug_info,
    delete,
    delete_async,
    generate_presigned_post,
    generate_presigned_post_async,
    get,
    get_async,
    get_limits,
    get_options,
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
    set_options,
    sign,
    sign_async,
    stats,
)
from obstore._listings import ArrowListStream, ListStream
from obstore._ranges import RangeStream
from obstore._streams import BytesStream, GetResult
from obstore._types import (
    HTTP_METHOD,
    Attribute,
    Attributes,
    GetOptions,
    ListResult,
    ObjectMeta,
    OffsetRange,
    PresignedPost,
    PutMode,
    PutResult,
    RawKey,
    StoreStats,
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
from obstore.store import from_url

if TYPE_CHECKING:
    from obstore.store import (
        AzureStore,
        GCSStore,
        HTTPStore,
        LocalStore,
        MemoryStore,
        ObjectStore,
        S3Store,
        SignCapableStore,
    )

__all__ = [
    "HTTP_METHOD",
    "AlreadyExistsError",
    "ArrowListStream",
    "AsyncReadableFile",
    "AsyncWritableFile",
    "Attempt",
    "Attribute",
    "Attributes",
    "AzureStore",
    "BackoffConfig",
    "BaseError",
    "Bytes",
    "BytesStream",
    "ClientConfig",
    "ConnectionFailedError",
    "GCSStore",
    "GenericError",
    "GetOptions",
    "GetResult",
    "HTTPStore",
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
    "PresignedPost",
    "PutMode",
    "PutResult",
    "RangeStream",
    "RawKey",
    "ReadableFile",
    "RequestTimeoutError",
    "RetryConfig",
    "S3Store",
    "SignCapableStore",
    "StoreStats",
    "SuffixRange",
    "ThrottledError",
    "Timing",
    "UnauthenticatedError",
    "UnknownConfigurationKeyError",
    "UpdateVersion",
    "WritableFile",
    "__version__",
    "copy",
    "copy_async",
    "debug_info",
    "delete",
    "delete_async",
    "exceptions",
    "from_url",
    "generate_presigned_post",
    "generate_presigned_post_async",
    "get",
    "get_async",
    "get_limits",
    "get_options",
    "get_range",
    "get_range_async",
    "get_ranges",
    "get_ranges_async",
    "head",
    "head_async",
    "list",
    "list_with_delimiter",
    "list_with_delimiter_async",
    "open_reader",
    "open_reader_async",
    "open_writer",
    "open_writer_async",
    "parse_scheme",
    "put",
    "put_async",
    "rename",
    "rename_async",
    "set_limits",
    "set_options",
    "sign",
    "sign_async",
    "stats",
    "store",
]


_STORES = frozenset(
    {
        "AzureStore",
        "GCSStore",
        "HTTPStore",
        "LocalStore",
        "MemoryStore",
        "ObjectStore",
        "S3Store",
        "SignCapableStore",
    }
)


if not TYPE_CHECKING:  # or any name at all would be one of ours to type checkers

    def __getattr__(name: str) -> Any:
        """The stores, imported when first asked for; and the published private attributes that name the engine underneath."""
        if name in _STORES:
            value = globals()[name] = getattr(store, name)
            return value
        if name in ("_object_store_source", "_object_store_version"):
            info = debug_info()["libcurl"]  # loads it
            return str(info["path"] if name == "_object_store_source" else f"libcurl/{info['version']}")
        raise AttributeError(f"module 'obstore' has no attribute {name!r}")

    def __dir__() -> Any:
        return sorted({*globals(), *__all__})
