"""What fsspec transfers by the many (``get``, ``put``, ``cat``, ``pipe``), handed to `obstore.bulk` as one transfer."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from fsspec.callbacks import DEFAULT_CALLBACK, Callback

from obstore import bulk
from obstore._bulk.select import Keys
from obstore._fsspec.look import ListingFileSystem
from obstore._run import Ready

_PUT_OPTIONS = frozenset(["attributes", "mode"])


class _Collected(Exception):  # noqa: N818 - it is none
    """All pairs are known."""


class _Collector(Callback):  # type: ignore[misc]  # fsspec is not typed
    """Has fsspec work out which path goes where, and stops it before it transfers any.

    Attributes:
        pairs: source and target.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pairs: list[tuple[str, str]] = []

    def branch_coro(self, fn: Any) -> Any:  # noqa: ARG002 - what is not called
        return self._note

    def _note(self, source: str, target: str, **_options: Any) -> Any:
        self.pairs.append((source, target))
        if len(self.pairs) == self.size:
            raise _Collected
        return Ready(None)


async def _pairs_of(transfer: Callable[..., Awaitable[Any]]) -> list[tuple[str, str]]:
    collector = _Collector()
    try:
        await transfer(callback=collector)
    except _Collected:
        pass
    return collector.pairs


class BulkFileSystem(ListingFileSystem):
    """The transfers of many. `FsspecStore` adds those of single files."""

    def _goes_by_bulk(self, callback: Any = DEFAULT_CALLBACK, options: Iterable[str] = ()) -> bool:
        """Whether a transfer can be one of `obstore.bulk`: over HTTP, with nothing to be told of single files."""
        kind = type(callback)
        tells_of_files = kind.branched is not Callback.branched or kind.branch is not Callback.branch
        return self._scheme not in ("local", "memory") and not tells_of_files and not set(options) - _PUT_OPTIONS

    def _connections(self, batch_size: int | None) -> int | None:
        return batch_size if batch_size is not None and batch_size > 0 else None

    def _by_store(self, paths: Iterable[str]) -> list[tuple[Any, dict[str, str]]]:
        """The stores of the paths, each with its keys and the paths of those."""
        found: dict[int, tuple[Any, dict[str, str]]] = {}
        for path in paths:
            store, key = self.locate(path)
            found.setdefault(id(store), (store, {}))[1][key] = path
        return list(found.values())

    # ---- reading --------------------------------------------------------------------------------------

    async def _get(
        self,
        rpath: Any,
        lpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> Any:
        get = super()._get
        if (
            self._scheme == "http"
            and isinstance(rpath, str)
            and isinstance(lpath, str)
            and "?" in rpath
            and not recursive
        ):
            # To fsspec it is a pattern, of what is put into a directory.
            rpath, lpath = [rpath], [_target_of_url(rpath, lpath)]
        if batch_size is not None:
            kwargs["batch_size"] = batch_size
        if not self._goes_by_bulk(callback, kwargs.keys() - {"batch_size"}):
            return await get(rpath, lpath, recursive=recursive, callback=callback, maxdepth=maxdepth, **kwargs)
        pairs = await _pairs_of(
            lambda callback: get(rpath, lpath, recursive=recursive, maxdepth=maxdepth, callback=callback)
        )
        pairs = _without_directories(pairs)
        # Where a path is encoded, as in URLs, files are not named by keys.
        is_encoded = self._scheme == "http" and any("%" in source or "?" in source for source, _ in pairs)
        tree = None if is_encoded else _tree_of(pairs)
        if tree is None:
            return await get([pair[0] for pair in pairs], [pair[1] for pair in pairs], callback=callback, **kwargs)
        ((store, of_key),) = self._by_store(pair[0] for pair in pairs)  # one: what is above the tree has the bucket
        keys = list(of_key)
        callback.set_size(len(pairs))
        result = await bulk.download_async(
            store,
            Keys(keys, len(keys[0]) - (len(pairs[0][0]) - tree[0]) + 1),  # cut at the slash
            tree[1],
            resume=False,
            connections=self._connections(batch_size),
            progress=_counting(callback),
        )
        _raise_first(result)
        return [None] * len(pairs)

    async def _get_large(self, store: Any, key: str, lpath: str, callback: Any) -> None:
        """One object, in ranges."""
        tell = None if callback is DEFAULT_CALLBACK else lambda progress: callback.absolute_update(progress.bytes)
        _raise_first(await bulk.download_file_async(store, key, lpath, resume=False, progress=tell))

    async def _cat_many(self, paths: list[str], batch_size: int | None) -> dict[str, Any]:
        """The contents, or what was raised instead, by path."""
        found: dict[str, Any] = {}
        for store, keys in self._by_store(paths):
            stream = bulk.get_many(store, list(keys), errors="return", connections=self._connections(batch_size))
            async with stream:
                async for key, body in stream:
                    found[keys[key]] = body if isinstance(body, Exception) else bytes(body)
        return found

    # ---- writing --------------------------------------------------------------------------------------

    async def _put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        batch_size: int | None = None,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> Any:
        put = super()._put
        if not self._goes_by_bulk(callback, kwargs):
            return await put(lpath, rpath, recursive, callback, batch_size, maxdepth, **kwargs)
        pairs = await _pairs_of(
            lambda callback: put(lpath, rpath, recursive=recursive, maxdepth=maxdepth, callback=callback)
        )
        if len(pairs) < 2:
            files = [pair[0] for pair in pairs]
            return await put(files, [pair[1] for pair in pairs], False, callback, batch_size, **kwargs)
        callback.set_size(len(pairs))
        await self._put_many({target: Path(source) for source, target in pairs}, batch_size, callback, **kwargs)
        return [None] * len(pairs)

    async def _pipe(self, path: Any, value: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        if isinstance(path, str) or len(path) < 2 or not self._goes_by_bulk(options=kwargs):
            return await super()._pipe(path, value, batch_size=batch_size, **kwargs)
        await self._put_many(path, batch_size, DEFAULT_CALLBACK, **kwargs)
        return [None] * len(path)

    async def _put_many(
        self,
        contents: dict[str, Any],
        batch_size: int | None,
        callback: Any,
        attributes: Any = None,
        mode: str = "overwrite",
    ) -> None:
        if mode not in ("create", "overwrite"):
            raise ValueError(f"mode must be 'create' or 'overwrite', not {mode!r}")
        try:
            for store, keys in self._by_store(contents):
                result = await bulk.put_many_async(
                    store,
                    [(key, contents[path]) for key, path in keys.items()],
                    attributes=attributes,
                    overwrite=mode == "overwrite",
                    connections=self._connections(batch_size),
                    progress=_counting(callback),
                )
                _raise_first(result)
        finally:
            for path in contents:
                self.invalidate_cache(path)


def _target_of_url(url: str, target: str) -> str:
    """Where the object of one URL goes: into a directory by the last part of its path."""
    is_directory = target.endswith("/") or os.path.isdir(target)
    return f"{target.rstrip('/')}/{unquote(url.partition('?')[0].rpartition('/')[2])}" if is_directory else target


def _without_directories(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The pairs that are files: fsspec has made the directories."""
    return [(source, target) for source, target in pairs if not os.path.isdir(target)]


def _tree_of(pairs: list[tuple[str, str]]) -> tuple[int, str] | None:
    """Where several files keep their place in a tree: characters of the sources that are above it, and the directory for it."""
    if len(pairs) < 2:
        return None
    source, target = pairs[0]
    inside = 0
    for ours, theirs in zip(source.split("/")[:0:-1], target.split("/")[:0:-1], strict=False):
        if ours != theirs:
            break
        inside += len(ours) + 1
    if inside == 0:
        return None
    start, directory = len(source) - inside, target[: len(target) - inside]
    above = source[:start]
    for source, target in pairs:
        if "//" in target or not source.startswith(above) or target != directory + source[start:]:
            return None
    return start, directory


def _counting(callback: Any) -> Any:
    """What tells the callback of each file that is done."""
    if callback is DEFAULT_CALLBACK:
        return None
    return lambda progress: callback.absolute_update(progress.objects + progress.failed)


def _raise_first(result: bulk.BulkResult) -> None:
    if result.failures:
        raise result.failures[0].error
