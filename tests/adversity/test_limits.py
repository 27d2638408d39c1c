"""Many at once: bounded connections, whatever the number of callers; and a service that asks to slow down."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from datetime import timedelta

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.servers.fakes3 import FakeS3, faulty, status
from tests.servers.process import PROJECT


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_600_gets_with_128_descriptors(fake_s3: FakeS3, loop: str):
    fake_s3.add("k", b"x" * 1000)
    fake_s3.inject(faulty(delay=0.02), times=float("inf"))
    program = textwrap.dedent(
        """
        import asyncio, resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        import obstore as obs
        from obstore.store import S3Store

        store = S3Store("bucket", endpoint=sys.argv[1], access_key_id="A", secret_access_key="S",
                        region="us-east-1", client_options={"allow_http": True})

        async def one():
            return bytes(await (await obs.get_async(store, "k")).bytes_async()) == b"x" * 1000

        async def main():
            return await asyncio.gather(*(one() for _ in range(600)), return_exceptions=True)

        if sys.argv[2] == "uvloop":
            import uvloop
            results = uvloop.run(main())
        else:
            results = asyncio.run(main())
        failed = [result for result in results if result is not True]
        print(len(results), len(failed), failed[:3])
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, fake_s3.url, loop],
        check=False,
        capture_output=True,
        text=True,
        cwd=PROJECT,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "600 0 []\n", "")
    assert fake_s3.peak_open <= 128
    assert len(fake_s3.requests) == 600


def _gather(store: S3Store, count: int) -> None:
    async def one() -> bytes:
        return bytes(await (await obs.get_async(store, "k")).bytes_async())

    async def main() -> None:
        assert set(await asyncio.gather(*(one() for _ in range(count)))) == {b"data"}

    asyncio.run(main())


@pytest.mark.parametrize("limit", [1, 4])
def test_a_store_keeps_to_its_max_connections(fake_s3: FakeS3, limit: int):
    fake_s3.add("k", b"data")
    fake_s3.inject(faulty(delay=0.01), times=float("inf"))
    _gather(S3Store(**fake_s3.config(client_options={"max_connections": limit})), 40)
    assert fake_s3.peak_in_flight == limit
    assert fake_s3.peak_open <= limit + 1


def test_the_process_keeps_to_its_limit(fake_s3: FakeS3):
    fake_s3.add("k", b"data")
    fake_s3.inject(faulty(delay=0.01), times=float("inf"))
    before = obs.get_limits()
    obs.set_limits(connections=5)
    try:
        _gather(S3Store(**fake_s3.config()), 40)
        assert fake_s3.peak_in_flight <= 5
    finally:
        obs.set_limits(connections=before["connections"])
    assert obs.get_limits() == before
    _gather(S3Store(**fake_s3.config()), 40)
    assert fake_s3.peak_in_flight > 5


def test_requests_beyond_the_limit_are_counted_as_queued(fake_s3: FakeS3):
    fake_s3.add("k", b"data")
    fake_s3.inject(faulty(delay=0.3), times=2)
    store = S3Store(**fake_s3.config(client_options={"max_connections": 2}))

    async def main() -> dict[str, int]:
        gets = [asyncio.ensure_future(obs.get_range_async(store, "k", start=0, end=4)) for _ in range(6)]
        while fake_s3.in_flight < 2:
            await asyncio.sleep(0.01)
        stats = obs.stats()
        await asyncio.gather(*gets)
        return stats

    stats = asyncio.run(main())
    assert stats["queued"] == 4
    assert stats["in_flight"] == 2


QUICK = {
    "max_retries": 50,
    "backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=50)},
}


def test_slow_down_lowers_the_number_in_flight(fake_s3: FakeS3):
    fake_s3.add("k", b"data")
    store = S3Store(**fake_s3.config(retry_config=QUICK))
    fake_s3.inject(faulty(delay=0.1), times=64)
    _gather(store, 64)
    calm = fake_s3.peak_in_flight
    assert calm >= 40, "without complaints all go out at once"

    throttled = obs.stats()["throttled"]
    fake_s3.inject(status(503), times=64)
    _gather(store, 64)
    assert obs.stats()["throttled"] - throttled == 64

    fake_s3.peak_in_flight = 0
    fake_s3.inject(faulty(delay=0.05), times=64)
    _gather(store, 64)
    assert fake_s3.peak_in_flight <= calm * 0.75


def test_slow_down_of_one_endpoint_does_not_slow_another(fake_s3: FakeS3):
    with FakeS3() as other:
        for server in (fake_s3, other):
            server.add("k", b"data")
        fake_s3.inject(status(503), times=64)
        _gather(S3Store(**fake_s3.config(retry_config=QUICK)), 64)
        other.inject(faulty(delay=0.1), times=64)
        _gather(S3Store(**other.config(retry_config=QUICK)), 64)
        assert other.peak_in_flight >= 40


def test_all_get_through_where_a_rate_is_enforced(fake_s3: FakeS3):
    fake_s3.add("k", b"data")
    fake_s3.rate_limit(100)
    _gather(S3Store(**fake_s3.config()), 150)
    refused = len(fake_s3.requests) - 150
    assert refused < 6 * 150, "no stampede: on average less than six refusals for each"
