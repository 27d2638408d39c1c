"""Upload many objects to an S3 bucket, download them concurrently, and check every byte.

    python bulk_download.py --endpoint http://127.0.0.1:9000 --bucket my-bucket

Keys come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from --access-key-id and
--secret-access-key. Copy what you need: `transfer` is how to run thousands of requests without thousands of
tasks, `download_large` how to read an object that does not fit into memory.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import sys
import time
from collections.abc import Awaitable, Callable, Iterable

from tqdm import tqdm

import obstore as obs
from obstore.store import ObjectStore, S3Store

CONCURRENCY = 64  # requests in flight; obstore queues what is above its own limit of connections
LARGE_CHUNK = 8 * 1024 * 1024


async def transfer(title: str, keys: Iterable[str], one: Callable[[str], Awaitable[int]]) -> None:
    """Run ``one(key)``, which returns the bytes it moved, for all keys: `CONCURRENCY` at a time, with a progress bar."""
    todo = list(keys)
    started = time.perf_counter()
    moved = 0
    pending = iter(todo)

    async def worker() -> None:
        nonlocal moved
        for key in pending:  # shared: each key is taken once
            size = await one(key)
            moved += size
            bar.update()

    with tqdm(total=len(todo), desc=title, unit="obj") as bar:
        async with asyncio.TaskGroup() as group:  # the first failure cancels the others
            for _ in range(CONCURRENCY):
                group.create_task(worker())
    seconds = time.perf_counter() - started
    tqdm.write(f"{title}: {len(todo) / seconds:,.0f} objects/s, {moved / seconds / 2**20:,.1f} MiB/s")


async def download_large(store: ObjectStore, key: str) -> str:
    """Stream ``key`` in constant memory and return the SHA-256 of what arrived."""
    digest = hashlib.sha256()
    started = time.perf_counter()
    result = await obs.get_async(store, key)
    size = result.meta["size"]
    with tqdm(total=size, desc=f"download {key}", unit="B", unit_scale=True, position=1) as bar:
        async for chunk in result.stream(min_chunk_size=LARGE_CHUNK):
            await asyncio.to_thread(digest.update, chunk)  # hashing leaves the GIL to the others
            bar.update(len(chunk))
    tqdm.write(f"download {key}: {size / (time.perf_counter() - started) / 2**20:,.1f} MiB/s, checked on the way")
    return digest.hexdigest()


async def round_trip(store: ObjectStore, count: int, small: int, large: int) -> list[str]:
    """Write, read back and delete ``count`` objects of up to ``small`` bytes and one of ``large``.

    Returns:
        What was wrong, one line each; empty if every byte came back.
    """
    rng = random.Random(2024)  # noqa: S311 - test data; the seed makes a failure repeatable
    bodies = {f"demo/small/{n:06}": rng.randbytes(rng.randint(1, small)) for n in range(count)}
    digests = {key: hashlib.sha256(body).digest() for key, body in bodies.items()}
    block = rng.randbytes(2**20)
    large_body = b"".join(n.to_bytes(8, "big") + block[8:] for n in range(large // 2**20))
    large_key, large_digest = "demo/large.bin", hashlib.sha256(large_body).hexdigest()
    wrong: list[str] = []

    async def upload(key: str) -> int:
        await obs.put_async(store, key, bodies[key])
        return len(bodies[key])

    async def download(key: str) -> int:
        body = await (await obs.get_async(store, key)).bytes_async()
        if hashlib.sha256(body).digest() != digests[key]:
            wrong.append(f"{key}: downloaded bytes differ")
        return len(body)

    async def check_large() -> None:
        if await download_large(store, large_key) != large_digest:
            wrong.append(f"{large_key}: downloaded bytes differ")

    await transfer("upload", bodies, upload)
    started = time.perf_counter()
    await obs.put_async(store, large_key, large_body)  # in parts, several at a time
    print(f"upload {large_key}: {len(large_body) / (time.perf_counter() - started) / 2**20:,.1f} MiB/s")

    listed = {meta["path"]: meta["size"] async for meta in obs.list(store, prefix="demo/small")}
    if listed != {key: len(body) for key, body in bodies.items()}:
        wrong.append("the listing differs from what was uploaded")

    # Large and small at once: they share one event loop, one pool of connections and one limit of memory.
    async with asyncio.TaskGroup() as group:
        group.create_task(transfer("download", bodies, download))
        group.create_task(check_large())

    await obs.delete_async(store, [*bodies, large_key])
    left = [meta["path"] async for meta in obs.list(store, prefix="demo")]
    if left:
        wrong.append(f"{len(left)} objects are still listed after their deletion")
    total = sum(map(len, bodies.values())) + len(large_body)
    print(f"compared {count + 1:,} objects, {total:,} bytes: {'DIFFERENCES' if wrong else 'all equal'}")
    return wrong


def main() -> int:
    """Parse the command line, make the store, run; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--endpoint", help="URL of the server; default: AWS")
    parser.add_argument("--region", help="default: environment, profile, or asked of the bucket")
    parser.add_argument("--access-key-id")
    parser.add_argument("--secret-access-key")
    parser.add_argument("--count", type=int, default=5_000, help="small objects (default: %(default)s)")
    parser.add_argument(
        "--small", type=int, default=16 * 1024, help="bytes of the largest small one (default: %(default)s)"
    )
    parser.add_argument("--large", type=int, default=256 * 2**20, help="bytes of the large one (default: %(default)s)")
    args = parser.parse_args()
    names = ("endpoint", "region", "access_key_id", "secret_access_key")
    given = {name: value for name in names if (value := getattr(args, name))}
    plain = (args.endpoint or "").startswith("http://")
    store = S3Store(args.bucket, **given, client_options={"allow_http": plain})
    wrong = asyncio.run(round_trip(store, args.count, args.small, args.large))
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
