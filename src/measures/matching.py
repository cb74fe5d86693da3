"""Objects of one image, predicted against true: where they overlap, and the scores of that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

# IoU thresholds in twentieths: 0.5, 0.55 ... 0.95.
LADDER = tuple(range(10, 20))


@dataclass(frozen=True)
class Overlaps:
    """Predicted and true objects of an image and the pairs that share pixels.

    Attributes:
        pred_area: (P,) pixels of each predicted object, in the order of ids.
        true_area: (T,) pixels of each true object.
        row: (N,) the predicted object of each pair that shares pixels, 0...P-1.
        column: (N,) its true object, 0...T-1.
        shared: (N,) pixels that the pair shares.
        confidence: (P,) of each predicted object, 0-1.
        pred: (H, W) numbers of the predicted objects, 1...P, 0 where none is.
        true: (H, W) of the true ones, 1...T.
    """

    pred_area: NDArray[np.int64]
    true_area: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    shared: NDArray[np.int64]
    confidence: NDArray[np.float64]
    pred: NDArray[np.int64]
    true: NDArray[np.int64]

    @property
    def union(self) -> NDArray[np.int64]:
        """(N,) pixels in either object of a pair."""
        return self.pred_area[self.row] + self.true_area[self.column] - self.shared

    @property
    def iou(self) -> NDArray[np.float64]:
        """(N,) of each pair, 0-1."""
        return self.shared / self.union

    def hits(self, ladder: Sequence[int] = LADDER) -> NDArray[np.int64]:
        """(S,) objects found at each IoU threshold: those above it.

        Args:
            ladder: thresholds in twentieths, 10 or more: above one half an object overlaps with
                one other at most, so none is found twice.
        """
        # As whole numbers: 0.6 and 0.7 have no exact float to be strictly above.
        return (20 * self.shared > np.array(ladder)[:, None] * self.union).sum(1)

    def keep(self, wanted: NDArray[np.bool_]) -> "Overlaps":
        """The same image with some of the predicted objects (P,) only."""
        pairs = wanted[self.row]
        number = np.cumsum(wanted) - 1
        new = np.append(0, (number + 1) * wanted)
        return replace(
            self,
            pred_area=self.pred_area[wanted],
            confidence=self.confidence[wanted],
            row=number[self.row[pairs]],
            column=self.column[pairs],
            shared=self.shared[pairs],
            pred=new[self.pred],
        )


def overlap_objects(
    pred_labels: NDArray[Any],
    true_labels: NDArray[Any],
    probs: NDArray[Any] | None = None,
) -> Overlaps:
    """Overlaps of two label images.

    Args:
        pred_labels: (H, W) integers, 0 is background; ids need not be consecutive.
        true_labels: likewise.
        probs: (H, W), 0-1: the mean inside an object is its confidence; without them 1.

    Raises:
        ValueError: shapes that differ, ids that are negative or no integers.
    """
    if pred_labels.shape != true_labels.shape:
        raise ValueError(f"predicted labels are {pred_labels.shape}, true {true_labels.shape}")
    pred, true = _compact(pred_labels), _compact(true_labels)
    pred_area, true_area = np.bincount(pred)[1:], np.bincount(true)[1:]
    # Only pairs that touch are kept: a table of all would not fit when a raw network gives specks.
    both = (pred > 0) & (true > 0)
    codes = (pred[both] - 1) * len(true_area) + true[both] - 1
    pairs, shared = np.unique(codes, return_counts=True)
    row, column = np.divmod(pairs, max(len(true_area), 1))
    confidence = np.ones(len(pred_area))
    if probs is not None:
        confidence = np.bincount(pred, weights=probs.reshape(-1))[1:] / pred_area
    size = pred_labels.shape
    planes = pred.reshape(size), true.reshape(size)
    return Overlaps(pred_area, true_area, row, column, shared, confidence, *planes)


def overlap_masks(
    pred: Sequence[NDArray[Any]],
    true: Sequence[NDArray[Any]],
    size: tuple[int, int],
    *,
    confidence: Sequence[float],
) -> Overlaps:
    """Overlaps of two lists of masks, which may share pixels within a list, too.

    Args:
        pred: {0, 1} (H, W) each; empty ones are no objects.
        true: likewise.
        size: (H, W).
        confidence: of each predicted mask, 0-1.
    """
    kept = [(mask, sure) for mask, sure in zip(pred, confidence, strict=True) if mask.any()]
    found, real = (_as_rows(them, size) for them in ([m for m, _ in kept], true))
    pairs = (found @ real.T).tocoo()
    return Overlaps(
        found.sum(1),
        real.sum(1),
        pairs.coords[0].astype(np.int64),
        pairs.coords[1].astype(np.int64),
        pairs.data,
        np.array([sure for _, sure in kept], np.float64),
        _painted(found, size),
        _painted(real, size),
    )


def _as_rows(masks: Sequence[NDArray[Any]], size: tuple[int, int]) -> csr_array:
    """int64 (N, H * W), sparse: a row a mask that is not empty."""
    pixels = [np.flatnonzero(mask) for mask in masks if mask.any()]
    ends = np.cumsum([0, *(len(where) for where in pixels)])
    where = np.concatenate([np.empty(0, np.int64), *pixels])
    ones = np.ones(len(where), np.int64)
    return csr_array((ones, where, ends), shape=(len(pixels), size[0] * size[1]))


def _painted(rows: csr_array, size: tuple[int, int]) -> NDArray[np.int64]:
    """(H, W) numbers of masks from 1; of those that share a pixel the first has it."""
    labels = np.zeros(size[0] * size[1], np.int64)
    for at in reversed(range(rows.shape[0])):
        labels[rows.indices[rows.indptr[at] : rows.indptr[at + 1]]] = at + 1
    return labels.reshape(size)


def instance_map(pred_labels: NDArray[Any], true_labels: NDArray[Any]) -> float:
    """`mean_precision` of two label images (see `overlap_objects`)."""
    return mean_precision(overlap_objects(pred_labels, true_labels))


def mean_precision(objects: Overlaps, ladder: Sequence[int] = LADDER) -> float:
    """Mean of tp / (tp + fp + fn) over IoU thresholds for one image, 0-1.

    No objects in either image is 1, in only one of them 0.

    Source: https://www.kaggle.com/competitions/data-science-bowl-2018/overview/evaluation
    """
    count = len(objects.pred_area) + len(objects.true_area)
    tp = objects.hits(ladder)
    return float((tp / (count - tp)).mean()) if count else 1.0


def mean_f_beta(objects: Overlaps, *, beta: float, ladder: Sequence[int] = LADDER) -> float:
    """Mean of the F-beta of objects over IoU thresholds for one image, 0-1.

    No objects in either image is 1, in only one of them 0.

    Source: https://www.kaggle.com/competitions/airbus-ship-detection/overview/evaluation (beta 2)
    """
    predicted, true = len(objects.pred_area), len(objects.true_area)
    weight = beta**2
    tp = objects.hits(ladder)
    below = weight * true + predicted
    return float(((1 + weight) * tp / below).mean()) if below else 1.0


def count_greedy(objects: Overlaps, iou: float) -> list[float]:
    """[tp, fp, fn] of objects: pairs of the highest IoU first, as long as it is above `iou`."""
    tp, used_rows, used_columns = 0, set(), set()
    values = objects.iou
    for at in np.argsort(-values, kind="stable"):
        row, column = objects.row[at], objects.column[at]
        if values[at] > iou and row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            tp += 1
    return [tp, len(objects.pred_area) - tp, len(objects.true_area) - tp]


def count_optimal(objects: Overlaps, iou: float) -> list[float]:
    """[tp, fp, fn] of objects: as many pairs with an IoU above `iou` as can be."""
    size = len(objects.pred_area), len(objects.true_area)
    fits = objects.iou > iou
    tp = 0
    if fits.any():
        pairs = (objects.row[fits], objects.column[fits])
        graph = csr_array((np.ones(int(fits.sum())), pairs), shape=size)
        tp = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return [tp, size[0] - tp, size[1] - tp]


def panoptic_sums(objects: Overlaps) -> list[float]:
    """[sum of the IoU of pairs above 0.5, tp, fp, fn], as panoptic quality adds them up.

    Source: Kirillov et al. 2019.
    """
    hit = 2 * objects.shared > objects.union
    tp = int(hit.sum())
    return [
        float(objects.iou[hit].sum()),
        tp,
        len(objects.pred_area) - tp,
        len(objects.true_area) - tp,
    ]


def assigned_f1(objects: Overlaps) -> float:
    """Dice of the best assignment of objects, over the larger number of objects; 0-1.

    No objects in either image is 1, in only one of them 0.

    Source: the oF1 of https://www.kaggle.com/competitions/recodai-luc-scientific-image-forgery-detection
    """
    size = len(objects.pred_area), len(objects.true_area)
    if 0 in size:
        return float(size == (0, 0))
    table = np.zeros(size)
    areas = objects.pred_area[objects.row] + objects.true_area[objects.column]
    table[objects.row, objects.column] = 2 * objects.shared / areas
    return float(table[linear_sum_assignment(table, maximize=True)].sum() / max(size))


def gland_counts(objects: Overlaps) -> list[float]:
    """[tp, fp, fn] by the rule of GlaS.

    A predicted object is compared with the true one that it shares most pixels with, and is a hit
    where it covers at least half of that one.

    Source: Sirinukunwattana et al. 2017, Gland segmentation in colon histology images.
    """
    best = _partners(objects.row, objects.shared)
    covered = 2 * objects.shared[best] >= objects.true_area[objects.column[best]]
    tp, found = int(covered.sum()), len(np.unique(objects.column[best][covered]))
    return [tp, len(objects.pred_area) - tp, len(objects.true_area) - found]


def gland_dice_sums(objects: Overlaps) -> list[float]:
    """Sums of the object Dice of GlaS: [predicted, their area, true, their area].

    Each object's Dice with the one that it shares most pixels with, times its area.

    Source: as `gland_counts`.
    """
    values: list[float] = []
    sides = (objects.row, objects.pred_area), (objects.column, objects.true_area)
    dice = 2 * objects.shared / (objects.pred_area[objects.row] + objects.true_area[objects.column])
    for side, area in sides:
        best = _partners(side, objects.shared)
        values += [float((dice[best] * area[side[best]]).sum()), float(area.sum())]
    return values


def gland_distance_sums(objects: Overlaps) -> list[float]:
    """Sums of the object Hausdorff of GlaS: [predicted, their area, true, their area].

    Each object's Hausdorff distance in pixels to the one that it shares most pixels with, or to the
    nearest where it shares none, times its area; the image's diagonal where there is no other.

    Source: as `gland_counts`.
    """
    sides = (objects.row, objects.column), (objects.pred, objects.true)
    areas = objects.pred_area, objects.true_area
    values: list[float] = []
    for at in (0, 1):
        (mine, other), (plane, plane_there) = (pair[:: 1 - 2 * at] for pair in sides)
        best = _partners(mine, objects.shared)
        partner = dict(zip(mine[best].tolist(), other[best].tolist(), strict=True))
        there = [_points(plane_there, number) for number in range(len(areas[1 - at]))]
        total = 0.0
        for number, area in enumerate(areas[at].tolist()):
            others = [there[partner[number]]] if number in partner else there
            points = _points(plane, number)
            distances = [_hausdorff(points, one) for one in others]
            total += area * min(distances, default=float(np.hypot(*plane.shape)))
        values += [total, float(areas[at].sum())]
    return values


def _points(plane: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """(N, 2) pixels of the object of a number from 0."""
    return np.argwhere(plane == number + 1)


def _hausdorff(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """The largest distance from a point of either set to the other set."""
    there, _ = cKDTree(second).query(first)
    back, _ = cKDTree(first).query(second)
    return float(max(there.max(), back.max()))


def _partners(side: NDArray[np.int64], shared: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of the pairs in which each object of a side shares most pixels."""
    order = np.lexsort((-shared, side))
    return order[np.unique(side[order], return_index=True)[1]]


def _compact(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Flat ids 0…n, 0 kept as background, every other id in use."""
    if labels.dtype.kind not in "biu" or labels.min(initial=0) < 0:
        raise ValueError(f"instance labels are {labels.dtype} or negative, need integers from 0")
    labels = labels.reshape(-1).astype(np.int64)
    top = int(labels.max(initial=0))
    if top < 4 * labels.size:
        used = np.bincount(labels, minlength=top + 1) > 0
        used[0] = False
        return np.cumsum(used)[labels] * used[labels]
    # A table up to the largest id would not fit in memory: sort instead, which is slower.
    return np.unique(np.append(labels, 0), return_inverse=True)[1][:-1]
