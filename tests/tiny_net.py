"""A network of a few hundred weights; run as a script it is Lightning_trainer with that network.

python tests/tiny_net.py --model-name tiny ...    for tests that need processes of their own
"""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class TinyNet(nn.Module):
    """(B, C, H, W) to logits (B, K, H, W) for even sides: an encoder, a head, no pretraining."""

    def __init__(self, *, weights: Any = None, channels: int = 3, classes: int = 1):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Conv2d(8, classes, 3, padding=1), nn.Upsample(scale_factor=2))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(image))


class DroppingNet(TinyNet):
    """With dropout, as decoders have, and the stochastic depth of EfficientNet."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.head(F.dropout(self.encoder(image), 0.3, self.training))


class HeadedNet(TinyNet):
    """With a layer that nothing reads, as EfficientNet encoders have."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.encoder.classifier = nn.Conv2d(8, 10, 1)
        self.stages = [self.encoder[at] for at in range(3)]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            image = stage(image)
        return self.head(image)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    from Lightning_trainer import main
    from model_dispatcher import MODELS

    MODELS.update(tiny=TinyNet, headed=HeadedNet)
    raise SystemExit(main())
