"""What is done to a batch of training on the device: another size, two images in one."""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from torch.nn import functional as F

# Sides of a batch divide by it, as networks want.
STRIDE = 32
# What moves with the image, pixel by pixel.
MASKS = ("mask", "border", "soft")


def draw_for(step: int, place: int, seed: str = "") -> random.Random:
    """The draws of a batch: the same in a run that is taken up again."""
    return random.Random(f"{seed}{step}/{place}")


def resize_batch(
    batch: Mapping[str, Any], scales: tuple[float, ...], draw: random.Random
) -> Mapping[str, Any]:
    """The batch at a drawn size, whose sides divide by 32; masks by the nearest pixel.

    Args:
        batch: "image" (B, C, H, W), "mask" (B, H, W) or (B, K, H, W), and more that is kept.
        scales: lowest and highest share of its size, drawn evenly; empty = as it is.
        draw: of this batch.
    """
    if not scales:
        return batch
    image = batch["image"]
    size = scaled_size(image.shape[-2:], draw.uniform(*scales))
    resized = F.interpolate(image.float(), size, mode="bilinear", antialias=True)
    masks = {name: _nearest(batch[name], size) for name in MASKS if name in batch}
    return {**batch, "image": resized.round(), **masks}


def scaled_size(size: Sequence[int], scale: float) -> tuple[int, ...]:
    """Sides of that share of a size which divide by 32, in pixels."""
    return tuple(max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in size)


def _nearest(mask: Any, size: Sequence[int]) -> Any:
    planes = mask if mask.ndim == 4 else mask[:, None]
    planes = F.interpolate(planes.float(), size, mode="nearest-exact").to(mask.dtype)
    return planes if mask.ndim == 4 else planes[:, 0]


def mix_batch(batch: Mapping[str, Any], alpha: float, draw: random.Random) -> Mapping[str, Any]:
    """The batch with each image a blend of itself and of its mirror in the order of the batch.

    "share" is then the share of its own, and "other" holds the masks that the rest is of.

    Source: Zhang et al. 2018.

    Args:
        batch: as for `resize_batch`.
        alpha: of the Beta distribution of shares; 0 = as it is.
        draw: of this batch.
    """
    if not alpha or len(batch["image"]) < 2:
        return batch
    share = draw.betavariate(alpha, alpha)
    image = batch["image"].float()
    other = {name: batch[name].flip(0) for name in MASKS if name in batch}
    blend = share * image + (1 - share) * image.flip(0)
    return {**batch, "image": blend, "share": share, "other": other}
