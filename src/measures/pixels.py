"""Scores of pixels: counts of an image, and their sums over a data set."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from core.errors import UserError

IGNORE = 255
Score = Callable[[Tensor, Tensor, Tensor], Tensor]


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


def leave_out_ignored(mask: Tensor, target: Tensor, *, task: str) -> tuple[Tensor, Tensor]:
    """Mask and target with nothing on ignored pixels (255); ids of multiclass stay as they are."""
    if task == "multiclass":
        return mask, target
    known = target != IGNORE
    return mask * known, target * known


def blank_ignored(probs: Tensor, target: Tensor) -> Tensor:
    """Probabilities (B, K + 1, H, W), a border behind the masks: masks are 0 on ignored pixels."""
    masks, border = probs.tensor_split([target.shape[1]], 1)
    return torch.cat([masks.masked_fill(target == IGNORE, 0), border], 1)


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
        known = target != IGNORE
        positive, truth = ((one.bool() & known).flatten(2) for one in (mask, target))
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


def f_beta(tp: Tensor, fp: Tensor, fn: Tensor, *, beta: float) -> Tensor:
    """(1 + beta²) tp / ((1 + beta²) tp + beta² fn + fp); nan where a class is in neither mask.

    Above 1, beta weighs what is missed more than what is false; 1 is Dice.
    """
    weight = beta**2
    return (1 + weight) * tp / ((1 + weight) * tp + weight * fn + fp)


def iou_cut(tp: Tensor, fp: Tensor, fn: Tensor, *, cut: float) -> Tensor:
    """IoU, and 0 where it is below `cut`; nan where a class is in neither mask.

    Source: https://challenge.isic-archive.com/landing/2018/45/ (cut 0.65)
    """
    scores = iou(tp, fp, fn)
    return scores.where(~(scores < cut), 0.0)


def iou_ladder(tp: Tensor, fp: Tensor, fn: Tensor) -> Tensor:
    """Share of the thresholds 0.5, 0.55 ... 0.95 that the whole mask's IoU is above.

    nan where a class is in neither mask.

    Source: https://www.kaggle.com/competitions/tgs-salt-identification-challenge/overview/evaluation
    """
    union = tp + fp + fn
    # In twentieths, as whole numbers: 0.6 and 0.7 have no exact float to be strictly above.
    passed = torch.stack([20 * tp > step * union for step in range(10, 20)])
    return passed.float().mean(0).where(union > 0, torch.nan)


class MaskMetric(Metric):
    """What the pixel metrics share: counts of a batch, class names.

    Args:
        task: "binary", "multiclass" or "multilabel".
        classes: K.
        class_names: K names for `per_class`; None or no name numbers them.
        score: (tp, fp, fn) to score.
        only: numbers of the classes that are scored; without any all of them.

    Raises:
        UserError: another number of names than classes, a name twice, or no such class.
    """

    higher_is_better = True
    full_state_update = False
    needs = "counts"
    width: int

    def __init__(
        self,
        task: str,
        classes: int,
        class_names: Sequence[str] | None = None,
        *,
        score: Score,
        only: int | Sequence[int] = (),
    ) -> None:
        super().__init__()
        names = list(class_names or map(str, range(classes)))
        if len(set(names)) != classes or len(names) != classes:
            raise UserError(f"got class names {names}, need {classes} different ones")
        self.task, self.classes, self.class_names, self.score = task, classes, names, score
        self.only = [only] if isinstance(only, int) else list(only or range(classes))
        if not set(self.only) <= set(range(classes)):
            raise UserError(f"got classes only={only}, need numbers from 0 to {classes - 1}")

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
        """(..., K) scores of counts (..., K, 3); nan where undefined."""
        return self.score(*counts.unbind(-1))

    def image_scores(self, counts: Tensor) -> Tensor:
        """(B,) mean of the scores of an image's classes `only`; nan when none is defined."""
        return self.class_scores(counts)[..., self.only].nanmean(-1)

    def values(self, counts: Tensor) -> Tensor:
        """(..., V) of counts (..., K, 3): what adds up over images; V is `width`."""
        raise NotImplementedError

    def image_values(self, mask: Tensor, target: Tensor) -> Tensor:
        """(B, V) float64 `values` of masks (see `decide`) and targets."""
        return self.values(self.count(mask, target)).cpu().double()

    def score_sums(self, sums: Tensor) -> Tensor:
        """Scores (...) of summed values (..., V)."""
        raise NotImplementedError

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

    Args:
        empty: what a class in neither mask scores instead; nan leaves it out.
        pairs: mean over pairs of image and class; it differs where pairs are left out.
    """

    image_sum: Tensor
    images: Tensor
    class_sum: Tensor
    class_images: Tensor

    def __init__(
        self, *args: Any, empty: float | None = None, pairs: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        usual = torch.nan if self.task == "multiclass" else 1.0
        self.width = 2
        self.empty, self.pairs = usual if empty is None else float(empty), pairs
        for name, size in (("image", ()), ("class", (self.classes,))):
            self.add_state(f"{name}_sum", torch.zeros(size), dist_reduce_fx="sum")
            states = "images" if name == "image" else "class_images"
            self.add_state(states, torch.zeros(size, dtype=torch.long), dist_reduce_fx="sum")

    def class_scores(self, counts: Tensor) -> Tensor:
        return super().class_scores(counts).nan_to_num(nan=self.empty)

    def values(self, counts: Tensor) -> Tensor:
        scores = self.class_scores(counts)[..., self.only]
        scores = scores if self.pairs else scores.nanmean(-1, keepdim=True)
        return torch.stack([scores.nansum(-1), (~scores.isnan()).sum(-1)], -1)

    def score_sums(self, sums: Tensor) -> Tensor:
        return sums[..., 0] / sums[..., 1]

    def add_counts(self, counts: Tensor) -> None:
        total, images = self.values(counts).sum(0)
        self.image_sum += total
        self.images += images.long()
        scores = self.class_scores(counts)
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
        self.width = 3 * self.classes
        zeros = torch.zeros(self.classes, 3, dtype=torch.long)
        self.add_state("counts", zeros, dist_reduce_fx="sum")

    def add_counts(self, counts: Tensor) -> None:
        self.counts += counts.sum(0)

    def values(self, counts: Tensor) -> Tensor:
        return counts.flatten(-2)

    def score_sums(self, sums: Tensor) -> Tensor:
        counts = sums.unflatten(-1, (-1, 3))
        return self.class_scores(counts)[..., self.only].nanmean(-1)

    def compute(self) -> Tensor:
        """Scalar 0-1; nan when every class is absent."""
        return self.class_means()[self.only].nanmean()

    def class_means(self) -> Tensor:
        return self.score(*self.counts.unbind(-1))


class AmongMetric(DatasetMetric):
    """DatasetMetric of pixels that truly are of the classes `only`; all other pixels are ignored.

    What is decided as another class there is missed, as in the confusion matrix of Cityscapes.

    Raises:
        UserError: masks that may overlap, which have no one class a pixel.
    """

    needs = "mask"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.task != "multiclass":
            raise UserError(f"needs classes that exclude each other, got task {self.task!r}")

    def count(self, mask: Tensor, target: Tensor) -> Tensor:
        chosen = torch.isin(target, torch.tensor(self.only, device=target.device))
        return super().count(mask, target.where(chosen, IGNORE))
