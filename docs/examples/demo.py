"""``make demo``: `bulk_download` against a real S3 server on 127.0.0.1 that is started for the occasion."""

from __future__ import annotations

import sys
from pathlib import Path
from subprocess import run

from tests.servers import demo_server


def main() -> int:
    """Start the server, run the example as a user would, pass its exit code on."""
    with demo_server() as endpoint:
        bucket = endpoint.create_bucket()
        print(f"S3 server at {endpoint.url}, bucket {bucket}")
        command = [sys.executable, str(Path(__file__).with_name("bulk_download.py")), "--bucket", bucket]
        command += ["--endpoint", endpoint.url, "--region", endpoint.region]
        command += ["--access-key-id", endpoint.access_key_id, "--secret-access-key", endpoint.secret_access_key]
        return run([*command, *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
