"""Decoders on any backbone, and heads at their stages for deep supervision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import UserError
from networks.encoders import Pyramid, build_timm_pyramid
from networks.padding import PaddedModel
from networks.smp import build_smp


def unetify(
    backbone: nn.Module,
    *,
    weights: str | None = None,
    channels: int,
    classes: int,
    decoder: str = "unet",
    gate: bool = False,
    **dials: Any,
) -> PaddedModel:
    """A segmentation network of any backbone, for images of any size.

    Args:
        backbone: (B, C, H, W) to a list, tuple or dict of maps at rising strides, see Pyramid.
        weights: None; the backbone brings its own.
        channels: of an image.
        classes: of the logits.
        decoder: a key of ARCHITECTURES, but not dpt.
        gate: with a second head, see `logits_of`.
        dials: of SMP's decoder: decoder_channels...

    Raises:
        UserError: a backbone without such maps, or weights that nobody knows.
    """
    if weights is not None:
        raise UserError(
            f"{type(backbone).__name__} has no {weights} weights: need --encoder-weights none, or "
            "load them where the backbone is built"
        )
    pyramid = Pyramid(backbone, channels)
    return build_smp(
        decoder, pyramid, weights=None, channels=channels, classes=classes, gate=gate, **dials
    )


def unetify_timm(
    name: str,
    decoder: str = "unet",
    *,
    weights: str | None,
    channels: int,
    classes: int,
    size: tuple[int, int] | None = None,
    gate: bool = False,
) -> PaddedModel:
    """`unetify` of a network of timm, by its name there; arguments as of `build_smp`."""
    pyramid = build_timm_pyramid(name, weights=weights, channels=channels, size=size)
    return build_smp(decoder, pyramid, weights=None, channels=channels, classes=classes, gate=gate)


# Decoders of SMP to the parts whose features get a head: those before the last, fine ones last.
STAGES: dict[str, Callable[[Any], list[nn.Module]]] = {
    "UnetDecoder": lambda decoder: list(decoder.blocks)[-4:-1],
    "MAnetDecoder": lambda decoder: list(decoder.blocks)[-4:-1],
    "LinknetDecoder": lambda decoder: list(decoder.blocks)[-4:-1],
    "UnetPlusPlusDecoder": lambda decoder: [
        decoder.blocks[f"x_0_{at}"] for at in range(1, decoder.depth)
    ],
    "FPNDecoder": lambda decoder: [decoder.p5, decoder.p4, decoder.p3],
    "UPerNetDecoder": lambda decoder: [decoder.psp, *list(decoder.fpn_conv_blocks)[:-1]],
}


class SupervisedModel(PaddedModel):
    """A network whose decoder's stages give logits, too, while it is trained.

    In training their logits, enlarged, follow as more channels: `classes` of each stage. Otherwise
    it is the network it was made of, weights, names and outputs.

    Source: Lee et al. 2015.

    Args:
        model: a network of SMP.
        classes: channels of a stage's logits.

    Raises:
        UserError: its decoder has no stages.
    """

    def __init__(self, model: PaddedModel, classes: int):
        super().__init__(model.net, stride=model.stride, smallest=model.smallest)
        decoder: Any = getattr(model.net, "decoder", None)
        stages = STAGES.get(type(decoder).__name__, lambda _: [])(decoder)
        if not stages:
            raise UserError(
                "DEEP_SUPERVISION: this network's decoder has no stages: take one of SMP's unet, "
                "unetplusplus, manet, linknet, fpn or upernet, or switch it off"
            )
        self.kept = list[torch.Tensor]()
        for stage in stages:
            stage.register_forward_hook(self._keep)
        widths = [_width(stage) for stage in stages]
        self.heads = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)

    def _keep(self, stage: nn.Module, inputs: Any, features: torch.Tensor) -> None:
        if self.training:
            self.kept.append(features)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised image to raw logits, and in training those of the stages."""
        if not self.training:
            return super().forward(image)
        self.kept = []
        logits = super().forward(image)
        kept, self.kept = self.kept, []
        height, width = logits.shape[-2:]
        padded = self.padded((height, width))
        sides = [
            F.interpolate(head(features), padded, mode="bilinear", align_corners=False)
            for head, features in zip(self.heads, kept, strict=True)
        ]
        return torch.cat([logits, *(side[..., :height, :width] for side in sides)], 1)


def _width(stage: nn.Module) -> int:
    """Channels that a stage gives: of its last 3x3 or 1x1 convolution that is no attention."""
    widths = [
        part.out_channels
        for name, part in stage.named_modules()
        if isinstance(part, nn.Conv2d) and "attention" not in name
    ]
    return widths[-1]
