"""The verdict of folds.py on its folds and what it made them of, kept beside them.

STRICT_FOLDS trains on no others.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from competition.spec import Competition
from core.advice import command
from core.errors import UserError
from core.files import file_digest, write_json
from core.gates import json_value
from runs.fold_table import folds_digest

NAME = "fold_audit.json"
# Knobs that say how images are split; SEED is of trainings, too.
SPLITTING = (
    *("SPLIT", "SPLIT_COLUMN", "N_FOLDS", "GROUP_COLUMN", "GROUP_PATTERN"),
    *("STRATIFY_COLUMN", "TILE"),
)


def write_verdict(
    folds_csv: Path, digest: str, verdict: str, *, leaks: bool, made_of: Mapping[str, Any]
) -> None:
    """Writes fold_audit.json beside a train_folds.csv, for the one of that digest."""
    values = {"folds": digest, "leaks": leaks, "verdict": verdict, "made_of": made_of}
    write_json(folds_csv.with_name(NAME), values)


def folds_made_of(competition: Competition, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """Digests of the tables that folds.py reads, and the knobs that it splits by."""
    tables = {"TRAIN_CSV": competition.train_csv}
    if competition.meta_csv:
        tables["META_CSV"] = competition.input / competition.meta_csv
    digests = {name: file_digest(path) for name, path in tables.items() if path.is_file()}
    return {**digests, **{name: knobs[name] for name in SPLITTING}}


def stale_notes(folds_csv: Path, now: Mapping[str, Any]) -> list[str]:
    """A line for each table and knob that is not as when folds.py made train_folds.csv.

    Folds that were written by hand, or by a folds.py that did not say, are not compared.
    """
    try:
        told = json_value(folds_csv.with_name(NAME).read_text(encoding="utf-8"))
        before = told["made_of"] if told["folds"] == folds_digest(folds_csv) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    changed = [name for name in now if name in before and before[name] != now[name]]
    return [
        f"{name} {f'was {before[name]!r}' if name in SPLITTING else 'was another file'} when "
        f"{folds_csv.name} was made: to take it in, {command('folds')}"
        for name in changed
    ]


def check_strict_folds(folds_csv: Path, *, strict: bool) -> None:
    """With STRICT_FOLDS, makes sure that the folds were found without a leak.

    Raises:
        UserError: they leak, or nobody has looked at this train_folds.csv.
    """
    if not strict:
        return
    path = folds_csv.with_name(NAME)
    try:
        found = json_value(path.read_text(encoding="utf-8"))
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
