"""Encoders for SMP's decoders of any backbone: of timm, a plain transformer, or one of your own."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import UserError
from networks.smp import (
    check_encoder,
    encoder_options,
    line_of,
    offline_error,
    on_meta,
    padded_size,
)

# Pixels of the image that a pixel of each map stands for.
STRIDES = (2, 4, 8, 16, 32)
# Channels of maps that are made of the image itself, where a backbone has none so fine.
STEM = {2: 32, 4: 64, 8: 128, 16: 128}
# Channels of the maps that are made of a plain transformer's last one.
SIMPLE = 256
# Side of the image that a backbone is looked at with.
PROBED = 128


def convolve(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """3x3 convolution, batch normalisation, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class SimplePyramid(nn.Module):
    """Maps at strides 4, 8, 16 and 32 of a backbone that has one, such as a plain transformer.

    Each is the last map, brought to its size by transposed convolutions or by pooling.

    Source: Li et al. 2022 (ViTDet).

    Args:
        body: (B, C, H, W) to one map (B, channels, H / stride, W / stride), alone or as the last.
        channels: of that map.
        stride: of that map: 4, 8, 16 or 32.
    """

    def __init__(self, body: nn.Module, *, channels: int, stride: int):
        super().__init__()
        if stride not in STRIDES[1:]:
            raise UserError(f"SimplePyramid: stride is {stride}, need 4, 8, 16 or 32")
        from timm.layers.norm import LayerNorm2d

        self.body = body
        self.norm = LayerNorm2d(channels)
        self.levels = nn.ModuleList(_level(channels, stride, goal) for goal in STRIDES[1:])

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Normalised image to four maps of SIMPLE channels, fine to coarse."""
        last = self.norm(_maps_of(self.body(image))[-1])
        return [level(last) for level in self.levels]


def _level(channels: int, stride: int, goal: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    while stride > goal:
        half = max(channels // 2, SIMPLE)
        layers += [nn.ConvTranspose2d(channels, half, 2, stride=2), nn.BatchNorm2d(half), nn.GELU()]
        channels, stride = half, stride // 2
    if stride < goal:
        layers.append(nn.AvgPool2d(goal // stride))
    return nn.Sequential(*layers, nn.Conv2d(channels, SIMPLE, 1), convolve(SIMPLE, SIMPLE))


class Pyramid(nn.Module):
    """A backbone as SMP's decoders take it: the image, and maps at strides 2, 4, 8, 16 and 32.

    Its maps are told apart by their strides, the last of each stride is taken. Missing ones are
    made: those finer than all of it by convolutions of the image, coarser ones of the next finer.

    Args:
        backbone: (B, C, H, W) to a list, tuple or dict of maps (B, c, h, w).
        channels: C.
        maps: stride and channels of each map, as timm tells them; None: it is tried.

    Raises:
        UserError: it gives fewer than two strides, or no maps at all.
    """

    def __init__(
        self, backbone: nn.Module, channels: int, maps: Sequence[tuple[int, int]] | None = None
    ):
        super().__init__()
        self.backbone = backbone
        found = _look(backbone, channels) if maps is None else maps
        self.places = {stride: at for at, (stride, _) in enumerate(found) if stride in STRIDES}
        if len(self.places) < 2:
            told = ", ".join(str(stride) for stride, _ in found) or "none"
            raise UserError(
                f"{type(backbone).__name__} gives maps of strides {told}: a decoder needs two or "
                "more of 2, 4, 8, 16 and 32. Return the maps of its stages as a list; of a plain "
                "transformer wrap it: SimplePyramid(net, channels=, stride=)"
            )
        widths = {stride: found[at][1] for stride, at in self.places.items()}
        self.made = nn.ModuleDict()
        before = channels
        for stride in STRIDES:
            if stride not in widths:
                coarse = stride > min(widths)
                widths[stride] = before if coarse else STEM[stride]
                self.made[str(stride)] = convolve(before, widths[stride], 2)
            before = widths[stride]
        self.all_channels = [channels, *(widths[stride] for stride in STRIDES)]
        self.depth, self.output_stride = 5, 32

    @property
    def out_channels(self) -> list[int]:
        """Channels of the image and of the maps, as SMP asks for them."""
        return self.all_channels[: self.depth + 1]

    @property
    def pretrained(self) -> nn.Module:
        """The network that files of weights are of."""
        net = self.backbone
        while isinstance(net, SimplePyramid | _ChannelsFirst):
            net = net.body
        return net

    def for_smp(self, depth: int, output_stride: int) -> "Pyramid":
        """This encoder with so many maps, none coarser than a stride."""
        self.depth, self.output_stride = depth, min(output_stride, 2**depth)
        return self

    def set_in_channels(self, channels: int, pretrained: bool = False) -> None:
        """SMP's hook for other images than RGB: the backbone is built for them already."""

    def make_dilated(self, stride: int) -> None:
        """SMP's hook for dilation: coarser maps are enlarged instead, which any backbone can."""

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, H, W) with sides that divide by 32 to the image and its maps."""
        maps = _maps_of(self.backbone(image))
        height, width = image.shape[-2:]
        features = [image]
        for stride in STRIDES[: self.depth]:
            if stride in self.places:
                feature = maps[self.places[stride]]
            else:
                feature = self.made[str(stride)](features[-1])
            # Convolutions without padding give other sizes, coarse maps may have to be finer.
            stride = min(stride, self.output_stride)
            size = (height // stride, width // stride)
            if feature.shape[-2:] != size:
                feature = F.interpolate(feature, size, mode="bilinear", align_corners=False)
            features.append(feature)
        return features


def build_timm_pyramid(
    name: str, *, weights: str | None, channels: int, size: tuple[int, int] | None = None
) -> Pyramid:
    """Pyramid of any network of timm that gives features; of plain transformers a SimplePyramid.

    Args:
        name: as timm has it: convnext_tiny, vit_small_patch14_dinov2...
        weights: "imagenet" downloads the weights that timm calls pretrained; None is noise.
        channels: of an image.
        size: (H, W) of its images, for those that are built for one.

    Raises:
        UserError: no such network, no such weights, or one that gives no features.
    """
    import timm

    check_encoder(f"tu-{name}", weights)
    options = encoder_options(f"tu-{name}", size and padded_size(size))
    create = functools.partial(timm.create_model, name, features_only=True, in_chans=channels)
    try:
        looked: Any = on_meta(functools.partial(create, **options))
    except Exception as error:
        raise UserError(f"{name} of timm gives no features: {line_of(error)}") from error
    plain = len(set(looked.feature_info.reduction())) == 1
    if plain:
        options = {**options, "out_indices": (-1,)}
    try:
        net: Any = create(pretrained=weights is not None, **options)
    except Exception as error:
        raise offline_error(name, name, str(weights), error) from error
    info = net.feature_info
    maps = list(zip(info.reduction(), info.channels(), strict=True))
    body = _ChannelsFirst(net) if getattr(net, "output_fmt", "") == "NHWC" else net
    if not plain:
        return Pyramid(body, channels, maps)
    stride, width = maps[-1]
    simple = SimplePyramid(body, channels=width, stride=stride)
    return Pyramid(simple, channels, [(stride, SIMPLE) for stride in STRIDES[1:]])


class _ChannelsFirst(nn.Module):
    """A network whose maps are (B, h, w, c), with maps (B, c, h, w)."""

    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [feature.permute(0, 3, 1, 2).contiguous() for feature in self.body(image)]


def _maps_of(output: Any) -> list[torch.Tensor]:
    """Maps (B, c, h, w) in what a backbone returns; none where there is none."""
    values = output.values() if isinstance(output, Mapping) else output
    values = [values] if isinstance(values, torch.Tensor) else values
    if not isinstance(values, Iterable):
        return []
    return [value for value in values if isinstance(value, torch.Tensor) and value.ndim == 4]


def _look(backbone: nn.Module, channels: int) -> list[tuple[int, int]]:
    """Stride and channels of each map of a backbone, by what it gives of an empty image.

    Raises:
        UserError: it does not run.
    """
    device = next((weight.device for weight in backbone.parameters()), None)
    training = backbone.training
    try:
        with torch.no_grad():
            image = torch.zeros(1, channels, PROBED, PROBED, device=device)
            maps = _maps_of(backbone.eval()(image))
    except Exception as error:
        raise UserError(
            f"{type(backbone).__name__} does not run on an image of {channels} channels and "
            f"{PROBED} x {PROBED} pixels: {line_of(error)}"
        ) from error
    finally:
        backbone.train(training)
    return [(round(PROBED / feature.shape[-1]), feature.shape[1]) for feature in maps]
