"""Memory is bounded by what the program asked for, whatever the size of objects and the number of readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.endurance.huge import HugeServer
from tests.endurance.report import record
from tests.endurance.scale import FULL, scaled
from tests.lifecycle.program import run
from tests.servers.fakes3 import store_config

# Not ru_maxrss, which counts what the process was before exec: a copy of the test runner.
_PEAK = """
def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM"))
"""


def _run(name: str, program: str, server: HugeServer, timeout: float) -> None:
    """Run a program that prints its counts at its end."""
    counts = json.loads(run(_PEAK + program, store_config(server.url), timeout=timeout).stdout)
    record(f"memory: {name}", **counts)


@pytest.fixture(scope="module")
def huge() -> Iterator[HugeServer]:
    with HugeServer() as server:
        yield server


def test_slow_readers_stay_within_the_limit(huge: HugeServer) -> None:
    """Many half-read streams of 1 GiB each hold no more than the limit, and all go on when they are read."""
    readers = scaled(200, 1000)
    program = f"""
async def main():
    obs.set_limits(memory=64 << 20, connections={readers} + 10)
    async def reader(number):
        stream = (await obs.get_async(store, str(1 << 30))).stream(min_chunk_size=1000).__aiter__()
        return stream, len(await stream.__anext__())
    opened = await asyncio.gather(*(reader(n) for n in range({readers})))
    held = []
    for _ in range(3):
        await asyncio.sleep(0.3)
        held.append(obs.stats()["block_bytes"])
        for stream, _ in opened[::7]:
            await stream.__anext__()
    # One piece for each reader may have landed before the limit was reached.
    assert max(held) < (64 << 20) + {readers} * (512 << 10), held
    assert peak_mib() < 300 + {readers} // 2, peak_mib()
    print(json.dumps(dict(readers={readers}, held_mib=max(held) >> 20, peak_mib=peak_mib())))
asyncio.run(main())
"""
    _run("slow readers of 1 GiB each", program, huge, scaled(60, 3_000))


@pytest.mark.timeout(scaled(120, 3_600))
def test_upload_without_end_takes_little_memory(huge: HugeServer) -> None:
    gib = scaled(1, 60)
    program = f"""
piece = bytes(1 << 20)
def pieces():
    for _ in range({gib} << 10):
        yield piece
obs.put(store, "endless", pieces(), chunk_size=8 << 20, max_concurrency=4)
assert obs.stats()["bytes_out"] >= {gib} << 30
assert peak_mib() < 200, peak_mib()
print(json.dumps(dict(gib={gib}, peak_mib=peak_mib())))
"""
    _run("upload from an iterator", program, huge, scaled(60, 3_000))


@pytest.mark.timeout(scaled(120, 3_600))
def test_large_download_stays_within_its_memory(huge: HugeServer, tmp_path: Path) -> None:
    """An object many times as large as ``memory=`` goes to disk as it comes."""
    mib = scaled(400, 10 << 10)
    program = f"""
from obstore import bulk
bulk.download(store, [str(1 << 20)], {str(tmp_path)!r}, memory="64MiB")
before = peak_mib()
result = bulk.download(store, [str({mib} << 20)], {str(tmp_path)!r}, memory="64MiB")
assert result.bytes == {mib} << 20, result.failures
assert peak_mib() - before < 64, (before, peak_mib())
print(json.dumps(dict(mib={mib}, memory_mib=64, peak_mib=peak_mib())))
"""
    _run("download to a file", program, huge, scaled(100, 3_000))


@pytest.mark.timeout(scaled(120, 3_600))
def test_many_objects_take_the_memory_of_a_page(huge: HugeServer) -> None:
    """A hundred thousand keys, a million in the long run: as iterated, as listed; read into memory, deleted."""
    count, prefix = scaled(20_000, 1_000_000), "many" if FULL else "few"
    program = f"""
from obstore import bulk
def read(count):
    assert sum(len(body) for _, body in bulk.get_many(store, ("100" for _ in range(count)))) == 100 * count
read(5000)
bulk.delete_many(store, ["few/1"])
before = peak_mib()
read({count})
assert bulk.delete_many(store, {prefix!r}).objects == {scaled(100_000, 1_000_000)}
assert peak_mib() - before < 24, (before, peak_mib())
print(json.dumps(dict(objects={count}, more_mib=peak_mib() - before, peak_mib=peak_mib())))
"""
    _run("objects read and deleted", program, huge, scaled(100, 3_000))
