"""The verdict of folds.py on its folds, kept beside them: STRICT_FOLDS trains on no others."""

import json
from pathlib import Path

from core.advice import command
from core.errors import UserError
from core.files import write_json
from runs.fold_table import folds_digest

NAME = "fold_audit.json"


def write_verdict(folds_csv: Path, verdict: str, *, leaks: bool) -> None:
    """Writes fold_audit.json beside a train_folds.csv, for what is in it now."""
    digest = folds_digest(folds_csv)
    write_json(folds_csv.with_name(NAME), {"folds": digest, "leaks": leaks, "verdict": verdict})


def check_strict_folds(folds_csv: Path, *, strict: bool) -> None:
    """With STRICT_FOLDS, makes sure that the folds were found without a leak.

    Raises:
        UserError: they leak, or nobody has looked at this train_folds.csv.
    """
    if not strict:
        return
    path = folds_csv.with_name(NAME)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        digest, leaks, verdict = found["folds"], found["leaks"], found["verdict"]
    except (OSError, ValueError, KeyError, TypeError):
        digest, leaks, verdict = "", True, ""
    if not folds_csv.is_file() or digest != folds_digest(folds_csv):
        raise UserError(
            f"STRICT_FOLDS: {path} is not of this train_folds.csv: run {command('folds')}"
        )
    if leaks:
        raise UserError(
            f"STRICT_FOLDS: {verdict}. Split by what the images have in common (SPLIT=group with "
            "GROUP_COLUMN or GROUP_PATTERN), drop the copies, or set STRICT_FOLDS=false"
        )
