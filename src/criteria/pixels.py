"""Losses of pixels: cross-entropy, focal, smoothed, of the hardest, with a positive weight."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.arguments import NotNegative, Positive
from core.errors import UserError
from criteria.base import MaskLoss

TINY = torch.finfo(torch.float32).tiny


class PixelLoss(MaskLoss):
    """Mean cross-entropy of the pixels, times (1 - p)^gamma, p the probability of the true class.

    Multiclass: softmax, a weighted mean over the pixels that count (`F.cross_entropy`). Otherwise:
    sigmoid, the mean over pixels for each class, then over classes.

    Source: Lin et al. 2017 (focal), without alpha; Szegedy et al. 2016 (smoothing); Wu et al. 2016
    (hardest).

    Args:
        gamma: of the focus on hard pixels.
        smoothing: share of the truth that is spread evenly over all classes.
        hardest: share of the pixels that counts, those with the largest loss.
    """

    takes_soft = True

    def __init__(
        self,
        *args: Any,
        gamma: NotNegative = 0.0,
        smoothing: float = 0.0,
        hardest: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.gamma, self.smoothing, self.hardest = gamma, smoothing, hardest
        if not 0 <= smoothing < 1 or not 0 < hardest <= 1:
            raise UserError(
                f"got smoothing={smoothing}, hardest={hardest}: need shares, smoothing 0 or more "
                "and below 1, hardest above 0 and 1 at most"
            )

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        entropy = self.entropy(logits, target, valid)
        if self.task == "multiclass":
            weights = valid.float() if self.weights is None else self.weights[target] * valid
            return self._mean(entropy, weights)
        planes = zip(entropy.unbind(1), valid.float().unbind(1), strict=True)
        return self.class_mean(torch.stack([self._mean(*plane) for plane in planes]))

    def entropy(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        """Cross-entropy of each pixel, focused: (B, H, W) for multiclass, else (B, K, H, W)."""
        if self.task == "multiclass":
            kind: dict[str, Any] = {"reduction": "none", "label_smoothing": self.smoothing}
            return self._focus(F.cross_entropy(logits, target, **kind))
        target = target * (1 - self.smoothing) + self.smoothing / 2
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return self._focus(entropy)

    def _focus(self, entropy: Tensor) -> Tensor:
        if self.gamma == 0:
            return entropy
        return entropy * (1 - torch.exp(-entropy)) ** self.gamma

    def _mean(self, entropy: Tensor, weights: Tensor) -> Tensor:
        """Weighted mean over the hardest pixels; one of no pixels is 0, where torch gives NaN."""
        values = entropy * weights
        if self.hardest < 1:
            count = max(1, round(self.hardest * int((weights > 0).sum())))
            values, places = values.flatten().topk(count)
            weights = weights.flatten()[places]
        return values.sum() / weights.sum().clamp_min(TINY)


class BinaryLoss(PixelLoss):
    """Binary cross-entropy; pixels of the foreground weigh `positive` times as much.

    Args:
        positive: weight of the foreground.
        adaptive: that weight is, for each class, background to foreground pixels of the batch.
    """

    def __init__(
        self,
        task: str,
        *args: Any,
        positive: Positive = 1.0,
        adaptive: bool = False,
        **kwargs: Any,
    ) -> None:
        if task == "multiclass":
            raise UserError(
                "loss 'bce' needs masks that may overlap, got task 'multiclass': use 'ce'"
            )
        super().__init__(task, *args, **kwargs)
        self.positive, self.adaptive = positive, adaptive

    def entropy(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        entropy = super().entropy(logits, target, valid)
        if self.adaptive:
            inside = target.sum((0, 2, 3), keepdim=True)
            outside = valid.sum((0, 2, 3), keepdim=True) - inside
            # A batch without foreground, or with nothing else, has no ratio to follow.
            ratio = torch.where((inside > 0) & (outside > 0), outside / inside.clamp_min(1), 1.0)
            return entropy * (1 + (ratio - 1) * target)
        return entropy * (1 + (self.positive - 1) * target)
