"""Networks of a stride take images of any size."""

import torch
from torch import nn
from torch.nn import functional as F

from networks.outputs import logits_of


class PaddedModel(nn.Module):
    """A network that takes any size: sides are padded to its stride, logits cropped back.

    Args:
        net: maps (B, C, H, W) to logits (B, K, H, W), as `logits_of` takes them, for sides that
            divide by `stride`.
        stride: pixels.
        smallest: smallest side `net` can take, pixels.
    """

    def __init__(self, net: nn.Module, *, stride: int = 32, smallest: int = 32):
        super().__init__()
        self.net, self.stride, self.smallest = net, stride, smallest

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) that an image of a size is padded to."""
        height, width = (padded_side(side, self.stride, self.smallest) for side in size)
        return height, width

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised image to raw logits (B, K, H, W)."""
        height, width = image.shape[-2:]
        padded = self.padded((height, width))
        down, right = padded[0] - height, padded[1] - width
        if down or right:
            image = F.pad(image, (0, right, 0, down), mode="replicate")
        return logits_of(self.net(image))[..., :height, :width]


def padded_side(side: int, stride: int, smallest: int) -> int:
    """The next side from `side` on, pixels, that divides by `stride` and is not too small."""
    return max(-(-side // stride) * stride, smallest)
