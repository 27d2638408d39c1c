"""Runs programs of users in a process of their own, because what they do is fork, be interrupted, or end."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

PRELUDE = """
import asyncio, json, os, signal, sys, threading, time
import obstore as obs
from obstore.store import S3Store
config = json.loads(sys.argv[1])
store = S3Store(**config)
"""


# From Python 3.12 on os.fork() warns in any process that has threads, whoever made them.
WARNINGS = ("-W", "ignore:This process:DeprecationWarning")


@dataclass
class Outcome:
    """How a program ended."""

    code: int
    stdout: str
    stderr: str
    seconds: float


class Program:
    """A program under way.

    Args:
        body: Python source; ``obs``, ``store`` and the usual modules are there.
        config: keyword arguments of ``S3Store``.
        env: additional environment.
    """

    def __init__(self, body: str, config: dict[str, Any], **env: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-X",
                "faulthandler",
                *WARNINGS,
                "-c",
                PRELUDE + textwrap.dedent(body),
                json.dumps(config),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
        )
        self.started = time.monotonic()

    def line(self) -> str:
        """The next line that it prints: programs say so when they are ready."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if not line:
            outcome = self.end()
            raise AssertionError(f"the program ended early: {outcome}")
        return line

    def signal(self, number: int) -> None:
        self.process.send_signal(number)
        self.started = time.monotonic()

    def end(self, timeout: float = 60.0) -> Outcome:
        """Wait for its end; seconds count from the start or the last signal."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # faulthandler prints the stacks
            out, err = self.process.communicate()
            raise AssertionError(f"the program hangs:\n{out}\n{err}") from None
        return Outcome(self.process.returncode, out, err, time.monotonic() - self.started)


def run(body: str, config: dict[str, Any], timeout: float = 60.0, **env: str) -> Outcome:
    """Run a program that must end well: status 0 and nothing on stderr."""
    outcome = Program(body, config, **env).end(timeout)
    assert outcome.code == 0, outcome
    assert outcome.stderr == "", outcome
    return outcome


def eventually(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    """Wait for something that another thread or process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test on an event loop of its own."""

    @functools.wraps(test)
    def run_test(**fixtures: Any) -> None:
        asyncio.run(test(**fixtures))

    return run_test
