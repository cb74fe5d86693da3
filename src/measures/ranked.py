"""Average precision: objects of all images in the order of their confidence."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from core.arguments import Range
from measures.objects import label_classes, overlap_images
from measures.overlaps import Overlaps

# COCO's: the surest objects of an image that count, and the recalls at which precision is read.
MOST = 100
RECALLS = np.linspace(0, 1, 101)
COCO_LADDER = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def rank_objects(
    objects: Overlaps, thresholds: Sequence[float], most: int = MOST
) -> NDArray[np.float64]:
    """(P, 1 + S): confidence of an image's surest objects, and whether each is a hit (0 or 1).

    From the surest on, each takes the true object of the highest IoU that no other has taken, if
    that is at the threshold or above.

    Args:
        objects: of one image.
        thresholds: S of them, of the IoU.
        most: surest objects that count.
    """
    order = np.argsort(-objects.confidence, kind="stable")[:most]
    hits = [_hits(objects, order, threshold) for threshold in thresholds]
    return np.column_stack([objects.confidence[order], *hits])


def _hits(objects: Overlaps, order: NDArray[np.int64], threshold: float) -> NDArray[np.bool_]:
    free = np.ones(len(objects.true_area), bool)
    iou, hits = objects.iou, np.zeros(len(order), bool)
    for place, number in enumerate(order):
        pairs = np.flatnonzero((objects.row == number) & (iou >= threshold))
        pairs = pairs[free[objects.column[pairs]]]
        if len(pairs):
            # Of equal ones the last, as COCO has it.
            best = pairs[len(pairs) - 1 - iou[pairs][::-1].argmax()]
            free[objects.column[best]] = False
            hits[place] = True
    return hits


def average_precision(ranked: NDArray[np.float64], true_count: int) -> float:
    """Mean over thresholds of the precision at 101 recalls; nan without true objects.

    Args:
        ranked: (P, 1 + S) of `rank_objects`, of all images.
        true_count: number of true objects.

    Source: https://cocodataset.org/#detection-eval
    """
    if true_count == 0:
        return float("nan")
    order = np.argsort(-ranked[:, 0], kind="stable")
    tp = ranked[order, 1:].cumsum(0)
    precision = tp / np.arange(1, len(tp) + 1)[:, None]
    # The best precision at this recall or a higher one; 0 at recalls that are never reached.
    best = np.maximum.accumulate(precision[::-1])[::-1]
    best = np.vstack([best, np.zeros(best.shape[1])])
    curves = zip((tp / true_count).T, best.T, strict=True)
    return float(np.mean([curve[np.searchsorted(recall, RECALLS)] for recall, curve in curves]))


class AveragePrecision(Metric):
    """Average precision of objects over all images, a mean over classes, as COCO scores masks.

    An object's confidence is the mean probability inside it; equal ones rank in the order of
    images, as with COCO.

    Args:
        task, classes, class_names: as every metric.
        iou: one threshold or several, whose scores are averaged.
        most: the surest objects of an image that count.
    """

    higher_is_better = True
    full_state_update = False
    needs = "instances"
    needs_confidence = True
    ranked: list[Tensor]
    true_count: Tensor

    def __init__(
        self,
        task: str,
        classes: int,
        class_names: Sequence[str] | None = None,
        *,
        iou: Annotated[float | Sequence[float], Range(0, 1)] = COCO_LADDER,
        most: Annotated[int, Range(1)] = MOST,
    ) -> None:
        super().__init__()
        self.most, self.classes = most, label_classes(task, classes)
        self.thresholds = [iou] if isinstance(iou, int | float) else list(iou)
        self.add_state("ranked", [], dist_reduce_fx="cat")
        # Class, confidence and hits of predicted objects.
        self.add_state("true_count", torch.zeros(self.classes), dist_reduce_fx="sum")

    def update(
        self, mask: Any = None, target: Any = None, *, matches: Sequence[Overlaps] | None = None
    ) -> None:
        """Adds a batch: label images, or their `overlap_images`."""
        if matches is None:
            matches = overlap_images(mask, target, classes=self.classes)
        device = self.true_count.device
        for objects in matches:
            for k in objects.present:
                one = objects.of_class(k)
                self.true_count[k] += len(one.true_area)
                table = rank_objects(one, self.thresholds, self.most)
                table = np.column_stack([np.full(len(table), k), table])
                self.ranked.append(torch.from_numpy(table).float().to(device))

    def compute(self) -> Tensor:
        """Scalar 0-1; nan without true objects."""
        ranked = np.zeros((0, 2 + len(self.thresholds)))
        if len(self.ranked):
            # Tables without rows that were stored as plain values have no columns either.
            ranked = dim_zero_cat(self.ranked).cpu().double().numpy().reshape(-1, ranked.shape[1])
        scores = [
            average_precision(ranked[ranked[:, 0] == k, 1:], int(count))
            for k, count in enumerate(self.true_count.tolist())
        ]
        return torch.tensor(scores).nanmean()
