"""Loops, threads and stores come and go under load: memory, descriptors, threads and counters stay where they are."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.endurance.scale import scaled
from tests.servers.process import PROJECT


@pytest.mark.timeout(scaled(120, 5_000))
def test_nothing_grows_under_load() -> None:
    """In a process of its own, whose memory is not that of all the tests before."""
    command = [sys.executable, "-W", "error", "-m", "tests.endurance.soak", "--seconds", str(scaled(12, 3_600))]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
