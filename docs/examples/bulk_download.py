"""Upload many objects to an S3 bucket, download them, and check every byte: `obstore.bulk` from end to end.

    python bulk_download.py --endpoint http://127.0.0.1:9000 --bucket my-bucket

Keys come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or from --access-key-id and
--secret-access-key.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import sys
import tempfile
from pathlib import Path

import obstore as obs
from obstore import bulk
from obstore.store import ObjectStore, S3Store

MIB = 2**20


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def round_trip(store: ObjectStore, count: int, small: int, large: int, directory: Path) -> list[str]:
    """Write, read back and delete ``count`` objects of up to ``small`` bytes and one of ``large``.

    Returns:
        What was wrong, one line each; empty if every byte came back.
    """
    rng = random.Random(2024)  # noqa: S311 - test data; the seed makes a failure repeatable
    bodies = {f"small/{n:06}": rng.randbytes(rng.randint(1, small)) for n in range(count)}
    digests = {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}
    source = directory / "large.bin"
    block = rng.randbytes(MIB)
    with source.open("wb") as file:
        for n in range(large // MIB):
            file.write(n.to_bytes(8, "big") + block[8:])
    digests["large.bin"] = await asyncio.to_thread(digest_of, source)
    wrong: list[str] = []

    def report(what: str, result: bulk.BulkResult) -> None:
        print(f"{what}: {result}")
        wrong.extend(f"{what}: {failure}" for failure in result.failures)

    report("upload small", await bulk.put_many_async(store, {f"demo/{key}": body for key, body in bodies.items()}))
    report("upload large", await bulk.upload_file_async(store, source, "demo/large.bin", progress=True))

    listed = {meta["path"]: meta["size"] async for meta in obs.list(store, prefix="demo/small")}
    if listed != {f"demo/{key}": len(body) for key, body in bodies.items()}:
        wrong.append("the listing differs from what was uploaded")

    # Large and small at once: they share one limit of connections.
    target = directory / "copies"
    report("download", await bulk.download_async(store, "demo", target, progress=True, memory="64MiB"))
    for key, digest in digests.items():
        if not (target / key).exists() or await asyncio.to_thread(digest_of, target / key) != digest:
            wrong.append(f"{key}: downloaded bytes differ")

    read = {key async for key, body in bulk.get_many(store, "demo/small") if bytes(body) == bodies.get(key[5:])}
    if len(read) != count:
        wrong.append(f"{count - len(read)} objects differ when read into memory")

    report("synchronise", again := await bulk.sync_async(store, target, source_prefix="demo"))
    if again.objects:
        wrong.append("a synchronisation of what is equal transferred something")

    report("delete", await bulk.delete_many_async(store, "demo"))
    left = [meta["path"] async for meta in obs.list(store, prefix="demo")]
    if left:
        wrong.append(f"{len(left)} objects are still listed after their deletion")
    print(f"compared {len(digests):,} objects: {'DIFFERENCES' if wrong else 'all equal'}")
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
    parser.add_argument("--large", type=int, default=256 * MIB, help="bytes of the large one (default: %(default)s)")
    args = parser.parse_args()
    names = ("endpoint", "region", "access_key_id", "secret_access_key")
    given = {name: value for name in names if (value := getattr(args, name))}
    plain = (args.endpoint or "").startswith("http://")
    store = S3Store(args.bucket, **given, client_options={"allow_http": plain})
    with tempfile.TemporaryDirectory() as directory:
        wrong = asyncio.run(round_trip(store, args.count, args.small, args.large, Path(directory)))
    for problem in wrong:
        print(problem, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
