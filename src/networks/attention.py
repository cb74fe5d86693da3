"""Attention in U-Net's decoder that SMP does not have: additive gates, CBAM."""

from typing import Any

import torch
from torch import nn


class AdditiveGate(nn.Module):
    """Weighs the pixels of a skip connection by what the coarser features make of them.

    Source: Oktay et al. 2018 (Attention U-Net).

    Args:
        coarse: channels of the enlarged coarser features.
        skip: channels of the skip connection.
    """

    def __init__(self, coarse: int, skip: int):
        super().__init__()
        self.sizes = [coarse, skip]
        inner = max(skip // 2, 8)
        self.of_coarse = nn.Sequential(nn.Conv2d(coarse, inner, 1), nn.BatchNorm2d(inner))
        self.of_skip = nn.Sequential(nn.Conv2d(skip, inner, 1), nn.BatchNorm2d(inner))
        self.weight = nn.Sequential(nn.Conv2d(inner, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Both behind each other, (B, coarse + skip, H, W), with the skip connection weighed."""
        coarse, skip = features.split(self.sizes, 1)
        weight = self.weight(torch.relu(self.of_coarse(coarse) + self.of_skip(skip)))
        return torch.cat([coarse, skip * weight], 1)


def attend(net: Any, kind: str) -> None:
    """Puts attention into the decoder of SMP's U-Net, where SMP has its own kind.

    Args:
        net: of smp.Unet.
        kind: "gate" before each convolution of a skip connection; "cbam" there and behind the block
            (Woo et al. 2018).
    """
    from timm.layers.cbam import CbamModule

    coarse = net.encoder.out_channels[-1]
    for block in net.decoder.blocks:
        inputs, outputs = block.conv1[0].in_channels, block.conv1[0].out_channels
        if kind == "cbam":
            block.attention2 = CbamModule(outputs)
        if inputs > coarse:
            gate = AdditiveGate(coarse, inputs - coarse)
            block.attention1 = gate if kind == "gate" else CbamModule(inputs)
        coarse = outputs
