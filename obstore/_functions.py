"""The public functions. ``obstore`` re-exports them; the methods of the stores call them."""

from __future__ import annotations

import builtins
import reprlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from os import PathLike
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from obstore import _arrow
from obstore._config.url import parse_scheme as _parse_scheme
from obstore._engine import Bytes, ListItem, _core, lifecycle
from obstore._listings import ArrowListStream, ChunkedListStream, ListStream, arrow_level
from obstore._ops import change as _change
from obstore._ops import get as _get
from obstore._ops import list as _list
from obstore._ops import put as _put
from obstore._ops import sign as _sign
from obstore._ops.args import flag, whole_number
from obstore._ops.get import DEFAULT_COALESCE
from obstore._ops.put import DEFAULT_CHUNK_SIZE, DEFAULT_CONCURRENCY
from obstore._ranges import RangeStream
from obstore._run import observe
from obstore._run import run as _run
from obstore._run import start as _start
from obstore._streams import GetResult, opened, wrapped, wrapped_all
from obstore._types import (
    HTTP_METHOD,
    Attributes,
    Backend,
    Buffer,
    GetOptions,
    ListResult,
    ObjectMeta,
    PresignedPost,
    PutMode,
    PutResult,
)
from obstore._version import __version__

if TYPE_CHECKING:
    import pyarrow as pa

    from obstore._effects import Op
    from obstore._methods import ObjectStoreMethods as ObjectStore

PutInput = IO[builtins.bytes] | PathLike[str] | Buffer | Iterable[Buffer] | Iterator[Buffer]
AsyncPutInput = PutInput | AsyncIterable[Buffer] | AsyncIterator[Buffer]


def put(
    store: ObjectStore,
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
    """Write an object.

    Args:
        store: where to.
        path: the object's key.
        file: its content: bytes or any contiguous buffer; a ``pathlib.Path`` of a file to upload; a binary file object with
            ``read`` and ``seek``, from where it stands; an iterable of buffers.
        attributes: ``Content-Type``, ``Cache-Control`` and the like; other names are user metadata.
        tags: object tags, where the store has them.
        mode: ``"overwrite"`` (default); ``"create"`` only if there is no such object; a dict with the ``e_tag`` and/or
            ``version`` that is to be replaced.
        use_multipart: upload in parts; by default where there is more than ``chunk_size`` to read, and for iterables. Ignored
            where ``mode`` sets a condition.
        chunk_size: bytes per part, 5 MiB by default; grows by itself where 10,000 parts would not do.
        max_concurrency: parts uploaded at the same time, 12 by default.

    Returns:
        The new object's ``e_tag`` and ``version``.

    Raises:
        AlreadyExistsError: ``mode="create"``, and there is one.
        PreconditionError: the object is not the one that ``mode`` names.
        TypeError, ValueError: an argument is wrong, or an iterable yields something else than buffers.
        BaseError: the store failed. After any failure of an upload in parts, nothing of it is left behind; exceptions of the
            caller's iterator or file are raised as they are.
    """
    return _run(
        _put.put(
            backend_of(store),
            path,
            file,
            attributes=attributes,
            tags=tags,
            mode=mode,
            use_multipart=use_multipart,
            chunk_size=chunk_size,
            max_concurrency=max_concurrency,
        )
    )


def put_async(
    store: ObjectStore,
    path: str,
    file: AsyncPutInput,
    *,
    attributes: Attributes | None = None,
    tags: dict[str, str] | None = None,
    mode: PutMode | None = None,
    use_multipart: bool | None = None,
    chunk_size: int = DEFAULT_CHUNK_SIZE,
    max_concurrency: int = DEFAULT_CONCURRENCY,
) -> Awaitable[PutResult]:
    """Write an object, on the running event loop; see `put`. ``file`` may also be an asynchronous iterable of buffers.

    Cancelling it aborts the upload.
    """
    return _start(
        _put.put(
            backend_of(store),
            path,
            file,
            attributes=attributes,
            tags=tags,
            mode=mode,
            use_multipart=use_multipart,
            chunk_size=chunk_size,
            max_concurrency=max_concurrency,
            asynchronous=True,
        )
    )


def get(store: ObjectStore, path: str, *, options: GetOptions | None = None) -> GetResult:
    """Open an object for reading. Its body is downloaded when it is asked for.

    Args:
        store: where from.
        path: the object's key.
        options: conditions (``if_match``, ``if_none_match``, ``if_modified_since``, ``if_unmodified_since``), a ``range``
            (``(start, end)``, ``{"offset": n}`` or ``{"suffix": n}``), a ``version``, or ``head`` for the metadata only.

    Raises:
        NotFoundError: there is no such object (also a builtin FileNotFoundError).
        NotModifiedError, PreconditionError: a condition did not hold.
        GenericError: the range lies outside the object, or the store failed.
    """
    return _run(opened(_get.get(backend_of(store), path, options)))


def get_async(store: ObjectStore, path: str, *, options: GetOptions | None = None) -> Awaitable[GetResult]:
    """Open an object for reading, on the running event loop; see `get`."""
    return _start(opened(_get.get(backend_of(store), path, options)))


@overload
def get_range(
    store: ObjectStore,
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
    store: ObjectStore,
    path: str,
    *,
    start: int | None = None,
    end: int | None = None,
    length: int | None = None,
    offset: int | None = None,
    into: Buffer,
) -> int: ...
def get_range(
    store: ObjectStore,
    path: str,
    *,
    start: int | None = None,
    end: int | None = None,
    length: int | None = None,
    offset: int | None = None,
    into: Any = None,
) -> Any:
    """Read a range of an object in one request.

    Args:
        store: where from.
        path: the object's key.
        start: first byte.
        end: byte after the last one. Either this or ``length``.
        length: number of bytes.
        offset: another name of ``start``.
        into: writable buffer of at least as many bytes; the range is written to its front without a copy in between.

    Returns:
        `Bytes`, fewer where the object ends earlier; with ``into``, the number of bytes written.

    Raises:
        ValueError: the range is empty, or both or neither of ``end`` and ``length`` are given.
        NotFoundError: there is no such object.
        GenericError: the range begins at or after the object's end.
    """
    return _run(wrapped(_get.get_range(backend_of(store), path, start, end, length, offset, into)))


@overload
def get_range_async(
    store: ObjectStore,
    path: str,
    *,
    start: int | None = None,
    end: int | None = None,
    length: int | None = None,
    offset: int | None = None,
    into: None = None,
) -> Awaitable[Bytes]: ...
@overload
def get_range_async(
    store: ObjectStore,
    path: str,
    *,
    start: int | None = None,
    end: int | None = None,
    length: int | None = None,
    offset: int | None = None,
    into: Buffer,
) -> Awaitable[int]: ...
def get_range_async(
    store: ObjectStore,
    path: str,
    *,
    start: int | None = None,
    end: int | None = None,
    length: int | None = None,
    offset: int | None = None,
    into: Any = None,
) -> Awaitable[Any]:
    """Read a range of an object, on the running event loop; see `get_range`."""
    return _start(wrapped(_get.get_range(backend_of(store), path, start, end, length, offset, into)))


@overload
def get_ranges(
    store: ObjectStore,
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
    store: ObjectStore,
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
    store: ObjectStore,
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
    store: ObjectStore,
    path: str,
    *,
    starts: Sequence[int],
    ends: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    coalesce: int = DEFAULT_COALESCE,
    into: Any = None,
    stream: bool = False,
) -> builtins.list[Any] | RangeStream:
    """Read several ranges of an object; neighbours are fetched together, up to ten requests at a time.

    Args:
        store: where from.
        path: the object's key.
        starts: first bytes.
        ends: bytes after the last ones. Either this or ``lengths``.
        lengths: numbers of bytes.
        coalesce: ranges at most so many bytes apart are fetched in one request; 1 MiB by default.
        into: writable buffers, one per range, in which the bytes land as they arrive. Once the call has returned or raised, nothing
            is written to them; after an error what they hold is of no use.
        stream: give the ranges as they arrive instead of all at the end. No more than 8 MiB of neighbours are then fetched together.

    Returns:
        A list of `Bytes` in the order of ``starts``; with ``into``, of numbers of bytes written. With ``stream`` an iterator, and
        asynchronous iterator, of pairs of a range's number and that; its ``close()`` gives up what has not arrived.

    Raises:
        ValueError: a range is empty or begins past the object's end, or the sequences differ in length.
        NotFoundError: there is no such object.
    """
    if stream:
        plan = _get.plan_ranges(backend_of(store), path, starts, ends, lengths, coalesce, into, stream=True)
        return RangeStream(plan)
    return _run(wrapped_all(_get.get_ranges(backend_of(store), path, starts, ends, lengths, coalesce, into)))


@overload
def get_ranges_async(
    store: ObjectStore,
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
    store: ObjectStore,
    path: str,
    *,
    starts: Sequence[int],
    ends: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    coalesce: int = DEFAULT_COALESCE,
    into: None = None,
    stream: Literal[False] = False,
) -> Awaitable[builtins.list[Bytes]]: ...
@overload
def get_ranges_async(
    store: ObjectStore,
    path: str,
    *,
    starts: Sequence[int],
    ends: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    coalesce: int = DEFAULT_COALESCE,
    into: Sequence[Buffer],
    stream: Literal[False] = False,
) -> Awaitable[builtins.list[int]]: ...
def get_ranges_async(
    store: ObjectStore,
    path: str,
    *,
    starts: Sequence[int],
    ends: Sequence[int] | None = None,
    lengths: Sequence[int] | None = None,
    coalesce: int = DEFAULT_COALESCE,
    into: Any = None,
    stream: bool = False,
) -> Any:
    """Read several ranges of an object, on the running event loop; see `get_ranges`."""
    if stream:
        plan = _get.plan_ranges(backend_of(store), path, starts, ends, lengths, coalesce, into, stream=True)
        return RangeStream(plan)
    return _start(wrapped_all(_get.get_ranges(backend_of(store), path, starts, ends, lengths, coalesce, into)))


def head(store: ObjectStore, path: str) -> ObjectMeta:
    """What is known of an object: path, size, last modification, ETag, version.

    Raises:
        NotFoundError: there is no such object.
    """
    return _run(_get.head(backend_of(store), path))


def head_async(store: ObjectStore, path: str) -> Awaitable[ObjectMeta]:
    """What is known of an object, on the running event loop; see `head`."""
    return _start(_get.head(backend_of(store), path))


@overload
def list(
    store: ObjectStore,
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
    store: ObjectStore,
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
    store: ObjectStore,
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
    store: ObjectStore,
    prefix: str | None = None,
    *,
    offset: str | None = None,
    chunk_size: int | None = None,
    return_arrow: bool,
    match: Literal["segment", "string"] = "segment",
    concurrency: int | Literal["auto"] | None = None,
) -> Any: ...
def list(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    offset: str | None = None,
    chunk_size: int | None = None,
    return_arrow: bool = False,
    match: Literal["segment", "string"] = "segment",
    concurrency: int | Literal["auto"] | None = None,
) -> Any:
    """Walk the objects under a prefix. Nothing is requested before the first item is.

    Args:
        store: where.
        prefix: whole path segments: ``"a/b"`` matches ``a/b/c``, not ``a/bc``.
        offset: only keys after this one.
        chunk_size: yield lists of so many objects. By default objects come one by one, each an `ObjectMeta` dict that can also
            be iterated, yielding itself once: so code written for batches
            (``for batch in list(store): for obj in batch: ...``) works on single objects too. With ``return_arrow``, rows per
            batch; by default a page of the server.
        return_arrow: Arrow record batches instead, see `ArrowListStream`: no Python object is made per key.
        match: ``"string"`` compares ``prefix`` with the keys as they are.
        concurrency: requests at the same time, for large listings far away: the keys are split into ranges where more of them are
            found, and come in order all the same. ``"auto"`` for 32. Costs requests (at most three for each page, most often
            one and a half) and keeps up to 128 pages, or four per request, in memory. By default one page after the other, the next
            one fetched while this one is used. Stores that cannot list in key order from any key on take no notice.

    Returns:
        An iterator and asynchronous iterator; its ``collect()`` and ``collect_async()`` give everything at once. Keys that
        would be changed by being passed as a path (``dir/``) are `RawKey`, so that they can be passed back.

    Raises:
        TypeError, ValueError, OverflowError: an argument is wrong.
        BaseError: the store failed; raised by iterating.
    """
    arrow = flag(return_arrow, "return_arrow")
    if chunk_size is not None:
        chunk_size = max(1, whole_number(chunk_size, "chunk_size"))
    pages = _list.open_listing(backend_of(store), prefix, offset, match, concurrency)
    if arrow:
        return ArrowListStream(pages, chunk_size, _arrow.flavour())
    return ListStream(pages) if chunk_size is None else ChunkedListStream(pages, chunk_size)


@overload
def list_with_delimiter(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: Literal[False] = False,
    match: Literal["segment", "string"] = "segment",
) -> ListResult[Sequence[ObjectMeta]]: ...
@overload
def list_with_delimiter(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: Literal[True],
    match: Literal["segment", "string"] = "segment",
) -> ListResult[pa.Table]: ...
@overload
def list_with_delimiter(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: bool,
    match: Literal["segment", "string"] = "segment",
) -> ListResult[Any]: ...
def list_with_delimiter(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: bool = False,
    match: Literal["segment", "string"] = "segment",
) -> Any:
    """One level under a prefix, like a directory.

    Args:
        store: where.
        prefix: whole path segments; ``None`` for the top.
        return_arrow: ``objects`` as an Arrow table (``pyarrow.Table``, or arro3's, see `set_options`) instead of a list.
        match: ``"string"`` compares ``prefix`` with the keys as they are.

    Returns:
        ``common_prefixes`` (sorted, without trailing slash) and ``objects``.

    Raises:
        ImportError: ``return_arrow``, and the Arrow library is not installed.
    """
    return _run(_level(store, prefix, return_arrow, match))


@overload
def list_with_delimiter_async(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: Literal[False] = False,
    match: Literal["segment", "string"] = "segment",
) -> Awaitable[ListResult[Sequence[ObjectMeta]]]: ...
@overload
def list_with_delimiter_async(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: Literal[True],
    match: Literal["segment", "string"] = "segment",
) -> Awaitable[ListResult[pa.Table]]: ...
@overload
def list_with_delimiter_async(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: bool,
    match: Literal["segment", "string"] = "segment",
) -> Awaitable[ListResult[Any]]: ...
def list_with_delimiter_async(
    store: ObjectStore,
    prefix: str | None = None,
    *,
    return_arrow: bool = False,
    match: Literal["segment", "string"] = "segment",
) -> Awaitable[Any]:
    """One level under a prefix, on the running event loop; see `list_with_delimiter`."""
    return _start(_level(store, prefix, return_arrow, match))


def _level(store: ObjectStore, prefix: str | None, return_arrow: bool, match: str) -> Op[Any]:
    op = _list.list_with_delimiter(backend_of(store), prefix, match)
    if not flag(return_arrow, "return_arrow"):
        return op
    flavour = _arrow.flavour()
    _arrow.library(flavour)  # a missing one is told before anything is sent
    return arrow_level(op, flavour)


def delete(store: ObjectStore, paths: str | Sequence[str], *, missing_ok: bool | None = None) -> None:
    """Delete objects.

    Args:
        store: where.
        paths: one key or a sequence of keys.
        missing_ok: whether a key that is not there is fine. By default as the store has it: S3 and memory do not mind, others raise.

    Raises:
        NotFoundError: a key is not there, and that is not fine.
        BaseError: the first failure in the order of ``paths``; others may have been deleted.
    """
    return _run(_change.delete(backend_of(store), paths, missing_ok))


def delete_async(store: ObjectStore, paths: str | Sequence[str], *, missing_ok: bool | None = None) -> Awaitable[None]:
    """Delete objects, on the running event loop; see `delete`."""
    return _start(_change.delete(backend_of(store), paths, missing_ok))


def copy(store: ObjectStore, from_: str, to: str, *, overwrite: bool = True) -> None:
    """Copy an object inside its store, by the service itself. Onto itself: nothing happens.

    Args:
        store: where.
        from_: key of the object.
        to: key of the copy.
        overwrite: whether an object at ``to`` is replaced.

    Raises:
        NotFoundError: there is nothing at ``from_``.
        AlreadyExistsError: there is something at ``to``, and it is not to be replaced.
        NotSupportedError: the store cannot copy without replacing (S3 without ``copy_if_not_exists``).
    """
    return _run(_change.copy(backend_of(store), from_, to, overwrite))


def copy_async(store: ObjectStore, from_: str, to: str, *, overwrite: bool = True) -> Awaitable[None]:
    """Copy an object, on the running event loop; see `copy`."""
    return _start(_change.copy(backend_of(store), from_, to, overwrite))


def rename(store: ObjectStore, from_: str, to: str, *, overwrite: bool = True) -> None:
    """Move an object inside its store: copy, then delete; atomic on local disk only. Onto itself: nothing happens.

    Args and errors are those of `copy`.
    """
    return _run(_change.rename(backend_of(store), from_, to, overwrite))


def rename_async(store: ObjectStore, from_: str, to: str, *, overwrite: bool = True) -> Awaitable[None]:
    """Move an object, on the running event loop; see `rename`."""
    return _start(_change.rename(backend_of(store), from_, to, overwrite))


@overload
def sign(  # type: ignore[overload-overlap]  # a str is a sequence of str too
    store: ObjectStore,
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
    store: ObjectStore,
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
    store: ObjectStore,
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
    """Sign URLs with which others can do one thing with one object, without credentials of their own.

    Args:
        store: of a cloud, with credentials; those beneath ``skip_signature`` are used as well.
        method: ``"GET"``, ``"PUT"``, ``"DELETE"`` ..., in upper case.
        paths: one key or a sequence of keys.
        expires_in: how long the URLs hold, from now; seconds count. Services have a limit, AWS and Google 7 days. URLs signed with
            temporary credentials end with these.
        query: further parameters, which become part of the URL and of the signature (``{"uploadId": ..., "partNumber": "1"}``).
        headers: headers that have to be sent with the URL exactly as they are here (``{"Content-Type": "image/png"}``).
        version: of the object.
        response_cache_control, response_content_disposition, response_content_encoding, response_content_language,
            response_content_type: headers that a download by the URL shall have, whatever the object's attributes are.

    Returns:
        A URL, or a list of them where ``paths`` is a sequence.

    Raises:
        ValueError: the method is none, the duration is negative, or a parameter or header cannot be.
        NotSupportedError: the store has no such URLs.
        UnauthenticatedError: there are no credentials to sign with.
    """
    return _run(
        _sign.sign(
            backend_of(store),
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
    )


@overload
def sign_async(  # type: ignore[overload-overlap]  # a str is a sequence of str too
    store: ObjectStore,
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
) -> Awaitable[str]: ...
@overload
def sign_async(
    store: ObjectStore,
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
) -> Awaitable[builtins.list[str]]: ...
def sign_async(
    store: ObjectStore,
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
) -> Awaitable[Any]:
    """Sign URLs, on the running event loop; see `sign`."""
    return _start(
        _sign.sign(
            backend_of(store),
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
    )


def generate_presigned_post(
    store: ObjectStore,
    path: str,
    expires_in: timedelta,
    *,
    fields: Mapping[str, str] | None = None,
    conditions: Sequence[Mapping[str, str] | Sequence[str | int]] | None = None,
) -> PresignedPost:
    """Sign a form with which others, browsers mostly, can upload one object, without credentials of their own.

    Args:
        store: an `S3Store` with credentials; those beneath ``skip_signature`` are used as well.
        path: the object's key. At its end ``${filename}`` stands for the name of the file that is uploaded.
        expires_in: how long the form holds, from now; seconds count.
        fields: further fields of the form, such as ``{"Content-Type": "image/png", "x-amz-meta-owner": "me"}``. Each must be sent
            as it is here unless a condition says otherwise.
        conditions: what an upload must comply with: ``{"acl": "private"}``, ``["starts-with", "$Content-Type", "image/"]``,
            ``["content-length-range", 1, 10_000_000]``.

    Returns:
        The ``url`` to post to as ``multipart/form-data``, and the ``fields`` to send before the field ``file``.

    Raises:
        TypeError, ValueError: an argument is wrong.
        NotSupportedError: the store has no such forms.
        UnauthenticatedError: there are no credentials to sign with.
    """
    return _run(
        _sign.generate_presigned_post(backend_of(store), path, expires_in, fields=fields, conditions=conditions)
    )


def generate_presigned_post_async(
    store: ObjectStore,
    path: str,
    expires_in: timedelta,
    *,
    fields: Mapping[str, str] | None = None,
    conditions: Sequence[Mapping[str, str] | Sequence[str | int]] | None = None,
) -> Awaitable[PresignedPost]:
    """Sign a form for uploads, on the running event loop; see `generate_presigned_post`."""
    return _start(
        _sign.generate_presigned_post(backend_of(store), path, expires_in, fields=fields, conditions=conditions)
    )


def parse_scheme(url: str) -> str:
    """Which kind of store a URL names: ``s3``, ``gcs``, ``azure``, ``http``, ``local`` or ``memory``.

    Raises:
        ValueError: it is no URL.
        GenericError: no kind of store has such URLs.
    """
    return _parse_scheme(url)


def set_limits(*, connections: int | None = None, memory: int | None = None, threads: int | None = None) -> None:
    """Bound what the whole process uses. Requests above a limit wait for their turn, in order.

    Args:
        connections: HTTP requests under way at the same time; by default derived from the limit of open files.
        memory: bytes of downloaded bodies held at the same time before streams stop growing; 0, the default, for no limit.
        threads: threads that drive connections, at most; by default ``OBSTORE_THREADS`` or up to 4. Takes effect for threads that
            are not started yet.

    An argument left out keeps its value.

    Raises:
        TypeError, OverflowError, ValueError: an argument is no whole number, negative, or zero where that makes no sense.
    """
    lifecycle.start()
    now = _core.get_limits()
    _core.set_limits(
        now[0] if connections is None else whole_number(connections, "connections", minimum=1),
        now[1] if threads is None else whole_number(threads, "threads", minimum=1),
        now[2] if memory is None else whole_number(memory, "memory"),
    )


_KEPT: Any = object()


def set_options(*, arrow: Literal["pyarrow", "arro3"] | None = None, tracer: Any = _KEPT) -> None:
    """Choose how the whole process does what can be done in several ways. An argument left out keeps its value.

    Args:
        arrow: whose objects ``return_arrow=True`` gives: ``"pyarrow"``, the default, or ``"arro3"`` (arro3-core) for programs
            written for those. The environment variable ``OBSTORE_ARROW`` says the same. Streams keep what they began with.
        tracer: an OpenTelemetry ``Tracer`` or ``TracerProvider``: every operation makes a span, and every attempt of its requests
            one below it. Anything with their methods ``start_span`` and ``start_as_current_span`` will do. ``None``: no spans.

    Raises:
        ValueError: an argument has no such choice.
        TypeError: ``tracer`` is none.
    """
    if tracer is not _KEPT:
        observe.set_tracer(tracer)
    if arrow is not None:
        _arrow.choose(arrow)


def get_options() -> dict[str, Any]:
    """The options in force; see `set_options`."""
    return {"arrow": _arrow.flavour(), "tracer": observe.tracer()}


def get_limits() -> dict[str, int]:
    """The limits in force; see `set_limits`."""
    lifecycle.start()
    connections, threads, memory = _core.get_limits()
    return {"connections": connections, "memory": memory, "threads": threads}


def stats() -> dict[str, int]:
    """Counters of the process: requests, bytes, connections, what is in flight, what waits, live objects."""
    return _core.stats()


def debug_info() -> dict[str, Any]:
    """What a bug report needs: versions, the libcurl in use and where it came from, limits, counters."""
    return {**lifecycle.debug_info(), "obstore": __version__}


def backend_of(store: Any) -> Backend:
    """What is behind a store. Raises ``ValueError`` for what is none."""
    if type(store).__module__ != "obstore.store":  # the quick answer for all but subclasses
        from obstore._methods import ObjectStoreMethods

        if not isinstance(store, ObjectStoreMethods):
            raise ValueError(f"Expected an object store instance, got {reprlib.repr(store)}")
    try:
        return store._backend  # type: ignore[no-any-return]  # noqa: SLF001 - what stores are made of
    except AttributeError:
        raise ValueError(
            f"Expected an object store instance, got {type(store).__name__!r} object whose __init__ did not call super()"
        ) from None
