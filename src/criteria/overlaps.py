"""Losses of overlaps: Tversky's family, Lovász, generalised Dice, Matthews, ExpLog, two rates."""

from typing import Any

import torch
from torch import Tensor

from core.arguments import NotNegative, Positive, Share
from criteria.base import MaskLoss, columns, one_hot, planes_of, probs_and_truth, shared
from criteria.pixels import PixelLoss


class OverlapLoss(MaskLoss):
    """1 - (tp + s) / (tp + alpha fp + beta fn + s), to the power gamma.

    Pixels are pooled over the batch for each class, then the classes averaged, so the value depends
    on the batch size. `s` stands on both sides: a class absent from the batch still has a gradient
    that pushes false positives down.

    Source: Salehi et al. 2017 (Tversky), Abraham & Khan 2018 (gamma), Hashemi et al. 2018 (asym).
    """

    takes_soft = True

    def __init__(
        self,
        *args: Any,
        alpha: NotNegative,
        beta: NotNegative,
        smooth: NotNegative = 1.0,
        gamma: Positive = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.alpha, self.beta, self.smooth, self.gamma = alpha, beta, smooth, gamma

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, target = probs_and_truth(logits, target, valid)
        dims = (0, 2, 3)
        tp = shared(probs, target).sum(dims)
        fp, fn = probs.sum(dims) - tp, target.sum(dims) - tp
        score = (tp + self.smooth) / (tp + self.alpha * fp + self.beta * fn + self.smooth)
        value = self.class_mean(1 - score)
        if self.gamma == 1:
            return value
        # x**0.75 has an infinite slope at 0, which a perfect prediction turns into NaN.
        return value.clamp_min(1e-7) ** self.gamma


class LovaszLoss(MaskLoss):
    """The Lovász extension of 1 - IoU, pooled over the batch: a hinge, or softmax for multiclass.

    Multiclass averages the classes present in the target, the others all K. Only the
    order of the errors sets their weights: it trains best added to, or after, a cross-entropy.

    Source: Berman et al. 2018.
    """

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        if self.task != "multiclass":
            errors = 1 - logits * (2 * target - 1)
            pairs = zip(columns(errors.relu()), columns(target), strict=True)
            return self.class_mean(torch.stack([_lovasz(e, y) for e, y in pairs]))
        truth = one_hot(target, valid, self.classes)
        errors = (truth - logits.softmax(1)).abs().masked_fill(~valid.unsqueeze(1), 0.0)
        # An ignored pixel is an error of 0 at the end of the order: it adds 0 to the product.
        pairs = zip(columns(errors), columns(truth), strict=True)
        values = torch.stack([_lovasz(e, y) for e, y in pairs])
        return self.class_mean(values, truth.sum((0, 2, 3)) > 0)


class GeneralizedDiceLoss(MaskLoss):
    """1 - 2 sum_c w I / sum_c w (P + Y), a class's weight w the inverse of its area Y squared.

    A class that is absent weighs as much as the rarest that is there. `smooth` pixels of the
    heaviest class stand on both sides, so that false positives on empty masks are punished.

    Source: Sudre et al. 2017; Yang et al. 2019 (penalty).

    Args:
        batch: areas of the whole batch, not of each image.
        penalty: k of g / (1 + k (1 - g)) with the Dice score g; 0 = plain.
        smooth: pixels.
    """

    takes_soft = True

    def __init__(
        self,
        *args: Any,
        batch: bool = False,
        penalty: NotNegative = 0.0,
        smooth: NotNegative = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.batch, self.penalty, self.smooth = batch, penalty, smooth

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        dims = (0, 2, 3) if self.batch else (2, 3)
        areas = truth.sum(dims).view(-1, self.classes)
        both = shared(probs, truth).sum(dims).view_as(areas)
        sums = probs.sum(dims).view_as(areas) + areas
        weights = torch.where(areas > 0, areas.clamp_min(1) ** -2, 0.0)
        heaviest = weights.amax(1, keepdim=True)
        heaviest = torch.where(heaviest > 0, heaviest, 1.0)
        weights = torch.where(areas > 0, weights, heaviest)
        if self.weights is not None:
            weights = weights * self.weights
        rest = self.smooth * weights.amax(1)
        score = (2 * (weights * both).sum(1) + rest) / ((weights * sums).sum(1) + rest)
        score = score / (1 + self.penalty * (1 - score))
        return (1 - score).mean()


class MatthewsLoss(MaskLoss):
    """1 - Matthews' correlation of each class; one pixel of both kinds that is right is added.

    Source: Abhishek & Hamarneh 2021.
    """

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        dims = (0, 2, 3)
        pixels = planes_of(valid).sum(dims)
        tp = (probs * truth).sum(dims)
        fp, fn = probs.sum(dims) - tp, truth.sum(dims) - tp
        tn = pixels - tp - fp - fn + 1
        tp = tp + 1
        # Rounding leaves a sum of nothing a little below 0.
        tn, fp, fn = tn.clamp_min(1e-6), fp.clamp_min(0), fn.clamp_min(0)
        known = ((tp + fp) * (tp + fn)).sqrt() * ((tn + fp) * (tn + fn)).sqrt()
        return self.class_mean(1 - (tp * tn - fp * fn) / known)


class ExpLogLoss(MaskLoss):
    """`share` (-ln Dice)^gamma plus the rest of the cross-entropy; small parts count more.

    Dice is the mean over classes, pooled over the batch. The paper raises the cross-entropy to
    gamma, too; the published code does not, and this follows it.

    Source: Wong et al. 2018.
    """

    takes_soft = True

    def __init__(
        self,
        *args: Any,
        gamma: Positive = 0.3,
        share: Share = 0.8,
        smooth: NotNegative = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.gamma, self.share, self.smooth = gamma, share, smooth
        self.entropy = PixelLoss(*args, **kwargs)

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        dims = (0, 2, 3)
        sums = probs.sum(dims) + truth.sum(dims) + self.smooth
        dice = self.class_mean((2 * shared(probs, truth).sum(dims) + self.smooth) / sums)
        # x**0.3 has an infinite slope at 0, which a perfect prediction turns into NaN.
        value = (-dice.log()).clamp_min(1e-16) ** self.gamma
        entropy = self.entropy.loss(logits, target, valid)
        return self.share * value + (1 - self.share) * entropy


class RatesLoss(MaskLoss):
    """Squared errors of the foreground's pixels and of the others, each a mean of its own.

    `share` of the first, which a missed object raises (sensitivity), and the rest of the second,
    which false alarms raise (specificity).

    Source: Brosch et al. 2015.
    """

    takes_soft = True

    def __init__(self, *args: Any, share: Share = 0.1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.share = share

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        known = planes_of(valid).float()
        errors, dims = (truth - probs) ** 2, (0, 2, 3)

        def mean(inside: Tensor) -> Tensor:
            return (errors * inside).sum(dims) / inside.sum(dims).clamp_min(1)

        rest = known - truth
        return self.class_mean(self.share * mean(truth) + (1 - self.share) * mean(rest))


def _lovasz(errors: Tensor, truth: Tensor) -> Tensor:
    """Errors (P,) weighed by how much each, in falling order, lowers the IoU of truth (P,)."""
    errors, order = errors.sort(descending=True)
    truth = truth[order]
    intersection = truth.sum() - truth.cumsum(0)
    union = truth.sum() + (1 - truth).cumsum(0)
    jaccard = 1 - intersection / union
    return (errors * torch.diff(jaccard, prepend=jaccard.new_zeros(1))).sum()
