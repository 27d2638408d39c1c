"""Read many objects into memory on asyncio and count their lines, whatever their number.

python read_many.py s3://my-bucket 'logs/**/*.txt'
"""

from __future__ import annotations

import asyncio
import sys

from obstore import bulk
from obstore.store import from_url


async def main(url: str, pattern: str) -> int:
    """Read; returns the number of lines."""
    lines = 0
    async with bulk.get_many(from_url(url), pattern, memory="128MiB") as bodies:
        async for _path, body in bodies:
            lines += bytes(body).count(b"\n")
    return lines


if __name__ == "__main__":
    print(asyncio.run(main(*sys.argv[1:3])))
