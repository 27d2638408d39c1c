"""Programs of others. The limits: ``ob_multi`` (libcurl's multi interface in C), ``wrk`` and ``curl``. Command lines for bulk transfers:
``s5cmd``, ``rclone`` and ``aws``, each told to have as many requests under way as the libraries have.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

from harness import CREDENTIALS, files_to_send, into_new_directory

IN_FLIGHT = "64"
STREAMS = "16"
SCRIPT = """done = function(s, l, r)
  io.write(string.format("JSON %d %d %d %d %d %d\\n", s.requests, s.bytes, s.duration, l:percentile(50), l:percentile(99),
    s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout))
end
"""


def run_tool(job: dict[str, Any]) -> dict[str, Any]:
    """Runs the job's tool and returns what a worker prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    os.sched_setaffinity(0, job["cores"])
    if job["tool"] in COMMANDS:
        return run_command_line(job)
    url, concurrency = f"{job['endpoint']}/{job['bucket']}/{job['key']}", str(job["concurrency"])
    if job["tool"] == "libcurl":
        ca = [job["ca_file"]] if url.startswith("https:") else []
        many = job["objects"] if job["op"] == "get_many" else 0
        times = [IN_FLIGHT, str(job["seconds"]), "0"] if many else [concurrency, str(job["seconds"]), str(job["count"])]
        command = [job["ob_multi"], job["libcurl"], url, *times, *ca]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return {**result, "ops": result["ops"] / many} if many else result  # so much of a transfer of that many
    if job["tool"] == "curl":
        began = time.perf_counter()
        form = "%{time_total} %{size_download}"
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            target = f"{folder}/object" if job["op"] == "download_file" else "/dev/null"
            done = subprocess.run(
                ["curl", "-sSf", "-k", "-o", target, "-w", form, url], check=True, capture_output=True
            )
        total, size = done.stdout.split()
        return _result(1, int(size), float(total), float(total) * 1e6, (time.perf_counter() - began) * 1e6, 0)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(SCRIPT)
        script.flush()
        length = f"-d{max(1, round(job['seconds']))}s"
        command = ["wrk", "-t1", f"-c{concurrency}", length, "--timeout", "30s", "-s", script.name, url]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"JSON (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", out)
    if found is None:
        raise RuntimeError(out)
    ops, size, wall_us, p50, p99, errors = map(int, found.groups())
    return _result(ops, size, wall_us / 1e6, p50, p99, errors)


def _s5cmd(job: dict[str, Any], source: str, target: str, single: bool) -> list[str]:
    streams = ["--concurrency", STREAMS] if single else []
    return [f"{job['tools']}/s5cmd", "--endpoint-url", job["endpoint"], "--numworkers", IN_FLIGHT, "--log", "error",
            "cp", *streams, source, target]  # fmt: skip


def _rclone(job: dict[str, Any], source: str, target: str, single: bool) -> list[str]:
    source, target = (path.replace("s3://", ":s3:").removesuffix("*") for path in (source, target))
    return [f"{job['tools']}/rclone", "copyto" if single else "copy", "--config", "/dev/null", "--s3-provider", "Other",
            "--s3-endpoint", job["endpoint"], "--s3-access-key-id", CREDENTIALS["access_key_id"],
            "--s3-secret-access-key", CREDENTIALS["secret_access_key"], "--s3-region", CREDENTIALS["region"],
            "--s3-list-version", "2", "--s3-no-check-bucket", "--s3-no-head", "--use-server-modtime", "--no-check-dest",
            "--transfers", IN_FLIGHT, "--checkers", IN_FLIGHT, "--multi-thread-streams", STREAMS, "--quiet", source, target]  # fmt: skip


def _aws(job: dict[str, Any], source: str, target: str, single: bool) -> list[str]:
    source, target = (path.removesuffix("*") for path in (source, target))
    recursive = [] if single else ["--recursive"]
    return [f"{job['tools']}/aws", "--endpoint-url", job["endpoint"], "s3", "cp", *recursive, "--only-show-errors",
            source, target]  # fmt: skip


COMMANDS = {"s5cmd": _s5cmd, "rclone": _rclone, "aws": _aws}


def run_command_line(job: dict[str, Any]) -> dict[str, Any]:
    """One transfer by a command line, its start included, as its users have it.

    Raises:
        AssertionError: not all that was to be transferred is there.
        subprocess.CalledProcessError: it failed.
    """
    bucket, single = f"s3://{job['bucket']}", job["op"] == "download_file"
    with tempfile.TemporaryDirectory() as home:
        config = f"{home}/config"
        with open(config, "w") as file:
            file.write(f"[default]\ns3 =\n  max_concurrent_requests = {IN_FLIGHT}\n  addressing_style = path\n")
        env = {
            **os.environ,
            "HOME": home,
            "AWS_CONFIG_FILE": config,
            "AWS_ACCESS_KEY_ID": CREDENTIALS["access_key_id"],
            "AWS_SECRET_ACCESS_KEY": CREDENTIALS["secret_access_key"],
            "AWS_DEFAULT_REGION": CREDENTIALS["region"],
            "AWS_REGION": CREDENTIALS["region"],
        }
        wall = 0.0

        def run(source: str, target: str) -> None:
            nonlocal wall
            command = COMMANDS[job["tool"]](job, source, target, single)
            began = time.perf_counter()
            done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
            wall = time.perf_counter() - began
            if done.returncode != 0:
                raise RuntimeError(f"{job['tool']}: {(done.stderr or done.stdout)[-300:]}")

        if job["op"] == "upload_many":
            with files_to_send(job) as folder:
                run(f"{folder}/{'*' if job['tool'] == 's5cmd' else ''}", f"{bucket}/up/")
        else:
            what = f"{bucket}/{job['key']}" if single else f"{bucket}/many/{job['key']}/*"
            size = into_new_directory(lambda path: run(what, f"{path}/object" if single else f"{path}/"))
            if size != job["size"]:
                raise AssertionError(f"expected {job['size']} bytes, got {size}")
    return {**_result(1, job["size"], wall, wall * 1e6, wall * 1e6, 0), "version": _version(job)}


def _version(job: dict[str, Any]) -> str:
    option = "--version" if job["tool"] == "aws" else "version"
    told = subprocess.run([f"{job['tools']}/{job['tool']}", option], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+\.\d+\.\d+", told)
    return found[0] if found else "?"


def _result(ops: int, size: int, wall: float, p50: float, p99: float, errors: int) -> dict[str, Any]:
    use = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "ops": ops,
        "bytes": size,
        "wall_s": wall,
        "cpu_s": use.ru_utime + use.ru_stime,
        "page_faults": use.ru_minflt + use.ru_majflt,
        "context_switches": use.ru_nvcsw + use.ru_nivcsw,
        "p50_us": p50,
        "p99_us": p99,
        "errors": errors,
    }


if __name__ == "__main__":
    print(json.dumps(run_tool(json.loads(sys.argv[1]))))
