"""Fixtures: nothing may be left behind.

`no_leaks` runs around every test of the rooms that use the engine. Afterwards the engine's counts of live objects and
the process's file descriptors are what they were before. Connections are exempt: keeping them is the engine's job.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.servers import process

ROOMS = ("adversity", "contract", "engine", "lifecycle", "loops", "threads")
_LIVE = ("live_transfers", "live_clients", "live_queues", "live_easies")
_PATIENCE_SECONDS = 5.0
FAILED = pytest.StashKey[bool]()


def live_objects() -> dict[str, int]:
    """The engine's counts of objects that must not outlive their users; empty before its first use."""
    core = sys.modules.get("obstore._engine")
    if core is None:
        return {}
    stats = core.stats()
    return {name: stats[name] for name in _LIVE}


def loops() -> int:
    """Loop threads of the engine."""
    core = sys.modules.get("obstore._engine")
    return 0 if core is None else core.stats()["loops"]


def descriptors() -> set[tuple[int, str]]:
    """Open file descriptors with what they refer to; without sockets and the leashes of our own servers."""
    found: set[tuple[int, str]] = set()
    if sys.platform != "linux":
        return found
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of listdir itself
        if not target.startswith("socket:") and int(name) not in process.leashes:
            found.add((int(name), target))
    return found


def _warm_up() -> None:
    """Create what a process creates once and keeps: engine, this thread's queue, helper threads."""
    from obstore import get
    from obstore._run import background
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    store = S3Store(
        "none",
        endpoint="http://127.0.0.1:1",  # nobody listens there
        skip_signature=True,
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    with pytest.raises(BaseError):
        get(store, "none")
    background.start_in_background(_nothing()).result()
    uvloop.new_event_loop().close()  # libuv keeps a pipe of its own for signals


def _nothing() -> Generator[None, None, None]:
    yield from ()


@pytest.fixture(scope="session")
def warm_engine() -> None:
    _warm_up()
    gc.collect()
    gc.freeze()  # modules and test items live to the end: looking through them at every collection is half the run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def no_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves transfers, clients, queues, handles or descriptors behind."""
    room = Path(request.node.path).parent.name
    if room not in ROOMS:
        yield
        return
    request.getfixturevalue("warm_engine")
    gc.collect()
    before, open_before, loops_before = live_objects(), descriptors(), loops()
    yield
    if request.node.stash.get(FAILED, False):
        return  # its traceback keeps alive what it had in hand
    request.node.funcargs.clear()  # pytest keeps the test's arguments, stores among them
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        grown = {name: (before[name], count) for name, count in live_objects().items() if count > before[name]}
        leaked = descriptors() - open_before
        if len(leaked) <= 2 * (loops() - loops_before):
            leaked = set()  # a loop thread was started under load, and keeps two wakeup descriptors
        if not grown and not leaked:
            return
        if time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.01)
    pytest.fail(f"left behind: {grown or ''} {sorted(leaked) or ''} {_threads()}", pytrace=False)


def _threads() -> str:
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return f"(threads: {', '.join(names)})" if names else ""
