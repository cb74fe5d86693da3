"""New images join the folds that others have."""

from pathlib import Path

import numpy as np
import pandas as pd

from competition.fold_column import read_known
from competition.groups import column_of
from competition.splits import join_folds
from runs.fold_table import places_before


def join_new(
    table: pd.DataFrame, groups: np.ndarray, column: str, path: Path, *, closed: int | None
) -> np.ndarray:
    """Fold of each image, int64 (N,): known ones keep theirs, new ones join.

    Known are images with a fold in the table's column kfold or SPLIT_COLUMN, or else in an earlier
    train_folds.csv.

    Args:
        table: of all images.
        groups: of each, as text (N,), which stay together; empty where images are on their own.
        column: SPLIT_COLUMN, where it rules the folds; else "".
        path: of train_folds.csv.
        closed: HOLDOUT, which takes no new group.

    Raises:
        UserError: there are no such folds, or none that takes new groups.
    """
    if "kfold" in table:
        before = read_known(table["kfold"], "kfold", words=False)
    elif column:
        before = read_known(column_of(table, column, "SPLIT_COLUMN"), column, words=True)
    else:
        before = places_before(path, table["img"].tolist(), groups)
    codes = pd.factorize(groups)[0] if len(groups) else np.arange(len(table))
    return join_folds(before, codes, closed=closed)
