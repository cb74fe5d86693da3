"""A metric as per-image values that add up, so that any choice of images is scored by a sum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.errors import UserError
from measures.evidence import needs_of
from measures.gathered import GatheredVolumes, group_slices
from measures.objects import ObjectMetric, overlap_images
from measures.pixels import ImageMetric
from metrics import build_metric, without


@dataclass(frozen=True)
class Objective:
    """One class's metric in two steps: `values` of an image, `score` of their sum.

    Attributes:
        name: the row of METRICS.
        metric: that metric for one class.
        kind: "image" (a mean over images), "dataset" (pooled pixels), "instances" (objects),
            "shapes" (a mean over images, of masks only) or "volumes" (of all slices together).
    """

    name: str
    metric: Any
    kind: str

    def values(self, tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
        """(..., V) float64 of counts (...): V is (score, 1), or (tp, fp, fn) of pooled pixels."""
        counts = torch.stack([tp, fp, fn], -1).double()
        if self.kind == "dataset":
            return counts
        return self.metric.values(counts[..., None, :]).double()

    def score(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., V); a class that is nowhere scores 1."""
        return self.defined(sums).nan_to_num(nan=1.0)

    def defined(self, sums: Tensor) -> Tensor:
        """As `score`; of a class that is nowhere nan."""
        if self.kind == "dataset":
            scores: Tensor = self.metric.score(*sums.unbind(-1))
        else:
            scores = self.metric.score_sums(sums)
        return scores


def build_objective(name: str) -> Objective:
    """The objective of a row of METRICS.

    Raises:
        UserError: an unknown name, or a metric that is no sum over images of which more is better.
    """
    # Each class is scored by itself, whichever of them the metric takes.
    metric = build_metric(without(name, "only"), task="binary", classes=1)
    return Objective(name, metric, kind_of(metric, name))


def kind_of(metric: Any, name: str) -> str:
    """How the values of a metric add up, see `Objective`.

    Raises:
        UserError: they do not, or less is better.
    """
    if isinstance(metric, ObjectMetric) and metric.higher_is_better:
        return "instances"
    if isinstance(metric, GatheredVolumes):
        return "volumes"
    if metric.higher_is_better and hasattr(metric, "image_values"):
        if needs_of(metric) == "counts":
            return "image" if isinstance(metric, ImageMetric) else "dataset"
        return "shapes"
    instead = "map or object_f1" if needs_of(metric) == "instances" else "dice or iou"
    raise UserError(
        f"METRIC {name!r} is no sum over images of which more is better, which is all that "
        f"tuning and weights can follow: use --metric {instead} for them"
    )


class WholeScore:
    """A run's metric over all its classes, as per-image values that add up.

    Args:
        name: the row of METRICS.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        by_image: images are predicted one by one: no volume is known whole.

    Raises:
        UserError: as `build_objective`, or a metric of volumes of images one by one.
    """

    def __init__(self, name: str, *, task: str, classes: int, by_image: bool = False):
        self.name, self.task = name, task
        self.metric: Any = build_metric(name, task=task, classes=classes)
        self.kind = kind_of(self.metric, name)
        if by_image and self.kind == "volumes":
            raise UserError(
                f"METRIC {name!r} scores volumes, this step takes images one by one: use --metric "
                "dice for it"
            )

    def values(self, mask: Tensor, truth: Any) -> Tensor:
        """(V,) values of one image.

        Args:
            mask: of `decide`, with a batch of one.
            truth: likewise, or the label image (1, H, W) for a metric of objects.
        """
        if self.kind == "instances":
            matches = overlap_images(mask, truth, classes=self.metric.classes)
            return self.metric.image_values(matches)[0]
        return self.metric.image_values(mask, truth)[0]

    def volume_values(self, masks: Sequence[Tensor], truths: Sequence[Tensor]) -> Tensor:
        """(D, V) values of the slices of one volume, each with a batch of one as `values`."""
        return self.metric.image_values(torch.cat(list(masks)), torch.cat(list(truths)))

    def of_counts(self, counts: Tensor) -> Tensor:
        """(..., V) values of (..., K, 3) true positive, false positive, false negative pixels."""
        return self.metric.values(counts).double()

    def score(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., V)."""
        return self.metric.score_sums(sums)


def count_values(objective: Objective, counts: Tensor, truth: Tensor) -> Tensor:
    """(N, *grid, V) values of counts (N, *grid, 2): pixels decided, and true ones among them."""
    decided, tp = counts.unbind(-1)
    true = truth.view(-1, *[1] * (tp.ndim - 1))
    return objective.values(tp, decided - tp, true - tp)


def volumes_of(rows: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """Which rows are the slices of each volume, in their order."""
    at = {(row.get("volume", ""), row["img"]): number for number, row in enumerate(rows)}
    return [[at[where] for where in slices] for slices in group_slices(at)]
