"""Pseudo-labelled rows of another run, as more training rows for a student."""

import json
from typing import Any

from core.advice import command
from core.errors import UserError, raise_all
from data.pseudo_masks import MARK
from runs.fold_table import folds_digest
from runs.run import Run


def read_pseudo_rows(run: Run, teachers: str, fold: int, *, limit: int) -> list[dict[str, Any]]:
    """The pseudo-labelled rows that the student of a fold may train on, the surest first.

    Only masks by the teacher of the same fold: it has not seen the fold's validation images either.

    Args:
        run: the student's.
        teachers: their run, PSEUDO.
        fold: of the student.
        limit: rows at most.

    Raises:
        UserError: no pseudo-labels, of other folds or data, none for this fold, or of images that
            have true masks.
    """
    import pandas as pd

    folder = run.output / teachers / "pseudo"
    if not (folder / "pseudo.json").is_file():
        raise UserError(f"PSEUDO: no {folder}. Make them: {command('pseudo_label', run=teachers)}")
    made = json.loads((folder / "pseudo.json").read_text())
    now = pseudo_key(run)
    differs = [name for name in now if made.get(name) != now[name]]
    raise_all(
        [f"{name}: {made.get(name)} then, {now[name]} now" for name in differs],
        f"pseudo-labels of run {teachers!r} are of other folds or data, students would see "
        "what they are scored on. Make them again with src/pseudo_label.py:",
    )
    table = pd.read_csv(folder / "pseudo.csv", dtype={"img": str})
    mine = table[table["fold"] == fold].sort_values(["confident", "img"], ascending=[False, True])
    if mine.empty:
        raise UserError(f"PSEUDO: run {teachers!r} has no pseudo-labels for fold {fold}")
    rows = mine.head(limit).to_dict("records")
    mask = (folder / f"fold_{fold}").as_posix()
    return [
        {"img": MARK + row["img"], "image": row["image"], "mask": f"{mask}/{row['img']}.png"}
        for row in rows
    ]


def pseudo_key(run: Run) -> dict[str, Any]:
    """What must be the same for teachers and students."""
    return {
        "folds": folds_digest(run.folds_csv),
        "holdout": run.holdout,
        "task": run.spec.task,
        "classes": run.spec.classes,
    }
