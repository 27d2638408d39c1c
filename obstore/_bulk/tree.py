"""Files below a directory, in the order of the keys that they become: the order of their bytes, which is that of listings."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from obstore._bulk.dest import FOLDER_PREFIX


class File(NamedTuple):
    """A file to be sent.

    Attributes:
        path: on disk.
        name: relative to the directory, with slashes.
        size: bytes; -1 where it cannot be told, and reading it will say why.
        modified: seconds since 1970.
    """

    path: str
    name: str
    size: int
    modified: float


def walk(
    root: Path,
    is_wanted: Callable[[str], bool] | None = None,
    *,
    recursive: bool = True,
    on_error: Callable[[str, OSError], None],
) -> Iterator[File]:
    """Regular files, and symbolic links to such; what our own downloads have unfinished is left out.

    Args:
        root: directory; of a file, that file alone.
        is_wanted: of relative names.
        recursive: whether to go into directories. Links to directories are followed, but not into a directory above them.
        on_error: told of directories that cannot be read.
    """
    if not root.is_dir():
        status = root.stat()
        yield File(os.fspath(root), root.name, status.st_size, status.st_mtime)
        return
    yield from _walk(os.fspath(root), "", is_wanted, recursive, on_error, (os.path.realpath(root),))


def _walk(
    folder: str,
    base: str,
    is_wanted: Callable[[str], bool] | None,
    recursive: bool,
    on_error: Callable[[str, OSError], None],
    above: tuple[str, ...],
) -> Iterator[File]:
    entries: list[tuple[bytes, os.DirEntry[str], bool]] = []
    try:
        with os.scandir(folder) as scan:
            for entry in scan:
                is_folder = _is_folder(entry)
                if is_folder and entry.name.startswith(FOLDER_PREFIX) and os.path.exists(f"{entry.path}/journal"):
                    continue
                # A directory stands where its first key does: its name with the slash.
                order = os.fsencode(entry.name + "/" if is_folder else entry.name)
                entries.append((order, entry, is_folder))
    except OSError as error:
        on_error(folder, error)
        return
    entries.sort(key=lambda found: found[0])
    for _, entry, is_folder in entries:
        name = base + entry.name
        if is_folder:
            if not recursive:
                continue
            real = os.path.realpath(entry.path) if entry.is_symlink() else f"{above[-1]}/{entry.name}"
            if real not in above:
                yield from _walk(entry.path, f"{name}/", is_wanted, recursive, on_error, (*above, real))
            continue
        if is_wanted is not None and not is_wanted(name):
            continue
        try:
            status = entry.stat()
        except OSError as error:
            on_error(entry.path, error)
            continue
        if stat.S_ISREG(status.st_mode):
            yield File(entry.path, name, status.st_size, status.st_mtime)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
