"""Metrics of objects: what overlaps of an image's objects add up to."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from measures.overlaps import Overlaps, overlap_objects


def overlap_images(
    masks: Any, targets: Any, probs: Tensor | None = None, *, classes: int = 1
) -> list[Overlaps]:
    """Overlaps of each image, so that several metrics match objects once.

    Args:
        masks: label images: (H, W), (B, H, W) or a list of (H, W) of any sizes, tensors or arrays.
            A decision (B, 1, H, W) is split into its connected parts first.
        targets: likewise.
        probs: (B, H, W) for the confidence of predicted objects; without them it is 1.
        classes: a label modulo this is the object's class.

    Raises:
        ValueError: another number of images in `masks` than in `targets`, or shapes that differ.
    """
    pairs = zip(_label_images(masks), _label_images(targets), strict=True)
    planes = None if probs is None else probs.float().cpu().numpy()
    return [
        overlap_objects(pred, true, None if planes is None else planes[at], classes=classes)
        for at, (pred, true) in enumerate(pairs)
    ]


class ObjectMetric(Metric):
    """Sums over images of what an image's objects give, and the score of the sums.

    Objects of several classes are told apart by multiclass; a pair is of one class.

    Args:
        task, classes, class_names: as every metric.
        values: overlaps of an image to V numbers.
        score: sums (..., V) to scores (...).
        size: V.
        by_class: the score is the mean of the scores of classes, those without objects left out.
    """

    higher_is_better = True
    full_state_update = False
    needs = "instances"
    sums: Tensor

    def __init__(
        self,
        task: str,
        classes: int,
        class_names: Sequence[str] | None = None,
        *,
        values: Callable[[Overlaps], Sequence[float]],
        score: Callable[[Tensor], Tensor],
        size: int,
        by_class: bool = False,
    ) -> None:
        super().__init__()
        self.classes = label_classes(task, classes)
        self.values, self.score, self.size = values, score, size
        self.by_class = by_class and self.classes > 1
        # Not float64, which Apple's devices lack.
        width = size * (self.classes if self.by_class else 1)
        self.add_state("sums", torch.zeros(width), dist_reduce_fx="sum")

    def image_values(self, matches: Sequence[Overlaps]) -> Tensor:
        """(B, V) float64; by class (B, K V)."""
        values = torch.zeros(len(matches), len(self.sums), dtype=torch.double)
        for row, match in zip(values, matches, strict=True):
            if not self.by_class:
                row[:] = torch.tensor(self.values(match))
                continue
            for k in match.present:
                of_one = self.values(match.of_class(k))
                row[k * self.size : (k + 1) * self.size] = torch.tensor(of_one)
        return values

    def score_sums(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., V)."""
        if not self.by_class:
            return self.score(sums)
        sums = sums.unflatten(-1, (self.classes, self.size))
        return self.score(sums).where(sums.sum(-1) > 0, torch.nan).nanmean(-1)

    def per_image(self, mask: Any, target: Any) -> Tensor:
        """(B,) scores of the images; raises as `overlap_images`."""
        matches = overlap_images(mask, target, classes=self.classes)
        return self.score_sums(self.image_values(matches)).float()

    def update(
        self, mask: Any = None, target: Any = None, *, matches: Sequence[Overlaps] | None = None
    ) -> None:
        """Adds a batch: masks and targets, or their `overlap_images`."""
        if matches is None:
            matches = overlap_images(mask, target, classes=self.classes)
        self.sums += self.image_values(matches).sum(0).to(self.sums)

    def compute(self) -> Tensor:
        """Scalar 0-1; nan before the first image."""
        return self.score_sums(self.sums)


def label_classes(task: str, classes: int) -> int:
    """What a label modulo is its object's class.

    Raises:
        ValueError: several classes whose masks may overlap.
    """
    if task == "multilabel" and classes > 1:
        raise ValueError(
            "objects of classes that may overlap are not told apart: need TASK=multiclass or binary"
        )
    return classes if task == "multiclass" else 1


def mean_of_images(
    *args: Any,
    score: Callable[[Overlaps], float],
    kind: type[ObjectMetric] = ObjectMetric,
    **kwargs: Any,
) -> ObjectMetric:
    """The metric that is the mean of images' scores."""
    return kind(*args, values=partial(_score_and_one, score=score), score=_mean, size=2, **kwargs)


def f1_of_all(
    *args: Any,
    count: Callable[[Overlaps], Sequence[float]],
    kind: type[ObjectMetric] = ObjectMetric,
    **kwargs: Any,
) -> ObjectMetric:
    """The F1 of [tp, fp, fn] objects over all images; nan where there are none at all."""
    return kind(*args, values=count, score=_f1, size=3, **kwargs)


def _score_and_one(objects: Overlaps, *, score: Callable[[Overlaps], float]) -> list[float]:
    return [score(objects), 1.0]


def _mean(sums: Tensor) -> Tensor:
    return sums[..., 0] / sums[..., 1]


def _f1(sums: Tensor) -> Tensor:
    tp, fp, fn = sums.unbind(-1)
    return 2 * tp / (2 * tp + fp + fn)


def panoptic_quality(sums: Tensor) -> Tensor:
    """Scores of summed `panoptic_sums`; 0 where there are no objects at all."""
    iou, tp, fp, fn = sums.unbind(-1)
    return (iou / (tp + 0.5 * fp + 0.5 * fn)).nan_to_num(nan=0.0)


class OneClassMetric(ObjectMetric):
    """As ObjectMetric, of one class.

    Raises:
        ValueError: there are several.
    """

    def __init__(self, task: str, classes: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(task, classes, *args, **kwargs)
        if self.classes > 2:
            raise ValueError("is of objects of one class")


class ObjectDistance(OneClassMetric):
    """As ObjectMetric, of distances: less is better."""

    higher_is_better = False


def gland_distance(sums: Tensor) -> Tensor:
    """Distances of summed `gland_distance_sums`, the mean of both sides; 0 without any object."""
    found, area, real, true_area = sums.unbind(-1)
    sides = torch.stack([found / area, real / true_area])
    # A side without objects has no distances of its own.
    return sides.nanmean(0).nan_to_num(nan=0.0)


def gland_dice(sums: Tensor) -> Tensor:
    """Scores of summed `gland_dice_sums`, the mean of both sides; nan where there is no object."""
    found, area, real, true_area = sums.unbind(-1)
    # A side without objects has found nothing of the other.
    return (found / area.clamp_min(1) + real / true_area.clamp_min(1)).where(
        area + true_area > 0, torch.nan
    ) / 2


def _label_images(images: Any) -> list[np.ndarray]:
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
