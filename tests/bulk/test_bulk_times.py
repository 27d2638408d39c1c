"""What `bulk.sync` takes for up to date."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import obstore as obs
from obstore import bulk


@pytest.mark.parametrize(("behind", "transferred"), [(-5, 0), (0, 0), (1, 0), (3, 1)])
def test_times_within_a_second_are_equal(tmp_path: Path, behind: int, transferred: int) -> None:
    store = obs.MemoryStore()
    obs.put(store, "a", b"12345")
    (tmp_path / "a").write_bytes(b"abcde")
    modified = int(obs.head(store, "a")["last_modified"].timestamp()) - behind
    os.utime(tmp_path / "a", (modified, modified))
    assert bulk.sync(store, tmp_path).objects == transferred
