"""RESULTS.md and its picture, from the JSON files of the benchmarks."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any
from xml.sax.saxutils import escape

ARMS = ("reference", "ours", "floor")
COLOURS = {"reference": "#b8b8b8", "ours": "#1f6fb4", "floor": "#e0a030"}
HEAD = """# Benchmarks

`make bench` measures this table again (minutes), `python benchmarks/run.py NAME` one part of it.

*Reference* is what the original 2020 template or a typical public notebook does
(`benchmarks/reference.py`), *floor* what the machine allows: the bare decode, warp, read or
network. All arms of a row take turns, A B B A after a warm-up, in one process (of `step` and
`ladder`: each in its own, as the allocator is), and only if they do the same (*gate*). Cells:
median of the rounds (smallest to largest), of which the JSON files hold each one: seven or more; of
`quality` one a seed. *Gain*: the median of the rounds' ratios.

![speed-ups](results/gains.svg)
"""


def write_table(results: Path, path: Path) -> Path:
    """Writes RESULTS.md and results/gains.svg from all JSON files of `results`."""
    found = [json.loads(file.read_text()) for file in sorted(results.glob("*.json"))]
    lines = [line for values in found for line in values["lines"]]
    parts = [HEAD]
    parts += [_section(values) for values in found]
    path.write_text("\n".join(parts))
    (results / "gains.svg").write_text(draw_gains(lines))
    return path


def _section(values: dict[str, Any]) -> str:
    rows = [
        f"## {values['name']}\n",
        "| what | unit | reference | ours | floor | gain | of the floor | target |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *(_row(line) for line in values["lines"]),
        "",
    ]
    for line in values["lines"]:
        rows.append(f"- **{line['name']}**: gate: {line['gate']}. {line['notes']}".rstrip())
    around = values["machine"]
    gpu = f", {around['gpu']}" if around["gpu"] else ""
    rows.append(
        f"\n{values['date']}, {around['cores']} cores of {around['cpu']}{gpu}, "
        f"{around['torch_threads']} torch threads, load before {around['load_before']}; "
        f"Python {around['python']}, torch {around['torch']}, NumPy {around['numpy']}, "
        f"OpenCV {around['opencv']}; commit {around['commit']}; {values['seconds']:.0f} s"
        + ("; **toy sizes, not to be quoted**" if values["toy"] else "")
        + ".\n"
    )
    return "\n".join(rows)


def _row(line: dict[str, Any]) -> str:
    gains = line["gains"]
    cells = [
        line["name"],
        line["unit"],
        *(_cell(line["times"].get(arm)) for arm in ARMS),
        f"{gains['reference']:.2f}×" if "reference" in gains else "",
        f"{gains['floor']:.2f}" if "floor" in gains else "",
        "; ".join(map(_promise, line["targets"])),
    ]
    return f"| {' | '.join(cells)} |"


def _promise(target: dict[str, Any]) -> str:
    sign = "≥" if target["at_least"] else "≤"
    verdict = "met" if target["holds"] else "**missed**"
    return f"{target['what']} {target['value']:.3g} ({sign} {target['bound']:g}: {verdict})"


def _cell(times: Sequence[float] | None) -> str:
    if not times:
        return ""
    return f"{median(times):.3g} ({min(times):.3g} to {max(times):.3g})"


def draw_gains(lines: Sequence[dict[str, Any]]) -> str:
    """An SVG: a bar a row, each arm's speed with the reference (or the floor) as 1."""
    drawn = [line for line in lines if len(line["times"]) > 1]
    top = max((_speed(line, arm) for line in drawn for arm in line["times"]), default=1.0)
    wide, left, step = 420.0, 330, 44
    height = 30 + step * len(drawn)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + wide + 90:.0f}" '
        f'height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        *(
            f'<text x="{left + 100 * at}" y="16" fill="{COLOURS[arm]}">{arm}</text>'
            for at, arm in enumerate(ARMS)
        ),
    ]
    for at, line in enumerate(drawn):
        y = 26 + step * at
        parts.append(f'<text x="4" y="{y + 20}">{escape(line["name"][:52])}</text>')
        for row, arm in enumerate(arm for arm in ARMS if arm in line["times"]):
            speed = _speed(line, arm)
            length = max(1.0, wide * speed / top)
            parts.append(
                f'<rect x="{left}" y="{y + 12 * row}" width="{length:.1f}" height="10" '
                f'fill="{COLOURS[arm]}"/><text x="{left + length + 4:.1f}" '
                f'y="{y + 9 + 12 * row}" font-size="10">{speed:.2f}×</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _speed(line: dict[str, Any], arm: str) -> float:
    """Times faster than the row's reference, or than ours where there is none."""
    gains = line["gains"]
    ours = gains.get("reference", 1.0)
    if arm == "ours":
        return ours
    return 1.0 if arm == "reference" else ours / gains["floor"]
