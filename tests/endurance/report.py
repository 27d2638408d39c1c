"""What the long runs counted, for the written result: a line of JSON each in the file named by ``OBSTORE_ENDURANCE_REPORT``.

``python -m tests.endurance.report FILE`` prints them as a table, with the machine and the versions.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from tests.servers.process import PROJECT


def record(run: str, **counts: object) -> None:
    """Note what a run counted; without the variable nobody wants to know."""
    if path := os.environ.get("OBSTORE_ENDURANCE_REPORT"):
        line = json.dumps({"run": run, "at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), **counts})
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def table(path: Path) -> str:
    """The recorded lines as Markdown, the latest of each run."""
    latest = {entry["run"]: entry for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.strip()
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    lines = [
        f"{machine}, Python {platform.python_version()}, commit {commit or 'unknown'}",
        "",
        "| run | ended (UTC) | counted |",
        "|---|---|---|",
    ]
    for run, entry in latest.items():
        counts = ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in list(entry.items())[2:])
        lines.append(f"| {run} | {entry['at']} | {counts} |")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(count)}" for name, count in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))  # noqa: T201 - this is a command
