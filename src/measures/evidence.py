"""What a batch tells its metrics, made once for all that need it."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor
from torchmetrics import Metric

from imaging.mask_files import IGNORE
from imaging.objects import class_objects
from measures.gathered import Slice
from measures.objects import overlap_images
from measures.overlaps import Overlaps
from measures.pixels import count


class Evidence:
    """What one batch tells its metrics; each part is made when a metric first needs it.

    Args:
        mask: of `decide`.
        target: the truth, shaped likewise.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        objects: gives predicted and true objects, and probabilities for their confidence, as
            `overlap_images` takes them; of several classes the predicted ones are those of `mask`,
            the true ones numbered as by `class_objects`.
        slices: volume and name of each image.
    """

    def __init__(
        self,
        mask: Tensor,
        target: Tensor,
        *,
        task: str,
        classes: int,
        objects: Callable[[], Sequence[Any]],
        slices: Sequence[Slice] = (),
    ) -> None:
        self.mask, self.target, self.objects, self.slices = mask, target, objects, slices
        self.task, self.classes = task, classes

    @cached_property
    def counts(self) -> Tensor:
        """(B, K, 3) pixels of `count`."""
        return count(self.mask, self.target, task=self.task, classes=self.classes)

    @cached_property
    def matches(self) -> list[Overlaps]:
        """(B,) overlaps of the objects of each image."""
        masks, targets, probs = self.objects()
        if self.task != "multiclass":
            return overlap_images(masks, targets, probs)
        known = self.mask.where(self.target != IGNORE, 0).cpu().numpy()
        found = [class_objects(ids, self.classes) for ids in known]
        return overlap_images(found, targets, probs, classes=self.classes)

    def taken_by(self, metric: Metric) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Arguments of the metric's `update`."""
        need = needs_of(metric)
        if need == "counts":
            return (), {"counts": self.counts}
        if need == "instances":
            return (), {"matches": self.matches}
        if need == "volumes":
            return (self.mask, self.target), {"slices": self.slices}
        return (self.mask.long(), self.target.long()), {}

    def add_to(self, metric: Metric) -> None:
        """Updates the metric with this batch."""
        arguments, named = self.taken_by(metric)
        metric.update(*arguments, **named)

    def score(self, metric: Metric) -> float:
        """The metric's score of this batch alone, which is added to it, too."""
        arguments, named = self.taken_by(metric)
        return float(metric(*arguments, **named))


def slices_of(batch: Mapping[str, Any]) -> list[Slice]:
    """Volume, "" where there is none, and name of each image of a batch."""
    names = batch.get("img", [])
    return list(zip(batch.get("volume", [""] * len(names)), names, strict=True))


def needs_of(metric: Metric) -> str:
    """What the metric takes: "mask" (any torchmetrics Metric), "counts", "instances", "volumes"."""
    return getattr(metric, "needs", "mask")
