"""The verdict of folds.py on its folds, kept beside them: STRICT_FOLDS trains on no others."""

import json
from typing import Any

from core.errors import UserError
from core.files import write_json
from runs.experiment import folds_digest

NAME = "fold_audit.json"


def write_verdict(config: Any, verdict: str, *, leaks: bool) -> None:
    """Writes OUTPUT/fold_audit.json, for the train_folds.csv that is there now."""
    digest = folds_digest(config.FOLDS_CSV)
    write_json(config.OUTPUT / NAME, {"folds": digest, "leaks": leaks, "verdict": verdict})


def check_strict_folds(config: Any) -> None:
    """With STRICT_FOLDS, makes sure that the folds were found without a leak.

    Raises:
        UserError: they leak, or nobody has looked at this train_folds.csv.
    """
    if not config.STRICT_FOLDS:
        return
    path = config.OUTPUT / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        digest, leaks, verdict = found["folds"], found["leaks"], found["verdict"]
    except (OSError, ValueError, KeyError, TypeError):
        digest, leaks, verdict = "", True, ""
    if not config.FOLDS_CSV.is_file() or digest != folds_digest(config.FOLDS_CSV):
        raise UserError(
            f"STRICT_FOLDS: {path} is not of this train_folds.csv: run src/folds.py again"
        )
    if leaks:
        raise UserError(
            f"STRICT_FOLDS: {verdict}. Split by what the images have in common (SPLIT=group with "
            "GROUP_COLUMN or GROUP_PATTERN), drop the copies, or set STRICT_FOLDS=false"
        )
