"""Losses of outlines: distances to them, and centre lines.

Distance maps are made by OpenCV on the CPU, a few ms for a plane of 512 x 512.
"""

from typing import Annotated, Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.arguments import NotNegative, Range, Share
from criteria.base import MaskLoss, one_hot, planes_of, probs_and_truth
from criteria.overlaps import OverlapLoss
from criteria.pixels import PixelLoss


class DistanceLoss(PixelLoss):
    """Cross-entropy whose pixels weigh 1 far inside a region and up to 2 at its outline.

    The weight is 1 + (m - d) / m, d the distance to the outside of the pixel's own region and m the
    largest in its image: of its class for multiclass, else of foreground or background.

    Source: Caliva et al. 2019.
    """

    takes_soft = False

    def entropy(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        entropy = super().entropy(logits, target, valid)
        if self.task != "multiclass":
            return entropy * (1 + _nearness(target) + _nearness(1 - target))
        regions = one_hot(target, torch.ones_like(valid), self.classes)
        return entropy * (1 + _nearness(regions).sum(1))


class BoundaryLoss(MaskLoss):
    """Mean of p times the signed distance to the outline, negative inside; 0 at the truth.

    A class that is absent, or everywhere, has no outline: each wrong pixel costs one. It trains
    only beside a loss of regions: dice+0.1*boundary.

    Source: Kervadec et al. 2019.
    """

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        outside, inside = distances(1 - truth), distances(truth)
        signed = torch.where(truth > 0, -(inside - 1), outside)
        plain = (truth.amax((2, 3)) == truth.amin((2, 3)))[..., None, None]
        signed = torch.where(plain, 1 - 2 * truth, signed)
        wrong = (probs - truth) * signed
        return self.class_mean(_pixel_mean(wrong, valid))


class HausdorffLoss(MaskLoss):
    """Mean of (p - y)² (dp^a + dy^a), d the distances to the outlines of prediction and truth.

    Source: Karimi & Salcudean 2019.

    Args:
        alpha: a, how much far errors count more.
    """

    def __init__(self, *args: Any, alpha: NotNegative = 2.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = alpha

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        guess = (probs.detach() > 0.5).float()
        fields = []
        for mask in (guess, truth):
            field = distances(mask) + distances(1 - mask)
            plain = (mask.amax((2, 3)) == mask.amin((2, 3)))[..., None, None]
            # What has no outline is a pixel away.
            fields.append(torch.where(plain, 1.0, field))
        wrong = (probs - truth) ** 2 * (fields[0] ** self.alpha + fields[1] ** self.alpha)
        return self.class_mean(_pixel_mean(wrong, valid))


class CentrelineLoss(MaskLoss):
    """Dice's loss, and `share` of it of centre lines instead: what is thin stays connected.

    Centre lines are found by minima and maxima over neighbours, in so many steps as half the
    thickest part needs.

    Source: Shit et al. 2021 (soft clDice).

    Args:
        share: of the centre lines.
        steps: pixels.
    """

    def __init__(
        self,
        *args: Any,
        share: Share = 0.5,
        steps: Annotated[int, Range(1)] = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.share, self.steps = share, steps
        self.dice = OverlapLoss(*args, alpha=0.5, beta=0.5, smooth=0.5, **kwargs)

    def loss(self, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
        probs, truth = probs_and_truth(logits, target, valid)
        lines, true_lines = self._skeleton(probs), self._skeleton(truth)
        dims = (0, 2, 3)
        precision = ((lines * truth).sum(dims) + 1) / (lines.sum(dims) + 1)
        recall = ((true_lines * probs).sum(dims) + 1) / (true_lines.sum(dims) + 1)
        score = self.class_mean(2 * precision * recall / (precision + recall))
        dice = self.dice.loss(logits, target, valid)
        return (1 - self.share) * dice + self.share * (1 - score)

    def _skeleton(self, planes: Tensor) -> Tensor:
        skeleton = F.relu(planes - _opened(planes))
        for _ in range(self.steps):
            planes = _eroded(planes)
            rest = F.relu(planes - _opened(planes))
            skeleton = skeleton + F.relu(rest - skeleton * rest)
        return skeleton


def distances(masks: Tensor) -> Tensor:
    """(B, K, H, W) Euclidean distances inside of {0, 1} masks to what is outside, pixels.

    Outside they are 0, as everywhere in a mask without an outside.
    """
    planes = masks.detach().cpu().numpy().astype(np.uint8)
    found = np.zeros(planes.shape, np.float32)
    for place in np.ndindex(planes.shape[:2]):
        if not planes[place].all():
            found[place] = cv2.distanceTransform(
                np.ascontiguousarray(planes[place]), cv2.DIST_L2, cv2.DIST_MASK_PRECISE
            )
    return torch.from_numpy(found).to(masks.device)


def _nearness(masks: Tensor) -> Tensor:
    """(m - d) / m inside of masks, 0 outside and where there is no outline."""
    inside = distances(masks)
    most = inside.amax((2, 3), keepdim=True)
    return torch.where(most > 0, (most - inside) / most.clamp_min(1) * masks, 0.0)


def _pixel_mean(values: Tensor, valid: Tensor) -> Tensor:
    """(K,) means of (B, K, H, W) over the pixels that count."""
    planes, dims = planes_of(valid), (0, 2, 3)
    return values.masked_fill(~planes, 0.0).sum(dims) / planes.sum(dims).clamp_min(1)


def _eroded(planes: Tensor) -> Tensor:
    across = -F.max_pool2d(-planes, (3, 1), 1, (1, 0))
    along = -F.max_pool2d(-planes, (1, 3), 1, (0, 1))
    return torch.minimum(across, along)


def _opened(planes: Tensor) -> Tensor:
    return F.max_pool2d(_eroded(planes), 3, 1, 1)
