"""Draws the scorecard's results as SVG, with nothing but text: ``python -m benchmarks.plot RESULTS.json [DIRECTORY]``.

``rate.svg`` shows how much each library does in a second, ``cpu.svg`` what an operation costs it. Each panel is one scenario with
a scale of its own; bars are medians, whiskers the lowest and highest round.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
if not __package__:  # run as a file
    sys.path.insert(0, str(ROOT))

from benchmarks.scenarios import SCENARIOS, Scenario  # noqa: E402

NAMES = {"ours": "obstore", "rust": "obstore (Rust)", "libcurl": "C libcurl loop"}
COLOURS = {"ours": "#d1495b", "libcurl": "#b8b8b8", "wrk": "#b8b8b8", "curl": "#b8b8b8"}
OTHER = "#30638e"
UNITS = {"rate": "operations/s", "mb_s": "MB/s", "cpu_us": "CPU µs per operation", "wall_ms": "ms, less is better"}
WIDTH, COLUMNS, LABEL, BAR, GAP, TOP = 1000, 2, 105, 15, 6, 50
PANEL = WIDTH // COLUMNS


def _panel(x: int, y: int, title: str, unit: str, bars: list[tuple[str, list[float]]]) -> tuple[str, int]:
    """One scenario's bars and the height that they take."""
    room = PANEL - LABEL - 95
    top = max(statistics.median(values) for _, values in bars)
    parts = [f'<text x="{x}" y="{y + 14}" class="t">{escape(title)}<tspan class="u"> ({escape(unit)})</tspan></text>']
    y += 24
    for name, values in bars:
        middle = statistics.median(values)
        width = max(1.0, room * middle / top)
        low, high = (min(room * 1.05, room * value / top) for value in (min(values), max(values)))
        left, centre = x + LABEL, y + BAR / 2
        colour = COLOURS.get(name, OTHER)
        parts += [
            f'<text x="{left - 6}" y="{y + BAR - 3}" class="n">{escape(NAMES.get(name, name))}</text>',
            f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>',
            f'<path d="M{left + low:.1f} {centre}H{left + high:.1f}" stroke="#222"/>',
            f'<text x="{left + max(width, high) + 5:.1f}" y="{y + BAR - 3}" class="v">{_short(middle)}</text>',
        ]
        y += BAR + GAP
    return "\n".join(parts), 24 + len(bars) * (BAR + GAP) + 14


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def draw(record: dict[str, Any], metric: str) -> str:
    """The whole picture; ``metric`` is ``cpu_us``, or ``rate`` for each scenario's own unit."""
    columns = [TOP] * COLUMNS
    body: list[str] = []
    for scenario in SCENARIOS:
        shown = _shown(scenario, metric)
        row = record["results"].get(scenario.name, {})
        bars = [(name, [each[shown] for each in runs if shown in each]) for name, runs in row.items()]
        bars = [(name, values) for name, values in bars if values]
        if len(bars) < 2:
            continue
        column = columns.index(min(columns))
        text, height = _panel(column * PANEL + 10, columns[column], scenario.title, UNITS[shown], bars)
        columns[column] += height
        body.append(text)
    machine = record["machine"]
    what = "CPU time per operation (less is better)" if metric == "cpu_us" else "Speed (more is better)"
    about = f"{record['date'][:10]}, {record['commit']}, {machine['cpu']}, {machine['cores']} cores, loopback"
    style = (
        "text{font:12px sans-serif;fill:#222}.t{font-weight:bold}.u{font-weight:normal;fill:#666}"
        ".n{text-anchor:end}.v{fill:#444}.h{font-size:16px;font-weight:bold}"
    )
    head = f'<text x="10" y="24" class="h">{what}</text><text x="10" y="40" class="u">{escape(about)}</text>'
    height = max(columns) + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}">'
        f'<style>{style}</style><rect width="100%" height="100%" fill="#fff"/>\n{head}\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _shown(scenario: Scenario, metric: str) -> str:
    return metric if metric == "cpu_us" else scenario.unit


def write_plots(record: dict[str, Any], where: Path) -> None:
    """``rate.svg`` and ``cpu.svg``."""
    where.mkdir(parents=True, exist_ok=True)
    for metric, name in (("rate", "rate.svg"), ("cpu_us", "cpu.svg")):
        (where / name).write_text(draw(record, metric))
        print(where / name, file=sys.stderr)


def main(argv: list[str]) -> None:
    """The command line."""
    if not 1 <= len(argv) <= 2:
        raise SystemExit(f"usage: {__doc__.partition('``')[2].partition('``')[0]}")
    record = json.loads(Path(argv[0]).read_text())
    write_plots(record, Path(argv[1]) if len(argv) == 2 else ROOT / "docs" / "figures")


if __name__ == "__main__":
    main(sys.argv[1:])
