"""Runs server processes and makes sure that none outlives the test run, however that ends.

Started by `process.ServerProcess` as ``python -E -S _leash.py FD COMMANDS``: ``FD`` is the read end of a pipe whose
write end only the starter holds, ``COMMANDS`` a JSON list of argument lists. When the starter closes its end or dies
(SIGKILL included), the read ends and every descendant is killed. When one of the commands exits, so do the others.
A pipe rather than PR_SET_PDEATHSIG: that one fires when the starting *thread* ends, and does not reach grandchildren.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def parents() -> list[tuple[int, int]]:
    """Every process's id and that of its parent; through /proc, or ps where there is none."""
    if not os.path.isdir("/proc/self"):
        lines = subprocess.run(["ps", "-axo", "pid=,ppid="], check=True, capture_output=True, text=True).stdout.split(
            "\n"
        )
        return [(int(pid), int(parent)) for pid, parent in (line.split() for line in lines if line.strip())]
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            # One that ends while we look is as good as gone.
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{name}/stat", errors="replace") as file:
                found.append((int(name), int(file.read().rpartition(")")[2].split()[1])))
    return found


def descendants() -> list[int]:
    """Process ids below this process."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents():
        children.setdefault(parent, []).append(pid)
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def reap() -> None:
    """Collect the exit status of every child that has ended, adopted ones included."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_all() -> None:
    """Ask every descendant to end, wait for at most 3 s, then kill what is left."""
    for signum, seconds in ((signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0)):
        deadline = time.monotonic() + seconds
        for pid in descendants():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        while time.monotonic() < deadline:
            reap()
            if not descendants():
                return
            time.sleep(0.02)


def main() -> int:
    leash, commands = int(sys.argv[1]), json.loads(sys.argv[2])
    if sys.platform == "linux":
        # Orphaned grandchildren become our children, so that descendants() still finds them.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.set_inheritable(leash, False)
    children = [subprocess.Popen(command, stdin=subprocess.DEVNULL) for command in commands]
    while True:
        if select.select([leash], [], [], 0.1)[0]:
            code = 0
            break
        codes = [child.poll() for child in children]
        if any(code is not None for code in codes):
            code = next(code for code in codes if code is not None) or 1
            break
    end_all()
    return code & 0xFF


if __name__ == "__main__":
    sys.exit(main())
