"""Our stores as file systems of fsspec.

::

    from obstore.fsspec import FsspecStore, register

    register()  # s3://, gs://, az:// ... are ours from now on
    fs = FsspecStore("s3", bucket="my-bucket", region="us-east-1")

Without `register`, URLs that begin with ``obstore+`` (``obstore+s3://bucket/key``) are ours wherever the package is installed.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import cache
from typing import Any, Self, TypeVar

from fsspec import register_implementation
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.compression import compr
from fsspec.core import get_compression

import obstore as obs
from obstore import store as stores
from obstore._fsspec.bulk import BulkFileSystem
from obstore._fsspec.file import BufferedFile
from obstore._fsspec.paths import OURS, SCHEMES, SUPPORTED_PROTOCOLS
from obstore._ops.get import DEFAULT_COALESCE

T = TypeVar("T")

__all__ = ["SUPPORTED_PROTOCOLS", "BufferedFile", "FsspecStore", "register"]

_CLASSES = {
    "S3Store": "s3",
    "GCSStore": "gs",
    "AzureStore": "abfs",
    "HTTPStore": "https",
    "LocalStore": "file",
    "MemoryStore": "memory",
}

_CHUNK_BYTES = 8 << 20
_LARGE_BYTES = (
    32 << 20
)  # of files that are got in ranges, several at once: one connection brings some 80 MB a second from the cloud
_BATCH = 1_000  # operations handed to the engine at a time, which queues those that have no connection yet
_DELETE_BATCH = 10_000


class CatResult(bytes):
    """The content of one object, and a dict of it: the published library returns a dict even for one path, fsspec bytes."""

    path: str

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            if key != self.path:
                raise KeyError(key)
            return bytes(self)
        return super().__getitem__(key)

    def keys(self) -> list[str]:
        """The path, as the only key."""
        return [self.path]

    def values(self) -> list[bytes]:
        """The content, as the only value."""
        return [bytes(self)]

    def items(self) -> list[tuple[str, bytes]]:
        """Path and content, as the only item."""
        return [(self.path, bytes(self))]


class FsspecStore(BulkFileSystem):
    """A file system of fsspec on our stores: one store for each bucket, made when it is first used.

    Paths are ``bucket/key``, with or without the protocol; those of ``file`` are absolute, those of ``http`` are as in URLs:
    percent-encoded, with a query where there is one. With ``bucket``, they may also be keys
    of that bucket. There are no directories but those that keys imply.

    Args:
        protocol: ``s3``, ``s3a``, ``gs``, ``gcs``, ``az``, ``azure``, ``adl``, ``abfs``, ``abfss``, ``http``, ``https``, ``file`` or
            ``memory``; with or without ``obstore+``.
        bucket: bound to; ``container`` and ``container_name`` for Azure.
        config, client_options, retry_config, credential_provider: as for the stores.
        asynchronous: whether the coroutines (``_cat`` ...) are called, on the caller's event loop.
        max_cache_size: stores kept.
        loop, batch_size: as for any asynchronous file system of fsspec.
        **kwargs: settings of the stores, under our names or those of s3fs, gcsfs and adlfs (``key``, ``secret``, ``anon``,
            ``endpoint_url``, ``client_kwargs``, ``token``, ``account_name``, ``connection_string`` ...). Listings are cached if
            ``use_listings_cache=True``.

    Raises:
        ValueError: there is no such protocol.
    """

    cachable = True
    protocol: Any = tuple(sorted({*SCHEMES, *(OURS + name for name in SCHEMES)}))
    asynchronous_default = False

    def __init__(
        self,
        protocol: str | None = None,
        *args: Any,
        bucket: str | None = None,
        config: Mapping[str, Any] | None = None,
        client_options: Mapping[str, Any] | None = None,
        retry_config: Mapping[str, Any] | None = None,
        credential_provider: Callable[[], Any] | None = None,
        asynchronous: bool | None = None,
        max_cache_size: int = 10,
        loop: Any = None,
        batch_size: int | None = None,
        store: Any = None,
        **kwargs: Any,
    ) -> None:
        chosen = protocol if protocol is not None else self.protocol
        if not isinstance(chosen, str):
            raise ValueError(f"protocol must be one of {', '.join(sorted(SUPPORTED_PROTOCOLS))}")
        name = chosen.removeprefix(OURS)
        if name not in SCHEMES:
            raise ValueError(f"protocol: {chosen!r} is not one of {', '.join(sorted(SUPPORTED_PROTOCOLS))}")
        if protocol is not None:
            self.protocol = protocol
        kwargs.setdefault("use_listings_cache", False)
        of_fsspec = ("use_listings_cache", "listings_expiry_time", "max_paths")
        own = {each: kwargs[each] for each in of_fsspec if each in kwargs}
        for alias in ("container", "container_name"):
            given = kwargs.pop(alias, None)
            bucket = given if bucket is None else bucket
        super().__init__(
            name,
            (bucket or "").strip("/"),
            store,
            (kwargs, config, client_options, retry_config),
            credential_provider,
            max_cache_size,
            *args,
            asynchronous=self.asynchronous_default if asynchronous is None else asynchronous,
            loop=loop,
            batch_size=batch_size or _BATCH,
            **own,
        )

    @classmethod
    def from_store(cls, store: Any, **kwargs: Any) -> Self:
        """The file system of one store. Paths are keys of the store, or what is shown: bucket and prefix of the store, and the key.

        Args:
            store: any store of ours.
            **kwargs: as for `FsspecStore`, but for what concerns the making of stores.
        """
        name = next((_CLASSES[each.__name__] for each in type(store).__mro__ if each.__name__ in _CLASSES), None)
        if name is None:
            raise ValueError(f"Expected an object store instance, got {type(store).__name__!r}")
        # Not from fsspec's cache, which tells stores apart by their repr.
        made: Self = cls(name, store=store, skip_instance_cache=True, **kwargs)
        return made

    def __reduce__(self) -> Any:
        if self._store is None:
            return super().__reduce__()
        options = {name: value for name, value in self.storage_options.items() if name != "store"}
        return _from_store, (type(self), self._store, options)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, FsspecStore) and (self._store is not None or other._store is not None):
            return type(self) is type(other) and self._store is not None and bool(self._store == other._store)
        return bool(super().__eq__(other))

    def __hash__(self) -> int:
        return super().__hash__() if self._store is None else hash((type(self), self._root))

    # ---- reading --------------------------------------------------------------------------------------

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **_kwargs: Any) -> bytes:
        return bytes(await self._read(path, start, end))

    async def _read(self, path: str, start: int | None, end: int | None) -> Any:
        store, key = self.locate(path)
        if start is None and end is None:
            return await (await obs.get_async(store, key)).bytes_async()
        if start is not None and start < 0 and end is None and self._scheme != "azure":
            return await (await obs.get_async(store, key, options={"range": {"suffix": -start}})).bytes_async()
        size: int | None = None
        if (start is not None and start < 0) or end is None or end < 0:
            size = (await obs.head_async(store, key))["size"]
        first = _position(start or 0, size)
        last = size if end is None else _position(end, size)
        assert last is not None
        if last <= first:
            return b""
        return await obs.get_range_async(store, key, start=first, end=last)

    async def _cat(
        self, path: Any, recursive: bool = False, on_error: str = "raise", batch_size: int | None = None, **kwargs: Any
    ) -> Any:
        paths = await self._expand_path(path)
        if recursive:
            paths = sorted({file for each in paths for file in await self._find(each)})
            if not paths:
                raise FileNotFoundError(path)
        one = len(paths) == 1 and not isinstance(path, list) and paths[0] == self._strip_protocol(path)
        if one:
            result = CatResult(await self._read(paths[0], kwargs.get("start"), kwargs.get("end")))
            result.path = paths[0]
            return result
        if kwargs or not self._goes_by_bulk():
            found: dict[str, Any] = {}

            async def read(each: str) -> None:
                try:
                    found[each] = await self._cat_file(each, **kwargs)
                except Exception as error:  # noqa: BLE001 - given back in place of the content
                    found[each] = error

            await _at_a_time(batch_size or self.batch_size, paths, read)
        else:
            found = await self._cat_many(paths, batch_size)
        out = [found[each] for each in paths]
        if on_error == "raise":
            for each in out:
                if isinstance(each, BaseException):
                    raise each
        return {
            each: data
            for each, data in zip(paths, out, strict=True)
            if on_error != "omit" or not isinstance(data, BaseException)
        }

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "return",
        **_kwargs: Any,
    ) -> list[Any]:
        if not isinstance(paths, list):
            raise TypeError(f"paths: '{type(paths).__name__}' object is not an instance of 'list'")
        first = list(starts) if isinstance(starts, Iterable) else [starts] * len(paths)
        last = list(ends) if isinstance(ends, Iterable) else [ends] * len(paths)
        if len(first) != len(paths) or len(last) != len(paths):
            raise ValueError(f"starts and ends must be as many as paths: {len(first)} and {len(last)} for {len(paths)}")
        of_file: dict[str, list[int]] = {}
        for index, path in enumerate(paths):
            of_file.setdefault(path, []).append(index)
        out: list[Any] = [None] * len(paths)
        gap = DEFAULT_COALESCE if max_gap is None else max_gap
        await _at_a_time(
            batch_size or self.batch_size,
            of_file.items(),
            lambda each: self._cat_ranges_of(*each, first, last, gap, out),
        )
        if on_error != "return":
            for each in out:
                if isinstance(each, BaseException):
                    raise each
        return out

    async def _cat_ranges_of(
        self, path: str, indices: list[int], starts: list[Any], ends: list[Any], gap: int, out: list[Any]
    ) -> None:
        """The ranges of one file, neighbours together; where that fails, each for itself, so that errors are where they belong."""
        plain = [i for i in indices if _is_plain(starts[i], ends[i])]
        if len(plain) == len(indices):
            store, key = self.locate(path)
            first = [starts[i] or 0 for i in plain]
            last = [ends[i] for i in plain]
            try:
                if len(plain) == 1:
                    found = [await obs.get_range_async(store, key, start=first[0], end=last[0])]
                else:
                    found = await obs.get_ranges_async(store, key, starts=first, ends=last, coalesce=gap)
            except Exception as error:  # noqa: BLE001 - given back in place of the range
                if len(plain) == 1:
                    out[plain[0]] = error
                    return
            else:
                for i, data in zip(plain, found, strict=True):
                    out[i] = bytes(data)
                return
        results = await asyncio.gather(
            *(self._cat_file(path, starts[i], ends[i]) for i in indices), return_exceptions=True
        )
        for i, result in zip(indices, results, strict=True):
            out[i] = result

    async def _get_file(self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **_kwargs: Any) -> None:
        if not hasattr(lpath, "write"):
            if os.path.isdir(lpath):
                return
            if await self._isdir_quickly(rpath):
                os.makedirs(lpath, exist_ok=True)
                return
        store, key = self.locate(rpath)
        result = await obs.get_async(store, key)
        callback.set_size(result.meta["size"])
        if hasattr(lpath, "write"):
            await _pour(result, lpath, callback)
            return
        if result.meta["size"] >= _LARGE_BYTES and self._goes_by_bulk():
            result.close()
            await self._get_large(store, key, lpath, callback)
            return
        os.makedirs(os.path.dirname(os.path.abspath(lpath)), exist_ok=True)
        partial = f"{lpath}.part-{os.getpid()}-{id(result):x}"
        try:
            with open(partial, "wb") as file:
                await _pour(result, file, callback)
            os.replace(partial, lpath)
        except BaseException:
            if os.path.exists(partial):
                os.unlink(partial)
            raise

    async def _isdir_quickly(self, path: str) -> bool:
        """Whether it is a directory and no object: only local ones can be told apart without a request."""
        return self._scheme == "local" and os.path.isdir(self._strip_protocol(path))

    # ---- writing --------------------------------------------------------------------------------------

    async def _pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        store, key = self.locate(path)
        await obs.put_async(store, key, value, mode=_put_mode(mode), **_put_options(kwargs))
        self.invalidate_cache(path)

    async def _put_file(
        self, lpath: str, rpath: str, callback: Any = DEFAULT_CALLBACK, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        if os.path.isdir(lpath):
            return
        store, key = self.locate(rpath)
        callback.set_size(os.path.getsize(lpath))
        file: Any
        with _Watched(lpath, callback) as file:
            await obs.put_async(store, key, file, mode=_put_mode(mode), **_put_options(kwargs))
        self.invalidate_cache(rpath)

    async def _cp_file(self, path1: str, path2: str, **_kwargs: Any) -> None:
        source, key = self.locate(path1)
        target, new = self.locate(path2)
        if source is target:
            try:
                await obs.copy_async(source, key, new)
            except (FileNotFoundError, IsADirectoryError):
                if not await self._isdir(path1):
                    raise
                return  # what is in it is copied; directories come with the keys in them
        else:
            result = await obs.get_async(source, key)
            await obs.put_async(target, new, _chunks(result), attributes=_kept_attributes(result, target))
        self.invalidate_cache(path2)

    async def _mv_file(self, path1: str, path2: str) -> None:
        source, key = self.locate(path1)
        target, new = self.locate(path2)
        if source is target:
            await obs.rename_async(source, key, new)
        else:
            await self._cp_file(path1, path2)
            await self._rm_file(path1)
        self.invalidate_cache(path1)
        self.invalidate_cache(path2)

    async def _rm_file(self, path: str, **_kwargs: Any) -> None:
        store, key = self.locate(path)
        await obs.delete_async(store, key)
        self.invalidate_cache(path)

    async def _rm(
        self,
        path: Any,
        recursive: bool = False,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **_kwargs: Any,
    ) -> None:
        if recursive and self._scheme == "http":  # where deleting a directory would be an error
            tops = await self._expand_path(path)
            paths = sorted({file for top in tops for file in await self._find(top, maxdepth=maxdepth)})
        else:
            paths = await self._expand_path(path, recursive=recursive, maxdepth=maxdepth)
        keys: dict[int, list[str]] = {}
        found: dict[int, Any] = {}
        for each in paths:
            store, key = self.locate(each)
            found[id(store)] = store
            if key and not await self._isdir_quickly(each):
                keys.setdefault(id(store), []).append(key)
            if recursive and maxdepth is None and key:
                marker = obs.RawKey(f"{key}/")  # what some programs put where a directory shall be
                if self._scheme not in ("local", "memory", "http"):
                    keys.setdefault(id(store), []).append(marker)
        for number, every in keys.items():
            for start in range(0, len(every), batch_size or _DELETE_BATCH):
                await obs.delete_async(
                    found[number], every[start : start + (batch_size or _DELETE_BATCH)], missing_ok=True
                )
        for each in paths:
            self.invalidate_cache(each)

    async def _mkdir(self, path: str, create_parents: bool = True, **kwargs: Any) -> None:
        """Directories come with the keys in them."""

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Directories come with the keys in them."""

    async def _rmdir(self, path: str) -> None:
        """Directories go with the keys in them."""

    # ---- files ----------------------------------------------------------------------------------------

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,  # noqa: ARG002 - read-ahead is the file's own
        **kwargs: Any,
    ) -> BufferedFile:
        if isinstance(block_size, int) and "buffer_size" not in kwargs:
            kwargs["buffer_size"] = block_size
        return BufferedFile(self, path, mode, autocommit=autocommit, **kwargs)

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Any = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open a file; see fsspec. Closing a compressed one that is written closes the object, too."""
        if compression is None or "b" not in mode or "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        path = self._strip_protocol(path)
        inner = super().open(path, mode, block_size, cache_options, **kwargs)
        name = get_compression(path, compression)
        return inner if name is None else _closing_both(compr[name](inner, mode="w"), inner)

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """`obstore.AsyncReadableFile` or `obstore.AsyncWritableFile`."""
        store, key = self.locate(path)
        size = kwargs.pop("block_size", None)
        if isinstance(size, int):
            kwargs.setdefault("buffer_size", size)
        if mode == "rb":
            return await obs.open_reader_async(store, key, **kwargs)
        if mode in ("wb", "xb"):
            return obs.open_writer_async(store, key, mode="create" if mode == "xb" else None, **kwargs)
        raise ValueError(f"Only 'rb', 'wb' and 'xb' modes supported, got: {mode}")


# ---- parts ----------------------------------------------------------------------------------------------


def _from_store(kind: type[FsspecStore], store: Any, options: dict[str, Any]) -> FsspecStore:
    return kind.from_store(store, **options)


def _position(value: int, size: int | None) -> int:
    """A position counted from the end if negative."""
    return value if value >= 0 else max(0, (size or 0) + value)


def _is_plain(start: Any, end: Any) -> bool:
    """Whether a range needs no knowledge of the object's size, and is not empty."""
    return end is not None and (start or 0) >= 0 and end > (start or 0)


def _put_mode(mode: str) -> Any:
    if mode not in ("create", "overwrite"):
        raise ValueError(f"mode must be 'create' or 'overwrite', not {mode!r}")
    return mode


def _put_options(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What of fsspec's keyword arguments concerns a put."""
    known = ("attributes", "tags", "use_multipart", "chunk_size", "max_concurrency")
    return {name: kwargs[name] for name in known if name in kwargs}


def _kept_attributes(result: Any, target: Any) -> Any:
    return None if isinstance(target, stores.LocalStore) else result.attributes


async def _at_a_time(most: int, items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Await ``work``, which raises nothing, for every item, for so many at a time; ``-1``: for all of them."""
    every = list(items)
    left = iter(every)

    async def go_on() -> None:
        for item in left:
            await work(item)

    await asyncio.gather(*(go_on() for _ in range(len(every) if most < 0 else min(most, len(every)))))


async def _chunks(result: Any) -> AsyncIterator[bytes]:
    async for chunk in result.stream(_CHUNK_BYTES):
        yield chunk


async def _pour(result: Any, file: Any, callback: Any) -> None:
    """Write the body into a file, on a thread: disks may be slow."""
    loop = asyncio.get_running_loop()
    async for chunk in result.stream(_CHUNK_BYTES):
        await loop.run_in_executor(None, file.write, chunk)
        callback.relative_update(len(chunk))


def _closing_both(outer: Any, inner: Any) -> Any:
    """The outer file, whose ``close`` closes the inner one."""
    close_outer = outer.close

    def close() -> None:
        try:
            close_outer()
        except BaseException:
            inner.discard()
            raise
        inner.close()

    outer.close = close
    return outer


class _Watched:
    """A local file whose reading a callback is told of."""

    def __init__(self, path: str, callback: Any) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        self._callback = callback

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._callback.relative_update(len(data))
        return data

    def seek(self, *place: int) -> int:
        return self._file.seek(*place)

    def tell(self) -> int:
        return self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()


# ---- registration -------------------------------------------------------------------------------------


@cache
def _class_for(protocol: str, asynchronous: bool) -> type[FsspecStore]:
    """The class for one protocol; there is one, so that file systems can be pickled by its name."""
    name = f"FsspecStore_{protocol.replace('+', '_')}{'_async' if asynchronous else ''}"
    names = {
        "protocol": protocol,
        "asynchronous_default": asynchronous,
        "__module__": __name__,
        "__doc__": FsspecStore.__doc__,
    }
    return type(name, (FsspecStore,), names)


def __getattr__(name: str) -> Any:
    """``FsspecStore_s3`` and so on: what entry points and pickles name."""
    kind = name.removeprefix("FsspecStore_")
    asynchronous = kind.endswith("_async")
    protocol = kind.removesuffix("_async").replace("obstore_", OURS)
    if kind != name and protocol.removeprefix(OURS) in SUPPORTED_PROTOCOLS:
        return _class_for(protocol, asynchronous)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register(protocol: str | Iterable[str] | None = None, *, asynchronous: bool = False) -> None:
    """Make fsspec use our stores for URLs of a protocol, in place of s3fs, gcsfs, adlfs and its own.

    Args:
        protocol: one, or several; by default all but ``file`` and ``memory``.
        asynchronous: whether the file systems that fsspec then makes are asynchronous.

    Raises:
        ValueError: there is no such protocol.
        TypeError: ``protocol`` is neither a str nor an iterable of them.
    """
    if protocol is None:
        wanted = sorted(SUPPORTED_PROTOCOLS - {"file", "memory"})
    elif isinstance(protocol, str):
        wanted = [protocol]
    else:
        wanted = list(protocol)
    for name in wanted:
        if not isinstance(name, str):
            raise TypeError(f"protocol: '{type(name).__name__}' object is not an instance of 'str'")
        if name.removeprefix(OURS) not in SUPPORTED_PROTOCOLS:
            raise ValueError(f"protocol: {name!r} is not one of {', '.join(sorted(SUPPORTED_PROTOCOLS))}")
    for name in wanted:
        register_implementation(name, _class_for(name, asynchronous), clobber=True)
