"""Bulk transfers on the workers of Dask and Ray: processes that get their work by the cluster's own pickles."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import pytest

from obstore import bulk
from obstore.store import S3Store
from tests.servers.fakes3 import FakeS3, faulty, gets

pytestmark = pytest.mark.filterwarnings("default")  # the clusters' own are theirs

BODIES = {f"{n % 3}/k{n:03}": random.Random(n).randbytes(n * 30) for n in range(450)}


@pytest.fixture(scope="module")
def dask_client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=2, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")  # it would tell its makers
        yield from _ray()


def _ray() -> Iterator[Any]:
    import ray

    # Its sockets are below this; their paths must be short.
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as folder:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            _temp_dir=folder,
            _node_ip_address="127.0.0.1",
            configure_logging=False,
            object_store_memory=80 << 20,
            runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2])}},
        )
        yield ray
        ray.shutdown()


@pytest.fixture(params=["dask", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "dask":
        with request.getfixturevalue("dask_client").get_executor() as made:
            yield made
    else:
        request.getfixturevalue("ray_cluster")
        yield bulk.RayExecutor()


@pytest.fixture
def filled(fake_s3: FakeS3) -> S3Store:
    for name, body in BODIES.items():
        fake_s3.add(f"d/{name}", body)
    return S3Store(**fake_s3.config())


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_transfers(fake_s3: FakeS3, filled: S3Store, executor: Executor, tmp_path: Path) -> None:
    fake_s3.add("d/../escape", b"x")
    fake_s3.inject(faulty(delay=0.005), times=float("inf"), when=gets)
    got = bulk.download(filled, "d", tmp_path, executor=executor, connections=4, rate=1000)
    assert (got.objects, [failure.path for failure in got.failures]) == (450, ["d/../escape"])
    assert tree(tmp_path) == BODIES
    assert 1 < fake_s3.peak_in_flight <= 4
    assert bulk.upload(filled, tmp_path, "up", executor=executor).objects == 450
    assert bulk.copy_many(filled, filled, "up", "copy", executor=executor).objects == 450
    assert bulk.delete_many(filled, "up", executor=executor).objects == 450
    assert {key: fake.body for key, fake in fake_s3.objects.items() if key.startswith("copy/")} == {
        f"copy/{name}": body for name, body in BODIES.items()
    }


def test_work_of_a_killed_worker_is_done_by_another(
    fake_s3: FakeS3, filled: S3Store, executor: Executor, tmp_path: Path
) -> None:
    """Both clusters hand the unit out again; what the dead one had begun is nowhere."""
    told = tmp_path / "pid"
    workers = {executor.submit(os.getpid).result() for _ in range(8)}

    def kill(request: Any, proceed: Any) -> Any:
        told.write_text("killed")
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        return proceed()

    fake_s3.inject(kill, when=lambda r: gets(r) and r.path.endswith("1/k400"))
    result = bulk.download(filled, "d", tmp_path / "out", executor=executor, connections=4)
    assert told.exists()
    assert (result.objects + result.skipped, result.failures) == (450, [])
    assert tree(tmp_path / "out") == BODIES
