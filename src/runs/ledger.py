"""All runs in one table: what differs, what they score, how long they took."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from core.advice import command
from core.errors import UserError
from runs.folder import RunFolder
from runs.reports import Report, was_scored

RESULTS = (
    "run",
    "score",
    "tuned",
    "metric",
    "trivial",
    "fold_scores",
    "folds",
    "epochs",
    "hours",
    "best_ckpt",
)


def read_run(folder: RunFolder, output: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(results, knobs) of one run.

    Args:
        folder: of the run.
        output: where output/<RUN>/report.json is.

    Raises:
        UserError: a broken run, such as one cut off while it was written.
        KeyError: it was begun without a METRIC.
    """
    begun = folder.read_begun()
    if begun is None:
        raise UserError(f"{folder.begun} is broken, and no network tells what it was trained with")
    knobs, folds = dict(begun.knobs), list(folder.finished_folds().values())
    row: dict[str, Any] = {"run": folder.run, "score": None, "tuned": None, "trivial": None}
    row["metric"] = knobs["METRIC"]
    report_path = output / folder.run / "report.json"
    if report_path.is_file():
        report = Report.read(report_path)
        row["note"] = outdated(report, folder, report_path)
        if not row["note"]:
            row |= {"score": report.score, "metric": report.metric}
            tuned_for = report.tuning.get("metric", report.metric)
            if tuned_for == report.metric:
                row["tuned"] = report.tuning.get("held_out")
            else:
                row["note"] = (
                    f"run {folder.run!r} is scored by {report.metric} and tuned for {tuned_for}: "
                    "it has no tuned score here"
                )
            row["trivial"] = report.trivial.get("score")
    row["fold_scores"] = " ".join(f"{done.score:.4f}" for done in folds)
    row["folds"] = len(folds)
    row["epochs"] = max((done.epochs for done in folds), default=0)
    row["hours"] = round(sum(done.seconds for done in folds) / 3600, 3)
    best = min if is_distance(knobs["METRIC"], knobs) else max
    if folds:
        _, number = best((done.score, done.fold) for done in folds)
        row["best_ckpt"] = folder.best(number).relative_to(folder.logs).as_posix()
    return row, knobs


def outdated(report: Report, folder: RunFolder, path: Path) -> str:
    """Why the scores of a report are not those of a run's networks as they are; "" where they are.

    Only a network that is younger than the report is read: of a hundred runs that is none.
    """
    again = command("Lightning_tester", run=folder.run)
    if report.run != folder.run:
        return f"{path} is of run {report.run!r}, not of {folder.run!r}: score it, {again}"
    written = path.stat().st_mtime
    other = []
    for fold in report.folds:
        network = folder.logs / fold.checkpoint
        files = {network, network.with_name("best.ckpt")}  # a soup is of it
        if any(file.is_file() and file.stat().st_mtime > written for file in files):
            other += [] if was_scored(fold, folder.logs) else [fold.fold]
    told = f"run {folder.run!r}: folds {other} were trained again since it was scored"
    return f"{told}: score it, {again}" if other else ""


def is_distance(metric: str, knobs: dict[str, Any]) -> bool:
    """Whether less of a run's metric is better; a row that is no more is taken for a score."""
    from metrics import build_metric

    kind = {"task": knobs.get("TASK", "binary"), "classes": knobs.get("CLASSES", 1)}
    try:
        return not build_metric(str(metric), **kind).higher_is_better
    except UserError:
        return False


class Ledger(NamedTuple):
    """All runs.

    Attributes:
        table: a row a run, best out-of-fold score first; columns are RESULTS and every knob.
        shown: the columns of RESULTS and of the knobs that are not the same in all runs.
        notes: why folders were skipped, or have no score.
        distances: metrics among them of which less is better.
    """

    table: Any
    shown: list[str]
    notes: list[str]
    distances: set[str]


def read_runs(logs: Path, output: Path) -> Ledger:
    """What all runs were made with and what they score."""
    import pandas as pd

    rows, knobs, notes, distances = [], [], [], set()
    for path in sorted(logs.glob("*/run.json")):
        try:
            row, settings = read_run(RunFolder(logs, path.parent.name), output)
        except (ValueError, KeyError, TypeError, OSError) as error:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            notes.append(f"skipped {path.parent.name}: {kind}{error}")
            continue
        if row.get("note"):
            notes.append(row["note"])
        rows.append(row)
        knobs.append(settings)
        if is_distance(row["metric"], settings):
            distances.add(row["metric"])
    names = sorted({name for settings in knobs for name in settings})
    differ = [name for name in names if len({json.dumps(one.get(name, "")) for one in knobs}) > 1]
    for row, settings in zip(rows, knobs, strict=True):
        row |= {name: _plain(settings.get(name)) for name in names}
    rows.sort(key=_rank(distances))
    table = pd.DataFrame(rows, columns=[*RESULTS, *names])
    return Ledger(table, [*RESULTS, *differ], notes, distances)


def _rank(distances: set[str]) -> Callable[[dict[str, Any]], tuple[bool, float, str]]:
    """A key that puts the best first and what has no score last."""

    def key(row: dict[str, Any]) -> tuple[bool, float, str]:
        score = row["score"]
        if score is None:
            return True, 0.0, row["run"]
        return False, score if row["metric"] in distances else -score, row["run"]

    return key


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def read_scalars(folder: Path) -> dict[str, list[float]]:
    """Every scalar of a folder of TensorBoard events by tag, in the order of steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [event.value for event in sorted(events.Scalars(tag), key=lambda one: one.step)]
        for tag in events.Tags()["scalars"]
    }
