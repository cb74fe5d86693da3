"""Columns that say which fold an image is of, or that it is for tests."""

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from competition.splits import ALWAYS_TRAINED
from core.errors import UserError, raise_all
from core.quantities import counted

if TYPE_CHECKING:
    import pandas as pd

WORDS = {
    **dict.fromkeys(("val", "valid", "validation", "true"), 0),
    **dict.fromkeys(("train", "trn", "training", "false"), ALWAYS_TRAINED),
}
TEST_WORDS = ("test", "testing", "tst")
FLAGS = {"0": ALWAYS_TRAINED, "1": 0}
# As train_folds.csv may hold them; tables that pandas wrote have 1.0 for 1.
FOLD = re.compile(r"(-1|[0-9]{1,6})(\.0+)?")


def read_folds(values: "pd.Series", name: str, *, words: bool) -> np.ndarray:
    """Fold numbers written in a column, int64 (N,); -1 is always trained, never validated.

    With `words`, val (valid, validation, true) is fold 0 and train (trn, training, false) is -1;
    a column of nothing but 0 and 1 says "is validation": 1 is fold 0, 0 is -1.

    Raises:
        UserError: other words, numbers below -1, or no image to validate.
    """
    cells = values.str.strip().str.lower()
    known: dict[str, int] = {}
    bad: list[str] = []
    counts = Counter(cells)
    flags = words and set(counts) == set(FLAGS)
    for cell, count in counts.items():
        if words and (cell in WORDS or flags):
            known[cell] = FLAGS[cell] if flags else WORDS[cell]
        elif FOLD.fullmatch(cell):
            known[cell] = int(cell.partition(".")[0])
        else:
            bad.append(f"{cell!r} in {counted(count, 'row')}")
    wanted = "train, val or fold numbers" if words else "whole numbers, 0 and up or -1"
    join = " (--join gives images with an empty cell a fold)" if "" in counts else ""
    told = f"column {name} must hold {wanted}; drop rows that are not for training{join}:"
    raise_all(bad, told)
    folds = cells.map(known).to_numpy(np.int64)
    if folds.max() < 0:
        raise UserError(f"column {name} leaves no image to validate: mark some as val or fold 0")
    return folds


def read_known(values: "pd.Series", name: str, *, words: bool) -> np.ndarray:
    """Fold numbers written in a column, float64 (N,); nan in empty cells. See `read_folds`.

    Raises:
        UserError: as `read_folds`, or all cells are empty, or none is.
    """
    known = (values.str.strip() != "").to_numpy()
    if known.all() or not known.any():
        what = "every image has a fold" if known.all() else "no image has a fold"
        raise UserError(f"--join: {what} in the column {name}: leave --join out")
    folds = np.full(len(values), np.nan)
    folds[known] = read_folds(values[known], name, words=words)
    return folds


def is_for_tests(values: "pd.Series") -> np.ndarray:
    """Whether a column says that an image is for tests, bool (N,)."""
    return values.str.strip().str.lower().isin(TEST_WORDS).to_numpy()
