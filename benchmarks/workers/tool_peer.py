"""The limits: programs without Python. ``ob_multi`` (libcurl's multi interface in C), ``wrk`` and ``curl``."""

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
    url, concurrency = f"{job['endpoint']}/{job['bucket']}/{job['key']}", str(job["concurrency"])
    if job["tool"] == "libcurl":
        ca = [job["ca_file"]] if url.startswith("https:") else []
        command = [job["ob_multi"], job["libcurl"], url, concurrency, str(job["seconds"]), str(job["count"]), *ca]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
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
