"""A mixed load through spoiled connections and answers ends with the right bytes or a typed error, and nothing left behind."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

import obstore as obs
from obstore.store import S3Store
from tests.endurance.load import Ledger, compare, drive, drive_async, judge, worker
from tests.endurance.proxies import PROXIES
from tests.endurance.report import record
from tests.endurance.scale import scaled
from tests.servers.ceph import Ceph
from tests.servers.fakes3 import FakeS3, cut, dropped, faulty, stall, status
from tests.servers.faultproxy import ConnectionFault, FaultProxy
from tests.servers.scripted import Request

_QUICK = {"backoff": {"init_backoff": timedelta(milliseconds=5), "max_backoff": timedelta(milliseconds=100)}}
_THREADS = 2
_TASKS = 6


def _run(store: S3Store, operations: int, seed: int, meanwhile: Callable[[], None] | None = None) -> list[Ledger]:
    """So many operations: two threads call synchronously, two have an event loop of several tasks.

    ``meanwhile`` is called again and again until they are done.
    """
    workers = _THREADS + _THREADS * _TASKS
    each = max(1, operations // workers)
    ledgers = [Ledger(f"w{number:02}/") for number in range(workers)]
    jobs = [worker(ledger, seed + number, each) for number, ledger in enumerate(ledgers)]

    def on_loop(number: int) -> None:
        async def main() -> None:
            mine = jobs[_THREADS + number * _TASKS : _THREADS + (number + 1) * _TASKS]
            await asyncio.gather(*(drive_async(job, store) for job in mine))

        asyncio.run(main())

    with ThreadPoolExecutor(2 * _THREADS) as pool:
        running = [pool.submit(drive, job, store) for job in jobs[:_THREADS]]
        running += [pool.submit(on_loop, number) for number in range(_THREADS)]
        while meanwhile is not None and not all(future.done() for future in running):
            meanwhile()
        for future in running:
            future.result()
    return ledgers


def _settle(run: str, wrong: list[str], ledgers: list[Ledger], **counts: int) -> list[str]:
    """Note what a run came to; what was wrong with it."""
    refused: dict[str, int] = {}
    for ledger in ledgers:
        for kind, count in ledger.refused.items():
            refused[kind] = refused.get(kind, 0) + count
    done = sum(ledger.done for ledger in ledgers)
    record(f"chaos: {run}", done=done, typed_errors=refused, wrong=len(wrong), **counts)
    return [f"{run}, {done} done, refused: {refused or 'none'}: {text}" for text in wrong]


def _connection_fault(chance: random.Random) -> ConnectionFault:
    """Every connection ends badly sooner or later: refused, cut in a request or in an answer, after a stall perhaps."""
    reset = chance.random() < 0.5
    down, up = chance.randrange(200, 1_000_000), chance.randrange(200, 1_000_000)
    return chance.choice(
        (
            ConnectionFault(refuse=True),
            ConnectionFault(cut_down=down, reset=reset),
            ConnectionFault(cut_down=down, half=True),
            ConnectionFault(cut_up=up, reset=reset),
            ConnectionFault(cut_down=down, cut_up=up, latency=0.002, reset=reset),
            ConnectionFault(cut_down=2 * down, stall_down=down, stall=1.0 if chance.random() < 0.2 else 0.05),
        )
    )


def _store(config: dict[str, Any], url: str, read_timeout: str = "300ms") -> S3Store:
    client = {**config.pop("client_options"), "read_timeout": read_timeout}
    return S3Store(**{**config, "endpoint": url}, client_options=client, retry_config={**_QUICK, "max_retries": 20})


@pytest.mark.timeout(scaled(120, 3600))
def test_load_through_a_bad_line(swift: Any, judges: Any, fault_proxy: Callable[[str], FaultProxy]) -> None:
    # Swift, since it refuses a body that ends early; moto stores what came of it, over a later attempt perhaps.
    endpoint = swift.endpoint
    proxy = fault_proxy(endpoint.url)
    bucket = endpoint.create_bucket()

    chance = random.Random(7)
    for _ in range(scaled(2_000, 50_000)):
        outage = [ConnectionFault(refuse=True)] * 10 if chance.random() < 0.01 else []
        proxy.push(_connection_fault(chance), *outage)
    # Long enough for a busy machine: Swift goes on with what was given up, and is then ever later with the rest.
    ledgers = _run(_store(endpoint.config(bucket), proxy.url, "2s"), scaled(500, 5_000), seed=1)
    wrong = judge(judges(endpoint), bucket, ledgers)
    name = "connections refused, cut, reset, half closed, stalled"
    assert _settle(name, wrong, ledgers, spoiled=proxy.spoiled) == []
    assert proxy.spoiled > scaled(10, 300), "the line was not bad enough to show anything"


@pytest.mark.timeout(scaled(120, 3600))
def test_load_through_bad_answers(fake_s3: FakeS3) -> None:
    chance = random.Random(5)

    def now_and_then(percent: float) -> Callable[[Request], bool]:
        return lambda _: chance.random() < percent / 100

    for percent, fault in (
        (1.0, status(503, retry_after=0.05)),
        (0.5, status(429)),
        (2.0, status(500)),
        (1.0, dropped()),
        (1.0, dropped(reset=True)),
        (2.0, cut(700)),
        (2.0, cut(100_000, reset=True)),
        (0.3, stall(900, 0.6)),
        (2.0, faulty(delay=0.05)),
    ):
        fake_s3.inject(fault, times=float("inf"), when=now_and_then(percent))
    ledgers = _run(_store(fake_s3.config(), fake_s3.url), scaled(3_000, 20_000), seed=2)
    found = {key: stored.body for key, stored in fake_s3.objects.items()}
    uploads = [upload.key for upload in fake_s3.uploads.values() if upload.parts]
    wrong = [f"{text}\n{_history(fake_s3, text.partition(':')[0])}" for text in compare(found, uploads, ledgers)]
    counts = {"requests": len(fake_s3.requests), "given_up": len(fake_s3.given_up)}
    assert _settle("bad answers", wrong, ledgers, **counts) == []


def _history(server: FakeS3, key: str) -> str:
    """What the server did about a key, in that order, with the number and the second in which each request arrived."""
    lines = []
    for heading, requests in (("acted on", server.taken), ("given up by the client", server.given_up)):
        lines.append(f"  {heading}:")
        for request in requests:
            source = request.headers.get("x-amz-copy-source", "")
            if key in (request.path.removeprefix("/bucket/"), source.removeprefix("/bucket/")):
                size = f"{len(request.body)} bytes {request.body[:24]!r}" if request.body else ""
                arrived = f"#{request.index} at {request.time:.3f} on {request.connection}"
                lines.append(f"    {arrived}: {request.method} {request.target} {source} {size}")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Ceph]:
    """A real S3 that checks every signature and every body, fast, and keeps its objects while its gateway restarts."""
    with Ceph(gc_seconds=5) as server:
        yield server


def _empty(client: Any, bucket: str) -> None:
    """Its memory is needed for the next run."""
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        if entries := page.get("Contents"):
            client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": entry["Key"]} for entry in entries]})


@pytest.mark.endurance
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", sorted(PROXIES))
def test_load_through_a_real_proxy_that_fails(gateway: Ceph, judges: Any, name: str) -> None:
    endpoint = gateway.endpoint
    client = judges(endpoint)
    wrong = []
    with PROXIES[name](endpoint.url) as proxy:
        for fault, url in proxy.urls.items():
            bucket = endpoint.create_bucket()
            before = obs.stats()["requests"]
            # Long enough for a busy machine: a PUT that is given up while the server is still at it may come after a later one.
            ledgers = _run(_store(endpoint.config(bucket), url, "15s"), scaled(500, 5_000), seed=3)
            requests = obs.stats()["requests"] - before
            wrong += _settle(f"{name}, {fault}", judge(client, bucket, ledgers), ledgers, requests=requests)
            _empty(client, bucket)
    assert wrong == []


@pytest.mark.endurance
@pytest.mark.timeout(7_200)
def test_load_while_the_server_restarts(gateway: Ceph, judges: Any) -> None:
    """The gateway ends in the middle of whatever it does, and is back after a second or so."""
    endpoint = gateway.endpoint
    bucket = endpoint.create_bucket()
    restarts = 0

    def restart() -> None:
        nonlocal restarts
        time.sleep(3)
        gateway.restart()
        restarts += 1

    patient = {"init_backoff": timedelta(milliseconds=20), "max_backoff": timedelta(seconds=1)}
    retry = {"max_retries": 60, "retry_timeout": timedelta(minutes=2), "backoff": patient}
    store = S3Store(**endpoint.config(bucket), retry_config=retry)
    ledgers = _run(store, scaled(2_000, 10_000), seed=4, meanwhile=restart)
    wrong = judge(judges(endpoint), bucket, ledgers)
    assert _settle("server restarts", wrong, ledgers, restarts=restarts) == []
    assert restarts >= 2
