"""What makes a run the run it is: kept in run.json, compared by every later session."""

import shutil
from pathlib import Path
from typing import Any

from core.errors import raise_all
from core.files import write_json
from core.locks import guarded, others
from runs.fold_table import folds_digest
from runs.run import Run


def drop_run(run: Run) -> None:
    """Deletes the run with all that was made of it."""
    shutil.rmtree(run.folder.path, ignore_errors=True)
    shutil.rmtree(run.results, ignore_errors=True)


def open_run(run: Run, now: dict[str, Any]) -> None:
    """Starts the run's folder, or makes sure that the one there is of the same configuration.

    A run that stopped before its first checkpoint has nothing to keep: it may begin otherwise,
    unless another process is training a fold of it.

    Args:
        run: to start or to go on with.
        now: its identity, see `runs.experiment.identity_of`.

    Raises:
        UserError: it was begun with other knobs or folds; lists what differs.
    """
    folder = run.folder
    with guarded(run.logs):  # of two processes that begin one run, the second looks
        begun = folder.begun.is_file()
        if not begun or not (folder.has_checkpoints() or others(run.logs, run.name)):
            write_json(folder.begun, now)
            return
    raise_all(
        differences(folder.read_begun(), now),
        f"run {run.name!r} was begun with another configuration. Choose another --run, "
        "or --overwrite to lose it:",
    )


def check_same_folds(run: Run) -> None:
    """Makes sure that a run's networks have not seen what they are about to be scored on.

    Raises:
        UserError: train_folds.csv or HOLDOUT is not what the run was trained with.
    """
    if not run.folder.begun.is_file():
        return
    begun = run.folder.read_begun()
    holdout = begun["knobs"].get("HOLDOUT")
    problems = []
    if begun["folds"] != folds_digest(run.folds_csv):
        problems.append("train_folds.csv has changed since: restore it, or train again")
    if holdout != run.holdout:
        problems.append(f"HOLDOUT: the run has {holdout}, now {run.holdout}: set it back")
    raise_all(problems, f"scores of run {run.name!r} would not be honest:")


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """A line for each knob (and the folds) that is not the same in two run.json.

    A knob that did not exist when the run began, or defines no run any more, says nothing of it.
    """
    old, new = (_without_folder(run["knobs"]) for run in (before, now))
    lines = [
        f"{name}: the run has {old[name]!r}, now {new[name]!r}"
        for name in sorted(old.keys() & new.keys())
        if old[name] != new[name]
    ]
    if before["folds"] != now["folds"]:
        lines.append("train_folds.csv: it has changed since the run began")
    if before.get("recipe") != now.get("recipe"):
        lines.append("RECIPE: its Python file is not what it was when the run began")
    return lines


def _without_folder(knobs: dict[str, Any]) -> dict[str, Any]:
    """Knobs, local encoder weights by their file name: the file may have moved with the run."""
    weights = knobs.get("ENCODER_WEIGHTS")
    return {**knobs, "ENCODER_WEIGHTS": weights and Path(weights).name}
