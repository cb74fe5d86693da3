"""A small residual U-Net for training from noise on a CPU."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import UserError
from networks.padding import PaddedModel

# Channels at strides 2, 4, 8, 16 and 32.
WIDTHS = (16, 32, 64, 96, 128)
PATCH, STRIDE = 2, 32


def convolve(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution and batch normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two convolutions beside a shortcut, as in a ResNet's basic block."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1):
        super().__init__()
        self.first = convolve(inputs, outputs, stride=stride)
        self.second = convolve(outputs, outputs)
        self.shortcut = convolve(inputs, outputs, kernel=1, stride=stride)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        residual = self.second(F.relu(self.first(features)))
        return F.relu(residual + self.shortcut(features))


class SmallUnet(nn.Module):
    """(B, C, H, W) to logits (B, K, H, W) for sides that divide by 32.

    Its finest features are of patches of 2 x 2 pixels, whose pixels are channels at both ends: the
    layers that cost most in a U-Net are not there.
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        steps = list(pairwise(WIDTHS))
        self.stem = convolve(channels * PATCH**2, WIDTHS[0])
        self.first = Residual(WIDTHS[0], WIDTHS[0])
        self.down = nn.ModuleList(Residual(fine, coarse, stride=2) for fine, coarse in steps)
        self.middle = Residual(WIDTHS[-1], WIDTHS[-1])
        self.up = nn.ModuleList(Residual(fine + coarse, fine) for fine, coarse in reversed(steps))
        self.head = nn.Conv2d(WIDTHS[0], classes * PATCH**2, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Normalised image to raw logits."""
        features = self.first(F.relu(self.stem(F.pixel_unshuffle(image, PATCH))))
        finer = []
        for block in self.down:
            finer.append(features)
            features = block(features)
        features = self.middle(features)
        for block in self.up:
            above = F.interpolate(features, scale_factor=2.0, mode="nearest")
            features = block(torch.cat([above, finer.pop()], 1))
        return F.pixel_shuffle(self.head(features), PATCH)


def build_small(*, weights: str | None, channels: int, classes: int) -> PaddedModel:
    """SmallUnet for images of any size.

    Raises:
        UserError: weights are asked for; nobody has trained it.
    """
    if weights is not None:
        raise UserError("small_unet has no pretrained weights: need --encoder-weights none")
    return PaddedModel(SmallUnet(channels, classes), stride=STRIDE, smallest=STRIDE)
