"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from obstore._engine import _core
from tests.engine.desk import Desk
from tests.servers.scripted import ScriptedServer


@pytest.fixture
def desk(scripted: ScriptedServer) -> Iterator[Desk]:
    """A desk in front of the scripted server; whatever is still under way afterwards is cancelled."""
    made = Desk(scripted.url)
    yield made
    made.queue.close()


@pytest.fixture
def limits() -> Iterator[None]:
    """Puts the default limits back."""
    yield
    _core.set_limits(0, 0, 0)
