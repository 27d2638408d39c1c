"""The interpreter ends whenever it likes: status 0, nothing on stderr."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.endurance.report import record
from tests.lifecycle.program import run
from tests.servers.fakes3 import FakeS3, faulty

TIMES = int(os.environ.get("OBSTORE_EXIT_RUNS", "12"))

PROGRAMS = {
    "after requests": 'obs.get(store, "small").bytes()',
    "result unread": 'result = obs.get(store, "large")',
    "stream half read": 'stream = iter(obs.get(store, "large")); next(obs.get(store, "large").stream(1))',
    "thread in a request": """
threading.Thread(target=lambda: obs.get(store, "slow").bytes(), daemon=True).start()
time.sleep(0.05)
""",
    "many daemon threads": """
def work():
    while True:
        obs.get(store, "small").bytes()
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
""",
    "asyncio in flight": """
async def main():
    for _ in range(50):
        obs.get_async(store, "slow")
    obs.put_async(store, "new", b"x" * 100_000)
    await asyncio.sleep(0.02)
asyncio.run(main())
""",
    "loop never closed": """
loop = asyncio.new_event_loop()
async def main():
    return [obs.get_async(store, "slow") for _ in range(10)]
futures = loop.run_until_complete(main())
import warnings
""",
    "sys.exit in a callback": """
async def main():
    future = obs.get_async(store, "small")
    future.add_done_callback(lambda _: sys.exit(0))
    others = [obs.get_async(store, "slow") for _ in range(10)]
    await asyncio.sleep(5)
try:
    asyncio.run(main())
except SystemExit:
    pass
""",
    "sys.exit in the user's iterator": """
def items():
    yield b"x" * 100
    sys.exit(0)
obs.put(store, "new", items(), chunk_size=100)
""",
    "exit in a worker thread's request": """
import concurrent.futures
pool = concurrent.futures.ThreadPoolExecutor(4)
for _ in range(20):
    pool.submit(lambda: obs.get(store, "small").bytes())
""",
    "listing half walked": "items = iter(obs.list(store)); next(items)",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_exit_is_clean(fake_s3: FakeS3, name: str) -> None:
    fake_s3.add("small", b"s" * 1024)
    fake_s3.add("large", b"L" * (4 << 20))
    fake_s3.add("slow", b"S" * 1000)
    fake_s3.inject(faulty(delay=3.0), times=float("inf"), when=lambda request: request.path.endswith("/slow"))
    config = fake_s3.config()
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(run, PROGRAMS[name], config) for _ in range(TIMES)]:
            done.result()
    record(f"exits: {name}", exits=TIMES)


def test_import_starts_nothing() -> None:
    """Importing loads no libcurl, starts no thread, needs no arrow, asyncio or boto."""
    run(
        """
import subprocess
code = '''
import sys, threading, obstore, obstore.store
assert threading.active_count() == 1
assert not [line for line in open("/proc/self/maps") if "libcurl" in line], "libcurl is loaded"
heavy = {"pycurl", "pyarrow", "boto3", "botocore", "fsspec", "google.auth", "azure", "numpy"} & set(sys.modules)
assert not heavy, heavy
'''
done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
assert (done.returncode, done.stderr) == (0, ""), done
""",
        {"bucket": "b", "skip_signature": True},
    )
