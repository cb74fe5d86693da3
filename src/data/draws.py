"""How often each training image is drawn: BALANCE and POSITIVE_RATE, by what masks hold."""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from competition.mask_source import MaskSource
from core.errors import UserError, raise_all
from core.gates import decimal_number
from core.rows import pick
from data.specs import DataSpec, Row
from imaging.images import image_size
from imaging.mask_files import IGNORE

# Smaller shares of foreground count as one.
SMALLEST = 2.0**-12


def class_shares(
    rows: Sequence[Row], root: Path, *, spec: DataSpec, masks: MaskSource
) -> np.ndarray:
    """float64 (N, K): the share of its pixels that each image has of each class.

    The background of multiclass is no class here: its column is 0.

    Raises:
        UserError: a mask that cannot be read.
    """
    known = np.arange(spec.classes)

    def shares(row: Row) -> np.ndarray:
        mask = masks.read(row, image_size(root / row["image"], spec.axes))
        if spec.task == "multiclass":
            counts = np.bincount(mask.ravel(), minlength=IGNORE + 1)[: spec.classes]
            return counts * (known > 0) / mask.size
        planes = mask.reshape(spec.classes, -1)
        return (planes == 1).mean(1)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.array(list(pool.map(shares, rows)))


def row_weights(rows: Sequence[Row], column: str) -> list[float] | None:
    """How often each image is drawn, by a column of train_folds.csv; None where it is not there.

    Rows without a value, such as pseudo-labelled ones, weigh 1.

    Raises:
        UserError: values that are no weights, or none above 0.
    """
    if not any(column in row for row in rows):
        return None
    weights, problems = [], []
    for row in rows:
        text = str(row.get(column, "")) or "1"
        try:
            weight = decimal_number(text)
        except ValueError:
            weight = math.nan
        weights.append(weight)
        if not 0 <= weight < math.inf:
            problems.append(f"{row['img']}: {column} is {text!r}, need a number, 0 or more")
    if not problems and not any(weights):
        problems = [f"column {column}: all training images have weight 0"]
    raise_all(problems, "train_folds.csv: weights of images (WEIGHT_COLUMN):")
    return weights


class Foreground:
    """Whether images hold foreground, of any class: a mask is read when it is first asked for.

    Args:
        root: folder that the images' paths start from.
        masks: what they hold.
        axes: of images that are arrays.
    """

    def __init__(self, root: Path, masks: MaskSource, axes: str = ""):
        self.root, self.masks, self.axes = root, masks, axes
        self.known: dict[str, bool] = {}

    def __call__(self, row: Row) -> bool:
        """Raises UserError for a mask that cannot be read."""
        img = row["img"]
        if img not in self.known:
            mask = self.masks.read(row, image_size(self.root / row["image"], self.axes))
            self.known[img] = bool(((mask > 0) & (mask != IGNORE)).any())
        return self.known[img]


def balance_classes(rows: Sequence[Row], shares: np.ndarray) -> np.ndarray:
    """Every class comes as often as any other; images without any are one more."""
    inside = shares > 0
    inside = np.column_stack([inside, ~inside.any(1)])
    return (inside / np.maximum(inside.sum(0), 1)).sum(1)


def balance_areas(rows: Sequence[Row], shares: np.ndarray) -> np.ndarray:
    """Small and large foregrounds come alike: each doubling of the area, and none, by itself."""
    areas = shares.sum(1)
    octaves = np.floor(np.log2(np.maximum(areas, SMALLEST)))
    return _alike(np.where(areas > 0, octaves, 1))


def balance_sources(rows: Sequence[Row], shares: np.ndarray) -> np.ndarray:
    """Every value of the column source comes as often as any other.

    Raises:
        UserError: there is no such column.
    """
    if not any("source" in row for row in rows):
        raise UserError("BALANCE=source: train_folds.csv has no column source: see src/tiles.py")
    return _alike(np.array([row.get("source", "") for row in rows]))


def _alike(kinds: np.ndarray) -> np.ndarray:
    _, kind, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    return 1 / counts[kind]


# Weight (N,) of each image by its row and shares of classes (N, K).
BALANCES: dict[str, Callable[[Sequence[Row], np.ndarray], np.ndarray]] = {
    "class": balance_classes,
    "area": balance_areas,
    "source": balance_sources,
}


@dataclass(frozen=True)
class Draws:
    """Weights of images, epoch by epoch.

    Attributes:
        weights: float64 (N,), of every epoch.
        positive: bool (N,), whether an image holds any foreground.
        rates: share of positive images in the first and the last epoch; () = as weights say.
        epochs: of the training.
    """

    weights: np.ndarray
    positive: np.ndarray
    rates: tuple[float, ...] = ()
    epochs: int = 1

    def rate(self, epoch: int) -> float:
        """Share of positive images in an epoch, counted from 0; in between it moves evenly."""
        done = min(1.0, epoch / max(1, self.epochs - 1))
        return self.rates[0] + (self.rates[-1] - self.rates[0]) * done

    def __call__(self, epoch: int) -> np.ndarray:
        """Weights (N,) of an epoch."""
        if not self.rates:
            return self.weights
        sides = [np.where(side, self.weights, 0.0) for side in (self.positive, ~self.positive)]
        rate = self.rate(epoch)
        return rate * sides[0] / sides[0].sum() + (1 - rate) * sides[1] / sides[1].sum()


def build_draws(
    rows: Sequence[Row],
    root: Path,
    *,
    spec: DataSpec,
    masks: MaskSource,
    weights: Sequence[float] | None,
    balance: str,
    rates: tuple[float, ...],
    epochs: int,
) -> Draws | None:
    """How images are drawn; None: each once an epoch.

    Args:
        rows: of the training images.
        root: folder that their paths start from.
        spec, masks: what they hold.
        weights: of WEIGHT_COLUMN; they are multiplied with those of `balance`.
        balance: "none", or a row of BALANCES.
        rates: of POSITIVE_RATE.
        epochs: of the training.

    Raises:
        UserError: a mask that cannot be read, or images of one kind only where two are wanted.
    """
    if weights is None and balance == "none" and not rates:
        return None
    known = np.ones(len(rows)) if weights is None else np.array(weights, np.float64)
    shares = np.zeros((len(rows), spec.classes))
    if rates or balance in ("class", "area"):
        shares = class_shares(rows, root, spec=spec, masks=masks)
    if balance != "none":
        builder: Any = pick(BALANCES, balance, "BALANCE")
        known = known * builder(rows, shares)
    positive = shares.sum(1) > 0
    for side, name in ((positive, "foreground"), (~positive, "no foreground")):
        if rates and not known[side].any():
            raise UserError(
                f"POSITIVE_RATE={','.join(map(str, rates))}: no training image with {name} can be "
                "drawn: leave it empty"
            )
    return Draws(known, positive, rates, epochs)
