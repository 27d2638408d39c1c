"""Which libcurl and which certificates are chosen, from distributions made up in a temporary folder."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

# By its path: the package beside it needs the compiled core, the finder does not.
_SOURCE = Path(__file__).parents[2] / "obstore" / "_engine" / "libcurl.py"


def load_finder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("finder_under_test", _SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


libcurl: Any = load_finder()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site-packages folder that is all of ``sys.path``, and an environment prefix with no libcurl of its own."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.setattr(sys, "path", [str(folder)])
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setattr(sys, "platform", "linux")
    return folder


def install_pycurl(site: Path, files: dict[str, bytes], *, record: bool = True, listed: tuple[str, ...] = ()) -> None:
    info = site / "pycurl-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: pycurl\nVersion: 9.9\n")
    for name, content in files.items():
        path = site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if record:
        (info / "RECORD").write_text(
            "".join(f"{name},,\n" for name in (*files, *listed, "pycurl-9.9.dist-info/RECORD"))
        )


def elf(needed: list[str], run_path: str = "", *, wide: bool = True, order: str = "<", tag: int = 29) -> bytes:
    """A minimal ELF file: header, one PT_LOAD and one PT_DYNAMIC segment, the dynamic table, its strings."""
    strings = b"\0"
    entries: list[tuple[int, int]] = []
    for kind, text in [(1, name) for name in needed] + ([(tag, run_path)] if run_path else []):
        entries.append((kind, len(strings)))
        strings += text.encode() + b"\0"
    word, header, segment = ("Q", 64, 56) if wide else ("I", 52, 32)
    base = 0x400000
    table_at = header + 2 * segment
    table_size = (len(entries) + 2) * 2 * struct.calcsize(word)
    entries += [(5, base + table_at + table_size), (0, 0)]
    table = b"".join(struct.pack(f"{order}{word}{word}", *entry) for entry in entries)
    total = table_at + table_size + len(strings)

    def describe(kind: int, at: int, size: int) -> bytes:
        if wide:
            return struct.pack(f"{order}IIQQQQQQ", kind, 4, at, base + at, base + at, size, size, 8)
        return struct.pack(f"{order}8I", kind, at, base + at, base + at, size, size, 4, 8)

    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    rest = (3, 62, 1, 0, header, 0, 0, header, segment, 2, 0, 0, 0)
    file = ident + struct.pack(f"{order}HHI{word}{word}{word}IHHHHHH", *rest)
    assert len(file) == header
    return file + describe(1, 0, total) + describe(2, table_at, table_size) + table + strings


# ---- the choice of libcurl --------------------------------------------------------------------------------


def test_variable_comes_before_everything(site: Path, tmp_path: Path) -> None:
    install_pycurl(site, {"pycurl.libs/libcurl-abc.so.4.8.0": b""})
    chosen = tmp_path / "mine.so"
    chosen.touch()
    env = {"OBSTORE_LIBCURL": str(chosen)}
    assert list(libcurl.candidates(env)) == [str(chosen)]
    assert libcurl.find(env) == str(chosen)


def test_missing_file_in_variable_is_an_error_and_nothing_else_is_taken(site: Path) -> None:
    install_pycurl(site, {"pycurl.libs/libcurl-abc.so.4.8.0": b""})
    with pytest.raises(ImportError, match=r"OBSTORE_LIBCURL names .* /no/such/lib\.so\. Set it"):
        libcurl.find({"OBSTORE_LIBCURL": "/no/such/lib.so"})


def test_empty_variable_counts_as_unset(site: Path) -> None:
    install_pycurl(site, {"pycurl.libs/libcurl-abc.so.4.8.0": b""})
    assert libcurl.find({"OBSTORE_LIBCURL": ""}) == str(site / "pycurl.libs/libcurl-abc.so.4.8.0")


@pytest.mark.parametrize(
    "name",
    ["pycurl.libs/libcurl-330bcbb6.so.4.8.0", "pycurl/.dylibs/libcurl.4.dylib", "pycurl.libs/libcurl-0123abcd.dll"],
)
def test_bundled_copy_is_found(site: Path, name: str) -> None:
    install_pycurl(site, {name: b"", "pycurl.libs/libssl-1.so.3": b"", "pycurl/_pycurl.so": elf(["libcurl-x.so.4"])})
    assert next(libcurl.candidates({})) == str(site / name)
    assert libcurl.find({}) == str(site / name)


def test_bundled_copy_is_found_where_no_files_are_listed(site: Path) -> None:
    install_pycurl(site, {"pycurl.libs/libcurl-1.so.4": b"", "pycurl/_pycurl.so": b""}, record=False)
    assert libcurl.find({}) == str(site / "pycurl.libs/libcurl-1.so.4")


def test_listed_file_that_is_gone_is_passed_over(site: Path) -> None:
    install_pycurl(site, {"pycurl/_pycurl.so": elf(["libcurl.so.4"])}, listed=("pycurl.libs/libcurl-1.so.4",))
    assert next(libcurl.candidates({})) == "libcurl.so.4"


def test_pycurl_is_not_imported(site: Path) -> None:
    install_pycurl(site, {"pycurl.libs/libcurl-1.so.4": b"", "pycurl/__init__.py": b"raise RuntimeError"})
    before = set(sys.modules)
    libcurl.find({})
    assert "pycurl" not in set(sys.modules) - before


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tag", [15, 29])
def test_library_that_pycurl_is_linked_to(site: Path, tmp_path: Path, wide: bool, order: str, tag: int) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libcurl.so.4").touch()
    module = elf(["libc.so.6", "libcurl.so.4"], "/no/such:$ORIGIN/../lib", wide=wide, order=order, tag=tag)
    install_pycurl(site, {"pycurl.cpython-311-x86_64-linux-gnu.so": module})
    assert libcurl.find({}) == str(tmp_path / "lib" / "libcurl.so.4")


def test_linked_library_without_run_path_is_left_to_the_loader(site: Path) -> None:
    install_pycurl(site, {"pycurl/_pycurl.abi3.so": elf(["libcurl-gnutls.so.4", "libssl.so.3"])})
    assert next(libcurl.candidates({})) == "libcurl-gnutls.so.4"


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF", b"MZ", elf(["libcurl.so.4"])[:150], b"\x7fELF\x02\x01" + b"\xff" * 200]
)
def test_damaged_module_is_passed_over(site: Path, tmp_path: Path, content: bytes) -> None:
    install_pycurl(site, {"pycurl.so": content})
    assert list(libcurl.candidates({})) == [str(tmp_path / "prefix/lib/libcurl.so.4"), "libcurl.so.4"]


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("linux", ["lib/libcurl.so.4", "libcurl.so.4"]),
        ("darwin", ["lib/libcurl.4.dylib", "libcurl.4.dylib"]),
        ("win32", ["Library/bin/libcurl-x64.dll", "libcurl-x64.dll"]),
    ],
)
def test_usual_names_come_last(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, expected: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert list(libcurl.candidates({})) == [str(tmp_path / "prefix" / expected[0]), expected[1]]


def test_library_of_the_environment_comes_before_the_loaders(site: Path, tmp_path: Path) -> None:
    path = tmp_path / "prefix/lib/libcurl.so.4"
    path.parent.mkdir(parents=True)
    path.touch()
    assert libcurl.find({}) == str(path)


def test_name_is_taken_if_the_loader_knows_it(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libcurl, "_loader_knows", lambda name: name == "libcurl.so.4")
    assert libcurl.find({}) == "libcurl.so.4"


def test_loader_is_asked() -> None:
    assert not libcurl._loader_knows("libobstore-no-such-library.so.4")
    if sys.platform == "linux":
        name = subprocess.run(["ldd", sys.executable], capture_output=True, text=True, check=True).stdout.split()
        assert libcurl._loader_knows(next(word for word in name if word.startswith("libc.")))


@pytest.mark.parametrize("installed", [True, False])
def test_error_says_what_was_tried_and_how_to_mend_it(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(libcurl, "_loader_knows", lambda name: False)
    if installed:
        install_pycurl(site, {"pycurl/_pycurl.so": b""})
    with pytest.raises(ImportError) as caught:
        libcurl.find({})
    text = str(caught.value)
    assert ("9.9, which neither carries nor links to one" if installed else "not installed") in text
    assert str(tmp_path / "prefix/lib/libcurl.so.4") in text
    for cure in ("pip install -U pycurl", "libcurl (7.84 or newer)", "OBSTORE_LIBCURL"):
        assert cure in text


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_elf_reader_reads_a_real_module(tmp_path: Path) -> None:
    """Against the linker: a library made here with what the reader should find."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    out = tmp_path / "libexample.so"
    options = [
        "-shared",
        "-o",
        str(out),
        "-x",
        "c",
        "/dev/null",
        "-Wl,--no-as-needed",
        "-lm",
        "-Wl,-rpath,$ORIGIN/a:/b",
    ]
    subprocess.run([compiler, *options], check=True)
    needed, run_paths = libcurl._read_elf(out.read_bytes())
    assert any(name.startswith("libm.so") for name in needed)
    assert run_paths == ["$ORIGIN/a", "/b"]


def test_usual_copy_is_found_without_the_reader_of_metadata() -> None:
    """Importing importlib.metadata takes longer than loading libcurl."""
    code = (
        f"import runpy, sys; runpy.run_path({str(_SOURCE)!r})['find'](); assert 'importlib.metadata' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={})


def test_two_distributions_are_left_to_the_reader_of_metadata(site: Path) -> None:
    install_pycurl(site, {"pycurl.libs/libcurl-1.so.4": b""})
    (site / "pycurl-9.8.dist-info").mkdir()
    assert libcurl._listed_copy() is None
    assert libcurl.find({}) == str(site / "pycurl.libs/libcurl-1.so.4")


def test_first_distribution_on_the_path_counts(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    behind = tmp_path / "behind"
    behind.mkdir()
    install_pycurl(behind, {"pycurl.libs/libcurl-2.so.4": b""})
    monkeypatch.setattr(sys, "path", [str(tmp_path / "none"), str(site), str(behind)])
    assert libcurl.find({}) == str(behind / "pycurl.libs/libcurl-2.so.4")
    install_pycurl(site, {"pycurl/_pycurl.so": elf(["libcurl.so.4"])})
    assert next(libcurl.candidates({})) == "libcurl.so.4"


def test_finder_imports_no_ssl_by_itself() -> None:
    code = f"import runpy, sys; runpy.run_path({str(_SOURCE)!r}); assert 'ssl' not in sys.modules and 'ctypes' not in sys.modules"
    subprocess.run([sys.executable, "-S", "-c", code], check=True)
