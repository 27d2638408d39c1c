"""Waiting in a program that gevent has patched: the hub watches the completion queue, and other greenlets go on meanwhile."""

from __future__ import annotations

import sys
from typing import Any


def patched() -> bool:
    """Whether gevent stands in for the system's waiting in this process. A program that never imported it pays nothing."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("select"))


def wait(queue: Any, seconds: float) -> bool:
    """Let other greenlets run until the queue has something, at most ``seconds`` (negative: no limit). Whether it has."""
    import gevent

    descriptor = queue.fileno()
    watcher = gevent.get_hub().loop.io(descriptor, 1)
    try:
        with gevent.Timeout(seconds if seconds >= 0 else None, False):
            gevent.get_hub().wait(watcher)
            return True
    finally:
        watcher.close()
    return False
