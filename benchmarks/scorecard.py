"""Compares this library with others, on this machine, in one run: ``python -m benchmarks.scorecard``.

Each measurement is a process of its own (``workers/``), pinned away from the servers' core. The peers of a scenario take
turns, round after round, so that what else the machine does hits all of them; the report shows medians and the spread.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import mmap
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a file
    sys.path.insert(0, str(ROOT))

from benchmarks.plot import write_plots  # noqa: E402
from benchmarks.report import BEGIN, figures, render, summary, write_table  # noqa: E402
from benchmarks.scenarios import SCENARIOS, TOOLS, Scenario  # noqa: E402
from benchmarks.server import MissingToolError, Servers, compile_c, cores, describe, need, serve  # noqa: E402

HERE = ROOT / "benchmarks"
CACHE = ROOT / ".cache" / "bench"
OURS = "ours"
LIMITS = ("libcurl", "wrk", "curl")
# Measured once: they are so far away that the spread does not matter, and slow enough to take most of the time.
ONCE = ("s3fs", "boto3", "pyarrow", "opendal", *TOOLS)
WORKER_TIMEOUT_S = 600
LARGE_BYTES = 1 << 28
# Their objects are known; the others answer with anything.
OBJECT_SERVERS = ("plain", "tls", "gcs", "azure")


@dataclass(frozen=True)
class Peer:
    """A library: its interpreter, its worker, the module to import, what its environment adds, and whether it is ours."""

    name: str
    python: str
    worker: str
    module: str
    environment: dict[str, str] = field(default_factory=dict)
    ours: bool = False


def peers_of(trees: Iterable[tuple[str, Path]], python: str, names: Sequence[str]) -> list[Peer]:
    """Ours (and other trees of ours), then the others, in the order of the report."""
    theirs = str(CACHE / "venv" / "bin" / "python")
    ours = [
        Peer(name, python, "obstore_peer.py", "obstore", {"PYTHONPATH": str(tree)}, ours=True)
        for name, tree in [(OURS, ROOT), *trees]
    ]
    others = [
        Peer("rust", theirs, "obstore_peer.py", "obstore"),
        Peer("s3fs", theirs, "s3fs_peer.py", "s3fs"),
        Peer("boto3", theirs, "boto3_peer.py", "boto3"),
        Peer("pyarrow", theirs, "pyarrow_peer.py", "pyarrow.fs"),
        Peer("opendal", theirs, "opendal_peer.py", "opendal"),
        *[Peer(name, sys.executable, "tool_peer.py", "") for name in (*LIMITS, *TOOLS)],
    ]
    extra = {name for name, _ in trees}
    known = {peer.name for peer in [*ours, *others]}
    if unknown := set(names) - known:
        raise SystemExit(f"--peers: no {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return [peer for peer in [*ours, *others] if not names or peer.name in names or peer.name in extra]


def ensure_peers(name: str, listed: str) -> None:
    """Makes the environment of other libraries or tools, or makes it anew when what it lists has changed."""
    wanted, have = (HERE / listed).read_text(), CACHE / name / listed
    if have.exists() and have.read_text() == wanted:
        return
    print(f"installing {listed}, what to compare with ...", file=sys.stderr)
    venv.create(CACHE / name, with_pip=True, clear=True)
    pip = [str(CACHE / name / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(HERE / listed)], check=True)
    have.write_text(wanted)


def libcurl_path(python: str) -> str:
    """The libcurl that our library uses: the C loop is its limit only with the same one."""
    program = "from obstore._engine.libcurl import find; print(find())"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([python, "-c", program], check=True, capture_output=True, text=True, env=env).stdout.strip()


def takes_part(peer: Peer, scenario: Scenario) -> bool:
    """Whether the scenario has a row for the peer."""
    if peer.name in LIMITS:
        return peer.name in scenario.limits
    if peer.name in TOOLS:
        return peer.name in scenario.tools
    return peer.name not in scenario.without


def touch_memory(size: int) -> None:
    """Makes the kernel have as much memory at hand, in large pages.

    In a virtual machine the first touch of a page that the guest never used takes many times as long, and it would be the
    first peer, or the one that asks for large pages, that pays for it.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, mmap.PAGESIZE):
            memory[at] = 1


def measure(peer: Peer, scenario: Scenario, servers: Servers, told: dict[str, Any]) -> dict[str, Any]:
    """One measurement: a process that prints a line of JSON. What fails is part of the result."""
    job = {
        **scenario.job(),
        **told,
        "endpoint": servers.endpoints[scenario.server],
        "sha256": servers.sha256.get(scenario.key, "") if scenario.server in OBJECT_SERVERS else "",
        "verify": scenario.op == "get" and scenario.server in OBJECT_SERVERS and scenario.key in servers.sha256,
        "ca_file": servers.ca_file,
        "cores": sorted(cores()[1]),
        "tool": peer.name,
        "module": peer.module,
    }
    worker = "import_time.py" if scenario.face == "import" else peer.worker
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "OBSTORE_", "PYTHON"))}
    command = [peer.python, str(HERE / "workers" / worker), json.dumps(job)]
    if scenario.bytes() >= LARGE_BYTES:
        touch_memory(scenario.bytes() * 5 // 4)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=WORKER_TIMEOUT_S,
            check=False,
            env={**plain, **peer.environment, "NO_PROXY": "127.0.0.1", "AWS_EC2_METADATA_DISABLED": "true"},
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no result after {WORKER_TIMEOUT_S} s"}
    lines = done.stdout.strip().splitlines()
    if not lines or (done.returncode != 0 and peer.ours):
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        errors = [line.strip() for line in said if "rror" in line and not line.lstrip().startswith(("File", "at "))]
        return {"failed": (errors or said)[-1][:300].partition(": Command ")[0]}  # without paths of this machine
    if done.returncode != 0:  # measured, then died while its interpreter ended: not what is measured here
        return {**derive(json.loads(lines[-1])), "exit_status": done.returncode}
    return derive(json.loads(lines[-1]))


def derive(result: dict[str, Any]) -> dict[str, Any]:
    """Adds what the report shows per operation."""
    if result.get("unsupported"):
        return result
    if not result["ops"]:
        return {**result, "failed": result.get("error") or "no operation succeeded"}
    ops, wall = result["ops"], result["wall_s"]
    return {
        **result,
        "rate": ops / wall,
        "mb_s": result["bytes"] / wall / 1e6,
        "cpu_us": result["cpu_s"] / ops * 1e6,
        "wall_ms": wall / ops * 1e3,
    }


def run(
    scenarios: Sequence[Scenario], peers: Sequence[Peer], rounds: int, say: Callable[[str], None], told: dict[str, Any]
) -> dict[str, Any]:
    """All scenarios; the peers take turns within each."""
    results: dict[str, dict[str, list[dict[str, Any]]]] = {}
    with serve(CACHE) as servers:
        record = {"servers": describe(servers), "results": results}
        for number, scenario in enumerate(scenarios, 1):
            row = results[scenario.name] = {peer.name: [] for peer in peers if takes_part(peer, scenario)}
            for turn in range(rounds):
                for peer in peers:
                    if peer.name not in row or (turn and (peer.name in ONCE or "rate" not in row[peer.name][-1])):
                        continue  # what could not be measured once is not tried again
                    row[peer.name].append(measure(peer, scenario, servers, told))
            say(f"[{number}/{len(scenarios)}] {scenario.title}")
            for name, runs in row.items():
                rates = [each["rate"] for each in runs if "rate" in each]
                cpu = [each["cpu_us"] for each in runs if "rate" in each]
                text = (
                    f"{statistics.median(rates):12,.2f}/s {statistics.median(cpu):14,.1f} us CPU"
                    if rates
                    else str(runs[-1])
                )
                say(f"    {name:10} {text}")
    return record


def machine() -> dict[str, Any]:
    """What decides whether two results may be compared. The id is hashed: it says same or not, nothing else."""
    model = platform.processor()
    with open("/proc/cpuinfo") as info:
        model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), model)
    ids = [Path(name) for name in ("/etc/machine-id", "/proc/sys/kernel/hostname")]
    identity = "".join(path.read_text() for path in ids if path.exists())
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "kernel": platform.release(),
        "id": hashlib.sha256(identity.encode()).hexdigest()[:12],
    }


def commit() -> str:
    """Of this tree, with a mark when it has changes."""
    try:
        told = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(told, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def publish(record: dict[str, Any], scenarios: Sequence[Scenario]) -> None:
    """Keeps what the README shows, and what it was made of, in files that are committed."""
    where = ROOT / "docs" / "figures"
    where.mkdir(exist_ok=True)
    (where / "results.json").write_text(json.dumps(record, indent=1) + "\n")
    (where / "scorecard.md").write_text("# Scorecard\n\n" + render(record, scenarios) + "\n")
    (where / "summary.md").write_text(summary(record, scenarios) + "\n")
    write_plots(record, where)
    readme = ROOT / "README.md"
    if BEGIN in readme.read_text():
        write_table(readme, summary(record, scenarios))
    print(f"published: {where}", file=sys.stderr)


def compare(old: dict[str, Any], new: dict[str, Any]) -> str:
    """Our rows of two runs, newer divided by older.

    Raises:
        SystemExit: they come from different machines.
    """
    if old["machine"] != new["machine"]:
        different = [key for key in new["machine"] if old["machine"].get(key) != new["machine"][key]]
        raise SystemExit(f"these results come from different machines (other {', '.join(different)}): not compared")
    lines = [f"{old['commit']} ({old['date']}) -> {new['commit']} ({new['date']})", ""]
    lines += ["| scenario | peer | rate | CPU per operation | peak RSS |", "|---|---|--:|--:|--:|"]
    for name, row in new["results"].items():
        for peer, runs in row.items():
            before = old["results"].get(name, {}).get(peer, [])
            cells = [_change(before, runs, metric) for metric in ("rate", "cpu_us", "peak_rss_mb")]
            if any(cells):
                lines.append(f"| {name} | {peer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _change(old: list[dict[str, Any]], new: list[dict[str, Any]], metric: str) -> str:
    before, after = ([each[metric] for each in runs if each.get(metric)] for runs in (old, new))
    return f"x {statistics.median(after) / statistics.median(before):.2f}" if before and after else ""


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scorecard",
        description="Measures this library beside others.",
        epilog="`scorecard compare OLD.json NEW.json` compares two results of one machine.",
    )
    parser.add_argument("--only", default="", help="scenarios, with commas; a trailing * takes all that begin so")
    parser.add_argument(
        "--peers",
        default="",
        help="peers, with commas: " + ", ".join([OURS, "rust", "s3fs", "boto3", "pyarrow", "opendal", *LIMITS, *TOOLS]),
    )
    parser.add_argument(
        "--tree", action="append", default=[], metavar="NAME=DIR", help="another built tree of ours as a peer"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter that our library is built for (default: this one)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (default: 3)")
    parser.add_argument("--quick", action="store_true", help="one round of half a second: for trying the scorecard out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="results (default: benchmarks/results/<date>.json)")
    parser.add_argument(
        "--table", type=Path, metavar="FILE.md", help="the report; in a file with scorecard marks, between them"
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="keep report, results and plots in docs/figures/, and put the summary between README.md's scorecard marks",
    )
    parser.add_argument("--list", action="store_true", help="print the scenarios and their figures, and stop")
    return parser.parse_args(argv)


def _chosen(only: str) -> list[Scenario]:
    if not only:
        return list(SCENARIOS)
    chosen: list[Scenario] = []
    for wanted in only.split(","):
        found = [s for s in SCENARIOS if s.name == wanted or (wanted.endswith("*") and s.name.startswith(wanted[:-1]))]
        if not found:
            raise SystemExit(f"--only: no scenario {wanted}; there are {', '.join(s.name for s in SCENARIOS)}")
        chosen += [each for each in found if each not in chosen]
    return chosen


def main(argv: Sequence[str]) -> int:
    """The command line; 1 if a measurement of ours failed."""
    if argv[:1] == ["compare"]:
        if len(argv) != 3:
            raise SystemExit("usage: scorecard compare OLD.json NEW.json")
        print(compare(*(json.loads(Path(name).read_text()) for name in argv[1:])))
        return 0
    args = _parse(argv)
    scenarios = _chosen(args.only)
    if args.list:
        for scenario in scenarios:
            print(f"{scenario.name:26} {scenario.title}" + "".join(f"\n{'':30}{goal}" for goal in scenario.goals))
        return 0
    trees = [(name, Path(tree).resolve()) for name, _, tree in (each.partition("=") for each in args.tree)]
    names = [name for name in args.peers.split(",") if name]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers and their memory go, too
    peers = peers_of(trees, args.python, names)
    if args.quick:
        args.rounds = 1
    try:
        told: dict[str, Any] = {"seconds": 0.5} if args.quick else {}
        if any(peer.name in LIMITS for peer in peers):
            need("wrk", "wrk")
            need("curl", "curl")
            told |= {"ob_multi": str(compile_c("ob_multi", CACHE / "bin")), "libcurl": libcurl_path(args.python)}
        if any(str(CACHE) in peer.python for peer in peers):
            ensure_peers("venv", "peers.txt")
        if any(peer.name in TOOLS and takes_part(peer, scenario) for peer in peers for scenario in scenarios):
            ensure_peers("tools", "tools.txt")
            told["tools"] = str(CACHE / "tools" / "bin")
        began = dt.datetime.now(dt.UTC)
        load = os.getloadavg()[0]
        say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731
        record = run(scenarios, peers, args.rounds, say, told)
    except MissingToolError as exc:
        raise SystemExit(str(exc)) from None
    record = {
        "date": began.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "load_before": round(load, 2),
        "rounds": args.rounds,
        "quick": args.quick,
        "versions": _versions(record["results"], args.python),
        **record,
    }
    file = args.json or HERE / "results" / f"{began:%Y%m%d-%H%M%S}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n")
    print(render(record, scenarios))
    if args.table:
        write_table(args.table, render(record, scenarios))
    if args.publish:
        publish(record, scenarios)
    print(f"\nwritten: {file}", file=sys.stderr)
    failed = [name for name, row in record["results"].items() if any("failed" in each for each in row.get(OURS, []))]
    if failed:
        print("FAILED for ours: " + ", ".join(failed), file=sys.stderr)
    missed = [f"{figure.scenario}: {figure.goal}" for figure in figures(record, scenarios) if not figure.met]
    if missed:
        print("figures not reached:\n  " + "\n  ".join(missed), file=sys.stderr)
    return 1 if failed else 0


def _versions(results: dict[str, dict[str, list[dict[str, Any]]]], python: str) -> dict[str, str]:
    found = {
        name: each["version"]
        for row in results.values()
        for name, runs in row.items()
        for each in runs
        if "version" in each
    }
    told = subprocess.run([python, "-V"], check=True, capture_output=True, text=True)
    found["python"] = told.stdout.split()[-1]
    for tool in ("wrk", "curl"):
        if shutil.which(tool) and any(tool in row for row in results.values()):
            out = subprocess.run([tool, "--version"], check=False, capture_output=True, text=True).stdout
            found[tool] = out.split()[1] if out else "?"
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
