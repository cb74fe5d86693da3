"""Pseudo-labelled rows of another run, as more training rows for a student."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from core.advice import command
from core.errors import UserError, raise_all
from core.records import read_object
from data.pseudo_masks import MARK
from imaging.sources import stored_files
from runs.labels import label_digests
from runs.reports import Report, report_path
from runs.run import Run
from streaming.files import digest_of


def read_pseudo_rows(run: Run, teachers: str, fold: int, *, limit: int) -> list[dict[str, Any]]:
    """The pseudo-labelled rows that the student of a fold may train on, the surest first.

    Only masks by the teacher of the same fold: it has not seen the fold's validation images either.

    Args:
        run: the student's.
        teachers: their run, PSEUDO.
        fold: of the student.
        limit: rows at most.

    Raises:
        UserError: no pseudo-labels, of other folds, data or networks, none for this fold, or of
            images that have true masks.
    """
    import pandas as pd

    folder, again = run.output / teachers / "pseudo", command("pseudo_label", run=teachers)
    if not (folder / "pseudo.json").is_file():
        raise UserError(f"PSEUDO: no {folder}. Make them: {again}")
    made = read_object(folder / "pseudo.json", f"make it again: {again}")
    now = pseudo_key(run)
    differs = [name for name in now if made.get(name) != now[name]]
    problems = [f"{name}: {made.get(name)} then, {now[name]} now" for name in differs]
    teacher = report_path(run.output, teachers)
    if teacher.is_file():
        networks = networks_of(Report.read(teacher))
        if made.get("networks", networks).get(str(fold)) != networks.get(str(fold)):
            problems.append(f"fold {fold}: the run has another network by now")
    raise_all(
        problems,
        f"pseudo-labels of run {teachers!r} are of other folds or data, students would see "
        "what they are scored on. Make them again with src/pseudo_label.py:",
    )
    try:
        table = pd.read_csv(folder / "pseudo.csv", dtype={"img": str, "image": str, "key": str})
        mine = table[table["fold"] == fold]
        mine = mine.sort_values(["confident", "img"], ascending=[False, True])
    except (ValueError, KeyError) as error:
        raise UserError(f"{folder / 'pseudo.csv'} is broken ({error}): {again}") from None
    if mine.empty:
        raise UserError(f"PSEUDO: run {teachers!r} has no pseudo-labels for fold {fold}")
    rows: list[Any] = mine.head(limit).to_dict("records")
    mask = (folder / f"fold_{fold}").as_posix()
    _check_pairs(run, rows, folder / f"fold_{fold}", teachers, stack=made.get("stack", ()))
    return [
        {"img": MARK + row["img"], "image": row["image"], "mask": f"{mask}/{row['img']}.png"}
        for row in rows
    ]


def _check_pairs(
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    masks: Path,
    teachers: str,
    *,
    stack: Sequence[int],
) -> None:
    """Makes sure that images and masks are those that pseudo_label.py saw and wrote.

    Raises:
        UserError: they are not; names them.
    """

    def changed(row: Mapping[str, Any]) -> bool:
        mask = masks / f"{row['img']}.png"
        key = pair_key(run.input / row["image"], mask, stack=stack)
        return bool(row.get("key", key) != key)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        wrong = [row["img"] for row, bad in zip(rows, pool.map(changed, rows), strict=True) if bad]
    raise_all(
        [f"{img}: its image or its mask is another by now" for img in wrong],
        f"pseudo-labels of run {teachers!r} are stale: {command('pseudo_label', run=teachers)}:",
    )


def pair_key(image: Path, mask: Path, *, stack: Sequence[int] = ()) -> str:
    """A key of what an image, its neighbours by `stack` and its mask hold; no file has none."""
    digests = map(digest_of, (*stored_files(image, stack), mask))
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16]


def networks_of(report: Report) -> dict[str, str]:
    """SHA-256 of the network of each fold, by the fold's number as JSON has it."""
    return {str(fold.fold): fold.network for fold in report.folds}


def labelled_folds(output: Path, teachers: str) -> set[int]:
    """Folds with pseudo-labels of the very networks that the teachers' report tells of."""
    made = output / teachers / "pseudo" / "pseudo.json"
    try:
        now = networks_of(Report.read(report_path(output, teachers)))
        then = read_object(made, "label again").get("networks", now)
    except UserError:
        return set()
    of_old = {fold for fold in now if then.get(fold) != now[fold]}
    return {int(fold) for fold in label_digests(output, teachers).keys() - of_old if fold in now}


def pseudo_key(run: Run) -> dict[str, Any]:
    """What must be the same for teachers and students."""
    return {
        "folds": run.folds_digest,
        "holdout": run.holdout,
        "task": run.spec.task,
        "classes": run.spec.classes,
    }
