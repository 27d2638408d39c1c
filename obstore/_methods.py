"""The operations as methods: each calls the function of the same name, which documents it."""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, overload

from obstore import _file_functions as file_functions
from obstore import _functions as functions
from obstore._engine import Bytes, ListItem
from obstore._file_writing import DEFAULT_WRITE_BYTES, AsyncWritableFile, WritableFile
from obstore._files import DEFAULT_READ_BYTES, AsyncReadableFile, ReadableFile
from obstore._functions import AsyncPutInput, PutInput
from obstore._listings import ArrowListStream, ListStream
from obstore._ops.get import DEFAULT_COALESCE
from obstore._ops.put import DEFAULT_CHUNK_SIZE, DEFAULT_CONCURRENCY
from obstore._ranges import RangeStream
from obstore._run import begun
from obstore._streams import GetResult
from obstore._tokens import token_of
from obstore._types import (
    HTTP_METHOD,
    Attributes,
    Buffer,
    CoroutineType,
    GetOptions,
    ListResult,
    ObjectMeta,
    PresignedPost,
    PutMode,
    PutResult,
    StoreStats,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from obstore._types import Backend


class ObjectStoreMethods:
    """What every store can do; the base of all store classes, for use in ``isinstance``."""

    _backend: Backend

    def stats(self) -> StoreStats:
        """What became of this store's requests; counted from its first one, in this process. See `StoreStats`."""
        counted: dict[str, int] = getattr(self._backend, "stats", dict)()
        whole: Any = {name: counted.get(name, 0) for name in StoreStats.__annotations__}
        for name in ("first_byte_p50", "first_byte_p99"):
            whole[name] = counted.get(f"{name}_us", 0) / 1e6
        stats: StoreStats = whole
        return stats

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        """What identifies the data, for dask: where the store is, never what it is opened with."""
        return token_of(self)

    def put(
        self,
        path: str,
        file: PutInput,
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        max_concurrency: int = DEFAULT_CONCURRENCY,
    ) -> PutResult:
        """See `obstore.put`."""
        return functions.put(
            self,
            path,
            file,
            attributes=attributes,
            tags=tags,
            mode=mode,
            use_multipart=use_multipart,
            chunk_size=chunk_size,
            max_concurrency=max_concurrency,
        )

    def put_async(
        self,
        path: str,
        file: AsyncPutInput,
        *,
        attributes: Attributes | None = None,
        tags: dict[str, str] | None = None,
        mode: PutMode | None = None,
        use_multipart: bool | None = None,
        chunk_size: int = DEFAULT_CHUNK_SIZE,
        max_concurrency: int = DEFAULT_CONCURRENCY,
    ) -> CoroutineType[Any, Any, PutResult]:
        """See `obstore.put_async`."""
        return begun(
            functions.put_async,
            self,
            path,
            file,
            attributes=attributes,
            tags=tags,
            mode=mode,
            use_multipart=use_multipart,
            chunk_size=chunk_size,
            max_concurrency=max_concurrency,
        )

    def get(self, path: str, *, options: GetOptions | None = None) -> GetResult:
        """See `obstore.get`."""
        return functions.get(self, path, options=options)

    def get_async(self, path: str, *, options: GetOptions | None = None) -> CoroutineType[Any, Any, GetResult]:
        """See `obstore.get_async`."""
        return begun(functions.get_async, self, path, options=options)

    @overload
    def get_range(
        self,
        path: str,
        *,
        start: int | None = None,
        end: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        into: None = None,
    ) -> Bytes: ...
    @overload
    def get_range(
        self,
        path: str,
        *,
        start: int | None = None,
        end: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        into: Buffer,
    ) -> int: ...
    def get_range(
        self,
        path: str,
        *,
        start: int | None = None,
        end: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        into: Any = None,
    ) -> Any:
        """See `obstore.get_range`."""
        return functions.get_range(self, path, start=start, end=end, length=length, offset=offset, into=into)

    @overload
    def get_range_async(
        self,
        path: str,
        *,
        start: int | None = None,
        end: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        into: None = None,
    ) -> CoroutineType[Any, Any, Bytes]: ...
    @overload
    def get_range_async(
        self,
        path: str,
        *,
        start: int | None = None,
        end: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        into: Buffer,
    ) -> CoroutineType[Any, Any, int]: ...
    def get_range_async(
        self,
        path: str,
        *,
        start: int | None = None,
        end: int | None = None,
        length: int | None = None,
        offset: int | None = None,
        into: Any = None,
    ) -> CoroutineType[Any, Any, Any]:
        """See `obstore.get_range_async`."""
        return begun(
            functions.get_range_async, self, path, start=start, end=end, length=length, offset=offset, into=into
        )

    @overload
    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: Sequence[Buffer] | None = None,
        stream: Literal[True],
    ) -> RangeStream: ...
    @overload
    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: None = None,
        stream: Literal[False] = False,
    ) -> builtins.list[Bytes]: ...
    @overload
    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: Sequence[Buffer],
        stream: Literal[False] = False,
    ) -> builtins.list[int]: ...
    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: Any = None,
        stream: bool = False,
    ) -> builtins.list[Any] | RangeStream:
        """See `obstore.get_ranges`."""
        ranges: Any = functions.get_ranges
        found: builtins.list[Any] | RangeStream = ranges(
            self, path, starts=starts, ends=ends, lengths=lengths, coalesce=coalesce, into=into, stream=stream
        )
        return found

    @overload
    def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: Sequence[Buffer] | None = None,
        stream: Literal[True],
    ) -> RangeStream: ...
    @overload
    def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: None = None,
        stream: Literal[False] = False,
    ) -> CoroutineType[Any, Any, builtins.list[Bytes]]: ...
    @overload
    def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: Sequence[Buffer],
        stream: Literal[False] = False,
    ) -> CoroutineType[Any, Any, builtins.list[int]]: ...
    def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        coalesce: int = DEFAULT_COALESCE,
        into: Any = None,
        stream: bool = False,
    ) -> Any:
        """See `obstore.get_ranges_async`."""
        return begun(
            functions.get_ranges_async,
            self,
            path,
            starts=starts,
            ends=ends,
            lengths=lengths,
            coalesce=coalesce,
            into=into,
            stream=stream,
        )

    def head(self, path: str) -> ObjectMeta:
        """See `obstore.head`."""
        return functions.head(self, path)

    def head_async(self, path: str) -> CoroutineType[Any, Any, ObjectMeta]:
        """See `obstore.head_async`."""
        return begun(functions.head_async, self, path)

    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        offset: str | None = None,
        chunk_size: None = None,
        return_arrow: Literal[False] = False,
        match: Literal["segment", "string"] = "segment",
        concurrency: int | Literal["auto"] | None = None,
    ) -> ListStream[ListItem]: ...
    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        offset: str | None = None,
        chunk_size: int,
        return_arrow: Literal[False] = False,
        match: Literal["segment", "string"] = "segment",
        concurrency: int | Literal["auto"] | None = None,
    ) -> ListStream[builtins.list[ObjectMeta]]: ...
    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        offset: str | None = None,
        chunk_size: int | None = None,
        return_arrow: Literal[True],
        match: Literal["segment", "string"] = "segment",
        concurrency: int | Literal["auto"] | None = None,
    ) -> ArrowListStream: ...
    @overload
    def list(
        self,
        prefix: str | None = None,
        *,
        offset: str | None = None,
        chunk_size: int | None = None,
        return_arrow: bool,
        match: Literal["segment", "string"] = "segment",
        concurrency: int | Literal["auto"] | None = None,
    ) -> Any: ...
    def list(
        self,
        prefix: str | None = None,
        *,
        offset: str | None = None,
        chunk_size: int | None = None,
        return_arrow: bool = False,
        match: Literal["segment", "string"] = "segment",
        concurrency: int | Literal["auto"] | None = None,
    ) -> Any:
        """See `obstore.list`."""
        return functions.list(
            self,
            prefix,
            offset=offset,
            chunk_size=chunk_size,
            return_arrow=return_arrow,
            match=match,
            concurrency=concurrency,
        )

    @overload
    def list_with_delimiter(
        self,
        prefix: str | None = None,
        *,
        return_arrow: Literal[False] = False,
        match: Literal["segment", "string"] = "segment",
    ) -> ListResult[Sequence[ObjectMeta]]: ...
    @overload
    def list_with_delimiter(
        self,
        prefix: str | None = None,
        *,
        return_arrow: Literal[True],
        match: Literal["segment", "string"] = "segment",
    ) -> ListResult[pa.Table]: ...
    @overload
    def list_with_delimiter(
        self,
        prefix: str | None = None,
        *,
        return_arrow: bool,
        match: Literal["segment", "string"] = "segment",
    ) -> ListResult[Any]: ...
    def list_with_delimiter(
        self, prefix: str | None = None, *, return_arrow: bool = False, match: Literal["segment", "string"] = "segment"
    ) -> Any:
        """See `obstore.list_with_delimiter`."""
        return functions.list_with_delimiter(self, prefix, return_arrow=return_arrow, match=match)

    @overload
    def list_with_delimiter_async(
        self,
        prefix: str | None = None,
        *,
        return_arrow: Literal[False] = False,
        match: Literal["segment", "string"] = "segment",
    ) -> CoroutineType[Any, Any, ListResult[Sequence[ObjectMeta]]]: ...
    @overload
    def list_with_delimiter_async(
        self,
        prefix: str | None = None,
        *,
        return_arrow: Literal[True],
        match: Literal["segment", "string"] = "segment",
    ) -> CoroutineType[Any, Any, ListResult[pa.Table]]: ...
    @overload
    def list_with_delimiter_async(
        self,
        prefix: str | None = None,
        *,
        return_arrow: bool,
        match: Literal["segment", "string"] = "segment",
    ) -> CoroutineType[Any, Any, ListResult[Any]]: ...
    def list_with_delimiter_async(
        self, prefix: str | None = None, *, return_arrow: bool = False, match: Literal["segment", "string"] = "segment"
    ) -> CoroutineType[Any, Any, Any]:
        """See `obstore.list_with_delimiter_async`."""
        return begun(functions.list_with_delimiter_async, self, prefix, return_arrow=return_arrow, match=match)

    def open_reader(self, path: str, *, buffer_size: int = DEFAULT_READ_BYTES, size: int | None = None) -> ReadableFile:
        """See `obstore.open_reader`."""
        return file_functions.open_reader(self, path, buffer_size=buffer_size, size=size)

    def open_reader_async(
        self, path: str, *, buffer_size: int = DEFAULT_READ_BYTES, size: int | None = None
    ) -> CoroutineType[Any, Any, AsyncReadableFile]:
        """See `obstore.open_reader_async`."""
        return begun(file_functions.open_reader_async, self, path, buffer_size=buffer_size, size=size)

    def open_writer(
        self,
        path: str,
        *,
        attributes: Attributes | None = None,
        buffer_size: int = DEFAULT_WRITE_BYTES,
        tags: dict[str, str] | None = None,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        mode: PutMode | None = None,
    ) -> WritableFile:
        """See `obstore.open_writer`."""
        return file_functions.open_writer(
            self,
            path,
            attributes=attributes,
            buffer_size=buffer_size,
            tags=tags,
            max_concurrency=max_concurrency,
            mode=mode,
        )

    def open_writer_async(
        self,
        path: str,
        *,
        attributes: Attributes | None = None,
        buffer_size: int = DEFAULT_WRITE_BYTES,
        tags: dict[str, str] | None = None,
        max_concurrency: int = DEFAULT_CONCURRENCY,
        mode: PutMode | None = None,
    ) -> AsyncWritableFile:
        """See `obstore.open_writer_async`."""
        return file_functions.open_writer_async(
            self,
            path,
            attributes=attributes,
            buffer_size=buffer_size,
            tags=tags,
            max_concurrency=max_concurrency,
            mode=mode,
        )

    def delete(self, paths: str | Sequence[str], *, missing_ok: bool | None = None) -> None:
        """See `obstore.delete`."""
        return functions.delete(self, paths, missing_ok=missing_ok)

    def delete_async(
        self, paths: str | Sequence[str], *, missing_ok: bool | None = None
    ) -> CoroutineType[Any, Any, None]:
        """See `obstore.delete_async`."""
        return begun(functions.delete_async, self, paths, missing_ok=missing_ok)

    def copy(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """See `obstore.copy`."""
        return functions.copy(self, from_, to, overwrite=overwrite)

    def copy_async(self, from_: str, to: str, *, overwrite: bool = True) -> CoroutineType[Any, Any, None]:
        """See `obstore.copy_async`."""
        return begun(functions.copy_async, self, from_, to, overwrite=overwrite)

    def rename(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """See `obstore.rename`."""
        return functions.rename(self, from_, to, overwrite=overwrite)

    def rename_async(self, from_: str, to: str, *, overwrite: bool = True) -> CoroutineType[Any, Any, None]:
        """See `obstore.rename_async`."""
        return begun(functions.rename_async, self, from_, to, overwrite=overwrite)

    @overload
    def sign(  # type: ignore[overload-overlap]  # a str is a sequence of str too
        self,
        method: HTTP_METHOD,
        paths: str,
        expires_in: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
        response_cache_control: str | None = None,
        response_content_disposition: str | None = None,
        response_content_encoding: str | None = None,
        response_content_language: str | None = None,
        response_content_type: str | None = None,
    ) -> str: ...
    @overload
    def sign(
        self,
        method: HTTP_METHOD,
        paths: Sequence[str],
        expires_in: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
        response_cache_control: str | None = None,
        response_content_disposition: str | None = None,
        response_content_encoding: str | None = None,
        response_content_language: str | None = None,
        response_content_type: str | None = None,
    ) -> builtins.list[str]: ...
    def sign(
        self,
        method: HTTP_METHOD,
        paths: str | Sequence[str],
        expires_in: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
        response_cache_control: str | None = None,
        response_content_disposition: str | None = None,
        response_content_encoding: str | None = None,
        response_content_language: str | None = None,
        response_content_type: str | None = None,
    ) -> Any:
        """See `obstore.sign`."""
        return functions.sign(
            self,
            method,
            paths,
            expires_in,
            query=query,
            headers=headers,
            version=version,
            response_cache_control=response_cache_control,
            response_content_disposition=response_content_disposition,
            response_content_encoding=response_content_encoding,
            response_content_language=response_content_language,
            response_content_type=response_content_type,
        )

    @overload
    def sign_async(  # type: ignore[overload-overlap]  # a str is a sequence of str too
        self,
        method: HTTP_METHOD,
        paths: str,
        expires_in: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
        response_cache_control: str | None = None,
        response_content_disposition: str | None = None,
        response_content_encoding: str | None = None,
        response_content_language: str | None = None,
        response_content_type: str | None = None,
    ) -> CoroutineType[Any, Any, str]: ...
    @overload
    def sign_async(
        self,
        method: HTTP_METHOD,
        paths: Sequence[str],
        expires_in: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
        response_cache_control: str | None = None,
        response_content_disposition: str | None = None,
        response_content_encoding: str | None = None,
        response_content_language: str | None = None,
        response_content_type: str | None = None,
    ) -> CoroutineType[Any, Any, builtins.list[str]]: ...
    def sign_async(
        self,
        method: HTTP_METHOD,
        paths: str | Sequence[str],
        expires_in: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str | None = None,
        response_cache_control: str | None = None,
        response_content_disposition: str | None = None,
        response_content_encoding: str | None = None,
        response_content_language: str | None = None,
        response_content_type: str | None = None,
    ) -> CoroutineType[Any, Any, Any]:
        """See `obstore.sign_async`."""
        return begun(
            functions.sign_async,
            self,
            method,
            paths,
            expires_in,
            query=query,
            headers=headers,
            version=version,
            response_cache_control=response_cache_control,
            response_content_disposition=response_content_disposition,
            response_content_encoding=response_content_encoding,
            response_content_language=response_content_language,
            response_content_type=response_content_type,
        )

    def generate_presigned_post(
        self,
        path: str,
        expires_in: timedelta,
        *,
        fields: Mapping[str, str] | None = None,
        conditions: Sequence[Mapping[str, str] | Sequence[str | int]] | None = None,
    ) -> PresignedPost:
        """See `obstore.generate_presigned_post`."""
        return functions.generate_presigned_post(self, path, expires_in, fields=fields, conditions=conditions)

    def generate_presigned_post_async(
        self,
        path: str,
        expires_in: timedelta,
        *,
        fields: Mapping[str, str] | None = None,
        conditions: Sequence[Mapping[str, str] | Sequence[str | int]] | None = None,
    ) -> CoroutineType[Any, Any, PresignedPost]:
        """See `obstore.generate_presigned_post_async`."""
        return begun(
            functions.generate_presigned_post_async, self, path, expires_in, fields=fields, conditions=conditions
        )

    list_async = list  # the stream serves both faces; the published library has this name too
