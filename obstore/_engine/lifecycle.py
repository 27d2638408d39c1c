"""When the engine starts, what happens to it at fork, and how it ends.

Nothing is loaded and no thread runs before the first remote request. After fork the child begins with an engine of its
own; at interpreter exit the loops are asked to stop and are left behind if they do not (they hold no Python state).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from typing import Any

from obstore._engine import _core
from obstore._lazy import setting_up

__all__ = ["after_fork_in_child", "debug_info", "setting_up", "start"]

_EXIT_TIMEOUT_MS = 1000

_child_hooks: list[Callable[[], None]] = []
_started = False


def start() -> None:
    """Load libcurl, once. Any thread.

    Raises:
        ImportError: no usable libcurl; the text says what was tried and how to mend it.
    """
    global _started  # noqa: PLW0603 - the process has one engine
    if _started:
        return
    with setting_up():  # forks wait for it
        if not _started:
            from obstore._engine import libcurl

            if not _core.loaded():
                _core.load(libcurl.find())
                atexit.register(_core.shutdown, _EXIT_TIMEOUT_MS)
            _started = True


def after_fork_in_child(hook: Callable[[], None]) -> None:
    """Call ``hook`` in every child right after fork, once the engine has forgotten its parent."""
    _child_hooks.append(hook)


def _forked_child() -> None:
    _core.forked_child()
    for hook in _child_hooks:
        hook()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked_child)


def debug_info() -> dict[str, Any]:
    """What a bug report needs: versions, the libcurl in use and where it came from, limits, counters."""
    import platform
    import sys
    from importlib import metadata

    start()
    connections, threads, memory = _core.get_limits()
    versions: dict[str, str | None] = {}
    for name in ("obstore", "pycurl"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # run from a checkout, or libcurl is another one
            versions[name] = None
    return {
        **versions,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libcurl": _core.curl_info(),
        "limits": {"connections": connections, "threads": threads, "memory": memory},
        "stats": _core.stats(),
    }
