"""The command ``obstore``, also as ``python -m obstore``."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        import click  # noqa: F401 - whether it is there
    except ImportError:
        sys.stderr.write("obstore: the command line needs click: pip install 'obstore[cli]'\n")
        return 2
    from obstore._cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
