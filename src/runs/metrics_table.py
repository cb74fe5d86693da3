"""metrics.csv of a fold: one table of all sessions, whatever a kill has left of it."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from core.files import writing

if TYPE_CHECKING:
    import pandas as pd


def set_aside_metrics(folder: Path) -> None:
    """Keeps the rows of an interrupted run: Lightning's CSV logger deletes them when it starts."""
    earlier = folder / "metrics_earlier.csv"
    rows = _rows_of(earlier, folder / "metrics.csv")
    if rows is None:
        earlier.unlink(missing_ok=True)
    else:
        with writing(earlier) as part:
            rows.to_csv(part, index=False)
    (folder / "metrics.csv").unlink(missing_ok=True)


def join_metrics(folder: Path) -> None:
    """One metrics.csv of all sessions: a row a step, the later session's value of two."""
    earlier, now = folder / "metrics_earlier.csv", folder / "metrics.csv"
    rows = _rows_of(earlier, now)
    if rows is None:  # LOGGERS without csv
        return
    # Lightning writes learning rates, training loss and scores of a step as rows of their own.
    rows = rows.groupby("step", as_index=False).last()
    rows.insert(0, "epoch", rows.pop("epoch"))
    with writing(now) as part:
        rows.to_csv(part, index=False)
    earlier.unlink(missing_ok=True)


def _rows_of(*paths: Path) -> "pd.DataFrame | None":
    """The rows of all files that are numbers; None where there are none.

    A line that is cut or foreign is left out: curves are not worth a training.
    """
    import pandas as pd

    tables = []
    for path in paths:
        try:
            table = pd.read_csv(
                path,
                on_bad_lines="skip",
                encoding_errors="replace",
                quoting=csv.QUOTE_NONE,
                dtype=str,
            )
        except (FileNotFoundError, ValueError):  # ValueError: empty, or no table at all
            continue
        if {"epoch", "step"} <= set(table):
            numbers = table.apply(pd.to_numeric, errors="coerce")
            tables.append(numbers.dropna(subset=["epoch", "step"]))
    rows = pd.concat(tables) if tables else None
    return rows if rows is not None and len(rows) else None
