"""Which libcurl to load.

Nothing is loaded here and pycurl is never imported: its distribution is read as files. In order:

1. ``OBSTORE_LIBCURL``, a path or a name for the dynamic loader; where it is set nothing else is tried;
2. the copy that the installed pycurl wheel carries;
3. the one that pycurl's own module is linked to (Linux), where pycurl is built against the system's or conda's;
4. the library's usual name: in this environment's prefix, then wherever the dynamic loader looks.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

__all__ = ["candidates", "find"]

_BUNDLED = ("pycurl.libs/libcurl-*.so*", "pycurl/.dylibs/libcurl*.dylib", "pycurl.libs/libcurl-*.dll")
_EXTENSION = ("pycurl.so", "pycurl.*.so", "pycurl/*.so")


def find(env: Mapping[str, str] = os.environ) -> str:
    """The libcurl to load: a path, or a name that the dynamic loader knows.

    Args:
        env: where ``OBSTORE_LIBCURL`` is looked up.

    Raises:
        ImportError: there is none; the text says what was tried and how to mend it.
    """
    tried = []
    for candidate in candidates(env):
        if _is_path(candidate) and os.path.isfile(candidate):
            return candidate
        if not _is_path(candidate) and _loader_knows(candidate):
            return candidate
        tried.append(candidate)
    if env.get("OBSTORE_LIBCURL"):
        raise ImportError(
            f"OBSTORE_LIBCURL names a libcurl that is not there: {tried[0]}. "
            "Set it to the path of a libcurl of 7.84 or newer, or unset it to use the one that pycurl carries."
        )
    raise ImportError(
        f"obstore found no libcurl. Tried the installed pycurl distribution ({_describe_pycurl()}), then {', '.join(tried)}. "
        "Run `pip install -U pycurl`, install your system's libcurl (7.84 or newer), or set OBSTORE_LIBCURL to its path."
    )


def candidates(env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Every libcurl worth trying, best first. Paths in pycurl's distribution exist; the others may not.

    Args:
        env: where ``OBSTORE_LIBCURL`` is looked up.
    """
    if chosen := env.get("OBSTORE_LIBCURL"):
        yield chosen
        return
    if (found := _listed_copy()) is not None:
        yield found
    files = _pycurl_files()
    bundled = _matching(files, _BUNDLED)
    yield from bundled
    if not bundled:
        for extension in _matching(files, _EXTENSION):
            yield from _linked_libcurl(extension)
    if sys.platform == "darwin":
        name, folder = "libcurl.4.dylib", "lib"
    elif sys.platform == "win32":
        name, folder = "libcurl-x64.dll", "Library/bin"
    else:
        name, folder = "libcurl.so.4", "lib"
    yield str(Path(sys.prefix, folder, name))
    yield name


# ---- pycurl's distribution --------------------------------------------------------------------------------


def _listed_copy() -> str | None:
    """The one copy that the first pycurl on ``sys.path`` lists among its files; ``None`` where it is less plain than that.

    Finds what `_pycurl_files` would, without importlib.metadata: importing that takes longer than loading libcurl does.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or os.curdir)
        except OSError:  # a zip file, or nothing
            continue
        about = [name for name in names if name.lower().startswith("pycurl") and name.lower().endswith("-info")]
        if not about:
            continue
        if len(about) > 1 or not about[0].startswith("pycurl-") or not about[0].endswith(".dist-info"):
            return None
        try:
            with open(os.path.join(folder, about[0], "RECORD"), encoding="utf-8") as record:
                listed = [PurePath(line.split(",")[0]) for line in record if "libcurl" in line]
        except (OSError, UnicodeDecodeError):
            return None
        copies = [file for file in listed if any(file.match(pattern) for pattern in _BUNDLED)]
        where = os.path.join(folder, *copies[0].parts) if len(copies) == 1 else ""
        return where if os.path.isfile(where) else None
    return None


def _pycurl_files() -> list[tuple[PurePath, str]]:
    """Libraries of the installed pycurl: their path within the distribution, and where they are."""
    from importlib import metadata

    try:
        distribution = metadata.distribution("pycurl")
    except metadata.PackageNotFoundError:
        return []
    listed = [(PurePath(file), str(file.locate())) for file in distribution.files or ()]
    if any(file.match(pattern) for file, _ in listed for pattern in _EXTENSION):
        return listed
    # Debian's packages list no files, or not the compiled ones.
    root = Path(str(distribution.locate_file("")))
    return [(path.relative_to(root), str(path)) for pattern in (*_BUNDLED, *_EXTENSION) for path in root.glob(pattern)]


def _matching(files: list[tuple[PurePath, str]], patterns: tuple[str, ...]) -> list[str]:
    return sorted(
        where for file, where in files if any(file.match(pattern) for pattern in patterns) and os.path.isfile(where)
    )


def _describe_pycurl() -> str:
    from importlib import metadata

    try:
        return f"{metadata.version('pycurl')}, which neither carries nor links to one"
    except metadata.PackageNotFoundError:
        return "not installed"


# ---- the dynamic loader -----------------------------------------------------------------------------------


def _is_path(candidate: str) -> bool:
    return os.path.basename(candidate) != candidate


def _loader_knows(name: str) -> bool:
    import ctypes

    try:
        ctypes.CDLL(name)  # local, as the engine will open it
    except OSError:
        return False
    return True


def _linked_libcurl(extension: str) -> Iterator[str]:
    """What a compiled module links to as libcurl: a path if its run path leads to one, else the name."""
    try:
        with open(extension, "rb") as file:
            needed, run_paths = _read_elf(file.read())
    except (ValueError, IndexError, OverflowError, struct.error):
        return  # no ELF file (macOS, Windows), or a damaged one
    for name in needed:
        if not name.startswith("libcurl"):
            continue
        origin = os.path.dirname(os.path.realpath(extension))
        for folder in run_paths:
            path = os.path.join(folder.replace("${ORIGIN}", "$ORIGIN").replace("$ORIGIN", origin), name)
            if os.path.isfile(path):
                yield os.path.normpath(path)
                break
        else:
            yield name


def _read_elf(data: bytes) -> tuple[list[str], list[str]]:
    """Names in DT_NEEDED, and folders in DT_RPATH and DT_RUNPATH, of an ELF file.

    Raises:
        ValueError, IndexError, OverflowError, struct.error: it is not one, or damaged.
    """
    if data[:4] != b"\x7fELF":
        raise ValueError("not an ELF file")
    wide = data[4] == 2  # ELFCLASS64
    order = "<" if data[5] == 1 else ">"
    word = "Q" if wide else "I"

    table_at = struct.unpack_from(f"{order}{word}", data, 32 if wide else 28)[0]
    entry_size, count = struct.unpack_from(f"{order}HH", data, 54 if wide else 42)
    segments = []  # (type, offset in the file, address, size in the file)
    for i in range(count):
        at = table_at + i * entry_size
        if wide:
            kind, _, offset, address, _, size = struct.unpack_from(f"{order}IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = struct.unpack_from(f"{order}5I", data, at)
        segments.append((kind, offset, address, size))

    entries: list[tuple[int, int]] = []
    for kind, offset, _, size in segments:
        if kind == 2:  # PT_DYNAMIC
            pair = struct.Struct(f"{order}{word}{word}")
            entries += pair.iter_unpack(data[offset : offset + size - size % pair.size])
    strings_at = 0
    for tag, address in entries:
        if tag == 5:  # DT_STRTAB, an address: find the PT_LOAD segment it lies in
            for kind, offset, start, size in segments:
                if kind == 1 and start <= address < start + size:
                    strings_at = offset + address - start

    def text(at: int) -> str:
        return data[strings_at + at : data.index(b"\0", strings_at + at)].decode()

    needed = [text(value) for tag, value in entries if tag == 1]  # DT_NEEDED
    run_paths = [folder for tag, value in entries if tag in {15, 29} for folder in text(value).split(":") if folder]
    return needed, run_paths
