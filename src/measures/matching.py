"""Scores of objects rather than pixels: label images against label images."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric


def instance_map(pred_labels: NDArray[Any], true_labels: NDArray[Any]) -> float:
    """Mean of tp / (tp + fp + fn) over the IoU thresholds 0.5, 0.55 … 0.95 for one image, 0-1.

    An object is found at a threshold when its IoU with a predicted one is above it. No objects in
    either image is 1, in only one of them 0.

    Args:
        pred_labels: (H, W) integers, 0 is background; ids need not be consecutive.
        true_labels: likewise.

    Raises:
        ValueError: shapes that differ, ids that are negative or no integers.

    Source: https://www.kaggle.com/competitions/data-science-bowl-2018/overview/evaluation
    """
    steps, _, true_count = match_objects(pred_labels, true_labels)
    return score_steps(steps, true_count)


Match = tuple[NDArray[np.int64], int]
EVERY = slice(None)


def match_objects(
    pred_labels: NDArray[Any], true_labels: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """What becomes of each predicted object, so that a choice of them is scored without pixels.

    Args:
        pred_labels: as in `instance_map`.
        true_labels: likewise.

    Returns:
        (P,) at how many of the ten thresholds each predicted object is a hit, (P,) areas in
        pixels, both in the order of ids, and the number of true objects.

    Raises:
        ValueError: as `instance_map`.
    """
    if pred_labels.shape != true_labels.shape:
        raise ValueError(f"predicted labels are {pred_labels.shape}, true {true_labels.shape}")
    pred, true = _compact(pred_labels), _compact(true_labels)
    pred_area, true_area = np.bincount(pred)[1:], np.bincount(true)[1:]
    # Only pairs that touch are kept: a table of all would not fit when a raw network gives specks.
    both = (pred > 0) & (true > 0)
    codes = (pred[both] - 1) * len(true_area) + true[both] - 1
    pairs, overlap = np.unique(codes, return_counts=True)
    row, column = np.divmod(pairs, max(len(true_area), 1))
    union = pred_area[row] + true_area[column] - overlap
    # In twentieths, as whole numbers: 0.6 and 0.7 have no exact float to be strictly above. Above
    # one half an object overlaps with one other at most, so no object is a hit twice.
    hits = (20 * overlap > np.arange(10, 20)[:, None] * union).sum(0)
    steps = np.bincount(row, weights=hits, minlength=len(pred_area)).astype(np.int64)
    return steps, pred_area, len(true_area)


def score_steps(steps: NDArray[np.int64], true_count: int, at: slice = EVERY) -> float:
    """Mean of tp / (tp + fp + fn) over IoU thresholds, for `match_objects` steps.

    Args:
        steps: of the predicted objects.
        true_count: number of true objects.
        at: which of the ten thresholds count: all give `instance_map`.
    """
    objects = len(steps) + true_count
    if objects == 0:
        return 1.0
    tp = (steps > np.arange(10)[:, None]).sum(1)
    return float((tp / (objects - tp))[at].mean())


def match_images(masks: Any, targets: Any) -> list[Match]:
    """What `score_steps` takes, of each image, so that several metrics match objects once.

    Raises:
        ValueError: another number of images in `masks` than in `targets`, or shapes that differ.
    """
    pairs = zip(_label_images(masks), _label_images(targets), strict=True)
    return [(steps, count) for steps, _, count in (match_objects(*pair) for pair in pairs)]


class InstanceMetric(Metric):
    """Mean over images of `instance_map`, the score of Data Science Bowl 2018.

    Args:
        task, classes, class_names: as every metric; not read.
        at: which of the ten IoU thresholds count; one alone scores at a fixed threshold.

    Takes label images: (H, W), (B, H, W) or a list of (H, W) of any sizes, tensors or arrays. A
    decision (B, 1, H, W) is split into its connected parts first.
    """

    higher_is_better = True
    full_state_update = False
    needs = "instances"
    total: Tensor
    images: Tensor

    def __init__(
        self,
        task: str,
        classes: int,
        class_names: Sequence[str] | None = None,
        *,
        at: slice = EVERY,
    ) -> None:
        super().__init__()
        self.at = at
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def per_image(self, mask: Any, target: Any) -> Tensor:
        """(B,) scores of the images; raises as `match_images`."""
        return self.match_scores(match_images(mask, target))

    def match_scores(self, matches: Sequence[Match]) -> Tensor:
        """(B,) scores of matched images."""
        scores = [self.score(*match) for match in matches]
        return torch.tensor(scores, device=self.total.device)

    def score(self, steps: NDArray[np.int64], true_count: int) -> float:
        """`score_steps` at this metric's thresholds."""
        return score_steps(steps, true_count, self.at)

    def update(
        self, mask: Any = None, target: Any = None, *, matches: Sequence[Match] | None = None
    ) -> None:
        """Adds a batch: masks and targets, or their `match_images`."""
        scores = self.match_scores(match_images(mask, target) if matches is None else matches)
        self.total += scores.sum()
        self.images += len(scores)

    def compute(self) -> Tensor:
        """Scalar 0-1; nan before the first image."""
        return self.total / self.images


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


def _label_images(images: Any) -> list[NDArray[Any]]:
    if isinstance(images, list | tuple):
        return [np.asarray(torch.as_tensor(image).cpu()) for image in images]
    array = np.asarray(torch.as_tensor(images).cpu())
    if array.ndim == 4 and array.shape[1] == 1:
        parts = array[:, 0].astype(np.uint8)
        return [cv2.connectedComponents(part, connectivity=8)[1] for part in parts]
    if array.ndim not in (2, 3):
        raise ValueError(
            f"instance labels have shape {array.shape}, need (B, H, W) or (B, 1, H, W)"
        )
    return list(array.reshape(-1, *array.shape[-2:]))
