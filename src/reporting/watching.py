"""What trains now and how far it is: every run of lightning_logs/, from its files alone."""

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.files import clear_parts, writing
from core.gates import is_whole_number
from core.locks import others
from core.quantities import time_words
from core.records import NewerRecord
from reporting.blocks import Cell, Section, Table, number, render_page
from reporting.curves import Points, curve_figures, read_curves
from runs.baseline import beside, told_trivial
from runs.folder import RunFolder
from runs.ledger import is_distance


@dataclass(frozen=True)
class WatchedFold:
    """A fold of a run as its files tell it now.

    Attributes:
        fold: its number.
        state: trained, training, or for how long it has stood still.
        epoch: the last one in metrics.csv, from 1; 0 before the first.
        epochs: that it is to have.
        loss: of training, the last.
        score: the last of the metric, and `best` the best; None before the first validation.
        curves: (epoch, value) by name.
    """

    fold: int
    state: str
    epoch: int
    epochs: int
    loss: float | None
    score: float | None
    best: float | None
    curves: dict[str, Points]


@dataclass(frozen=True)
class WatchedRun:
    """A run with its folds; `age` is seconds since any of them was heard of.

    `trivial` is the best that needs no network, as folds.py told it last, or empty.
    """

    name: str
    metric: str
    folds: list[WatchedFold]
    age: float
    trivial: dict[str, Any]


def look_at_runs(logs: Path, output: Path) -> list[WatchedRun]:
    """Every run that has begun, the latest first, but those whose files are broken or newer."""
    runs = []
    for begun in logs.glob("*/run.json"):
        folder = RunFolder(logs, begun.parent.name)
        # A trainer may be deleting its files: the next look shows them again.
        with contextlib.suppress(NewerRecord, OSError):
            known = folder.read_begun()
            if known and "METRIC" in known.knobs:
                runs.append(_look(folder, dict(known.knobs), output))
    return sorted(runs, key=lambda run: run.age)


def _look(folder: RunFolder, knobs: dict[str, Any], output: Path) -> WatchedRun:
    names = [path.name.removeprefix("fold_") for path in folder.path.glob("fold_*")]
    folds = [_look_at_fold(folder, knobs, int(name)) for name in names if is_whole_number(name)]
    files = [folder.begun, *folder.path.glob("fold_*/metrics.csv")]
    age = time.time() - max(path.stat().st_mtime for path in files)
    metric = knobs["METRIC"]
    trivial = told_trivial(output, metric, less=is_distance(metric, knobs))
    return WatchedRun(folder.run, metric, sorted(folds, key=lambda one: one.fold), age, trivial)


def _look_at_fold(folder: RunFolder, knobs: dict[str, Any], fold: int) -> WatchedFold:
    path = folder.fold(fold) / "metrics.csv"
    metric = knobs["METRIC"]
    try:
        curves = read_curves(path, metric)
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or half a line of it
        curves = {}
    done = folder.read_finished(fold)
    losses, scores = curves.get("train_loss", []), curves.get(f"val_{metric}", [])
    values = [value for _, value in scores]
    best = min if is_distance(metric, knobs) else max
    return WatchedFold(
        fold=fold,
        state="trained" if done else _state(folder, fold),
        epoch=int(max((x for points in curves.values() for x, _ in points), default=0)),
        epochs=int(done.epochs if done else knobs.get("EPOCHS", 0)),
        loss=losses[-1][1] if losses else None,
        score=values[-1] if values else None,
        best=best(values) if values else None,
        curves=curves,
    )


def _state(folder: RunFolder, fold: int) -> str:
    """Whether the process that owns a fold lives, by its lock."""
    for owner in others(folder.logs, folder.run):
        if owner.stage == "Lightning_trainer" and owner.part in ("", f"fold {fold}"):
            return "training"
    files = [folder.fold(fold), *folder.fold(fold).glob("metrics*.csv")]
    age = time.time() - max(path.stat().st_mtime for path in files)
    return f"stopped {time_words(age)} ago; the same command goes on"


def fold_rows(runs: list[WatchedRun]) -> list[str]:
    """A line a fold for the terminal, such as `demo fold 0: epoch 7 of 20, loss 0.1203, ...`."""
    return [
        f"{run.name} fold {one.fold}: epoch {one.epoch} of {one.epochs}, "
        f"loss {number(one.loss)}, {run.metric} {number(one.score)}, best {number(one.best)}, "
        f"{one.state}{beside(run.trivial)}"
        for run in runs
        for one in run.folds
    ]


def write_watch_page(path: Path, runs: list[WatchedRun], every: float) -> Path:
    """watch.html: a table of all folds and each run's curves; it asks for itself again.

    Args:
        path: of the page.
        runs: from look_at_runs.
        every: seconds after which a browser loads it again; 0: never.
    """
    training = sum(one.state == "training" for run in runs for one in run.folds)
    tiles = [("runs", str(len(runs)), ""), ("folds in training", str(training), "")]
    page = render_page(
        [_table(runs), *(_curves(run, at) for at, run in enumerate(runs))],
        title="Runs",
        kicker="While they train",
        subtitle=time.strftime("As of %Y-%m-%d %H:%M:%S"),
        tiles=tiles,
        refresh=every,
        footer="From the files under LOGS. Made by src/watch.py.",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_parts(path.parent)
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def _table(runs: list[WatchedRun]) -> Section:
    rows = [
        [
            Cell(f"{run.name}, fold {one.fold}"),
            Cell(f"{one.epoch} of {one.epochs}"),
            Cell(number(one.loss)),
            Cell(run.metric, text=True),
            Cell(number(one.score)),
            Cell(number(one.best)),
            Cell(number(run.trivial.get("score"))),
            Cell(one.state, text=True),
        ]
        for run in runs
        for one in run.folds
    ]
    columns = ["", "epoch", "loss", "metric", "score", "best", "no network", ""]
    notes = [] if rows else ["No fold has begun yet."]
    return Section("folds", "Folds", [Table("All folds", columns, rows)] if rows else [], (), notes)


def _curves(run: WatchedRun, at: int) -> Section:
    figures = curve_figures({one.fold: one.curves for one in run.folds}, run.metric)
    notes = [] if figures else ["No epoch has ended yet."]
    return Section(f"run-{at}", run.name, figures, notes=notes)
