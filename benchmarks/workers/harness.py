"""What all workers share: one process measures one scenario with one library and prints one line of JSON.

A worker subclasses `Peer` and calls `main`. It runs in the environment of its library, which need not have ours, so this
module imports the standard library only. Methods that a library has no counterpart for are left out: the row then says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import resource
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

T = TypeVar("T")

CHUNK_BYTES = 8 << 20
PART_BYTES = 5 << 20
PART_CONCURRENCY = 12
CREDENTIALS = {"access_key_id": "benchmark", "secret_access_key": "not-a-secret", "region": "us-east-1"}
GCS_CREDENTIALS = {"bearer_token": "not-a-secret"}
AZURE_CREDENTIALS = {"account_name": "benchmark", "account_key": "bm90LWEtc2VjcmV0"}  # of "not-a-secret"
clock = time.perf_counter


class UnsupportedError(Exception):
    """The library cannot do what the scenario asks for."""


class Peer:
    """One library, set up for one scenario; ``job`` is what the scorecard sent.

    Reads return the number of bytes that arrived, `list_objects` the sum of the sizes listed: proof that the work was done.
    The first result is compared with what is known of the object, so `get` keeps the body in ``last`` when ``verify`` is set.
    """

    #: Async scenarios of libraries without asyncio are run by as many threads as requests are in flight.
    has_async: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ()

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.bucket: str = job["bucket"]
        self.endpoint: str = job["endpoint"]
        self.tls = self.endpoint.startswith("https:")
        self.last: Any = None

    def version(self) -> str:
        """Of the library, for the record."""
        from importlib.metadata import version

        return version(self.modules[0].partition(".")[0])

    async def open(self) -> None:
        """Set-up that needs the running event loop."""

    async def close(self) -> None:
        """The opposite of `open`."""

    def _missing(self, *_args: Any) -> Any:
        raise UnsupportedError

    get: Callable[[str], int] = _missing
    get_range: Callable[[str, int, int], int] = _missing
    put: Callable[[str, bytes], None] = _missing
    put_large: Callable[[str, Any], None] = _missing
    stream: Callable[[str], int] = _missing
    list_objects: Callable[[], int] = _missing
    list_arrow: Callable[[], int] = _missing
    list_concurrent: Callable[[], int] = _missing
    download_many: Callable[[list[str], str], int] = _missing
    upload_many: Callable[[str, list[str]], int] = _missing
    get_many: Callable[[list[str]], int] = _missing
    download_file: Callable[[str, str], int] = _missing
    aget: Callable[[str], Awaitable[int]] = _missing
    aget_range: Callable[[str, int, int], Awaitable[int]] = _missing
    aput: Callable[[str, bytes], Awaitable[None]] = _missing


class Usage:
    """Time and resources between two moments of this process, all threads included."""

    def __init__(self) -> None:
        self._use = resource.getrusage(resource.RUSAGE_SELF)
        self._wall = clock()

    def since(self) -> dict[str, float]:
        wall, use, was = clock() - self._wall, resource.getrusage(resource.RUSAGE_SELF), self._use
        return {
            "wall_s": wall,
            "cpu_s": use.ru_utime + use.ru_stime - was.ru_utime - was.ru_stime,
            "page_faults": use.ru_minflt + use.ru_majflt - was.ru_minflt - was.ru_majflt,
            "context_switches": use.ru_nvcsw + use.ru_nivcsw - was.ru_nvcsw - was.ru_nivcsw,
        }


def memory_mb(field: str) -> float:
    """VmRSS or VmHWM of this process. (``ru_maxrss`` would count what the parent had when it forked.)"""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"no {field} in /proc/self/status")


@contextlib.contextmanager
def busy_thread(wanted: bool) -> Iterator[None]:
    """A Python thread that never waits, as a program that computes beside its downloads has."""
    stop = threading.Event()

    def spin() -> None:
        n = 0
        while not stop.is_set():
            for _ in range(1000):
                n += 1

    if not wanted:
        yield
        return
    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _operation(peer: Peer, job: dict[str, Any], asynchronous: bool) -> Callable[[], Any]:
    """The scenario's operation without arguments; its result must be what the job expects."""
    key, size, op = job["key"], job["size"], job["op"]
    prefix = "a" if asynchronous else ""
    if op == "get":
        get = getattr(peer, prefix + "get")
        return lambda: get(key)
    if op == "get_range":
        get_range, start, length = getattr(peer, prefix + "get_range"), job["start"], job["length"]
        return lambda: get_range(key, start, length)
    if op == "put":
        put, data = getattr(peer, prefix + "put"), os.urandom(size)
        return lambda: put(key, data)
    if op == "put_large":
        large = memoryview(bytearray(os.urandom(1 << 20)) * (size >> 20)).toreadonly()
        return lambda: peer.put_large(key, large)
    if op == "stream":
        return lambda: peer.stream(key)
    if op in ("download_many", "get_many"):
        keys = [f"many/{key}/{number:06}" for number in range(job["objects"])]
        if op == "get_many":
            return lambda: peer.get_many(keys)
        return lambda: into_new_directory(lambda path: peer.download_many(keys, path))
    if op == "upload_many":
        source = files_to_send(job)
        names = sorted(entry.name for entry in _files(source.name))
        return lambda: _checked(peer.upload_many(source.name, names), len(names))
    if op == "download_file":
        return lambda: into_new_directory(lambda path: peer.download_file(key, f"{path}/object"))
    if op in ("list_objects", "list_arrow", "list_concurrent"):
        return getattr(peer, op)
    raise ValueError(f"unknown op {op!r}")


def files_to_send(job: dict[str, Any]) -> tempfile.TemporaryDirectory[str]:
    """A directory in memory with the files of an upload."""
    folder = tempfile.TemporaryDirectory(dir="/dev/shm")
    content = os.urandom(job["size"] // job["objects"])
    for number in range(job["objects"]):
        with open(f"{folder.name}/{number:06}", "wb") as file:
            file.write(content)
    return folder


def _checked(sent: int, expected: int) -> None:
    if sent != expected:
        raise AssertionError(f"sent {sent} of {expected} files")


def into_new_directory(download: Callable[[str], Any]) -> int:
    """Bytes of the files that ``download`` makes in a directory in memory."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        download(path)
        return sum(entry.stat().st_size for entry in _files(path))


def _files(path: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            else:
                yield entry


class _Tally:
    """Counts operations and their latencies; `check` fails on a wrong result."""

    def __init__(self, expected: int | None) -> None:
        self.expected = expected
        self.latencies = array("d")
        self.errors = 0
        self.error = ""

    def add(self, began: float, result: Any) -> None:
        self.latencies.append(clock() - began)
        if result != self.expected:
            raise AssertionError(f"expected {self.expected}, got {result!r}")

    def fail(self, exc: Exception) -> None:
        self.errors += 1
        self.error = self.error or f"{type(exc).__name__}: {exc}"[:300]

    def result(self) -> dict[str, Any]:
        ranked = sorted(self.latencies)
        if not ranked:
            return {"ops": 0, "errors": self.errors, "error": self.error}
        n = len(ranked)
        tail = {"p50_us": ranked[n // 2] * 1e6, "p99_us": ranked[n * 99 // 100] * 1e6}
        return {"ops": n, "errors": self.errors, "error": self.error, **tail}


async def _run_async(peer: Peer, job: dict[str, Any]) -> dict[str, Any]:
    await peer.open()
    try:
        operation = _operation(peer, job, asynchronous=True)
        if job["op"] == "get":
            await _verify_async(peer, job)
        concurrency = job["concurrency"]

        async def work(tally: _Tally, deadline: float) -> None:
            while True:
                began = clock()
                if began >= deadline:
                    return
                tally.add(began, await operation())

        async def once(tally: _Tally) -> None:
            began = clock()
            try:
                tally.add(began, await operation())
            except AssertionError:
                raise
            except Exception as exc:  # noqa: BLE001 - what fails is counted: a row may show a library at its limit
                tally.fail(exc)

        async def phase(tally: _Tally, seconds: float, bursts: int) -> None:
            if job["burst"]:
                for _ in range(bursts):
                    await asyncio.gather(*[once(tally) for _ in range(concurrency)])
            else:
                deadline = clock() + seconds
                await asyncio.gather(*[work(tally, deadline) for _ in range(concurrency)])

        if not job["burst"]:  # a burst shows what a cold start costs
            await phase(_Tally(job["expect"]), job["seconds"] * 0.2, 1)
        tally = _Tally(job["expect"])
        with busy_thread(job["busy"]):
            usage = Usage()
            await phase(tally, job["seconds"], job["count"])
            return {**usage.since(), **tally.result()}
    finally:
        await peer.close()


def _run_sync(peer: Peer, job: dict[str, Any]) -> dict[str, Any]:
    operation = _operation(peer, job, asynchronous=False)
    if job["op"] == "get":
        _verify(peer, job)
    threads, count = job["concurrency"], job["count"]

    def work(tally: _Tally, deadline: float) -> None:
        done = 0
        while done < count if count else clock() < deadline:
            began = clock()
            tally.add(began, operation())
            done += 1

    def phase(seconds: float) -> _Tally:
        tally = _Tally(job["expect"])  # appending to an array is atomic under the GIL
        if threads == 1:
            work(tally, clock() + seconds)
        else:
            for future in [pool.submit(work, tally, clock() + seconds) for _ in range(threads)]:
                future.result()
        return tally

    with ThreadPoolExecutor(threads) as pool:
        if not count:
            phase(job["seconds"] * 0.2)
        elif job["op"] in ("get", "stream", "download_many", "get_many", "download_file") and job["server"] != "far":
            peer.get("k1")  # a connection and what is loaded on first use, but not the memory of the large object
        with busy_thread(job["busy"]):
            usage = Usage()
            tally = phase(job["seconds"])
            return {**usage.since(), **tally.result()}


def _verify(peer: Peer, job: dict[str, Any]) -> None:
    if job["sha256"]:
        peer.get(job["key"])
        _compare(peer, job)


async def _verify_async(peer: Peer, job: dict[str, Any]) -> None:
    if job["sha256"]:
        await peer.aget(job["key"])
        _compare(peer, job)


def _compare(peer: Peer, job: dict[str, Any]) -> None:
    body, peer.last = peer.last, None
    if hashlib.sha256(body).hexdigest() != job["sha256"]:
        raise AssertionError(f"{job['key']}: not the bytes that the server has")
    peer.job["verify"] = False


def measure(peer_class: type[Peer], job: dict[str, Any]) -> dict[str, Any]:
    """Sets the process up as the job says, and runs it."""
    os.sched_setaffinity(0, job["cores"])
    if job["nofile"]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (job["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    peer = peer_class(job)
    base = memory_mb("VmRSS")
    try:
        if job["face"] == "async" and peer.has_async:
            factory = None
            if job["loop"] == "uvloop":
                import uvloop

                factory = uvloop.new_event_loop
            with asyncio.Runner(loop_factory=factory) as runner:
                result = runner.run(_run_async(peer, job))
        elif job["face"] == "async" and (job["burst"] or job["concurrency"] > 256 or job["loop"] != "asyncio"):
            raise UnsupportedError  # so many threads, or another event loop, would say nothing of a library without asyncio
        else:
            result = _run_sync(peer, job)
    except UnsupportedError:
        return {"unsupported": True}
    result["bytes"] = result["ops"] * (job["size"] if job["op"] != "get_range" else job["length"])
    return {**result, "base_rss_mb": base, "peak_rss_mb": memory_mb("VmHWM"), "version": peer.version()}


def main(peer_class: type[Peer]) -> None:
    """``worker.py JOB``: the job is JSON, and so is what is printed."""
    print(json.dumps(measure(peer_class, json.loads(sys.argv[1]))), flush=True)
