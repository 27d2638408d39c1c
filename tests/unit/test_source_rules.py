"""The project's own lints: which room may use what, and what must never occur in the sources or the built modules.

The rules run over the files there are, so a new file is under them from its first day.
"""

from __future__ import annotations

import ast
import copy
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import obstore

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "obstore"
CSRC = ROOT / "csrc"

PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
CYTHON_FILES = sorted([*PACKAGE.rglob("*.pyx"), *PACKAGE.rglob("*.pxd"), *PACKAGE.rglob("*.pxi")])
C_FILES = sorted([*CSRC.glob("*.[ch]"), *CSRC.glob("*.def")])
MODULES = sorted(PACKAGE.rglob("*.so"))

# ---- who may import whom -----------------------------------------------------------------------------------

LEAVES = {"_config", "_effects", "_types", "_version", "exceptions"}
SERVERLESS = {"_local", "_localfs", "_memory", "_serverless"}
MAY_IMPORT = {
    "_lazy": set(),
    **dict.fromkeys(LEAVES, LEAVES),
    **dict.fromkeys(SERVERLESS, LEAVES | SERVERLESS),
    "_auth": LEAVES | {"_auth", "_lazy"},
    "_dialect": LEAVES | {"_auth", "_dialect"},
    "_ops": LEAVES | SERVERLESS | {"_auth", "_dialect", "_ops"},
    "_bulk": LEAVES | {"_auth", "_bulk", "_engine", "_local", "_ops"},
    "_engine": {"_engine", "_lazy", "_types", "exceptions"},
    "_run": LEAVES | {"_engine", "_run"},
    "_streams": LEAVES | {"_engine", "_ops", "_run", "_streams"},
    "_faces": LEAVES | {"_faces", "_ops", "_run"},
    "_file_errors": LEAVES | {"_file_errors"},
    "_files": LEAVES | {"_faces", "_file_errors", "_files", "_ops", "_run"},
    "_file_writing": LEAVES | {"_faces", "_file_errors", "_file_writing", "_ops", "_run"},
    "_ranges": LEAVES | {"_engine", "_faces", "_ops", "_ranges", "_run"},
    "_listings": LEAVES | {"_arrow", "_engine", "_listings", "_ops", "_run", "_streams"},
    "_arrow": LEAVES | {"_engine"},
}
"""What is not named is the public face: it may use every room, and no room may use it."""

WAITING = {"asyncio", "concurrent", "select", "selectors", "socket", "trio", "uvloop"}
NOT_IN_ROOM = {
    **{leaf: WAITING | {"threading"} for leaf in LEAVES},
    **dict.fromkeys(SERVERLESS, WAITING),
    "_auth": WAITING | {"threading"},
    "_dialect": WAITING | {"threading"},
    "_ops": WAITING | {"threading"},
}
LOCK_ALLOWED = {"_auth/cache.py"}

MAY_ASK_THE_PACKAGE = {"_cli", "_fsspec", "arrow", "auth", "bulk", "fsspec"}
"""Modules that none of ours imports on its own: they may use names that ``obstore`` and ``obstore.store`` import on demand."""

OPTIONAL = {
    *("aiohttp", "arro3", "azure", "boto3", "botocore", "certifi", "fsspec", "google", "numpy", "pandas", "polars"),
    *("click", "dask", "distributed", "pyarrow", "pycurl", "ray", "requests", "rich", "tqdm"),
}
NEEDS_OPTIONAL = {"_cli": {"click"}, "_fsspec": {"fsspec"}, "arrow": {"pyarrow"}, "fsspec": {"fsspec"}}
"""A subclass needs its base class, a decorator its module; no other room imports these when it is imported."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(path.suffix)


def python_imports(tree: ast.AST, package: str) -> Iterator[tuple[str, int]]:
    """Full names of all that is imported anywhere, and the line; relative imports resolved in ``package``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


_CYTHON_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+c?import\s+(.*)|c?import\s+(.+))$")


def cython_imports(text: str) -> Iterator[tuple[str, int]]:
    for number, line in enumerate(text.splitlines(), 1):
        if found := _CYTHON_IMPORT.match(line.split("#")[0].rstrip()):
            base, names, modules = found.groups()
            for part in (names or modules).strip("() ").split(","):
                name = part.split(" as ")[0].strip()
                if base and base.startswith("."):
                    pytest.fail(f"line {number}: relative import in a Cython file; write the full name")
                yield (f"{base}.{name}" if base else name), number


def imports_of(path: Path) -> list[tuple[str, int]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return list(python_imports(ast.parse(text), ".".join(path.relative_to(ROOT).parent.parts)))
    return list(cython_imports(text))


def room_named(imported: str) -> str | None:
    """The room an import of ours leads to: ``obstore._auth.cache.Source`` to ``_auth``; ``None`` for other packages."""
    top, _, rest = imported.partition(".")
    return (rest.split(".")[0] or "__init__") if top == "obstore" else None


def misplaced_imports(room: str, imports: list[tuple[str, int]]) -> list[str]:
    """What of ``imports`` a file of ``room`` must not use."""
    allowed = MAY_IMPORT.get(room)
    wrong = []
    for imported, line in imports:
        target = room_named(imported)
        if target is not None and allowed is not None and target not in allowed:
            wrong.append(f"line {line}: {room} must not import {imported}")
        if target is None and imported.split(".")[0] in NOT_IN_ROOM.get(room, ()):
            wrong.append(f"line {line}: {room} must not import {imported}")
    return wrong


def imports_on_import(body: list[ast.stmt]) -> Iterator[tuple[str, int]]:
    """Imports that run when the module is imported: all but those in functions and under TYPE_CHECKING."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from python_imports(node, "")
        elif isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
            yield from imports_on_import(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                for child in getattr(node, field, []):
                    yield from imports_on_import([child] if isinstance(child, ast.stmt) else child.body)


@pytest.mark.parametrize("path", [*PYTHON_FILES, *CYTHON_FILES], ids=name_of)
def test_room_imports_only_what_it_may(path: Path) -> None:
    imports = imports_of(path)
    if path.relative_to(PACKAGE).as_posix() in LOCK_ALLOWED:
        imports = [found for found in imports if found[0] not in {"threading", "threading.Lock"}]
        used = set(re.findall(r"\bthreading\.(\w+)", path.read_text(encoding="utf-8")))
        assert used <= {"Lock"}, "a lock around the cache, and no more"
    assert not misplaced_imports(room_of(path), imports)


@pytest.mark.parametrize(
    "path", [path for path in PYTHON_FILES if room_of(path) not in MAY_ASK_THE_PACKAGE], ids=name_of
)
def test_no_module_asks_for_lazy_names_while_it_is_imported(path: Path) -> None:
    """It would wait for the lock of `_lazy` with its own import lock held: two threads could wait for each other."""
    modules = {f"obstore.{name_of(module).split('/')[1].removesuffix('.py')}" for module in PYTHON_FILES}
    imported = imports_on_import(ast.parse(path.read_text(encoding="utf-8")).body)
    of_package = [found for found in imported if found[0].count(".") == 1 and found[0].startswith("obstore.")]
    assert not [found for found in of_package if found[0] not in modules - {"obstore.store"}]
    assert not [found for found in imports_on_import(ast.parse(path.read_text()).body) if "obstore.store." in found[0]]


def test_names_on_demand_are_those_that_type_checkers_see() -> None:
    seen = {
        alias.name: node.module
        for node in names_of_the_package()
        if isinstance(node, ast.ImportFrom) and node.module != "obstore"
        for alias in node.names
    }
    assert seen == obstore._HOME
    assert {*seen, "exceptions", "store", "__version__"} == set(obstore.__all__)


@pytest.mark.parametrize("path", PYTHON_FILES, ids=name_of)
def test_optional_packages_are_imported_in_functions(path: Path) -> None:
    own = NEEDS_OPTIONAL.get(room_of(path), set())
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = list(imports_on_import(tree.body))
    assert not [found for found in imported if found[0].split(".")[0] in OPTIONAL - own]
    if not own:
        assert not [found for found in imported if room_named(found[0]) in NEEDS_OPTIONAL]


def test_import_rules_notice_breaches() -> None:
    """The walkers above against sources that break the rules, so that a rule that sees nothing cannot pass."""
    source = "import asyncio\nfrom obstore import _engine\nfrom .._run import run\ndef f():\n    import obstore.store\n"
    found = list(python_imports(ast.parse(source), "obstore._auth"))
    assert [name for name, _ in found] == ["asyncio", "obstore._engine", "obstore._run.run", "obstore.store"]
    assert len(misplaced_imports("_auth", found)) == 4
    assert not misplaced_imports("store", found)
    assert [
        name for name, _ in cython_imports("from obstore._run cimport a, b as c\ncimport x.y\n  import socket")
    ] == [*("obstore._run.a", "obstore._run.b", "x.y", "socket")]
    nested = "try:\n import pyarrow\nexcept E:\n import boto3\nclass A:\n import fsspec\ndef f():\n import azure\n"
    guarded = "if TYPE_CHECKING:\n import google\nelse:\n import numpy\n"
    on_import = [name for name, _ in imports_on_import(ast.parse(nested + guarded).body)]
    assert on_import == ["pyarrow", "boto3", "fsspec", "numpy"]


# ---- the public functions ------------------------------------------------------------------------------------

WITHOUT_TWIN = {
    "debug_info": "no request",
    "from_url": "no request",
    "get_limits": "no request",
    "get_options": "no request",
    "list": "its result is iterated either way",
    "parse_scheme": "no request",
    "set_limits": "no request",
    "set_options": "no request",
    "stats": "no request",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions_in(body: list[ast.stmt]) -> dict[str, Function]:
    """Functions of a module or class by name; of overloads the implementation, which comes last."""
    return {node.name: node for node in body if isinstance(node, Function)}


def parameters(function: Function) -> str:
    """Names, kinds, order and defaults. Annotations differ where a twin also takes asynchronous sources."""
    bare = copy.deepcopy(function.args)
    for node in ast.walk(bare):
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(bare)


def untyped(function: Function) -> list[str]:
    """Parameters without annotation, and "return"."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    missing = [each.arg for each in every if each and each.annotation is None and each.arg not in {"self", "cls"}]
    return missing + (["return"] if function.returns is None else [])


def names_of_the_package() -> list[ast.stmt]:
    """The imports of ``obstore`` that type checkers see; at run time they happen when the name is asked for."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    return next(
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ).body


def public_functions() -> dict[str, Function]:
    """The functions that ``obstore`` exports, by name."""
    functions: dict[str, Function] = {}
    for node in names_of_the_package():
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("obstore."):
            source = ROOT / f"{node.module.replace('.', '/')}.py"
            if source.is_file():
                defined = functions_in(ast.parse(source.read_text(encoding="utf-8")).body)
                functions |= {
                    alias.asname or alias.name: defined[alias.name] for alias in node.names if alias.name in defined
                }
    return functions


def scopes_with_twins() -> list[tuple[str, dict[str, Function]]]:
    """Modules and classes of the public face, and of the results it gives, that define an ``_async`` function."""
    scopes = []
    for path in PYTHON_FILES:
        if room_of(path) in NEEDS_OPTIONAL:
            continue  # the names and parameters are those of the base class
        if room_of(path) in MAY_IMPORT.keys() - {"_streams", "_files", "_file_writing", "_listings"}:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in [tree, *(each for each in ast.walk(tree) if isinstance(each, ast.ClassDef))]:
            functions = functions_in(node.body)
            if any(name.endswith("_async") for name in functions):
                scopes.append((f"{name_of(path)}:{getattr(node, 'name', 'module')}", functions))
    return scopes


SCOPES = scopes_with_twins()


def test_public_functions_have_async_twins() -> None:
    functions = public_functions()
    assert len(functions) > 10, "the exported functions were not found"
    assert SCOPES, "no scope with twins was found"
    alone = {name for name in functions if not name.endswith("_async") and f"{name}_async" not in functions}
    assert alone <= WITHOUT_TWIN.keys(), "give it a twin, or say in WITHOUT_TWIN why it needs none"


@pytest.mark.parametrize("functions", [each[1] for each in SCOPES], ids=[each[0] for each in SCOPES])
def test_async_twins_take_the_same_parameters(functions: dict[str, Function]) -> None:
    for name, twin in functions.items():
        plain = functions.get(name.removesuffix("_async"))
        if name.endswith("_async") and not name.startswith("_"):
            assert plain is not None, f"{name} has no synchronous twin"
            assert parameters(plain) == parameters(twin), name


@pytest.mark.parametrize("name", sorted(public_functions()))
def test_public_function_is_typed(name: str) -> None:
    assert untyped(public_functions()[name]) == []


def test_twin_rules_notice_breaches() -> None:
    tree = ast.parse("def f(a: int, *, b: int = 1) -> int: ...\ndef g(a: str, *, b=1): ...\ndef h(a, *, b=2): ...")
    f, g, h = functions_in(tree.body).values()
    assert parameters(f) == parameters(g) != parameters(h)
    assert untyped(f) == []
    assert untyped(g) == ["b", "return"]


# ---- C ---------------------------------------------------------------------------------------------------------

_C_COMMENT_OR_STRING = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.DOTALL)


def c_code(path: Path) -> str:
    """The text without comments and strings; includes keep their file's name, lines their number."""

    def blank(found: re.Match[str]) -> str:
        line = found.string[found.string.rfind("\n", 0, found.start()) + 1 : found.start()]
        return found[0] if line.lstrip().startswith("#include") else "\n" * found[0].count("\n") or " "

    return _C_COMMENT_OR_STRING.sub(blank, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", C_FILES, ids=name_of)
def test_c_core_knows_no_python(path: Path) -> None:
    assert not re.findall(r"\bPython\.h\b|\b_?Py(?:[A-Z_]\w*)\b", c_code(path))


@pytest.mark.parametrize("path", C_FILES, ids=name_of)
def test_libcurl_is_called_through_the_table(path: Path) -> None:
    code = c_code(path)
    if path.name != "ob_curl.c":  # loads it, and compares our numbers with its header
        assert not re.findall(r"\bcurl_\w+\s*\(", code)
        assert not re.findall(r"#include\s*<curl/", code)
    if path.name not in {"ob_curl.c", "ob_opt.h", "ob_symbols.def"}:  # varargs: typed wrappers only
        assert not re.findall(r"\b(?:easy_setopt|multi_setopt|easy_getinfo|share_setopt)\b", code)


@pytest.mark.parametrize(("enum", "prefix"), [("ob_xfer_state", "OB_XFER_"), ("ob_kind", "OB_KIND_")])
def test_every_enumerator_has_a_name(enum: str, prefix: str) -> None:
    header = re.search(rf"typedef enum \{{([^}}]*)\}} {enum};", c_code(CSRC / "ob_transfer.h"))
    assert header is not None
    declared = re.findall(rf"\b{prefix}\w+", header[1])
    assert len(declared) > 5
    text = (CSRC / "ob_transfer.c").read_text(encoding="utf-8")
    named = re.findall(rf'\[({prefix}\w+)\]\s*=\s*"([a-z_]+)"', text)
    assert [enumerator for enumerator, _ in named] == declared
    assert len({name for _, name in named}) == len(declared)


# ---- words that must not occur ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PYTHON_FILES, *CYTHON_FILES, *C_FILES], ids=name_of)
def test_unfinished_work_names_its_issue(path: Path) -> None:
    assert not re.findall(r"\b(?:TODO|FIXME)\b(?!\(#\d+\))[^\n]*", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [*PYTHON_FILES, *CYTHON_FILES], ids=name_of)
def test_library_prints_nothing(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in {"cli.py", "__main__.py"}:
        return  # the command line talks to a terminal
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
        assert not [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    else:
        assert not re.findall(r"^[^#\"'\n]*\bprint\(", text, re.MULTILINE)


@pytest.mark.parametrize("path", CYTHON_FILES, ids=name_of)
def test_c_core_is_declared_in_one_place(path: Path) -> None:
    """Elsewhere ``cdef extern`` names what CPython's own header declares.

    Signatures, which know no engine, have the functions that hash from C, too: they keep no state.
    """
    externs = re.findall(
        r"^\s*cdef extern\s+(?:from\s+(\S+?))?\s*(?:nogil)?\s*:", path.read_text(encoding="utf-8"), re.MULTILINE
    )
    if path.name == "csrc.pxd":
        assert externs
        headers = {found.strip("\"'") for found in externs}
        assert headers <= {header.name for header in CSRC.glob("*.h")}
    elif path.relative_to(PACKAGE).as_posix() == "_auth/sha256.pxd":
        assert externs == ['"ob_sha256.h"']
    else:
        assert set(externs) <= {'"Python.h"', "*"}


# ---- the built modules -----------------------------------------------------------------------------------------


def dynamic_symbols(module: Path, which: str) -> set[str]:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("needs nm (binutils)")
    listing = subprocess.run(
        [nm, "-D", f"--{which}-only", str(module)], capture_output=True, text=True, check=True
    ).stdout
    return {line.split()[-1].split("@")[0] for line in listing.splitlines()}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_built_module_exports_its_init_only(module: Path) -> None:
    assert dynamic_symbols(module, "defined") == {f"PyInit_{module.name.split('.')[0]}"}


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_built_module_never_attaches_a_thread(module: Path) -> None:
    """No thread of ours enters the interpreter: nothing of PyGILState, not even what Cython writes for ``with gil``."""
    if "OBSTORE_SANITIZED" in os.environ:
        pytest.skip("not optimised: functions that nobody calls are not left out")
    symbols = dynamic_symbols(module, "undefined")
    assert any(symbol.startswith("Py") for symbol in symbols), "no symbols were read"
    attaching = ("PyGILState", "PyThreadState_New", "PyThreadState_Swap", "PyEval_AcquireThread")
    assert not [symbol for symbol in symbols if symbol.startswith(attaching)]


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_built_module_does_not_link_libcurl(module: Path) -> None:
    assert not [symbol for symbol in dynamic_symbols(module, "undefined") if symbol.startswith("curl_")]
