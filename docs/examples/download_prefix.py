"""Download everything below a prefix, with a bar; run it again after a crash and it goes on.

python download_prefix.py s3://my-bucket/data/2024 ./data
"""

from __future__ import annotations

import sys

from obstore import bulk
from obstore.store import from_url


def main(url: str, directory: str) -> int:
    """Download; returns the exit code."""
    result = bulk.download(from_url(url), "", directory, progress=True, memory="256MiB")
    print(result)
    for failure in result.failures:
        print(failure, file=sys.stderr)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
