"""Scores of each class over all pixels of a data set: output/<RUN>/classes.csv."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.files import writing
from measures.pixels import dice, iou, precision, recall

# False negatives weigh more than false positives, as in the loss of that name.
ALPHA, BETA = 0.3, 0.7


def tversky(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """tp / (tp + 0.3 fp + 0.7 fn); nan where a class is in neither mask.

    Source: Salehi et al. 2017.
    """
    return tp / (tp + ALPHA * fp + BETA * fn)


# (heading, score of true and false positives and negatives); iou is the Jaccard index, dice F1.
CLASS_SCORES: dict[str, tuple[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]]] = {
    "iou": ("IoU (Jaccard)", lambda tp, fp, fn, tn: iou(tp, fp, fn)),
    "dice": ("Dice (F-score)", lambda tp, fp, fn, tn: dice(tp, fp, fn)),
    "precision": ("Precision", lambda tp, fp, fn, tn: precision(tp, fp, fn)),
    "recall": ("Recall", lambda tp, fp, fn, tn: recall(tp, fp, fn)),
    "tversky": ("Tversky", lambda tp, fp, fn, tn: tversky(tp, fp, fn)),
    "specificity": ("Specificity", lambda tp, fp, fn, tn: tn / (tn + fp)),
    "npv": ("NPV", lambda tp, fp, fn, tn: tn / (tn + fn)),
}


def score_classes(counts: np.ndarray, names: Sequence[str]) -> Any:
    """A table with a row a class: its share of the pixels, the scores, the counts.

    Args:
        counts: (K, 4) pixels: true positive, false positive, false negative, true negative.
        names: K of them.
    """
    import pandas as pd

    table = pd.DataFrame({"class": list(names)})
    table["share"] = (counts[:, 0] + counts[:, 2]) / counts.sum(1).clip(1)
    columns = torch.from_numpy(counts).double().unbind(-1)
    for name, (_, score) in CLASS_SCORES.items():
        table[name] = score(*columns).numpy()
    for at, name in enumerate(("tp", "fp", "fn", "tn")):
        table[name] = counts[:, at]
    return table


def mean_rows(table: Any, *, task: str) -> dict[str, Any]:
    """Means of the classes' scores by name: of all, and without the background.

    The background is class 0, and only where classes exclude each other. A class without a score
    is left out of its mean.
    """
    scores = table[list(CLASS_SCORES)]
    means = {"mean": scores.mean()}
    if task == "multiclass":
        means[f"mean without {table['class'].iloc[0]}"] = scores.iloc[1:].mean()
    return means if len(table) > 1 else {}


def write_classes(path: Path, table: Any, *, task: str) -> None:
    """Writes the table and its means as CSV; a score that is undefined is an empty cell."""
    import pandas as pd

    rows = [{"class": name, **row} for name, row in mean_rows(table, task=task).items()]
    whole = pd.concat([table.astype(object), pd.DataFrame(rows)]) if rows else table
    with writing(path) as part:
        whole.to_csv(part, index=False)
