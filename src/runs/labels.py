"""Which folds the pseudo-labels of a run are for, and what those of each are."""

import csv
import hashlib
from pathlib import Path


def label_digests(output: Path, teachers: str) -> dict[str, str]:
    """A key of the pseudo-labels of each fold, by its number; empty where there are none.

    A row of pseudo.csv knows what its image and its mask hold, so labels that are made again, of
    more folds, are the same where nothing has changed.

    Args:
        output: folder of all results.
        teachers: the run.
    """
    rows: dict[str, list[str]] = {}
    try:
        text = (output / teachers / "pseudo" / "pseudo.csv").read_text(encoding="utf-8")
        for row in csv.DictReader(text.splitlines()):
            told = repr(sorted(row.items(), key=str))
            rows.setdefault(row.get("fold") or "all", []).append(told)
    except (OSError, ValueError, csv.Error):  # whoever reads the labels says what is wrong
        return {}
    return {
        fold: hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
        for fold, lines in rows.items()
    }
