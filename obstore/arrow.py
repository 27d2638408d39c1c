"""A store as a file system of Arrow, without fsspec in between.

::

    from obstore.arrow import filesystem

    pyarrow.parquet.read_table("data/a.parquet", filesystem=filesystem(store))
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.fs

import obstore as obs
from obstore._methods import ObjectStoreMethods

__all__ = ["StoreHandler", "filesystem", "handler"]

_BATCH = 1_000


class StoreHandler(pyarrow.fs.FileSystemHandler):  # type: ignore[misc]  # pyarrow is not typed
    """What Arrow asks of a file system, answered by a store. Paths are keys; directories are those that keys imply.

    Args:
        store: any store of ours.

    Raises:
        ValueError: ``store`` is none.
    """

    def __init__(self, store: Any) -> None:
        super().__init__()
        if not isinstance(store, ObjectStoreMethods):
            raise ValueError(f"Expected an object store instance, got {type(store).__name__!r}")
        self.store: Any = store

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoreHandler) and bool(self.store == other.store)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def get_type_name(self) -> str:
        """Of the kind of store."""
        return f"obstore:{type(self.store).__name__}"

    def normalize_path(self, path: str) -> str:
        """Without slashes at its ends."""
        return path.strip("/")

    # ---- looking --------------------------------------------------------------------------------------

    def get_file_info(self, paths: list[str]) -> list[Any]:
        """What is at each path."""
        return [self._info(path) for path in paths]

    def _info(self, path: str) -> Any:
        key = path.strip("/")
        if key:
            try:
                return _file(path, self.store.head(key))
            except (FileNotFoundError, IsADirectoryError):
                pass
        is_there = not key or any(True for _ in self.store.list(key))
        return pa.fs.FileInfo(path, pa.fs.FileType.Directory if is_there else pa.fs.FileType.NotFound)

    def get_file_info_selector(self, selector: Any) -> list[Any]:
        """What is in a directory, or below it."""
        base = selector.base_dir.strip("/")
        found = self._below(base) if selector.recursive else self._level(base)
        if not found and base and not selector.allow_not_found:
            info = self._info(base)
            if info.type is pa.fs.FileType.File:
                raise NotADirectoryError(base)
            raise FileNotFoundError(base)
        return found

    def _level(self, base: str) -> list[Any]:
        level = self.store.list_with_delimiter(base or None)
        directories = [pa.fs.FileInfo(prefix, pa.fs.FileType.Directory) for prefix in level["common_prefixes"]]
        return directories + [_file(meta["path"], meta) for meta in level["objects"] if not meta["path"].endswith("/")]

    def _below(self, base: str) -> list[Any]:
        found: list[Any] = []
        known: set[str] = set()
        start = len(base) + 1 if base else 0
        for meta in self.store.list(base or None):
            path = meta["path"]
            slash = path.find("/", start)
            while slash >= 0:
                if path[:slash] not in known:
                    known.add(path[:slash])
                    found.append(pa.fs.FileInfo(path[:slash], pa.fs.FileType.Directory))
                slash = path.find("/", slash + 1)
            if not path.endswith("/"):
                found.append(_file(path, meta))
        return found

    # ---- changing -------------------------------------------------------------------------------------

    def create_dir(self, path: str, recursive: bool) -> None:
        """Directories come with the keys in them."""

    def delete_dir(self, path: str) -> None:
        """Delete all keys below."""
        self.delete_dir_contents(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:  # noqa: ARG002 - there may always be none
        """Delete all keys below."""
        if not path.strip("/"):
            raise ValueError("delete_dir_contents of everything: delete_root_dir_contents does that")
        self._delete_below(path.strip("/"))

    def delete_root_dir_contents(self) -> None:
        """Delete all keys of the store."""
        self._delete_below(None)

    def _delete_below(self, prefix: str | None) -> None:
        for metas in self.store.list(prefix, chunk_size=_BATCH):
            self.store.delete([meta["path"] for meta in metas], missing_ok=True)

    def delete_file(self, path: str) -> None:
        """Delete an object that is there."""
        self.store.head(path)
        self.store.delete(path)

    def move(self, src: str, dest: str) -> None:
        """Rename an object, or all objects of a directory."""
        try:
            self.store.rename(src, dest)
        except (FileNotFoundError, IsADirectoryError):
            inside = [meta["path"] for meta in self.store.list(src)]
            if not inside:
                raise
            for path in inside:
                self.store.rename(path, dest.strip("/") + path[len(src.strip("/")) :])

    def copy_file(self, src: str, dest: str) -> None:
        """Copy an object, by the service."""
        self.store.copy(src, dest)

    # ---- files ----------------------------------------------------------------------------------------

    def open_input_stream(self, path: str) -> Any:
        """Open an object for reading from its front."""
        return pa.PythonFile(obs.open_reader(self.store, path), mode="r")

    def open_input_file(self, path: str) -> Any:
        """Open an object for reading anywhere."""
        return pa.PythonFile(obs.open_reader(self.store, path), mode="r")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        """Open an object for writing; ``metadata`` becomes its attributes."""
        attributes = {_text(name): _text(value) for name, value in dict(metadata or {}).items()}
        return pa.PythonFile(obs.open_writer(self.store, path, attributes=attributes or None), mode="w")

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        """Not possible: objects are written whole."""
        raise NotImplementedError("objects cannot be appended to")


def handler(store: Any) -> StoreHandler:
    """The handler of a store, for ``pyarrow.fs.PyFileSystem``."""
    return StoreHandler(store)


def filesystem(store: Any) -> Any:
    """The store as a ``pyarrow.fs.FileSystem``."""
    return pa.fs.PyFileSystem(StoreHandler(store))


def _file(path: str, meta: Any) -> Any:
    return pa.fs.FileInfo(path, pa.fs.FileType.File, size=meta["size"], mtime=meta["last_modified"])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
