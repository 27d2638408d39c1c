"""What there is: entries, listings and patterns of fsspec, and its cache of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import obstore as obs
from obstore._fsspec.paths import StoreFileSystem


class ListingFileSystem(StoreFileSystem):
    """What `FsspecStore` says of objects, and of the directories that their keys imply."""

    def _entry(self, path: str, meta: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "name": self._shown(path, meta["path"]),
            "size": meta["size"],
            "type": "file",
            "e_tag": meta["e_tag"],
            "last_modified": meta["last_modified"],
            "version": meta["version"],
        }

    async def _info(self, path: str, **_kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        cached = self._cached_info(path)
        if cached is not None:
            return cached
        store, key = self.locate(path)
        refusal: Exception = FileNotFoundError(path)
        if key:
            try:
                meta = await obs.head_async(store, key)
            except (FileNotFoundError, IsADirectoryError):
                pass
            except obs.PermissionDeniedError as error:
                if self._scheme != "http":
                    raise
                refusal = error  # what some WebDAV servers answer of directories
            else:
                return {**self._entry(path, meta), "name": path}
        try:
            async for _ in obs.list(store, _as_prefix(key), match="string"):
                return _directory(path)
        except obs.NotSupportedError:
            if not key:
                raise
            # An ordinary web server, which has no directories.
        if key:
            raise refusal
        return _directory(path)  # a bucket that answers is there, if empty

    def _cached_info(self, path: str) -> dict[str, Any] | None:
        try:
            siblings = self._ls_from_cache(path)
        except FileNotFoundError:
            raise FileNotFoundError(path) from None
        for entry in siblings or ():
            if entry["name"] == path:
                found: dict[str, Any] = entry
                return found
        return _directory(path) if siblings else None

    async def _ls(self, path: str, detail: bool = False, refresh: bool = False, **_kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        entries = None if refresh else self.dircache.get(path) if path in self.dircache else None
        if entries is None:
            entries = await self._list_level(path)
            self.dircache[path] = entries
        return entries if detail else sorted(entry["name"] for entry in entries)

    async def _list_level(self, path: str) -> list[dict[str, Any]]:
        store, key = self.locate(path)
        found = await obs.list_with_delimiter_async(store, _as_prefix(key), match="string")
        entries = [_directory(self._shown(path, prefix)) for prefix in found["common_prefixes"]]
        entries += [self._entry(path, meta) for meta in found["objects"] if not meta["path"].endswith("/")]
        if not entries and key and not found["objects"]:
            return [await self._info(path)]  # an object, listed as `ls` lists a file; or there is nothing
        return entries

    async def _find(
        self,
        path: str,
        maxdepth: int | None = None,
        withdirs: bool = False,
        detail: bool = False,
        prefix: str = "",
        **kwargs: Any,
    ) -> Any:
        path = self._strip_protocol(path)
        if maxdepth is not None:
            found = await super()._find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True, **kwargs)
            wanted = f"{path}/{prefix}" if path else prefix
            found = {name: info for name, info in found.items() if not prefix or name.startswith(wanted)}
            return found if detail else list(found)
        store, key = self.locate(path)
        start = _as_prefix(key)
        out: dict[str, dict[str, Any]] = {}
        async for meta in obs.list(store, start + prefix, match="string"):
            if not meta["path"].endswith("/"):
                entry = self._entry(path, meta)
                out[entry["name"]] = entry
            if withdirs:
                self._add_parents(out, path, meta["path"], len(start))
        if not out and key:
            try:
                info = await self._info(path)
            except FileNotFoundError:
                info = {"type": ""}
            if info["type"] == "file" or (withdirs and info["type"] == "directory"):
                out[path] = info
        elif withdirs and path and out:
            out[path] = _directory(path)
        names = sorted(out)
        return {name: out[name] for name in names} if detail else names

    async def _expand_path(self, path: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> Any:
        paths = [path] if isinstance(path, str) else list(path)
        if self._scheme != "http" or recursive or any(_is_web_pattern(each) for each in paths):
            return await super()._expand_path(path, recursive=recursive, maxdepth=maxdepth, **kwargs)
        return sorted({self._strip_protocol(each) for each in paths})

    async def _glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> Any:
        if self._scheme != "http" or _is_web_pattern(path):
            return await super()._glob(path, maxdepth=maxdepth, **kwargs)
        path = self._strip_protocol(path)
        try:
            found = {path: await self._info(path)}
        except FileNotFoundError:
            found = {}
        return found if kwargs.get("detail") else list(found)

    def _add_parents(self, out: dict[str, dict[str, Any]], path: str, key: str, start: int) -> None:
        """The directories between ``path`` and a key."""
        slash = key.rfind("/")
        while slash >= start:
            name = self._shown(path, key[:slash])
            if name in out:
                return
            out[name] = _directory(name)
            slash = key.rfind("/", 0, slash)

    async def _isdir(self, path: str) -> bool:
        try:
            return bool((await self._info(path))["type"] == "directory")
        except (FileNotFoundError, NotADirectoryError):
            return False

    async def _exists(self, path: str, **_kwargs: Any) -> bool:
        try:
            await self._info(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def modified(self, path: str) -> datetime:
        """When the object was last written."""
        moment = self.info(path).get("last_modified")
        if moment is None:
            raise IsADirectoryError(f"{path} is a directory: directories have no time of modification")
        found: datetime = moment
        return found

    def created(self, path: str) -> datetime:
        """Not known: services keep the time of the last writing only."""
        raise NotImplementedError("object stores keep the time of the last writing only; see modified()")

    async def _sign(self, path: str, expiration: float = 100, method: str = "GET", **_kwargs: Any) -> str:
        store, key = self.locate(path)
        verb: Any = method
        return await obs.sign_async(store, verb, key, timedelta(seconds=expiration))

    def sign(self, path: str, expiration: float = 100, **kwargs: Any) -> str:
        """A URL with which anybody may read the object for ``expiration`` seconds; ``method="PUT"`` for writing it."""
        store, key = self.locate(path)
        return obs.sign(store, kwargs.get("method", "GET"), key, timedelta(seconds=expiration))

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget the listings of ``path`` and of the directories it is in; all of them without ``path``."""
        if path is None:
            self.dircache.clear()
        else:
            path = self._strip_protocol(path)
            while path:
                self.dircache.pop(path, None)
                path = self._parent(path) if self._parent(path) != path else ""
            self.dircache.pop("", None)
        super().invalidate_cache(path)


def _as_prefix(key: str) -> str:
    return f"{key}/" if key else ""


def _is_web_pattern(path: str) -> bool:
    """Whether a path of http is a pattern: a question mark begins a query there."""
    return "*" in path or "[" in path


def _directory(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}
