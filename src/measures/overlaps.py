"""Objects of one image, predicted against true: where they overlap."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

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
        pred_class: (P,) class of each predicted object; pairs are of one class.
        true_class: (T,) of each true object.
    """

    pred_area: NDArray[np.int64]
    true_area: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    shared: NDArray[np.int64]
    confidence: NDArray[np.float64]
    pred: NDArray[np.int64]
    true: NDArray[np.int64]
    pred_class: NDArray[np.int64]
    true_class: NDArray[np.int64]

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
            pred_class=self.pred_class[wanted],
        )

    def of_class(self, cls: int) -> "Overlaps":
        """The same image with the objects of one class only."""
        wanted = self.true_class == cls
        kept, number = self.keep(self.pred_class == cls), np.cumsum(wanted) - 1
        return replace(
            kept,
            true_area=self.true_area[wanted],
            column=number[kept.column],
            true=np.append(0, (number + 1) * wanted)[self.true],
            true_class=self.true_class[wanted],
        )

    @property
    def present(self) -> list[int]:
        """Classes that have objects."""
        return np.union1d(self.pred_class, self.true_class).tolist()


def overlap_objects(
    pred_labels: NDArray[Any],
    true_labels: NDArray[Any],
    probs: NDArray[Any] | None = None,
    *,
    classes: int = 1,
) -> Overlaps:
    """Overlaps of two label images.

    Args:
        pred_labels: (H, W) integers, 0 is background; ids need not be consecutive.
        true_labels: likewise.
        probs: (H, W), 0-1: the mean inside an object is its confidence; without them 1.
        classes: an id modulo this is the object's class; only objects of one class are paired.

    Raises:
        ValueError: shapes that differ, ids that are negative or no integers.
    """
    if pred_labels.shape != true_labels.shape:
        raise ValueError(f"predicted labels are {pred_labels.shape}, true {true_labels.shape}")
    (pred, pred_class), (true, true_class) = (
        _compact(labels, classes) for labels in (pred_labels, true_labels)
    )
    pred_area, true_area = np.bincount(pred)[1:], np.bincount(true)[1:]
    # Only pairs that touch are kept: a table of all would not fit when a raw network gives specks.
    both = (pred > 0) & (true > 0)
    codes = (pred[both] - 1) * len(true_area) + true[both] - 1
    pairs, shared = np.unique(codes, return_counts=True)
    row, column = np.divmod(pairs, max(len(true_area), 1))
    alike = pred_class[row] == true_class[column]
    row, column, shared = row[alike], column[alike], shared[alike]
    confidence = np.ones(len(pred_area))
    if probs is not None:
        confidence = np.bincount(pred, weights=probs.reshape(-1))[1:] / pred_area
    size = pred_labels.shape
    planes = pred.reshape(size), true.reshape(size)
    kinds = pred_class, true_class
    return Overlaps(pred_area, true_area, row, column, shared, confidence, *planes, *kinds)


def overlap_masks(
    pred: Sequence[NDArray[Any]],
    true: Sequence[NDArray[Any]],
    size: tuple[int, int],
    *,
    confidence: Sequence[float],
    classes: tuple[Sequence[int], Sequence[int]],
) -> Overlaps:
    """Overlaps of two lists of masks, which may share pixels within a list, too.

    Args:
        pred: {0, 1} (H, W) each; empty ones are no objects.
        true: likewise.
        size: (H, W).
        confidence: of each predicted mask, 0-1.
        classes: of the predicted masks, and of the true ones; only masks of one class are paired.
    """
    filled = [np.array([mask.any() for mask in masks], bool) for masks in (pred, true)]
    found, real = (_as_rows(masks, size) for masks in (pred, true))
    pred_class, true_class = (
        np.array(kinds, np.int64)[there] for kinds, there in zip(classes, filled, strict=True)
    )
    pairs = (found @ real.T).tocoo()
    row, column = (axis.astype(np.int64) for axis in pairs.coords)
    alike = pred_class[row] == true_class[column]
    return Overlaps(
        found.sum(1),
        real.sum(1),
        row[alike],
        column[alike],
        pairs.data[alike],
        np.array(confidence, np.float64)[filled[0]],
        _painted(found, size),
        _painted(real, size),
        pred_class,
        true_class,
    )


def _as_rows(masks: Sequence[NDArray[Any]], size: tuple[int, int]) -> Any:
    """csr_array int64 (N, H * W): a row a mask that is not empty."""
    pixels = [np.flatnonzero(mask) for mask in masks if mask.any()]
    ends = np.cumsum([0, *(len(where) for where in pixels)])
    where = np.concatenate([np.empty(0, np.int64), *pixels])
    ones = np.ones(len(where), np.int64)
    return csr_array((ones, where, ends), shape=(len(pixels), size[0] * size[1]))


def _painted(rows: Any, size: tuple[int, int]) -> NDArray[np.int64]:
    """(H, W) numbers of masks from 1; of those that share a pixel the first has it."""
    labels = np.zeros(size[0] * size[1], np.int64)
    for at in reversed(range(rows.shape[0])):
        labels[rows.indices[rows.indptr[at] : rows.indptr[at + 1]]] = at + 1
    return labels.reshape(size)


def _compact(labels: NDArray[Any], classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat ids 0…n, 0 kept as background, every other id in use; and the class (n,) of each."""
    if labels.dtype.kind not in "biu" or labels.min(initial=0) < 0:
        raise ValueError(f"instance labels are {labels.dtype} or negative, need integers from 0")
    labels = labels.reshape(-1).astype(np.int64)
    top = int(labels.max(initial=0))
    if top < 4 * labels.size:
        used = np.bincount(labels, minlength=top + 1) > 0
        used[0] = False
        return np.cumsum(used)[labels] * used[labels], np.flatnonzero(used) % classes
    # A table up to the largest id would not fit in memory: sort instead, which is slower.
    ids, compact = np.unique(np.append(labels, 0), return_inverse=True)
    return compact[:-1], ids[1:] % classes
