"""The scripts in the documents, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_stores import Subject, make_subject

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.fixture
def bucket(request: pytest.FixtureRequest) -> Subject:
    subject = make_subject("moto_gunicorn", request)
    for n in range(20):
        subject.judge_put(f"logs/{n % 3}/{n}.txt", b"line\n" * n)
    return subject


def run_example(bucket: Subject, name: str, *arguments: str) -> str:
    assert bucket.endpoint is not None
    env = {
        **os.environ,
        "AWS_ENDPOINT_URL": bucket.endpoint.url,
        "AWS_ACCESS_KEY_ID": bucket.endpoint.access_key_id,
        "AWS_SECRET_ACCESS_KEY": bucket.endpoint.secret_access_key,
        "AWS_REGION": bucket.endpoint.region,
        "AWS_ALLOW_HTTP": "true",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_scripts_do_what_they_say(bucket: Subject, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_example(bucket, "download_prefix.py", f"s3://{bucket.bucket}/logs", str(out)).startswith("20 objects")
    assert (out / "1/19.txt").read_bytes() == b"line\n" * 19
    assert run_example(bucket, "read_many.py", f"s3://{bucket.bucket}", "logs/**/*.txt") == f"{sum(range(20))}\n"
    (out / "extra").write_bytes(b"x")
    bucket.judge_put("logs/new.txt", b"new")
    shown = run_example(bucket, "mirror.py", f"s3://{bucket.bucket}/logs", str(out))
    assert shown.startswith("1 object, 3 B, 20 skipped, 1 deleted")
    assert not (out / "extra").exists()
