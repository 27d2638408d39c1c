"""Transfers spread over threads and processes; not among the rooms whose descriptors are counted: `multiprocessing` keeps a pipe."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from obstore import bulk
from obstore._bulk.dest import Destination, WorkerDestination
from obstore._bulk.options import make_options
from obstore._bulk.spread import Crew, Units, worker_count
from obstore.store import MemoryStore, S3Store
from tests.servers.fakes3 import FakeS3, faulty, gets, puts, stall

BODIES = {f"{n % 3}/k{n:03}": random.Random(n).randbytes(n * 30) for n in range(450)}


def tree(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def filled(fake_s3: FakeS3) -> S3Store:
    for name, body in BODIES.items():
        fake_s3.add(f"d/{name}", body)
    return S3Store(**fake_s3.config())


def pool(kind: str) -> Executor:
    if kind == "threads":
        return ThreadPoolExecutor(2)
    return ProcessPoolExecutor(2, mp_context=get_context(kind))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("kind", ["threads", "spawn", "fork"])
def test_all_transfers_on_workers(fake_s3: FakeS3, filled: S3Store, tmp_path: Path, kind: str) -> None:
    """One after the other on the same workers, which share the connections, and what they did adds up."""
    fake_s3.add("d/../escape", b"x")
    fake_s3.inject(faulty(delay=0.002), times=float("inf"))
    total = sum(map(len, BODIES.values()))
    seen: list[bulk.Progress] = []
    with pool(kind) as executor:
        got = bulk.download(filled, "d", tmp_path / "a", executor=executor, connections=4, progress=seen.append)
        assert (got.objects, got.bytes) == (450, total)
        assert [failure.path for failure in got.failures] == ["d/../escape"]
        assert tree(tmp_path / "a") == BODIES
        assert (seen[-1].objects, seen[-1].bytes, seen[-1].failed, seen[-1].total_objects) == (450, total, 1, 451)
        del fake_s3.objects["d/../escape"]

        sent = bulk.upload(
            filled,
            tmp_path / "a",
            "up",
            executor=executor,
            connections=4,
            attributes=lambda path: {"Content-Type": f"x/{len(path)}"},
        )
        assert (sent.objects, sent.bytes, sent.failures) == (450, total, [])
        assert fake_s3.objects["up/1/k001"].headers["content-type"] == f"x/{len(str(tmp_path / 'a/1/k001'))}"

        copied = bulk.copy_many(filled, filled, "up", "copy", executor=executor, connections=4)
        assert (copied.objects, copied.failures) == (450, [])
        put = bulk.put_many(filled, ((f"put/{n}", bytes(n)) for n in range(300)), executor=executor, connections=4)
        assert (put.objects, put.bytes, put.failures) == (300, sum(range(300)), [])

        (tmp_path / "a/1/k001").write_bytes(b"other")
        (tmp_path / "a/extra").write_bytes(b"x")
        down = bulk.sync(filled, tmp_path / "a", source_prefix="d", delete=True, executor=executor, connections=4)
        assert (down.objects, down.deleted, down.skipped, down.failures) == (1, 1, 449, [])
        assert bulk.sync(tmp_path / "a", filled, target_prefix="new", executor=executor).objects == 450
        assert bulk.sync(filled, filled, source_prefix="new", target_prefix="newer", executor=executor).objects == 450
        gone = bulk.delete_many(filled, "up", executor=executor, connections=4)
        assert (gone.objects, gone.failures) == (450, [])
    stored = {key: fake.body for key, fake in fake_s3.objects.items()}
    assert stored == {
        **{f"{top}/{name}": body for top in ("d", "copy", "new", "newer") for name, body in BODIES.items()},
        **{f"put/{n}": bytes(n) for n in range(300)},
    }
    assert tree(tmp_path / "a") == BODIES


@pytest.mark.parametrize("kind", ["threads", "spawn"])
def test_workers_together_keep_within_the_limits(fake_s3: FakeS3, filled: S3Store, tmp_path: Path, kind: str) -> None:
    fake_s3.inject(faulty(delay=0.01), times=float("inf"), when=gets)
    with pool(kind) as executor:
        assert bulk.download(filled, "d", tmp_path / "a", executor=executor, connections=6).objects == 450
        assert 2 < fake_s3.peak_in_flight <= 6
        fake_s3.requests.clear()
        assert bulk.download(filled, "d/0", tmp_path / "b", executor=executor, rate=100).objects == 150
    came = sorted(request.time for request in fake_s3.requests if gets(request))
    for n in range(len(came) - 50):  # a hundred a second: half a second for fifty, less what two workers may begin with
        assert came[n + 50] - came[n] > 0.4


def test_more_workers_than_connections(fake_s3: FakeS3, filled: S3Store, tmp_path: Path) -> None:
    fake_s3.inject(faulty(delay=0.01), times=float("inf"), when=gets)
    with ThreadPoolExecutor(8) as executor:
        assert bulk.download(filled, "d", tmp_path, executor=executor, connections=2).objects == 450
    assert fake_s3.peak_in_flight <= 2


@pytest.mark.parametrize("executor", [None, 2])
def test_rate_without_and_with_threads(fake_s3: FakeS3, executor: int | None) -> None:
    store = S3Store(**fake_s3.config())
    workers = ThreadPoolExecutor(executor) if executor else None
    assert bulk.put_many(store, {f"k{n}": b"" for n in range(40)}, rate=80, executor=workers, workers=executor).ok
    if workers is not None:
        workers.shutdown()
    came = sorted(request.time for request in fake_s3.requests if puts(request))
    assert came[-1] - came[0] > (39 - 2) / 80 * 0.9


def killed_while(fake_s3: FakeS3, key: str, executor: Any) -> None:
    """Kill the worker that asks for ``key``, or rather all of them: none of them knows that it does."""

    def kill(request: Any, proceed: Any) -> Any:
        for pid in list(executor._processes):
            os.kill(pid, signal.SIGKILL)
        return proceed()

    fake_s3.inject(kill, when=lambda r: gets(r) and r.path.endswith(key))


def test_killed_worker_breaks_the_pool_and_nothing_else(fake_s3: FakeS3, filled: S3Store, tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        killed_while(fake_s3, "1/k400", executor)
        with pytest.raises(bulk.ExecutorBrokenError) as caught:
            bulk.download(filled, "d", tmp_path, executor=executor, connections=4)
    result = caught.value.result
    assert result.stopped
    assert result.objects + result.skipped < 450
    whole = {name: body for name, body in tree(tmp_path).items() if not name.startswith(".obstore-")}
    assert whole.items() <= BODIES.items()
    before = len(fake_s3.requests)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        again = bulk.download(filled, "d", tmp_path, executor=executor, connections=4)
    assert (again.objects + again.skipped, again.failures) == (450, [])
    assert tree(tmp_path) == BODIES  # and nothing beside it
    asked = [r for r in fake_s3.requests[before:] if gets(r)]
    assert len(asked) <= 450 - len(whole) + 4  # what was in place, but for what lay between a name and its record


def test_what_concerns_all_is_raised(filled: S3Store, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        memory = MemoryStore()
        bulk.put_many(memory, {"k": b"1"})
        with pytest.raises(TypeError, match="MemoryStore"):
            bulk.download(memory, "k", tmp_path, executor=executor)
        with pytest.raises(TypeError, match="pickle"):
            bulk.put_many(filled, {"k": (piece for piece in [b"1"])}, executor=executor)
    assert list(tmp_path.iterdir()) == []


class Flaky(Executor):
    """The second unit is lost."""

    def __init__(self) -> None:
        self.count = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.count += 1
        if self.count == 2:
            future.set_exception(OSError("the machine went down"))
        else:
            future.set_result(fn(*args, **kwargs))
        return future


def test_lost_unit_is_a_failure_of_its_objects(filled: S3Store, tmp_path: Path) -> None:
    result = bulk.download(filled, "d", tmp_path, executor=Flaky(), workers=1)
    assert (result.objects, len(result.failures), result.stopped) == (250, 200, False)
    assert {str(failure.error) for failure in result.failures} == {"the machine went down"}
    assert bulk.download(filled, "d", tmp_path, executor=Flaky(), workers=2, overwrite=False).objects == 200
    assert tree(tmp_path) == BODIES


def test_cancelled_transfer_stops_its_threads(fake_s3: FakeS3, filled: S3Store, tmp_path: Path) -> None:
    fake_s3.inject(stall(1, 30.0), times=float("inf"), when=lambda r: gets(r) and r.path.endswith("k100"))

    async def main() -> None:
        task = bulk.download_async(filled, "d", tmp_path, executor=executor)
        while not any(r.path.endswith("k100") for r in fake_s3.requests):
            await asyncio.sleep(0.01)
        task.cancel()  # type: ignore[attr-defined]
        with pytest.raises(asyncio.CancelledError):
            await task

    began = time.monotonic()
    with ThreadPoolExecutor(2) as executor:
        asyncio.run(main())
    assert time.monotonic() - began < 25  # the threads did not wait for the answer that does not come
    assert list(tmp_path.rglob("worker-*")) == []
    fake_s3._injected.clear()
    assert bulk.download(filled, "d", tmp_path).ok
    assert tree(tmp_path) == BODIES


def test_large_object_is_resumed_by_another_worker(fake_s3: FakeS3, tmp_path: Path) -> None:
    body = random.Random(1).randbytes(24 << 20)
    fake_s3.add("d/large", body)
    store = S3Store(**fake_s3.config())
    last = f"-{len(body) - 1}"
    fake_s3.inject(
        faulty(stall_after=1, stall=30.0), times=1, when=lambda r: gets(r) and r.headers.get("range", "").endswith(last)
    )
    executor = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
    killer = threading.Thread(target=_kill_when_stalled, args=(fake_s3, last, executor, tmp_path))
    killer.start()
    with executor, pytest.raises(bulk.ExecutorBrokenError):
        bulk.download(store, "d", tmp_path, executor=executor)
    killer.join()
    again = bulk.download(store, "d", tmp_path)
    assert again.resumed_bytes > 0
    assert tree(tmp_path) == {"large": body}


def _kill_when_stalled(fake_s3: FakeS3, last: str, executor: Any, root: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        states = [path.read_text().count("\n") for path in root.glob(".obstore-*/*.state")]
        if any(count > 1 for count in states) and any(
            r.headers.get("range", "").endswith(last) for r in list(fake_s3.requests)
        ):
            break
        time.sleep(0.01)
    for pid in list(executor._processes):
        os.kill(pid, signal.SIGKILL)


# ---- pieces --------------------------------------------------------------------------------------------------------


def run_op(op: Iterator[Any]) -> Any:
    from obstore._run import run

    return run(op)  # type: ignore[arg-type]


def test_executors_that_do_not_tell_need_a_number() -> None:
    class Silent:
        def submit(self) -> None: ...

    assert worker_count(Silent()) is None
    with pytest.raises(ValueError, match="workers"):
        run_op(Crew(Silent(), None).share(make_options()))
    assert run_op(Crew(Silent(), 4).share(make_options())).connections == 16
    with pytest.raises(ValueError, match="workers"):
        bulk.delete_many(MemoryStore(), "x", workers=2)
    with pytest.raises(TypeError, match="executor"):
        bulk.delete_many(MemoryStore(), "x", executor=Silent)  # the class


def test_shares_add_up_to_no_more_than_the_whole() -> None:
    whole = make_options(connections=10, memory="64MiB", rate=100)
    share = whole.shared(4)
    assert (share.connections, share.memory) == (2, 16 << 20)
    assert share.pace is not None
    assert share.pace[0] == 25
    for wrong in (0, -1, float("inf"), float("nan"), "fast", True):
        with pytest.raises((TypeError, ValueError), match="rate"):
            make_options(rate=wrong)


def test_units_are_bounded_in_objects_and_bytes() -> None:
    pages = [list(range(250)), [90, 5, 5, 95, 120, 1], []]

    def page() -> Any:
        return pages.pop(0)
        yield

    units = Units(page, lambda item: item, objects=100, most=100)
    got = []
    while unit := run_op(units.next()):
        got.append(unit)
    assert [item for unit in got for item in unit] == [*range(250), 90, 5, 5, 95, 120, 1]
    assert all(len(unit) <= 100 and (sum(unit) <= 100 or len(unit) == 1) for unit in got)
    assert got[-4:] == [[90, 5, 5], [95], [120], [1]]


def test_what_killed_workers_finished_is_adopted_and_live_ones_are_left_alone(tmp_path: Path) -> None:
    dest = Destination(tmp_path, "job", resume=True)
    dead, live = (WorkerDestination(tmp_path, dest.folder.name) for _ in range(2))
    (tmp_path / "k").write_bytes(b"12345")
    dead.note("k", '"tag"', 5)
    os.close(dead.journal_fd)  # as a kill does
    dead.journal_fd = -1
    dest.close(keep=True)
    again = Destination(tmp_path, "job", resume=True)
    assert again.has("k", '"tag"', 5, "k")
    assert not dead.folder.exists()
    assert live.folder.exists()
    live.close(keep=True)
    again.adopt(live.folder.name)
    assert not live.folder.exists()
    again.close(keep=False)
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
