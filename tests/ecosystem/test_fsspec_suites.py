"""fsspec's own suites of what every file system has to do."""

from __future__ import annotations

from typing import Any

import pytest
from fsspec.tests import abstract

from tests.ecosystem.conftest import CLOUDS, Place, make_place


class Fixtures(abstract.AbstractFixtures):
    """What the suites ask for, on one of our stores."""

    @pytest.fixture(params=["local", "memory", "s3", *CLOUDS])
    def place(self, request: pytest.FixtureRequest) -> Place:
        return make_place(request.param, request)

    @pytest.fixture
    def fs(self, place: Place) -> Any:
        return place.fs()

    @pytest.fixture
    def fs_path(self, place: Place) -> str:
        return place.bare

    @pytest.fixture
    def fs_join(self) -> Any:
        return lambda *parts: "/".join(parts)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass
