"""The examples of the guides about fsspec and what is built on it run as written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.test_readme import ECOSYSTEM_PAGES, aws, run_page

__all__ = ["aws"]  # the fixture


@pytest.mark.parametrize("page", ECOSYSTEM_PAGES, ids=lambda page: page.name)
@pytest.mark.usefixtures("aws", "registered")
def test_examples_run_as_written(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, capsys)
