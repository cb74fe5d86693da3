"""The score of a submission where the answers are known, a file of the same columns."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from competition.table_files import read_table
from competition.tables import image_id, joined_classes
from core.errors import UserError, raise_all
from metrics import build_metric, needs_of
from submissions.linter import Linter

Planes = dict[int, list[str]]


def read_answers(path: Path, linter: Linter) -> dict[str, Planes]:
    """Run-length texts by image and class (0 without a class column); empty ones are left out.

    Raises:
        UserError: a column of the sample is missing.
    """
    columns = linter.plan.columns
    table = read_table(path, columns.id)
    missing = [c for c in (columns.rle, columns.cls) if c and c not in table.columns]
    raise_all([f"no column {name!r}" for name in missing], f"{path}: not the sample's columns:")
    answers: dict[str, Planes] = defaultdict(lambda: defaultdict(list))
    classes = list(table[columns.cls]) if columns.cls else joined_classes(table[columns.id])
    if classes is None or not linter.plan.class_of:
        classes = [""] * len(table)
    for name, text, cls in zip(table[columns.id], table[columns.rle], classes, strict=True):
        planes = answers[image_id(name)]
        if not linter.form.is_empty(text):
            planes[linter.plan.class_of.get(cls, 0)].append(text)
    return answers


def score_file(path: Path, labels: Path, linter: Linter, *, metric: str) -> float:
    """The metric of a checked submission over the images that both files hold.

    Each class is a {0, 1} mask; several classes are scored as `multilabel`, so that what no row
    claims is nothing. Metrics of objects take every row as one object.

    Raises:
        UserError: no common image, or images whose size is not known.
    """
    ours, truth = read_answers(path, linter), read_answers(labels, linter)
    common = [img for img in ours if img in truth]
    if not common:
        raise UserError(f"{labels}: has no image of {path}: are the ids written alike?")
    unsized = [img for img in common if linter.size_of(img) is None]
    raise_all([f"{img}: no image" for img in unsized], "scoring needs the images' sizes:")
    classes = max(len(set(linter.plan.class_of.values())), 1)
    task = "multilabel" if classes > 1 else "binary"
    score: Any = build_metric(metric, task=task, classes=classes)
    if getattr(score, "needs_confidence", False):
        raise UserError(
            f"METRIC={metric} ranks objects by their confidence, which run lengths do not tell: "
            "score the answer with --metric map"
        )
    for img in common:
        pair = [_paint(planes[img], img, linter, classes, score) for planes in (ours, truth)]
        score.update(*(torch.from_numpy(mask)[None] for mask in pair))
    return float(score.compute())


def _paint(planes: Planes, img: str, linter: Linter, classes: int, score: Any) -> np.ndarray:
    size: Any = linter.size_of(img)
    objects = needs_of(score) == "instances"
    masks = np.zeros((classes, *size), np.int32 if objects else np.uint8)
    numbers = sorted(planes)
    for k in numbers:
        for at, text in enumerate(planes[k], 1):
            mask = linter.form.read(text, size)
            masks[k if classes > 1 else 0][mask > 0] = at if objects else 1
    return masks[0] if objects else masks
