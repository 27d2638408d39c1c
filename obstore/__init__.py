"""Object storage for Python: S3, local disk and memory behind one API, synchronous and asynchronous.

Every operation is a function of this module, ``get(store, path)``, and a method of the stores, ``store.get(path)``; each
with a twin ending in ``_async`` whose result is awaited. Stores are made by the classes of ``obstore.store``.
"""

from obstore import _lazy
from obstore._version import __version__

TYPE_CHECKING = False  # importing typing alone would take longer than all of this does
if TYPE_CHECKING:
    from obstore import exceptions, store
    from obstore._config.client import ClientConfig
    from obstore._config.retry import BackoffConfig, RetryConfig
    from obstore._engine import Bytes, ListItem, Timing
    from obstore._file_functions import open_reader, open_reader_async, open_writer, open_writer_async
    from obstore._file_writing import AsyncWritableFile, WritableFile
    from obstore._files import AsyncReadableFile, ReadableFile
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
    from obstore.store import (
        AzureStore,
        GCSStore,
        HTTPStore,
        LocalStore,
        MemoryStore,
        ObjectStore,
        S3Store,
        SignCapableStore,
        from_url,
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


# Nothing of the library is imported before it is asked for: a name here, or a module. Kept equal to the imports above by a test.
_NAMES = {
    "obstore._config.client": "ClientConfig",
    "obstore._config.retry": "BackoffConfig RetryConfig",
    "obstore._engine": "Bytes ListItem Timing",
    "obstore._file_functions": "open_reader open_reader_async open_writer open_writer_async",
    "obstore._file_writing": "AsyncWritableFile WritableFile",
    "obstore._files": "AsyncReadableFile ReadableFile",
    "obstore._functions": (
        "copy copy_async debug_info delete delete_async generate_presigned_post generate_presigned_post_async "
        "get get_async get_limits get_options get_range get_range_async get_ranges get_ranges_async head "
        "head_async list list_with_delimiter list_with_delimiter_async parse_scheme put put_async rename "
        "rename_async set_limits set_options sign sign_async stats"
    ),
    "obstore._listings": "ArrowListStream ListStream",
    "obstore._ranges": "RangeStream",
    "obstore._streams": "BytesStream GetResult",
    "obstore._types": (
        "HTTP_METHOD Attribute Attributes GetOptions ListResult ObjectMeta OffsetRange PresignedPost PutMode "
        "PutResult RawKey StoreStats SuffixRange UpdateVersion"
    ),
    "obstore.exceptions": (
        "AlreadyExistsError Attempt BaseError ConnectionFailedError GenericError IntegrityError "
        "InvalidPathError JoinError NotFoundError NotModifiedError NotSupportedError PermissionDeniedError "
        "PreconditionError RequestTimeoutError ThrottledError UnauthenticatedError "
        "UnknownConfigurationKeyError"
    ),
    "obstore.store": (
        "AzureStore GCSStore HTTPStore LocalStore MemoryStore ObjectStore S3Store SignCapableStore from_url"
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}


if not TYPE_CHECKING:  # or any name at all would be one of ours to type checkers

    def __getattr__(name: str) -> object:
        if name in _HOME:
            value = _lazy.value_of(_HOME[name], name)
        elif name in ("exceptions", "store"):
            value = _lazy.submodule(f"obstore.{name}")
        elif name in ("_object_store_source", "_object_store_version"):  # published; they name the engine underneath
            info = _lazy.value_of("obstore._functions", "debug_info")()["libcurl"]  # loads it
            return str(info["path"] if name == "_object_store_source" else f"libcurl/{info['version']}")
        else:
            raise AttributeError(f"module 'obstore' has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> object:
        return sorted({*globals(), *__all__})
