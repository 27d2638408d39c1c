"""One store object, many processes: fork while idle and under load, spawn, forkserver."""

from __future__ import annotations

import pytest

from tests.lifecycle.program import WARNINGS, run
from tests.servers.fakes3 import FakeS3

CHILDREN = """
def child(number):
    try:
        assert bytes(obs.get(store, "small").bytes()) == b"s" * 1024
        assert bytes(obs.get_range(store, "large", start=5, length=7)) == b"L" * 7
        obs.put(store, f"from-child-{number}", b"c" * number)
        async def work():
            results = await asyncio.gather(*[obs.get_async(store, "small") for _ in range(10)])
            return [bytes(await result.bytes_async()) for result in results]
        assert asyncio.run(work()) == [b"s" * 1024] * 10
        os._exit(0)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)

def fork_children(count=8):
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            child(number)
        pids.append(pid)
    return pids

def reap(pids):
    for pid in pids:
        assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.fixture
def server(fake_s3: FakeS3) -> FakeS3:
    fake_s3.add("small", b"s" * 1024)
    fake_s3.add("large", b"L" * (4 << 20))
    return fake_s3


def test_fork_before_first_use(server: FakeS3) -> None:
    run(CHILDREN + "\nreap(fork_children())\nassert len(obs.get(store, 'small').bytes()) == 1024", server.config())


@pytest.mark.parametrize("name", ["get", "S3Store", "exceptions"])
def test_fork_while_a_thread_imports_what_it_asked_for(server: FakeS3, name: str) -> None:
    """The child must not inherit the lock of a module that a thread of its parent is in the middle of."""
    run(
        f"""
code = '''
import os, signal, sys, threading, time, warnings
import obstore
warnings.simplefilter("ignore")
class Slow:
    begun = threading.Event()
    def find_spec(self, name, *_):
        if name == "obstore.exceptions":  # in the middle of whatever is imported
            self.begun.set()
            time.sleep(0.3)
sys.meta_path.insert(0, Slow())
thread = threading.Thread(target=lambda: getattr(obstore, "{name}"))
thread.start()
Slow.begun.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    obstore.get, obstore.exceptions.BaseError, obstore.S3Store
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
thread.join()
'''
import subprocess
done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
assert (done.returncode, done.stderr) == (0, ""), done
""",
        server.config(),
    )


def test_fork_while_idle(server: FakeS3) -> None:
    run(
        CHILDREN
        + """
assert len(obs.get(store, "small").bytes()) == 1024
pids = fork_children()
assert len(obs.get(store, "small").bytes()) == 1024
reap(pids)
assert len(obs.get(store, "large").bytes()) == 4 << 20
""",
        server.config(),
    )
    assert all(f"from-child-{number}" in server.objects for number in range(8))


def test_fork_with_twenty_transfers_in_flight(server: FakeS3) -> None:
    """The parent's bodies are half read when the children are made; all finish, each with its own bytes."""
    run(
        CHILDREN
        + """
results = [obs.get(store, "large") for _ in range(20)]
streams = [result.stream(min_chunk_size=1000) for result in results]
heads = [next(stream) for stream in streams]
pids = fork_children()
for head, stream in zip(heads, streams):
    assert head + b"".join(stream) == b"L" * (4 << 20)
reap(pids)
""",
        server.config(),
    )


def test_fork_inside_async_program(server: FakeS3) -> None:
    run(
        CHILDREN
        + """
async def main():
    tasks = [asyncio.ensure_future(obs.get_async(store, "large")) for _ in range(20)]
    await asyncio.sleep(0.01)
    pids = await asyncio.get_running_loop().run_in_executor(None, fork_children)
    results = await asyncio.gather(*tasks)
    assert all([len(await result.bytes_async()) == 4 << 20 for result in results])
    await asyncio.get_running_loop().run_in_executor(None, reap, pids)
asyncio.run(main())
""",
        server.config(),
    )


def test_fork_while_other_threads_work(server: FakeS3) -> None:
    """Locks held by other threads at the time of the fork do not stop the child."""
    run(
        CHILDREN
        + """
stop = threading.Event()
def work():
    while not stop.is_set():
        obs.get(store, "small").bytes()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(5):
    reap(fork_children(2))
stop.set()
for thread in threads: thread.join()
""",
        server.config(),
    )


def test_child_refuses_what_belongs_to_its_parent(server: FakeS3) -> None:
    run(
        """
result = obs.get(store, "large")
pid = os.fork()
if pid == 0:
    try:
        result.bytes()
    except RuntimeError as error:
        os._exit(0 if "fork" in str(error) else 2)
    os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
assert len(result.bytes()) == 4 << 20
""",
        server.config(),
    )


def test_child_shares_no_socket_with_its_parent(server: FakeS3) -> None:
    run(
        """
def sockets():
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
obs.get(store, "small").bytes()
assert sockets()
pid = os.fork()
if pid == 0:
    os._exit(0 if not sockets() else 1)
assert os.waitpid(pid, 0)[1] == 0
""",
        server.config(),
    )


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_pool(server: FakeS3, tmp_path, method: str) -> None:
    """The store travels to the workers, by pickle where they do not inherit it."""
    script = tmp_path / "pool.py"
    script.write_text(
        """
import json, multiprocessing, sys
import obstore as obs
from obstore.store import S3Store

def size(store):
    return len(obs.get(store, "small").bytes())

if __name__ == "__main__":
    store = S3Store(**json.loads(sys.argv[1]))
    assert size(store) == 1024
    with multiprocessing.get_context(sys.argv[2]).Pool(4) as pool:
        assert pool.map(size, [store] * 8) == [1024] * 8
    assert size(store) == 1024
"""
    )
    import json
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, *WARNINGS, str(script), json.dumps(server.config()), method],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
