"""Sections of a report that say how the run was made: time and knobs."""

import ast
import json
from pathlib import Path
from typing import Any

from core.gates import json_value
from core.knobs import ROOT, SRC, read_knobs
from core.quantities import counted
from reporting.blocks import Cell, Section, Table, number
from reporting.run import ReportRun
from runs.records import Finished

# Knobs whose value when the run was scored counts, not when it was trained.
SCORED_WITH = ("THRESHOLD", "TTA", "MIN_AREA")


def time_section(run: ReportRun) -> Section:
    """How long each fold took, and where its best epoch scored."""
    rows, notes, seconds = [], [], []
    for fold in run.report.folds:
        done = run.configured.folder.read_finished(fold.fold)
        if done is None:
            notes.append(f"fold {fold.fold}: no finished.json, or it is broken.")
            continue
        rows.append(_time_row(done))
        seconds.append(done.seconds)
    if not rows:
        return Section("time", "Time", notes=notes or ["This run has no training of its own."])
    if len(rows) > 1:
        rows.append([Cell("all"), Cell(_duration(sum(seconds))), *[Cell("")] * 4])
    columns = ["", "training", "epochs", "one epoch", "steps", "best validation score"]
    table = Table("Time", columns, rows, foot=int(len(rows) > 1))
    return Section("time", "Time", [table], notes=notes, figures={"seconds": seconds})


def training_tile(run: ReportRun) -> list[tuple[str, str, str]]:
    """(name, value, note) of time, steps and speed of all folds; none where one is not known."""
    folds = [run.configured.folder.read_finished(fold.fold) for fold in run.report.folds]
    known = [done for done in folds if done and done.seconds and done.steps]
    if not folds or len(known) < len(folds):
        return []
    seconds, steps = sum(done.seconds for done in known), sum(done.steps for done in known)
    return [
        (
            "training",
            _duration(seconds),
            f"{counted(steps, 'step')}, {steps / seconds:.3g} a second",
        )
    ]


def _time_row(done: Finished) -> list[Cell]:
    return [
        Cell(f"fold {done.fold}"),
        Cell(_duration(done.seconds)),
        Cell(str(done.epochs)),
        Cell(_duration(done.seconds / max(1, done.epochs))),
        Cell(str(done.steps)),
        Cell(number(done.score)),
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{seconds / 3600:.1f} h"


def config_section(run: ReportRun) -> Section:
    """Every knob with its value, those that are not config.py's own first and marked."""
    values, notes = dict(run.knobs), list[str]()
    paths = sorted(run.configured.folder.path.glob("fold_*/config.json"))
    try:
        trained = json_value(paths[0].read_text())
        values |= {name: trained[name] for name in values if name in trained}
    except (IndexError, OSError, ValueError, TypeError):
        notes = ["No config.json of the training: these are the knobs now."]
    for name in SCORED_WITH:
        values[name] = getattr(run.report, name.lower())
    rows, others, changed = [], [], {}
    for _, name, text, _ in read_knobs(SRC / "config.py"):
        default, value = default_of(text), values.get(name)
        if _same(value, default):
            others.append([Cell(name), Cell(_words(value), text=True)])
            continue
        changed[name] = value
        told = [Cell(_words(value), mark=True, text=True), Cell(_words(default), text=True)]
        rows.append([Cell(name, mark=True), *told])
    blocks = [
        Table("Knobs that differ from config.py", ["knob", "value", "in config.py"], rows),
        Table(f"The other {counted(len(others), 'knob')}", ["knob", "value"], others, closed=True),
    ]
    return Section("config", "Config", blocks, notes=notes, figures=changed)


def default_of(text: str) -> Any:
    """The value of a default as config.py writes it, as JSON holds it: a path as text."""
    text = text.removeprefix("Path(").removesuffix(")") if text.startswith("Path(") else text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return list(value) if isinstance(value, tuple) else value


def _same(value: Any, default: Any) -> bool:
    if isinstance(value, str) and isinstance(default, str) and Path(value).is_absolute():
        # Folders are written out whole; the default is their end.
        return Path(value).as_posix().endswith(f"/{default}")
    return bool(value == default)


def _words(value: Any) -> str:
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(ROOT):
        return Path(value).relative_to(ROOT).as_posix()
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, default=str)
