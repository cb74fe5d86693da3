"""Scores of outlines and shapes: two masks of one image and class, of which one has pixels."""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from skimage.morphology import skeletonize
from torch import Tensor
from torchmetrics import Metric

from measures.pixels import IGNORE

Plane = NDArray[np.bool_]
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
SQUARE = np.ones((3, 3), np.uint8)


def boundary_iou(mask: Plane, truth: Plane, *, ratio: float) -> float:
    """IoU of the bands inside both outlines, 0-1.

    Args:
        mask: (H, W).
        truth: likewise.
        ratio: the band's width as a share of the image's diagonal, at least one pixel.

    Source: Cheng et al. 2021, Boundary IoU (ratio 0.02, 0.005 for LVIS).
    """
    width = max(1, round(ratio * float(np.hypot(*mask.shape))))
    found, real = (_inner_band(plane, SQUARE, width) for plane in (mask, truth))
    return float((found & real).sum() / (found | real).sum())


def boundary_f(mask: Plane, truth: Plane, *, tolerance: float) -> float:
    """F1 of outline pixels that have one of the other outline within a tolerance, 0-1.

    Args:
        mask: (H, W).
        truth: likewise.
        tolerance: in pixels, Euclidean; a distance equal to it is within.

    Source: Csurka et al. 2013, What is a good evaluation measure for semantic segmentation?
    """
    found, real = (_inner_band(plane, CROSS, 1) for plane in (mask, truth))
    if not found.any() or not real.any():
        return 0.0
    precision = (_distance_to(real)[found] <= tolerance).mean()
    recall = (_distance_to(found)[real] <= tolerance).mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def surface_dice(mask: Plane, truth: Plane, *, tolerance: float) -> float:
    """Share of both outlines' length that is within a tolerance of the other outline, 0-1.

    An outline runs between the centres of four pixels, as marching squares draw it.

    Args:
        mask: (H, W).
        truth: likewise.
        tolerance: in pixels; a distance equal to it is within.

    Source: Nikolov et al. 2018; https://github.com/google-deepmind/surface-distance
    """
    found, real = _outline_lengths(mask), _outline_lengths(truth)
    if not found.any() or not real.any():
        return 0.0
    near = found[_distance_to(real > 0) <= tolerance].sum()
    near += real[_distance_to(found > 0) <= tolerance].sum()
    return float(near / (found.sum() + real.sum()))


def hausdorff(mask: Plane, truth: Plane) -> float:
    """The largest distance from a pixel of either mask to the other one, in pixels.

    The image's diagonal where one of the masks is empty.
    """
    if not mask.any() or not truth.any():
        return float(np.hypot(*mask.shape))
    return float(max(_distance_to(truth)[mask].max(), _distance_to(mask)[truth].max()))


def hausdorff_95(mask: Plane, truth: Plane) -> float:
    """The 95th percentile of the distances of both outlines' pixels to the other one, in pixels.

    The image's diagonal where one of the masks is empty.

    Source: MedPy's hd95, which takes both directions' distances together.
    """
    if not mask.any() or not truth.any():
        return float(np.hypot(*mask.shape))
    found, real = (_inner_band(plane, CROSS, 1) for plane in (mask, truth))
    both = [_distance_to(real)[found], _distance_to(found)[real]]
    return float(np.percentile(np.concatenate(both), 95))


def centreline_dice(mask: Plane, truth: Plane) -> float:
    """Harmonic mean of the shares of each mask's centre line that lie in the other mask, 0-1.

    Source: Shit et al. 2021, clDice.
    """
    if not mask.any() or not truth.any():
        return 0.0
    precision = truth[skeletonize(mask)].mean()
    recall = mask[skeletonize(truth)].mean()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def _inner_band(plane: Plane, kernel: NDArray[Any], width: int) -> Plane:
    """Pixels that an erosion takes away; what lies outside the image is background."""
    padded = np.pad(plane.astype(np.uint8), width)
    inner = cv2.erode(padded, kernel, iterations=width)[width:-width, width:-width]
    return plane & (inner == 0)


def _distance_to(plane: Plane) -> NDArray[np.float64]:
    """(H, W) distance of each pixel to the nearest one of the plane."""
    return distance_transform_edt(~plane)


def _outline_lengths(plane: Plane) -> NDArray[np.float64]:
    """(H + 1, W + 1) length of the outline between each four neighbours, in pixels."""
    padded = np.pad(plane, 1).astype(np.int64)
    top, bottom = padded[:-1], padded[1:]
    code = top[:, :-1] + 2 * top[:, 1:] + 4 * bottom[:, :-1] + 8 * bottom[:, 1:]
    # A corner alone is cut off by half a diagonal, two opposite ones by two halves.
    half = np.sqrt(0.5)
    lengths = np.array([0, half, half, 1, half, 1, 2 * half, half, half, 2 * half, 1, half, 1])
    return np.append(lengths, [half, half, 0])[code]


class ShapeMetric(Metric):
    """Mean over pairs of image and class of a measure of two masks.

    Ignored pixels are in neither mask. Multiclass leaves out the pairs of a class that is in
    neither mask.

    Args:
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        class_names: as every metric; not read.
        measure: two masks (H, W), of which at least one has pixels, to a score.
        empty: what a pair without pixels scores; nan leaves it out, as multiclass always does.
    """

    higher_is_better = True
    full_state_update = False
    needs = "mask"
    width = 2
    sums: Tensor

    def __init__(
        self,
        task: str,
        classes: int,
        class_names: Sequence[str] | None = None,
        *,
        measure: Callable[[Plane, Plane], float],
        empty: float = 1.0,
    ) -> None:
        super().__init__()
        self.task, self.classes, self.measure = task, classes, measure
        self.empty = torch.nan if task == "multiclass" else empty
        self.add_state("sums", torch.zeros(2), dist_reduce_fx="sum")

    def image_values(self, mask: Tensor, target: Tensor) -> Tensor:
        """(B, 2) float64: the sum of an image's scores and their number.

        Args:
            mask: of `metrics.decide`.
            target: the truth, shaped likewise.
        """
        found, real = (self._planes(ids, target) for ids in (mask, target))
        scores = [
            [self._score(*pair) for pair in zip(*planes, strict=True)]
            for planes in zip(found, real, strict=True)
        ]
        table = torch.tensor(scores, dtype=torch.double)
        return torch.stack([table.nansum(1), (~table.isnan()).sum(1).double()], -1)

    def _planes(self, ids: Tensor, target: Tensor) -> NDArray[np.bool_]:
        """(B, K, H, W) of masks or ids, nothing where the truth is ignored."""
        if self.task == "multiclass":
            known = torch.arange(self.classes, device=ids.device).view(-1, 1, 1)
            planes = (ids[:, None] == known) & (target != IGNORE)[:, None]
        else:
            planes = ids.bool() & (target != IGNORE)
        return planes.cpu().numpy()

    def _score(self, mask: Plane, truth: Plane) -> float:
        return self.measure(mask, truth) if mask.any() or truth.any() else self.empty

    def score_sums(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., 2)."""
        return sums[..., 0] / sums[..., 1]

    def per_image(self, mask: Tensor, target: Tensor) -> Tensor:
        """(B,) mean of the scores of an image's classes; nan when none is defined."""
        return self.score_sums(self.image_values(mask, target)).float()

    def update(self, mask: Tensor, target: Tensor) -> None:
        """Adds a batch."""
        self.sums += self.image_values(mask, target).sum(0).to(self.sums)

    def compute(self) -> Tensor:
        """Scalar; nan before any pair has a score."""
        return self.score_sums(self.sums)


class DistanceMetric(ShapeMetric):
    """The mean of a distance in pixels, which is 0 where neither mask has pixels."""

    higher_is_better = False

    def __init__(self, *args: Any, empty: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, empty=empty, **kwargs)
