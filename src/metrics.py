"""Metrics by name: scores of decisions over the whole data set, never means of batch means.

Masks and targets are class ids (B, H, W) for `multiclass`, where target 255 is ignored, and {0, 1}
(B, K, H, W) for `binary` and `multilabel`.

A row is a builder (task, classes, class_names) of a torchmetrics Metric that says whether
`higher_is_better`, and whose states are sums or lists, so that ranks, uneven batches and folds
agree. Its attribute `needs` says what `update` takes; without one it is "mask":

mask        update(mask, target): the decided mask and the truth, both int64
counts      update(counts=...): `count` of the batch, made once for all that need it
instances   update(matches=...): objects found and missed, `match_images`

To take something else, add a property to `Evidence` and a line to its `taken_by`.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from core.errors import UserError, pick
from measures.matching import InstanceMetric, Match, match_images

IGNORE = 255
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


def decide(probs: Tensor, *, task: str, threshold: float | Sequence[float] = 0.5) -> Tensor:
    """The mask that probabilities (B, K, H, W) decide on.

    Args:
        probs: after sigmoid or softmax.
        task: "binary", "multiclass" or "multilabel".
        threshold: for all channels or one each, 0-1; a pixel is foreground above it. Not read for
            multiclass.

    Returns:
        multiclass: the likeliest ids (B, H, W) int64; else {0, 1} (B, K, H, W) uint8.
    """
    if task == "multiclass":
        return probs.argmax(1)
    limits = torch.as_tensor(threshold, dtype=probs.dtype, device=probs.device)
    return (probs > limits.view(-1, 1, 1)).to(torch.uint8)


def confusion(mask: Tensor, target: Tensor, classes: int) -> Tensor:
    """Pixels (B, K, K) int64 of each target id (rows) and decided id (columns), 255 left out.

    Raises:
        ValueError: an id that is neither a class nor 255.
    """
    batch, cells = len(target), classes * classes
    mask, target = mask.long().flatten(1), target.long().flatten(1)
    valid = target != IGNORE
    highest = int(torch.maximum(mask.max(), target.where(valid, 0).max()))
    if highest >= classes:
        raise ValueError(f"class id {highest} in a mask, need 0 to {classes - 1}, or {IGNORE}")
    cell = target * classes + mask + cells * torch.arange(batch, device=target.device)[:, None]
    # Boolean indexing copies; one spare bin for the ignored pixels is several times faster.
    counts = torch.bincount(cell.where(valid, batch * cells).flatten(), minlength=batch * cells + 1)
    return counts[:-1].view(batch, classes, classes)


def count(mask: Tensor, target: Tensor, *, task: str, classes: int) -> Tensor:
    """True positive, false positive and false negative pixels of each image and class.

    Returns:
        (B, K, 3) int64.

    Raises:
        ValueError: shapes that differ or do not fit the task, ids out of range.
    """
    shape = tuple(mask.shape)
    fits = mask.ndim == 3 if task == "multiclass" else shape[1:2] == (classes,) and mask.ndim == 4
    if not fits or shape != tuple(target.shape):
        need = "(B, H, W)" if task == "multiclass" else f"(B, {classes}, H, W)"
        got = f"mask {shape} and target {tuple(target.shape)}"
        raise ValueError(f"{task} metric got {got}, need {need} twice")
    if task == "multiclass":
        table = confusion(mask, target, classes)
        tp, decided, true = table.diagonal(dim1=1, dim2=2), table.sum(1), table.sum(2)
    else:
        positive, truth = mask.bool().flatten(2), target.bool().flatten(2)
        tp, decided, true = (positive & truth).sum(2), positive.sum(2), truth.sum(2)
    return torch.stack([tp, decided - tp, true - tp], dim=-1)


def dice(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """2 tp / (2 tp + fp + fn); nan where a class is in neither mask."""
    return 2 * tp / (2 * tp + fp + fn)


def iou(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """tp / (tp + fp + fn); nan where a class is in neither mask."""
    return tp / (tp + fp + fn)


def precision(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """tp / (tp + fp); 0 where a class is only in the target, nan where it is in neither mask."""
    return (tp / (tp + fp)).where((tp + fp > 0) | (fn == 0), 0.0)


def recall(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """tp / (tp + fn); 0 where a class is only in the decision, nan where it is in neither mask."""
    return (tp / (tp + fn)).where((tp + fn > 0) | (fp == 0), 0.0)


class MaskMetric(Metric):
    """What the pixel metrics share: counts of a batch, class names.

    Args:
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        class_names: K names for `per_class`; None or no name numbers them.
        score: (tp, fp, fn) to score.

    Raises:
        UserError: another number of names than classes, or a name twice.
    """

    higher_is_better = True
    full_state_update = False
    needs = "counts"

    def __init__(
        self, task: str, classes: int, class_names: Sequence[str] | None = None, *, score: Score
    ) -> None:
        super().__init__()
        names = list(class_names or map(str, range(classes)))
        if len(set(names)) != classes or len(names) != classes:
            raise UserError(f"got class names {names}, need {classes} different ones")
        self.task, self.classes, self.class_names, self.score = task, classes, names, score

    def count(self, mask: Tensor, target: Tensor) -> Tensor:
        """(B, K, 3) pixels of each image and class: what every pixel metric is made of."""
        return count(mask, target, task=self.task, classes=self.classes)

    def update(
        self,
        mask: Tensor | None = None,
        target: Tensor | None = None,
        *,
        counts: Tensor | None = None,
    ) -> None:
        """Adds a batch: masks and targets, or their `count`, so that several metrics count once."""
        if counts is None:
            assert mask is not None, "update needs masks and targets, or counts"
            assert target is not None, "update needs masks and targets, or counts"
            counts = self.count(mask, target)
        self.add_counts(counts)

    def add_counts(self, counts: Tensor) -> None:
        """Adds counts (B, K, 3) to the states."""
        raise NotImplementedError

    def class_scores(self, counts: Tensor) -> Tensor:
        """(B, K) scores of each image and class; nan where undefined."""
        return self.score(*counts.unbind(-1))

    def image_scores(self, counts: Tensor) -> Tensor:
        """(B,) mean of an image's class scores; nan when none is defined."""
        return self.class_scores(counts).nanmean(1)

    def per_image(self, mask: Tensor, target: Tensor) -> Tensor:
        """`image_scores` of masks (see `decide`) and targets."""
        return self.image_scores(self.count(mask, target))

    def per_class(self) -> dict[str, float]:
        """Score of each class over the data set; nan for a class that is absent everywhere."""
        return dict(zip(self.class_names, self.class_means().tolist(), strict=True))

    def class_means(self) -> Tensor:
        """(K,) scores over the data set so far."""
        raise NotImplementedError


class ImageMetric(MaskMetric):
    """Mean over images of the score of each.

    Binary and multilabel: an empty decision on an empty mask is 1, and the mean is over all pairs
    of image and class. Multiclass: an image's score is the mean over the classes in its mask or
    decision; an image that is ignored as a whole counts for nothing.
    """

    image_sum: Tensor
    images: Tensor
    class_sum: Tensor
    class_images: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, size in (("image", ()), ("class", (self.classes,))):
            self.add_state(f"{name}_sum", torch.zeros(size), dist_reduce_fx="sum")
            states = "images" if name == "image" else "class_images"
            self.add_state(states, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def class_scores(self, counts: Tensor) -> Tensor:
        scores = super().class_scores(counts)
        return scores if self.task == "multiclass" else scores.nan_to_num(nan=1.0)

    def add_counts(self, counts: Tensor) -> None:
        scores = self.class_scores(counts)
        images = scores.nanmean(1)
        self.image_sum += images.nansum()
        self.images += (~images.isnan()).sum()
        self.class_sum += scores.nansum(0)
        self.class_images += (~scores.isnan()).sum(0)

    def compute(self) -> Tensor:
        """Scalar 0-1; nan before any image has a score."""
        return self.image_sum / self.images

    def class_means(self) -> Tensor:
        return self.class_sum / self.class_images


class DatasetMetric(MaskMetric):
    """The score of all pixels pooled over the data set for each class, then the mean of classes.

    A class absent from all masks and all decisions is nan and left out of the mean.
    """

    counts: Tensor

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zeros = torch.zeros(self.classes, 3, dtype=torch.long)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def add_counts(self, counts: Tensor) -> None:
        self.counts += counts.sum(0)

    def compute(self) -> Tensor:
        """Scalar 0-1; nan when every class is absent."""
        return self.class_means().nanmean()

    def class_means(self) -> Tensor:
        return self.score(*self.counts.unbind(-1))


class Evidence:
    """What one batch tells its metrics; each part is made when a metric first needs it.

    Args:
        mask: of `decide`.
        target: the truth, shaped likewise.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        objects: gives predicted and true objects, as `match_images` takes them.
    """

    def __init__(
        self,
        mask: Tensor,
        target: Tensor,
        *,
        task: str,
        classes: int,
        objects: Callable[[], tuple[Any, Any]],
    ) -> None:
        self.mask, self.target, self.objects = mask, target, objects
        self.task, self.classes = task, classes

    @cached_property
    def counts(self) -> Tensor:
        """(B, K, 3) pixels of `count`."""
        return count(self.mask, self.target, task=self.task, classes=self.classes)

    @cached_property
    def matches(self) -> list[Match]:
        """(B,) objects of each image, found and missed."""
        return match_images(*self.objects())

    def taken_by(self, metric: Metric) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        """Arguments of the metric's `update`."""
        need = needs_of(metric)
        if need == "counts":
            return (), {"counts": self.counts}
        if need == "instances":
            return (), {"matches": self.matches}
        return (self.mask.long(), self.target.long()), {}

    def add_to(self, metric: Metric) -> None:
        """Updates the metric with this batch."""
        arguments, named = self.taken_by(metric)
        metric.update(*arguments, **named)

    def score(self, metric: Metric) -> float:
        """The metric's score of this batch alone, which is added to it, too."""
        arguments, named = self.taken_by(metric)
        return float(metric(*arguments, **named))


def needs_of(metric: Metric) -> str:
    """What the metric takes: "mask" (any torchmetrics Metric), "counts" or "instances"."""
    return getattr(metric, "needs", "mask")


Builder = Callable[[str, int, Sequence[str] | None], Metric]

# Each row is called with (task, classes, class_names).
METRICS: dict[str, Builder] = {
    "dice": partial(ImageMetric, score=dice),
    "iou": partial(ImageMetric, score=iou),
    "dataset_dice": partial(DatasetMetric, score=dice),
    "dataset_iou": partial(DatasetMetric, score=iou),
    # The name of the same score where classes exclude each other.
    "miou": partial(DatasetMetric, score=iou),
    "precision": partial(DatasetMetric, score=precision),
    "recall": partial(DatasetMetric, score=recall),
    # Objects: over the IoU thresholds 0.5, 0.55 ... 0.95, and above one of them.
    "map": InstanceMetric,
    "map50": partial(InstanceMetric, at=slice(0, 1)),
    "map75": partial(InstanceMetric, at=slice(5, 6)),
}


def build_metric(
    name: str, *, task: str, classes: int, class_names: Sequence[str] | None = None
) -> Metric:
    """A fresh metric, the row `name` of METRICS.

    Raises:
        UserError: an unknown name, class names that do not fit, or a row that cannot be followed.
    """
    row = pick(METRICS, name, "metric")
    try:
        metric = row(task, classes, class_names)
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"metric {name!r} of {classes} {task} classes: {error}") from error
    if metric.higher_is_better is None:
        raise UserError(
            f"metric {name!r} does not say whether more is better: set higher_is_better on "
            f"{type(metric).__name__}"
        )
    return metric
