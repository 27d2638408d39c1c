"""What holds for every test: see tests/README.md."""

from __future__ import annotations

import faulthandler
import importlib.util
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fix_gc", "tests.fix_server", "tests.fix_stores", "tests.fix_azure"]

# How long an example takes is the machine's business, and a sanitizer's.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

# Need more than this project brings along: run only when asked for, and then they start or fail.
ON_REQUEST = ("ceph", "ecosystem", "endurance", "localstack", "network", "webservers")


# What it needs is installed by `make ecosystem`; without it not even its modules can be imported.
HAS_ECOSYSTEM = all(importlib.util.find_spec(name) for name in ("fsspec", "zarr", "pandas", "duckdb"))
collect_ignore = [] if HAS_ECOSYSTEM else ["ecosystem"]

NOT_RUN: pytest.StashKey[dict[str, int]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOT_RUN] = {}
    # A crash in C prints every thread's Python stack, on the real stderr even while output is captured.
    if not faulthandler.is_enabled():
        faulthandler.enable(file=sys.__stderr__, all_threads=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what runs on request only, unless ``-m`` names it, and what is not in the matrix of stores and faces."""
    from tests.fix_stores import is_wanted  # not above: pytest rewrites the plugins' asserts when it loads them
    from tests.servers.install import has_node

    items[:] = [item for item in items if is_wanted(getattr(getattr(item, "callspec", None), "params", {}))]
    expression = str(config.getoption("markexpr"))
    unasked = {name for name in ON_REQUEST if name not in expression}
    if "node" not in expression and not has_node():
        unasked.add("node")
    left_out = [item for item in items if any(item.get_closest_marker(name) for name in unasked)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
        for name in unasked:
            config.stash[NOT_RUN][name] = sum(1 for item in left_out if item.get_closest_marker(name))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a worker of pytest-xdist: tell the process that writes the summary."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["not_run"] = session.config.stash[NOT_RUN]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Every worker collects all tests and leaves out the same ones."""
    node.config.stash[NOT_RUN].update(getattr(node, "workeroutput", {}).get("not_run", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name what was not run, and how to run it."""
    for name, count in sorted(config.stash[NOT_RUN].items()):
        if count:
            terminalreporter.write_line(f"not run: {count} tests marked {name}; run them with -m {name}")
    if not HAS_ECOSYSTEM:
        terminalreporter.write_line(
            "not run: tests/ecosystem, whose packages are not installed; run them with `make ecosystem`"
        )
