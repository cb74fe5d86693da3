"""MODELS: a name to a network, built when asked, fresh each time."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from core.arguments import parameters_of
from core.errors import UserError
from core.recipes import load_recipe
from core.rows import pick
from networks.decoders import SupervisedModel, unetify_timm
from networks.encoder_weights import load_encoder_weights
from networks.eomt import build_eomt
from networks.mask_transformers import MaskTransformer, build_mask2former
from networks.padding import PaddedModel
from networks.small import build_small
from networks.smp import ARCHITECTURES, build_smp, check_encoder

# The longest first: unet_scse before unet.
NAMES = "|".join(sorted(ARCHITECTURES, key=len, reverse=True))
FAMILY = re.compile(f"smp_({NAMES})_(.+)")
# Any backbone of timm, under a U-Net's decoder or another.
UNETIFIED = re.compile(f"unetify_(?:({NAMES})_)?(.+)")


def _smp(architecture: str, encoder: str, **dials: Any) -> Callable[..., nn.Module]:
    return functools.partial(build_smp, architecture, encoder, **dials)


# name -> builder(weights=, channels=, classes=) of an nn.Module that maps (B, channels, H, W) to
# logits (B, classes, H, W), a dict with them as "out", or a tuple that begins with them. A network
# of your own is one row: "mine": lambda **kw: MyNet(**kw). A builder that names size= gets (H, W)
# of its images; one that names gate= has a second head. A network with own_loss(image, target) is
# trained by it instead of LOSS.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "smp_unet_resnet34": _smp("unet", "resnet34"),
    "smp_unet_resnet50": _smp("unet", "resnet50"),
    "smp_unet_resnext50_32x4d": _smp("unet", "resnext50_32x4d"),
    "smp_unet_se_resnext50_32x4d": _smp("unet", "se_resnext50_32x4d"),
    "smp_unet_efficientnet-b4": _smp("unet", "efficientnet-b4"),
    "smp_unet_efficientnet-b7": _smp("unet", "efficientnet-b7"),
    "smp_unet_timm-efficientnet-b5": _smp("unet", "timm-efficientnet-b5"),
    "smp_unet_resnet18": _smp("unet", "resnet18"),
    "smp_unet_scse_resnet34": _smp("unet_scse", "resnet34"),
    "smp_unet_gated_resnet34": _smp("unet_gated", "resnet34"),
    "smp_unet_cbam_resnet34": _smp("unet_cbam", "resnet34"),
    "smp_unetplusplus_resnext101_32x8d": _smp("unetplusplus", "resnext101_32x8d"),
    "smp_manet_resnet34": _smp("manet", "resnet34"),
    "smp_linknet_resnet18": _smp("linknet", "resnet18"),
    "smp_fpn_efficientnet-b4": _smp("fpn", "efficientnet-b4"),
    "smp_pspnet_resnet34": _smp("pspnet", "resnet34"),
    "smp_pan_resnet34": _smp("pan", "resnet34"),
    "smp_deeplabv3_resnet50": _smp("deeplabv3", "resnet50"),
    "smp_deeplabv3plus_resnet50": _smp("deeplabv3plus", "resnet50"),
    "smp_upernet_resnet34": _smp("upernet", "resnet34"),
    "smp_segformer_mit_b0": _smp("segformer", "mit_b0"),
    "smp_segformer_mit_b2": _smp("segformer", "mit_b2"),
    "smp_dpt_tu-vit_base_patch16_224": _smp("dpt", "tu-vit_base_patch16_224"),
    "unetify_convnext_tiny": functools.partial(unetify_timm, "convnext_tiny"),
    "unetify_vit_small_patch14_dinov2": functools.partial(unetify_timm, "vit_small_patch14_dinov2"),
    "mask2former_swin_tiny": functools.partial(build_mask2former, "tiny"),
    "mask2former_swin_small": functools.partial(build_mask2former, "small"),
    "mask2former_swin_base": functools.partial(build_mask2former, "base"),
    "eomt_small": functools.partial(build_eomt, "small"),
    "eomt_base": functools.partial(build_eomt, "base"),
    "eomt_large": functools.partial(build_eomt, "large"),
    "small_unet": build_small,
}


def build_model(
    name: str,
    *,
    weights: str | None = None,
    channels: int = 3,
    classes: int = 1,
    size: tuple[int, int] | None = None,
    gate: bool = False,
    sides: bool = False,
) -> nn.Module:
    """A fresh network: (B, channels, H, W) to raw logits (B, classes, H, W), any H and W.

    Args:
        name: a row of MODELS, smp_<architecture>_<encoder>, or unetify_<timm name>.
        weights: "imagenet", None, or a local .safetensors/.pth file of the encoder.
        size: (H, W) of its images, for networks that are built for one size.
        gate: with a second head, whether a class is in the image at all; its logits are channels
            K to 2 K - 1, each of one value.
        sides: with heads at the decoder's stages, see SupervisedModel.

    Raises:
        UserError: an unknown name, weights that cannot be had or do not fit, no second head, or a
            decoder without stages.
    """
    builder = find_builder(name)
    local = weights is not None and weights != "imagenet"
    # A row takes these two only if it names them.
    accepted = parameters_of(builder, name, "model")
    if gate and "gate" not in accepted:
        raise UserError(f"GATE=head: {name} has no second head: take an SMP network")
    more = {key: value for key, value in (("size", size), ("gate", gate)) if key in accepted}
    model = builder(weights=None if local else weights, channels=channels, classes=classes, **more)
    if weights is not None and local and isinstance(model, MaskTransformer):
        model.load_file(Path(weights))
    elif weights is not None and local:
        encoder = encoder_of(model) or model
        load_encoder_weights(getattr(encoder, "pretrained", encoder), Path(weights))
    if not sides:
        return model
    if not isinstance(model, PaddedModel):
        raise UserError(f"DEEP_SUPERVISION: {name} has no stages: take an SMP network")
    return SupervisedModel(model, classes)


def find_builder(name: str) -> Callable[..., nn.Module]:
    """The row of MODELS, or what builds smp_<architecture>_<encoder> or unetify_<timm name>.

    Raises:
        UserError: neither; names the nearest row or encoder.
    """
    load_recipe()
    family = FAMILY.fullmatch(name)
    if name not in MODELS and family:
        check_encoder(family[2], None)
        return _smp(family[1], family[2])
    unetified = UNETIFIED.fullmatch(name)
    if name not in MODELS and unetified:
        check_encoder(f"tu-{unetified[2]}", None)
        return functools.partial(unetify_timm, unetified[2], unetified[1] or "unet")
    also = (
        f"; or smp_<architecture>_<encoder> with {', '.join(ARCHITECTURES)}; or unetify_<timm name>"
    )
    row = pick(MODELS, name, "model", also=also)
    if name not in MODELS:
        _check_builder(row, name)
    return row


def _check_builder(row: Callable[..., nn.Module], name: str) -> None:
    """Makes sure that what an import path names takes what a row of MODELS does."""
    taken = parameters_of(row, name, "model").values()
    lacking = {"weights", "channels", "classes"} - {p.name for p in taken}
    if lacking and not any(p.kind is p.VAR_KEYWORD for p in taken):
        raise UserError(
            f"model {name!r} takes {', '.join(p.name for p in taken) or 'nothing'}, need weights, "
            'channels and classes: make it a row, MODELS["mine"] = lambda ..., in a recipe\'s .py'
        )


def encoder_of(model: nn.Module) -> nn.Module | None:
    """The encoder of a network, the pretrained part that is trained at a smaller rate, or None."""
    encoder = getattr(getattr(model, "net", model), "encoder", None)
    return encoder if isinstance(encoder, nn.Module) else None
