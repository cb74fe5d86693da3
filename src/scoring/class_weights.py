"""CLASS_WEIGHTS=auto: weights of classes by how rare they are in the training masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from competition.mask_source import MaskSource
from core.errors import UserError
from core.quantities import counted
from data.specs import DataSpec, Row
from scoring.baseline import read_truths

# Masks that are counted at most, evenly picked.
COUNTED = 1000


def count_classes(truths: Sequence[np.ndarray], spec: DataSpec) -> tuple[np.ndarray, np.ndarray]:
    """(K,) pixels of each class, and (K,) pixels that count of the masks that hold it."""
    inside, around = np.zeros(spec.classes), np.zeros(spec.classes)
    for truth in truths:
        if spec.task == "multiclass":
            pixels = np.bincount(truth.ravel(), minlength=256)[: spec.classes]
            known = np.full(spec.classes, pixels.sum())
        else:
            planes = truth.reshape(spec.classes, -1)
            pixels, known = (planes == 1).sum(1), (planes <= 1).sum(1)
        inside += pixels
        around += np.where(pixels > 0, known, 0)
    return inside, around


def median_frequency(inside: np.ndarray, around: np.ndarray) -> np.ndarray:
    """(K,) weights: the median share of the classes over a class's own; 1 of what is nowhere.

    Source: Eigen & Fergus 2015.
    """
    seen = inside > 0
    shares = inside[seen] / around[seen]
    weights = np.ones(len(inside))
    weights[seen] = np.median(shares) / shares
    return weights


def weigh_classes(
    rows: Sequence[Row], root: Path, masks: MaskSource, *, spec: DataSpec
) -> tuple[tuple[float, ...], str]:
    """Weights of the classes by the masks of these rows, and the words that tell them.

    Raises:
        UserError: no mask holds any class, or images are too large to count.
    """
    truths = [truth for _, truth, _ in read_truths(rows, root, masks, spec.axes, most=COUNTED)]
    if not truths:
        raise UserError(
            "CLASS_WEIGHTS=auto: the masks are too large to be counted: give numbers, or cut the "
            "images into parts by TILE"
        )
    inside, around = count_classes(truths, spec)
    if not inside.any():
        raise UserError("CLASS_WEIGHTS=auto: no training mask holds a class: give numbers")
    weights = tuple(float(f"{weight:.4g}") for weight in median_frequency(inside, around))
    names = spec.class_names or range(spec.classes)
    shares = inside / np.maximum(around, 1)
    told = [
        f"{name} {weight:g} ({share:.2%})" if share else f"{name} {weight:g} (nowhere)"
        for name, weight, share in zip(names, weights, shares, strict=True)
    ]
    return weights, f"of {counted(len(truths), 'mask')} (share where it is): {', '.join(told)}"
