"""runs.html: every run in one table that sorts by any column, in the style of a run's report."""

import math
from pathlib import Path
from typing import Any

from core.files import writing
from reporting.blocks import Cell, Section, Table, render_page


def write_ledger_page(path: Path, table: Any) -> Path:
    """Writes runs.html; returns its path.

    Args:
        path: of the page.
        table: a row a run, the best first, its name in the column `run`.
    """
    columns = ["run", *(name for name in map(str, table) if name != "run")]
    numeric = {name: table[name].dtype.kind in "fi" for name in columns}
    rows = [
        [_cell(row[name], text=not numeric[name]) for name in columns]
        for row in table.to_dict("records")
    ]
    scored = table["score"].notna()
    best = table.loc[scored, "run"].iloc[0] if scored.any() else "–"
    tiles = [("runs", str(len(table)), ""), ("best out of fold", best, "")]
    hours = float(table["hours"].sum())
    page = render_page(
        [Section("runs", "Runs", [Table("The best first", columns, rows, sortable=True)])],
        title="Runs",
        kicker="Ledger",
        subtitle="What differs, what it scores, and what it took",
        tiles=[*tiles, ("training", f"{hours:.3g} h", "all runs")],
        footer="A click on a column's head sorts by it. Made by src/compare_runs.py.",
    )
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _cell(value: Any, *, text: bool) -> Cell:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return Cell("", text=text)
    return Cell(f"{value:.6g}" if isinstance(value, float) else str(value), text=text)
