"""Compiles the C core with its C tests and runs each test as a case of its own, plain and under the sanitizers."""

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CSRC = HERE.parents[1] / "csrc"
PROGRAMS = ("test_http", "test_engine", "test_pieces", "test_bulk")
# Programs that test a few files of the core by themselves: those that their first line names.
ALONE = ("test_crc", "test_listjson", "test_listxml", "fuzz_listxml", "fuzz_headers", "test_columns", "test_rate")
COMPILER = shutil.which(os.environ.get("CC", "cc")) or ""
COMMON = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-g", "-DOB_DEBUG", "-DOB_TORTURE", f"-I{CSRC}"]
VARIANTS = {
    "plain": ["-O1"],
    "asan": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer"],
    "tsan": ["-O1", "-fsanitize=thread"],
}
# Runs plain only. The sanitizers themselves do not survive a fork beside other threads: ThreadSanitizer no threads that the
# child starts, AddressSanitizer no lock of its allocator that another thread held.
PLAIN_ONLY = {"forked_child_starts_afresh"}
# A table row of a C test program: {"name", name},
ROW = re.compile(r'^\s*\{"(\w+)", \1\},$', re.MULTILINE)


def find_libcurl() -> str:
    """The libcurl to test against: the one named by OBSTORE_LIBCURL, else the one that pycurl's wheel carries."""
    if named := os.environ.get("OBSTORE_LIBCURL"):
        return named
    for file in importlib.metadata.files("pycurl") or []:
        if file.name.startswith("libcurl") and ".so" in file.name:
            return str(file.locate())
    return "libcurl.so.4"


def test_names(program: str) -> list[str]:
    return ROW.findall((HERE / f"{program}.c").read_text())


test_names.__test__ = False  # type: ignore[attr-defined]


@functools.cache
def build_directory() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="obstore-csrc-")
    build_directory.keep = directory  # type: ignore[attr-defined]  # removed with the interpreter
    return Path(directory.name)


def compiles(flags: list[str]) -> bool:
    """Whether the compiler, its run-time library and this machine go along with the flags."""
    source = build_directory() / "probe.c"
    source.write_text("int main(void) { return 0; }\n")
    program = build_directory() / "probe"
    built = subprocess.run([COMPILER, *flags, str(source), "-o", str(program)], capture_output=True, check=False)
    return built.returncode == 0 and subprocess.run([str(program)], capture_output=True, check=False).returncode == 0


@functools.cache
def build(program: str, variant: str) -> Path | None:
    """The compiled program, or None where the variant is not supported here."""
    if not compiles(VARIANTS[variant]):
        return None
    target = build_directory() / f"{program}-{variant}"
    sources = [HERE / f"{program}.c", HERE / "harness.c", *sorted(CSRC.glob("*.c"))]
    command = [
        COMPILER,
        *COMMON,
        *VARIANTS[variant],
        *map(str, sources),
        "-o",
        str(target),
        "-pthread",
        "-ldl",
        "-rdynamic",
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return target


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
@pytest.mark.parametrize(
    ("program", "name", "variant"),
    [
        pytest.param(
            program,
            name,
            variant,
            id=f"{program}-{name}-{variant}",
            marks=() if variant == "plain" else pytest.mark.slow,
        )
        for program in PROGRAMS
        for name in test_names(program)
        for variant in VARIANTS
        if variant == "plain" or name not in PLAIN_ONLY
    ],
)
def test_c(program: str, name: str, variant: str) -> None:
    binary = build(program, variant)
    if binary is None:
        pytest.skip(f"the compiler has no {variant}")
    environment = dict(os.environ)
    environment["TSAN_OPTIONS"] = "halt_on_error=1"
    environment["ASAN_OPTIONS"] = "detect_leaks=1"
    environment.pop("OBSTORE_THREADS", None)
    done = subprocess.run(
        [str(binary), find_libcurl(), name], capture_output=True, text=True, check=False, timeout=150, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
@pytest.mark.parametrize(
    ("program", "variant"),
    [
        pytest.param(program, variant, marks=() if variant == "plain" else pytest.mark.slow)
        for program in ALONE
        for variant in ("plain", "asan")
    ],
)
def test_alone(program: str, variant: str) -> None:
    if not compiles(VARIANTS[variant]):
        pytest.skip(f"the compiler has no {variant}")
    source = HERE / f"{program}.c"
    named = re.match(r"/\* sources: (.*)", source.read_text())
    assert named is not None
    flags = [flag for flag in COMMON if flag != "-DOB_TORTURE" or "ob_torture_countdown" in source.read_text()]
    target = build_directory() / f"{program}-alone-{variant}"
    names = named[1].removeprefix("all but ").split()
    if named[1].startswith("all but "):
        names = sorted({path.name for path in CSRC.glob("*.c")} - set(names))
    sources = [str(source), *(str(CSRC / name) for name in names)]
    built = subprocess.run(
        [COMPILER, *flags, *VARIANTS[variant], *sources, "-o", str(target), "-pthread", "-ldl"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    # A body announced as larger than any memory is a failed allocation, and no finding.
    environment = {**os.environ, "ASAN_OPTIONS": "allocator_may_return_null=1"}
    done = subprocess.run([str(target)], capture_output=True, text=True, check=False, timeout=150, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_c_test_is_listed(program: str) -> None:
    binary = build(program, "plain")
    listed = subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout.split()
    assert listed == test_names(program)


@pytest.mark.skipif(not COMPILER, reason="no C compiler")
def test_release_build_has_no_warnings() -> None:
    for source in sorted(CSRC.glob("*.c")):
        command = [COMPILER, "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-c", str(source)]
        built = subprocess.run(
            [*command, "-o", str(build_directory() / "x.o")], capture_output=True, text=True, check=False
        )
        assert built.returncode == 0, built.stderr


def test_numbers_agree_with_pycurl() -> None:
    """Every option, info and code that pycurl knows has the number that the C core uses."""
    pycurl = pytest.importorskip("pycurl")
    text = (CSRC / "ob_abi.h").read_text()
    lists = dict(re.findall(r"#define OB_ABI_(\w+)\(X\)((?:.*\\\n)*.*)\n", text))
    prefixes = {"OPTIONS": ("", "OPT_"), "INFOS": ("INFO_", ""), "MULTI_OPTIONS": ("M_",), "CODES": ("E_",)}
    compared = 0
    for kind, names in prefixes.items():
        for name, number in re.findall(r"X\((\w+), ([^)]+)\)", lists[kind]):
            value = sum(int(term, 0) for term in number.split("+"))
            for prefix in names:
                known = getattr(pycurl, prefix + name, None)
                # pycurl gives an option and an info of one name one attribute: the option's.
                if known is not None and not (kind == "INFOS" and prefix == ""):
                    assert known == value, name
                    compared += 1
    assert compared > 80


def test_no_python_and_no_stray_libcurl_calls_in_c() -> None:
    for source in [*CSRC.glob("*.[ch]"), *CSRC.glob("*.def")]:
        code = re.sub(r"/\*.*?\*/", "", source.read_text(), flags=re.DOTALL)
        assert "Python.h" not in code, source
        assert not re.search(r"\bPy[A-Z_]\w*", code), source
        if source.name not in {"ob_curl.c", "ob_opt.h"}:
            assert not re.search(r"easy_setopt\(|easy_getinfo\(|\bcurl_\w+\(", code.replace("OB_SYMBOL(int, ", "")), (
                source
            )
