"""Metrics of objects: what overlaps of an image's objects add up to."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from measures.matching import Overlaps, overlap_objects


def overlap_images(masks: Any, targets: Any, probs: Tensor | None = None) -> list[Overlaps]:
    """Overlaps of each image, so that several metrics match objects once.

    Args:
        masks: label images: (H, W), (B, H, W) or a list of (H, W) of any sizes, tensors or arrays.
            A decision (B, 1, H, W) is split into its connected parts first.
        targets: likewise.
        probs: (B, H, W) for the confidence of predicted objects; without them it is 1.

    Raises:
        ValueError: another number of images in `masks` than in `targets`, or shapes that differ.
    """
    pairs = zip(_label_images(masks), _label_images(targets), strict=True)
    planes = None if probs is None else probs.float().cpu().numpy()
    return [
        overlap_objects(pred, true, None if planes is None else planes[at])
        for at, (pred, true) in enumerate(pairs)
    ]


class ObjectMetric(Metric):
    """Sums over images of what an image's objects give, and the score of the sums.

    Args:
        task, classes, class_names: as every metric; not read.
        values: overlaps of an image to V numbers.
        score: sums (..., V) to scores (...).
        size: V.
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
    ) -> None:
        super().__init__()
        self.values, self.score_sums = values, score
        # Not float64, which Apple's devices lack.
        self.add_state("sums", torch.zeros(size), dist_reduce_fx="sum")

    def image_values(self, matches: Sequence[Overlaps]) -> Tensor:
        """(B, V) float64."""
        values = [self.values(match) for match in matches]
        return torch.tensor(values, dtype=torch.double).view(len(values), -1)

    def per_image(self, mask: Any, target: Any) -> Tensor:
        """(B,) scores of the images; raises as `overlap_images`."""
        return self.score_sums(self.image_values(overlap_images(mask, target))).float()

    def update(
        self, mask: Any = None, target: Any = None, *, matches: Sequence[Overlaps] | None = None
    ) -> None:
        """Adds a batch: masks and targets, or their `overlap_images`."""
        matches = overlap_images(mask, target) if matches is None else matches
        self.sums += self.image_values(matches).sum(0).to(self.sums)

    def compute(self) -> Tensor:
        """Scalar 0-1; nan before the first image."""
        return self.score_sums(self.sums)


def mean_of_images(*args: Any, score: Callable[[Overlaps], float], **kwargs: Any) -> ObjectMetric:
    """The metric that is the mean of images' scores."""
    return ObjectMetric(
        *args, values=partial(_score_and_one, score=score), score=_mean, size=2, **kwargs
    )


def f1_of_all(
    *args: Any, count: Callable[[Overlaps], Sequence[float]], **kwargs: Any
) -> ObjectMetric:
    """The F1 of [tp, fp, fn] objects over all images; nan where there are none at all."""
    return ObjectMetric(*args, values=count, score=_f1, size=3, **kwargs)


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


class ObjectDistance(ObjectMetric):
    """As ObjectMetric, of distances in pixels: less is better."""

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
