"""Names that are imported when they are first asked for, and the lock for all that is done once, at first use.

Imported by everything, so it imports next to nothing itself.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock

TYPE_CHECKING = False  # typing itself takes longer to import than all of this
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

# Held while something is set up once (modules imported, libcurl loaded), and by every fork: a child must not begin in the middle
# of it, least of all with Python's own import locks held by threads that it does not have.
_lock = RLock()


def setting_up() -> AbstractContextManager[object]:
    """The lock for what is done once, at first use; forks wait for it. For a thread that has it already it is free."""
    return _lock


def value_of(module: str, name: str) -> Any:
    """What ``name`` is in a module, which is imported.

    Modules that are imported here must not ask for such names themselves while they are imported: two threads would wait for
    each other, one for this lock and one for the lock of a module.
    """
    with _lock:
        __import__(module)
        return getattr(sys.modules[module], name)


def submodule(module: str) -> Any:
    """A module, which is imported. For those that modules ask for while they are imported: it does not wait for the lock."""
    alone = _lock.acquire(blocking=False)
    try:
        __import__(module)
        return sys.modules[module]
    finally:
        if alone:
            _lock.release()


def _before_fork() -> None:
    _lock.acquire()


def _forked_parent() -> None:
    _lock.release()


def _forked_child() -> None:
    global _lock  # noqa: PLW0603 - the old one may belong to a thread of the parent
    _lock = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_forked_parent, after_in_child=_forked_child)
