"""A run's stored out-of-fold predictions, opened by its name, and what they came from."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from core.advice import command
from core.errors import UserError
from core.files import file_digest
from data.check import files_key
from data.specs import DataSpec, Row
from Lightning_datamodule import rows_in
from runs.folder import RunFolder
from runs.prepared import check_files
from runs.reports import Report, check_same_recipe, check_scored, read_report
from runs.run import Run
from scoring.oof import OofImages, read_oof_rows, read_oof_table

# What tune.py tta found, beside report.json, see `WeighedViews`.
VIEWS_FILE = "views.json"


def data_key(root: Path, spec: DataSpec, rows: Iterable[Mapping[str, Any]], masks: Any) -> str:
    """A key of images and masks as they are now: files' sizes and times, and how masks are read."""
    ordered = sorted(rows, key=lambda row: row["img"])
    return files_key(ordered, root, spec, masks)[:16]


def changed_data(report: Report, rows: Iterable[Row], root: Path, masks: Any) -> list[str]:
    """A line where a run's folds, images or masks are not what its scores and rules are of.

    Args:
        report: of the run.
        rows: of train_folds.csv.
        root: folder that their paths start from.
        masks: the truth.
    """
    by_fold: dict[int, list[Row]] = {}
    for row in rows:
        by_fold.setdefault(row["kfold"], []).append(row)
    changed = [
        fold.fold
        for fold in report.folds
        if fold.data not in ("", data_key(root, report.spec, by_fold.get(fold.fold, []), masks))
    ]
    remedy = f"score it again: {command('Lightning_tester', run=report.run)}"
    told = "train_folds.csv, images, masks or MASK_ knobs have changed since run"
    return [f"folds {changed}: {told} {report.run!r} was scored: {remedy}"] if changed else []


def changed_notes(run: Run, reports: Iterable[Report]) -> list[str]:
    """`left_out` and `changed_data` of some runs; of a kernel, which has no training, nothing."""
    scored = [report for report in reports if any(fold.data for fold in report.folds)]
    notes = [note for report in scored for note in left_out(run, report)]
    try:
        rows = rows_in(run.table) if scored else []
        for report in scored:
            notes += changed_data(report, rows, run.input, run.masks)
    except UserError:
        pass
    return notes


def left_out(run: Run, report: Report) -> list[str]:
    """A line where folds were trained, or are asked for, that the run's report does not know."""
    known = [fold.fold for fold in report.folds]
    trained = RunFolder(run.logs, report.run).trained()
    wanted = trained if run.train_folds is None else run.train_folds
    left = [fold for fold in wanted if fold not in known]
    scoring = command("Lightning_tester", run=report.run)
    told = f"folds {left} of run {report.run!r} are not scored, so they do not predict"
    return [f"{told}: to take them in, {scoring}"] if left else []


def pictures_key(folder: Path, rows: Iterable[Mapping[str, Any]]) -> str:
    """A key of what the stored probabilities of these images hold; "" where one is missing."""
    paths = [folder / f"{img}.png" for img in sorted(row["img"] for row in rows)]
    if not all(path.is_file() for path in paths):
        return ""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        digests = list(pool.map(file_digest, paths))
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def table_key(table: pd.DataFrame) -> str:
    """A key of oof.csv's content, whatever the order of its rows."""
    content = table.sort_values("img").to_csv(index=False).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def open_oof(run: Run, name: str) -> tuple[OofImages, Report]:
    """(stored predictions, report) of the run called `name`, of the same data as `run`.

    Raises:
        UserError: it is not scored, oof.csv is not what the report was made of, or networks,
            images, masks, RECIPE or the runs of a blend have changed since.
    """
    folder, report = run.output / name, read_report(run.output, name)
    spec = report.spec
    check_oof(folder, report)
    check_blended(run, report)
    check_scored(report.folds, run.logs, name)
    check_same_recipe(report)
    for fold in report.folds:
        rows = rows_in(run.table, [fold.fold])
        if fold.data and fold.data != data_key(run.input, spec, rows, run.masks):
            check_files(run, [one.fold for one in report.folds])
            raise UserError(
                f"images, masks or MASK_ knobs of fold {fold.fold} have changed since run {name!r} "
                f"was scored. Score it again: {command('Lightning_tester', run=name)}"
            )
        if fold.pictures and fold.pictures != pictures_key(folder / "oof", rows):
            raise UserError(
                f"{folder / 'oof'}: pictures of fold {fold.fold} are missing, or not those that "
                f"were scored. Make them again: "
                f"{command('Lightning_tester', run=name)}"
            )
    images = OofImages(
        folder / "oof",
        read_oof_rows(run.table, folder),
        masks=run.masks,
        root=run.input,
        task=spec.task,
        classes=spec.classes,
        border=spec.border,
    )
    return images, report


def check_blended(run: Run, report: Report) -> None:
    """Makes sure that a blend's predictions are means of those that its runs have now.

    Raises:
        UserError: they are not, or one of the runs cannot be read, as `open_oof` says.
    """
    if report.blend and report.blend.runs:
        keys = [open_oof(run, name)[1].oof_key for name in report.blend.runs]
        if keys != list(report.blend.oof_keys):
            raise UserError(
                f"{run.output / report.run} is of other predictions of its runs: run src/tune.py "
                f"blend --runs {','.join(report.blend.runs)} again"
            )


def check_oof(folder: Path, report: Report) -> None:
    """Makes sure that oof.csv is the one that a report was made of.

    Raises:
        UserError: it is another, or cut off.
    """
    path = folder / "oof.csv"
    if report.oof_key is None or report.blend or not path.is_file():
        return
    if table_key(read_oof_table(path)) != report.oof_key:
        raise UserError(
            f"{path} is not the table that report.json was made of (cut off, or changed): score "
            f"the run again: {command('Lightning_tester', run=report.run)}"
        )
