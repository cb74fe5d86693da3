"""Scores of the objects of one image by where predicted and true ones overlap."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree

from measures.overlaps import LADDER, Overlaps, overlap_objects


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
        # SciPy before 1.15 matches graphs of 32-bit numbers alone.
        pairs = (objects.row[fits].astype(np.int32), objects.column[fits].astype(np.int32))
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
