"""Downloads spread over processes; not among the rooms whose descriptors are counted: `multiprocessing` keeps a pipe."""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from obstore import bulk
from obstore._bulk.spread import worker_count
from obstore.store import S3Store
from tests.servers.fakes3 import FakeS3


def test_downloads_on_processes_share_the_connections(fake_s3: FakeS3, tmp_path: Path) -> None:
    bodies = {f"k{n:02}": random.Random(n).randbytes(n * 100) for n in range(40)}
    for name, body in bodies.items():
        fake_s3.add(f"d/{name}", body)
    fake_s3.add("d/../escape", b"x")
    fake_s3.page = 10
    store = S3Store(**fake_s3.config())
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        result = bulk.download(store, "d", tmp_path, executor=executor, connections=4)
    assert (result.objects, [failure.path for failure in result.failures]) == (40, ["d/../escape"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == bodies
    assert fake_s3.peak_in_flight <= 4 + 1  # and the listing


def test_executors_that_do_not_tell_need_a_number() -> None:
    class Silent:
        def submit(self) -> None: ...

    with pytest.raises(ValueError, match="workers"):
        worker_count(Silent(), None)
    assert worker_count(Silent(), 3) == 3
