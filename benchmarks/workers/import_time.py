"""How long ``import MODULE`` takes in a fresh interpreter, what it adds to memory, and whether libcurl came along.

The interpreter is the one that the environments are made from, without what their ``site`` loads: an editable install, for one,
has modules imported before anybody asks, which would then cost nothing.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig

TIMES = 9
PROGRAM = """
import sys, time
sys.path += {path!r}
def rss():
    with open("/proc/self/status") as f: return next(int(l.split()[1]) for l in f if l.startswith("VmRSS")) * 1024 / 1e6
before, began, cpu = rss(), time.perf_counter(), time.process_time()
{statement}
wall, cpu = time.perf_counter() - began, time.process_time() - cpu
with open("/proc/self/maps") as maps: loaded = any("libcurl" in line for line in maps)
import json
print(json.dumps([wall, cpu, rss() - before, loaded]))
"""
STORE = """
from obstore.store import S3Store
S3Store("bucket", region="us-east-1", access_key_id="benchmark", secret_access_key="not-a-secret")
"""


def main() -> None:
    job = json.loads(sys.argv[1])
    module = job["module"]
    package = importlib.util.find_spec(module.partition(".")[0])
    assert package is not None
    assert package.submodule_search_locations is not None
    path = [os.path.dirname(package.submodule_search_locations[0]), sysconfig.get_path("purelib")]
    program = PROGRAM.format(path=path, statement=STORE if job["op"] == "import_store" else f"import {module}")
    interpreter = getattr(sys, "_base_executable", sys.executable)
    runs = []
    for _ in range(TIMES + 1):  # the first one fills the caches
        run = subprocess.run([interpreter, "-I", "-c", program], check=True, capture_output=True, text=True)
        runs.append(json.loads(run.stdout))
    walls = sorted(wall for wall, *_ in runs[1:])
    result = {
        "ops": 1,
        "errors": 0,
        "bytes": 0,
        "wall_s": walls[TIMES // 2],
        "p50_us": walls[TIMES // 2] * 1e6,
        "p99_us": walls[-1] * 1e6,
        "cpu_s": sorted(cpu for _, cpu, *_ in runs[1:])[TIMES // 2],
        "peak_rss_mb": runs[-1][2],
        "libcurl_loaded": int(runs[-1][3]),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
