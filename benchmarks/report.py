"""Turns the scorecard's results into tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scenarios import TOOLS, Goal, Scenario

OURS = "ours"
BEGIN, END = "<!-- scorecard -->", "<!-- /scorecard -->"

NAMES = {
    OURS: "**obstore**",
    "rust": "obstore (Rust)",
    "libcurl": "*libcurl loop in C*",
    "wrk": "*wrk*",
    "curl": "*curl -o /dev/null*",
    "s5cmd": "s5cmd",
    "rclone": "rclone",
    "aws": "aws s3 cp",
}


@dataclass(frozen=True)
class Figure:
    """A goal, and what this run has to say of it: the median over the rounds and its spread."""

    scenario: str
    title: str
    goal: Goal
    median: float
    low: float
    high: float

    @property
    def met(self) -> bool:
        """Whether the median reaches the goal."""
        return self.goal.met(self.median)


def figures(record: dict[str, Any], scenarios: Sequence[Scenario]) -> Iterator[Figure]:
    """The goals that this run can judge: both sides were measured."""
    for scenario in scenarios:
        row = record["results"].get(scenario.name, {})
        ours = row.get(OURS, [])
        for goal in scenario.goals:
            other = record["results"].get(goal.row or scenario.name, {})
            theirs = other.get(goal.against or OURS, []) if goal.against or goal.row else [{goal.metric: 1}] * len(ours)
            ratios = [
                mine[goal.metric] / other[goal.metric]
                for mine, other in zip(ours, theirs, strict=False)
                if goal.metric in mine and other.get(goal.metric)
            ]
            if ratios:
                yield Figure(scenario.name, scenario.title, goal, statistics.median(ratios), min(ratios), max(ratios))


def setting(record: dict[str, Any]) -> str:
    """Where and when, and of what."""
    about, versions = record["machine"], record["versions"]
    others = ", ".join(f"{name} {version}" for name, version in versions.items() if name != "python")
    return (
        f"{record['date'][:10]}, commit {record['commit']}, {about['cpu']}, {about['cores']} cores (servers on one, clients on "
        f"the others), Linux {about['kernel']}, CPython {versions['python']}, nginx {record['servers']['nginx']}; {others}. "
        f"Medians of {record['rounds']} rounds (of the libraries but Rust obstore: one); load before: {record['load_before']}."
    )


def render(record: dict[str, Any], scenarios: Sequence[Scenario]) -> str:
    """The report, in Markdown."""
    lines = [
        setting(record),
        "",
        "| figure | to reach | this run | spread |   |",
        "|---|---|--:|--:|---|",
    ]
    for figure in figures(record, scenarios):
        spread = f"{_short(figure.low)} - {_short(figure.high)}"
        mark = "yes" if figure.met else "no"
        lines.append(f"| {figure.title} | {figure.goal} | {_short(figure.median)} | {spread} | {mark} |")
    head = "| | rate /s | MB/s | CPU us | p50 us | p99 us | peak RSS MB | faults | switches | errors |"
    for scenario in scenarios:
        row = record["results"].get(scenario.name, {})
        lines += ["", f"#### {scenario.title}", "", head, "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]
        lines += [f"| {NAMES.get(name, name)} | {_cells(runs)} |" for name, runs in row.items()]
    return "\n".join(lines)


UNITS = {"rate": "/s", "mb_s": "MB/s", "wall_ms": "ms"}
SHOWN = ("rust", "s3fs", "boto3", "pyarrow", "opendal")


def summary(record: dict[str, Any], scenarios: Sequence[Scenario]) -> str:
    """One line per scenario: ours, how many times the others' that is, and the limit."""
    lines = [
        setting(record),
        "",
        "| | obstore | CPU | Rust obstore | its CPU | s3fs | boto3 | pyarrow.fs | opendal | limit |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for scenario in scenarios:
        row = record["results"].get(scenario.name, {})
        ours = [each for each in row.get(OURS, []) if "rate" in each]
        if not ours:
            continue
        unit = UNITS[scenario.unit]
        mine = statistics.median(each[scenario.unit] for each in ours)
        cells = [f"{_short(mine)} {unit}", f"{_short(statistics.median(each['cpu_us'] for each in ours))} us"]
        for peer in SHOWN:
            theirs = [each for each in row.get(peer, []) if "rate" in each]
            pairs = [(own, other) for own, other in zip(ours, theirs, strict=False) if other[scenario.unit]]
            times = [_times(own[scenario.unit], other[scenario.unit], scenario.unit) for own, other in pairs]
            cells.append(f"{_short(statistics.median(times))}x" if times else "")
            if peer == "rust":
                cpu = [own["cpu_us"] / other["cpu_us"] for own, other in pairs if other["cpu_us"]]
                cells.append(f"{1 / statistics.median(cpu):.2g}x" if cpu else "")
        limits = [
            (peer, statistics.median(each[scenario.unit] for each in row[peer] if "rate" in each))
            for peer in scenario.limits
            if any("rate" in each for each in row.get(peer, []))
        ]
        cells.append(", ".join(f"{peer} {_short(value)}" for peer, value in limits))
        lines.append(f"| {scenario.title} | {' | '.join(cells)} |")
    lines += _tools(record, scenarios)
    lines += [
        "",
        "Of the other libraries the table says how many times as fast obstore was, and how many times the CPU time Rust obstore took.",
    ]
    return "\n".join(lines)


def _tools(record: dict[str, Any], scenarios: Sequence[Scenario]) -> list[str]:
    """How many times as fast as command lines, where some were measured."""
    lines = []
    for scenario in scenarios:
        row = record["results"].get(scenario.name, {})
        ours = [each["rate"] for each in row.get(OURS, []) if "rate" in each]
        theirs = {peer: [each["rate"] for each in row.get(peer, []) if "rate" in each] for peer in TOOLS}
        if ours and any(theirs.values()):
            mine = statistics.median(ours)
            cells = [f"{_short(mine / statistics.median(rates))}x" if rates else "" for rates in theirs.values()]
            lines.append(f"| {scenario.title} | {' | '.join(cells)} |")
    if lines:
        head = " | ".join(NAMES[peer] for peer in TOOLS)
        lines = ["", f"| beside command lines | {head} |", f"|---|{'--:|' * len(TOOLS)}", *lines]
    return lines


def _times(mine: float, theirs: float, unit: str) -> float:
    """How many times as good; of times the shorter one is."""
    return theirs / mine if unit == "wall_ms" else mine / theirs


def _cells(runs: list[dict[str, Any]]) -> str:
    good = [each for each in runs if "rate" in each]
    if not good:
        last = runs[-1] if runs else {}
        return (
            "not supported" + " | " * 8 if last.get("unsupported") else f"failed: {last.get('failed', '?')}" + " | " * 8
        )

    def middle(metric: str) -> float | None:
        values = [each[metric] for each in good if metric in each]
        return statistics.median(values) if values else None

    rates = [each["rate"] for each in good]
    spread = f" ±{(max(rates) - min(rates)) / 2 / statistics.median(rates):.0%}" if len(rates) > 1 else ""
    per_op = [
        middle(metric) if metric in ("mb_s", "cpu_us", "p50_us", "p99_us", "peak_rss_mb") else _each(good, metric)
        for metric in ("mb_s", "cpu_us", "p50_us", "p99_us", "peak_rss_mb", "page_faults", "context_switches")
    ]
    errors = max(each.get("errors", 0) for each in good)
    return " | ".join([_short(statistics.median(rates)) + spread, *map(_short, per_op), str(errors)])


def _each(good: list[dict[str, Any]], metric: str) -> float | None:
    """Per operation."""
    values = [each[metric] / each["ops"] for each in good if metric in each]
    return statistics.median(values) if values else None


def _short(value: float | None) -> str:
    if value is None:
        return ""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_table(file: Path, report: str) -> None:
    """Writes the report; in a file that has the marks, between them."""
    text = file.read_text() if file.exists() else ""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if mark and end:
        file.write_text(f"{before}{BEGIN}\n{report}\n{END}{after}")
    else:
        file.write_text(report + "\n")
