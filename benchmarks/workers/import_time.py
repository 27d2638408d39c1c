"""How long ``import MODULE`` takes in a fresh interpreter, what it adds to memory, and whether libcurl came along."""

from __future__ import annotations

import json
import subprocess
import sys

TIMES = 9
PROGRAM = """
import sys, time
sys.path[:] = [p for p in sys.path if p]
def rss():
    with open("/proc/self/status") as f: return next(int(l.split()[1]) for l in f if l.startswith("VmRSS")) * 1024 / 1e6
before, began = rss(), time.perf_counter()
import {module}
wall = time.perf_counter() - began
with open("/proc/self/maps") as maps: loaded = any("libcurl" in line for line in maps)
import json
print(json.dumps([wall, time.process_time(), rss() - before, loaded]))
"""


def main() -> None:
    module = json.loads(sys.argv[1])["module"]
    runs = []
    for _ in range(TIMES + 1):  # the first one fills the caches
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(module=module)], check=True, capture_output=True, text=True
        )
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
