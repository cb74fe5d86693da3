"""The loss of a batch: of masks, their border, gates, the stages of a decoder, blended images."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from imaging.mask_files import IGNORE
from imaging.soft_labels import target_of

# Weight of the border's loss beside the mask's; both are of the same LOSS.
BORDER_WEIGHT = 1.0

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def batch_loss(
    loss: Loss,
    logits: torch.Tensor,
    batch: Mapping[str, Any],
    *,
    classes: int,
    border: bool,
    gate: bool,
    side_weight: float,
) -> torch.Tensor:
    """The loss of the masks, plus that of border, gates and sides where there are any.

    Args:
        loss: a row of LOSSES.
        logits: (B, C, H, W): of the classes, the border, a gate a class, and each stage's own of
            classes and border.
        batch: `mask`, and `border` where there is one; of `soft` labels the loss is of these.
        classes: K.
        border: there is a channel of it behind the classes.
        gate: there are K channels of one value, whether there is anything of a class.
        side_weight: of the mean of the stages' losses.
    """
    outputs = classes + border
    target = target_of(batch["soft"]) if "soft" in batch else batch["mask"]
    masks, gates, sides = logits.tensor_split([outputs, outputs + classes * gate], 1)

    def mask_loss(logits: torch.Tensor) -> torch.Tensor:
        inside, outline = logits.tensor_split([classes], 1)
        value = loss(inside, target)
        return value + BORDER_WEIGHT * loss(outline, batch["border"]) if border else value

    value = mask_loss(masks)
    if gate:
        # Whether there is anything of the class in this crop; of one that is ignored nobody knows.
        planes = batch["mask"].flatten(2)
        there = (planes == 1).any(2).to(gates.dtype)
        known = (planes != IGNORE).any(2).to(gates.dtype)
        doubt = binary_cross_entropy_with_logits(gates[:, :, 0, 0], there, reduction="none")
        value = value + (doubt * known).sum() / known.sum().clamp_min(1)
    if sides.shape[1]:
        stages = torch.stack([mask_loss(side) for side in sides.split(outputs, 1)])
        value = value + side_weight * stages.mean()
    return value


def blended_loss(
    loss: Callable[[Mapping[str, Any]], torch.Tensor], batch: Mapping[str, Any]
) -> torch.Tensor:
    """The loss of a batch; of blended images that of both their masks, by their shares."""
    if "other" not in batch:
        return loss(batch)
    share, own = batch["share"], {key: batch[key] for key in batch["other"]}
    return share * loss(own) + (1 - share) * loss(batch["other"])
