"""Networks of a stride take images of any size."""

import torch
from torch import nn
from torch.jit._trace import is_tracing

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
        high, wide = self.padded((height, width))
        if is_exported() or high > height or wide > width:
            image = fit(image, high, wide)
        return cut(logits_of(self.net(image)), height, width)


def is_exported() -> bool:
    """Whether the network is being exported: its graph may have no branches that ask for a size."""
    return torch.compiler.is_exporting() or is_tracing()


def cut(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The part (..., height, width) at the left and above."""
    # A slice that may be the whole is a branch.
    return fit(planes, height, width) if is_exported() else planes[..., :height, :width]


def fit(planes: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Planes (..., H, W) cut off at the right and below, or their last pixels repeated there."""
    rows = torch.arange(height, device=planes.device).clamp(max=planes.shape[-2] - 1)
    columns = torch.arange(width, device=planes.device).clamp(max=planes.shape[-1] - 1)
    return planes.index_select(-2, rows).index_select(-1, columns)


def padded_side(side: int, stride: int, smallest: int) -> int:
    """The next side from `side` on, pixels, that divides by `stride` and is not too small."""
    return max((side + stride - 1) // stride * stride, smallest)
