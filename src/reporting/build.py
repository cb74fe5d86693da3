"""The page of a run, section by section; what cannot be read is said in its place."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.files import writing
from reporting.blocks import Section, number, render_page
from reporting.curves import (
    calibration_section,
    curves_section,
    group_section,
    size_section,
    threshold_section,
)
from reporting.hints import next_section
from reporting.run import ReportRun
from reporting.scores import (
    cases_section,
    classes_section,
    confusion_section,
    folds_section,
    tuning_section,
)
from reporting.setup import config_section, time_section, training_tile
from reporting.suspects import suspects_section
from runs.run import Run
from scoring.class_scores import score_classes, write_classes

SECTIONS: dict[str, tuple[str, Callable[[ReportRun], Section | None]]] = {
    "folds": ("Folds", folds_section),
    "next": ("What to try next", next_section),
    "curves": ("Training curves", curves_section),
    "classes": ("Classes", classes_section),
    "confusion": ("Confusion", confusion_section),
    "threshold": ("Threshold", threshold_section),
    "calibration": ("Calibration", calibration_section),
    "size": ("Mask size", size_section),
    "groups": ("Groups", group_section),
    "cases": ("Cases", cases_section),
    "suspects": ("Masks to look at", suspects_section),
    "tuning": ("Tuning", tuning_section),
    "time": ("Time", time_section),
    "config": ("Config", config_section),
}
# What a half-written or deleted file makes of reading it: the rest of the page is still worth it.
BROKEN = (ValueError, KeyError, TypeError, IndexError, OSError)


def build_section(run: ReportRun, key: str) -> Section | None:
    """A section, or a note why it cannot be shown; None where the task has no such thing."""
    title, build = SECTIONS[key]
    try:
        return build(run)
    except UserError as error:
        return Section(key, title, notes=[f"Not shown: {error}"])
    except BROKEN as error:
        return Section(key, title, notes=[f"Not shown: {type(error).__name__}: {error}"])


def page_tiles(run: ReportRun) -> list[tuple[str, str, str]]:
    """(name, value, note) of the numbers at the top."""
    report = run.report
    folds = [fold.scores.get(run.metric) for fold in report.folds]
    known = np.array([score for score in folds if score is not None], float)
    spread = f"folds {known.min():.4f} to {known.max():.4f}" if len(known) > 1 else ""
    tiles = [(run.metric, number(report.score), spread)]
    if len(known) > 1:
        tiles.append(("spread of folds", f"± {known.std(ddof=1):.4f}", "standard deviation"))
    if report.trivial:
        score = number(report.trivial["score"])
        tiles.append(("without a network", score, report.trivial["name"]))
    tuning = report.tuning
    if tuning:
        gain = tuning["held_out"] - tuning["untuned"]
        name, score = f"{tuning['metric']} tuned", number(tuning["held_out"])
        tiles.append((name, score, f"{gain:+.4f} held out"))
    held = report.holdout
    if held:
        tiles.append(("hold-out", number(held["scores"][run.metric]), f"{held['images']} images"))
    tiles.append(("images", str(report.images), _folds(len(folds))))
    return [*tiles, *training_tile(run)]


def _folds(count: int) -> str:
    return f"{count} folds" if count > 1 else "one fold" if count else ""


def write_page(configured: Run, knobs: Mapping[str, Any]) -> Path:
    """Writes report.html and classes.csv of a run; returns the page.

    Args:
        configured: the run, as it is configured.
        knobs: every knob with its value now.

    Raises:
        UserError: the run is not scored, or is of another task than the configuration.
    """
    run = ReportRun(configured, knobs)
    facts = [run.task, f"{run.classes} classes" if run.classes > 1 else ""]
    facts += [str(knobs["MODEL_NAME"]), f"views {', '.join(tta)}" if (tta := _tta(run)) else ""]
    try:
        tiles = page_tiles(run)
    except BROKEN:
        tiles = [(run.metric, number(run.report.score), "")]
    page = render_page(
        [section for key in SECTIONS if (section := build_section(run, key))],
        title=configured.name,
        subtitle=", ".join(fact for fact in facts if fact),
        tiles=tiles,
        footer="Scores are out of fold: each image is predicted by a network that never saw it. "
        "Made by src/Lightning_tester.py and src/tune.py.",
    )
    path = configured.results / "report.html"
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    try:
        table = score_classes(run.counts.counts.sum(0), run.names)
        write_classes(configured.results / "classes.csv", table, task=run.task)
    except UserError as error:
        print(f"no classes.csv: {error}")
    return path


def _tta(run: ReportRun) -> list[str]:
    return list(run.report.tta)
