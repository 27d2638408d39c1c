"""Keep a directory equal to what is below a prefix: what is new or changed is fetched, what is gone is removed.

python mirror.py s3://my-bucket/site ./site
"""

from __future__ import annotations

import sys

from obstore import bulk
from obstore.store import from_url


def main(url: str, directory: str) -> int:
    """Mirror; returns the exit code."""
    result = bulk.sync(from_url(url), directory, delete=True)
    result.raise_for_failures()
    print(result)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
