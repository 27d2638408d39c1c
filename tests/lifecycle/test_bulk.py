"""Bulk transfers that are killed, interrupted, or spread over processes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import obstore as obs
from obstore import bulk
from obstore.store import S3Store
from tests.endurance.report import record
from tests.fix_stores import Subject, make_subject
from tests.servers.fakes3 import FakeS3, faulty, gets

KILLS = 100 if os.environ.get("OBSTORE_ENDURANCE") == "full" else 4
"""Downloads that are killed, twice each, and half as many uploads: 300 kills with ``make endurance``."""

PIECE = 1 << 20  # with memory=8MiB

DOWNLOAD = """
import json, sys
from obstore import bulk
from obstore.store import S3Store
print("ready", flush=True)
result = bulk.download(S3Store(**json.loads(sys.argv[1])), "d", sys.argv[2], connections=8, memory="8MiB")
print(json.dumps(result.as_dict()))
"""
UPLOAD_ALL = """
import json, sys
from obstore import bulk
from obstore.store import S3Store
print("ready", flush=True)
result = bulk.upload(S3Store(**json.loads(sys.argv[1])), sys.argv[2], "up", connections=8, memory="64MiB")
print(json.dumps(result.as_dict()))
"""
UPLOAD = """
import json, sys
from obstore import bulk
from obstore.store import S3Store
print("ready", flush=True)
result = bulk.upload_file(S3Store(**json.loads(sys.argv[1])), sys.argv[2], "up", connections=4, memory="64MiB")
print(json.dumps(result.as_dict()))
"""


def start(program: str, config: dict[str, Any], path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(config), str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def outcome(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return json.loads(out)


def tree(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def filled(fake_s3: FakeS3) -> dict[str, str]:
    """Small and large objects; answers come slowly enough to be killed in the middle of."""
    rng = random.Random(5)
    for n in range(40):
        fake_s3.add(f"d/{n % 4}/small{n:02}", rng.randbytes(n * 50))
    for n in range(2):
        fake_s3.add(f"d/large{n}", rng.randbytes(6 * PIECE + 12345))
    return {key[2:]: hashlib.sha256(stored.body).hexdigest() for key, stored in fake_s3.objects.items()}


@pytest.mark.timeout(3600)
def test_download_killed_at_any_moment_goes_on(fake_s3: FakeS3, filled: dict[str, str], tmp_path: Path) -> None:
    fake_s3.inject(faulty(delay=0.003), times=float("inf"), when=gets)
    rng = random.Random(KILLS)
    for attempt in range(KILLS):
        out = tmp_path / str(attempt)
        for _ in range(2):  # killed twice
            process = start(DOWNLOAD, fake_s3.config(), out)
            time.sleep(rng.uniform(0.0, 0.25))
            process.kill()
            process.communicate()
        seen = {name: digest for name, digest in tree(out).items() if not name.startswith(".obstore-")}
        assert seen.items() <= filled.items(), "a file that is not whole is under its name"
        result = outcome(start(DOWNLOAD, fake_s3.config(), out))
        assert result["failures"] == []
        assert result["objects"] + result["skipped"] == len(filled)
        assert tree(out) == filled, "files differ, or are left over"
    record("bulk downloads killed", kills=2 * KILLS)


def test_little_is_fetched_anew_after_a_kill(fake_s3: FakeS3, filled: dict[str, str], tmp_path: Path) -> None:
    size = len(fake_s3.objects["d/large0"].body)
    # The last range of each large object hangs: all else is done when the process is killed.
    fake_s3.inject(
        faulty(stall_after=1000, stall=30.0),
        times=float("inf"),
        when=lambda r: gets(r) and r.headers.get("range", "").endswith(f"-{size - 1}"),
    )
    process = start(DOWNLOAD, fake_s3.config(), tmp_path)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        lasts = [r.headers["range"] for r in fake_s3.requests if r.headers.get("range", "").endswith(f"-{size - 1}")]
        missing = sum(size - int(text[6:].partition("-")[0]) for text in lasts)
        states = [path.read_text().splitlines()[1:] for path in tmp_path.glob(".obstore-*/*.state")]
        there = sum(end - start_ for lines in states for start_, end, _ in map(json.loads, lines))
        if len(lasts) == 2 and there == 2 * size - missing and len(tree(tmp_path)) >= 40 + 5:
            break
        time.sleep(0.02)
    process.kill()
    process.communicate()
    fake_s3._injected.clear()
    before = len(fake_s3.requests)
    result = outcome(start(DOWNLOAD, fake_s3.config(), tmp_path))
    assert tree(tmp_path) == filled
    again = [r.headers.get("range", "") for r in fake_s3.requests[before:] if r.method == "GET" and gets(r)]
    assert sum(int(text[6:].partition("-")[2]) + 1 - int(text[6:].partition("-")[0]) for text in again) == missing
    assert result["resumed_bytes"] >= there


def test_object_changed_between_two_runs_starts_over(fake_s3: FakeS3, filled: dict[str, str], tmp_path: Path) -> None:
    fake_s3.inject(faulty(delay=0.02), times=float("inf"), when=gets)
    process = start(DOWNLOAD, fake_s3.config(), tmp_path)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    for key, stored in list(fake_s3.objects.items()):
        fake_s3.add(key, stored.body[::-1])
    outcome(start(DOWNLOAD, fake_s3.config(), tmp_path))
    assert tree(tmp_path) == {
        key[2:]: hashlib.sha256(stored.body).hexdigest() for key, stored in fake_s3.objects.items()
    }


def test_upload_that_was_killed_goes_on_from_the_parts_that_are_there(
    request: pytest.FixtureRequest, fault_proxy: Any, tmp_path: Path
) -> None:
    subject: Subject = make_subject("moto_gunicorn", request)
    assert subject.endpoint is not None
    body = random.Random(1).randbytes(60 << 20)
    (tmp_path / "file").write_bytes(body)
    config = subject.endpoint.config(subject.bucket)
    process = start(UPLOAD, config, tmp_path / "file")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        uploads = subject.judge.list_multipart_uploads(Bucket=subject.bucket).get("Uploads", [])
        parts = uploads and subject.judge.list_parts(
            Bucket=subject.bucket, Key="up", UploadId=uploads[0]["UploadId"]
        ).get("Parts", [])
        if parts:
            break
    process.kill()
    process.communicate()
    there = subject.judge_uploads()
    result = outcome(start(UPLOAD, config, tmp_path / "file"))
    assert result["failures"] == []
    assert subject.judge_get("up")["Body"] == body
    assert subject.judge_uploads() == []
    if there:  # else it was quicker than the kill
        assert result["resumed_bytes"] >= 8 << 20


@pytest.mark.timeout(3600)
def test_upload_killed_at_any_moment_goes_on(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    subject: Subject = make_subject("moto_gunicorn", request)
    assert subject.endpoint is not None
    config = subject.endpoint.config(subject.bucket)
    rng = random.Random(KILLS)
    files = {f"small{n:02}": rng.randbytes(n * 1000) for n in range(20)} | {"large": rng.randbytes(30 << 20)}
    for name, body in files.items():
        (tmp_path / name).write_bytes(body)
    for _ in range(KILLS // 2):
        for _ in range(2):  # killed twice
            process = start(UPLOAD_ALL, config, tmp_path)
            time.sleep(rng.uniform(0.0, 0.6))
            process.kill()
            process.communicate()
        for key in (item["path"] for item in obs.list(subject.store)):
            assert subject.judge_get(key)["Body"] == files[key.removeprefix("up/")], "an object is not whole"
        result = outcome(start(UPLOAD_ALL, config, tmp_path))
        assert (result["failures"], result["objects"]) == ([], len(files))
        for name, body in files.items():
            assert subject.judge_get(f"up/{name}")["Body"] == body
        # moto keeps what came of a part whose sender was killed; such an upload cannot be gone on with.
        for upload in subject.judge.list_multipart_uploads(Bucket=subject.bucket).get("Uploads", ()):
            where = {"Bucket": subject.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            parts = subject.judge.list_parts(**where).get("Parts", ())
            assert parts, "an upload is left"
            assert not [part for part in parts if part["Size"] % PIECE == 0], "parts of the file are left"
            subject.judge.abort_multipart_upload(**where)
        bulk.delete_many(subject.store, "up")
    record("bulk uploads killed", kills=KILLS // 2 * 2)


def test_ctrl_c_stops_at_once_with_a_summary(fake_s3: FakeS3, filled: dict[str, str], tmp_path: Path) -> None:
    fake_s3.inject(faulty(stall_after=10, stall=30.0), times=float("inf"), when=lambda r: "large" in r.path)
    program = (
        DOWNLOAD.replace("result =", "try:\n    result =", 1)
        + """
except bulk.BulkInterrupted as stopped:
    print(json.dumps(stopped.result.as_dict()))
"""
    )
    program = program.replace("print(json.dumps(result.as_dict()))\n\nexcept", "except")
    process = start(program, fake_s3.config(), tmp_path)
    deadline = time.monotonic() + 20
    while len([name for name in tree(tmp_path) if "small" in name]) < 40 and time.monotonic() < deadline:
        time.sleep(0.02)
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    result = outcome(process)
    assert time.monotonic() - sent < 2  # a tenth of that; the interpreter's own exit takes the rest on a busy machine
    assert (result["stopped"], result["objects"], result["failures"]) == (True, 40, [])
    assert list(tmp_path.rglob("slot-*")) == []
    fake_s3._injected.clear()
    assert bulk.download(S3Store(**fake_s3.config()), "d", tmp_path, connections=8, memory="8MiB").ok
    assert tree(tmp_path) == filled
