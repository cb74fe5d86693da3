"""MODELS: a name to a network, built when asked, fresh each time."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import UserError, nearest, pick

# Names as in MODEL_NAME to the classes of segmentation_models_pytorch.
ARCHITECTURES = {
    "unet": "Unet",
    "unetplusplus": "UnetPlusPlus",
    "manet": "MAnet",
    "linknet": "Linknet",
    "fpn": "FPN",
    "pspnet": "PSPNet",
    "pan": "PAN",
    "deeplabv3": "DeepLabV3",
    "deeplabv3plus": "DeepLabV3Plus",
    "upernet": "UPerNet",
    "segformer": "Segformer",
    "dpt": "DPT",
}
# PAN halves a 32-pixel stride once more and needs two pixels there.
SMALLEST = {"pan": 128}


class PaddedModel(nn.Module):
    """A network that takes any size: sides are padded to its stride, logits cropped back.

    Args:
        net: maps (B, C, H, W) to logits (B, K, H, W) for sides that divide by `stride`; or to them
            and (B, K) logits of a gate, which follow as K more channels, each of one value.
        stride: pixels.
        smallest: smallest side `net` can take, pixels.
    """

    def __init__(self, net: nn.Module, *, stride: int = 32, smallest: int = 32):
        super().__init__()
        self.net, self.stride, self.smallest = net, stride, smallest

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) normalised image to raw logits (B, K, H, W)."""
        height, width = image.shape[-2:]
        down, right = (self._missing(side) for side in (height, width))
        if down or right:
            image = F.pad(image, (0, right, 0, down), mode="replicate")
        logits = self.net(image)
        if isinstance(logits, torch.Tensor):
            return logits[..., :height, :width]
        masks, gates = logits
        planes = gates[:, :, None, None].expand(-1, -1, height, width).to(masks.dtype)
        return torch.cat([masks[..., :height, :width], planes], 1)

    def _missing(self, side: int) -> int:
        return max(-(-side // self.stride) * self.stride, self.smallest) - side


def build_smp(
    architecture: str,
    encoder: str,
    *,
    weights: str | None,
    channels: int,
    classes: int,
    **dials: Any,
) -> PaddedModel:
    """A network of segmentation_models_pytorch that returns logits for any size.

    Args:
        architecture: a key of ARCHITECTURES.
        encoder: as SMP names it, or tu-<timm name>.
        weights: "imagenet" downloads, None is noise.
        dials: passed on: decoder_channels, decoder_attention_type, encoder_depth...

    Raises:
        UserError: an unknown name, or weights that cannot be had.
    """
    import segmentation_models_pytorch as smp

    build = getattr(smp, ARCHITECTURES[architecture])
    if not encoder.startswith("tu-"):
        pick(
            dict.fromkeys(smp.encoders.get_encoder_names()),
            encoder,
            "encoder (timm's are tu-<name>)",
        )
    if architecture == "dpt":
        dials = {"dynamic_img_size": True, **dials}
    net = functools.partial(
        build, encoder, in_channels=channels, classes=classes, activation=None, **dials
    )
    try:
        return PaddedModel(net(encoder_weights=weights), smallest=SMALLEST.get(architecture, 32))
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        name, reason = f"smp_{architecture}_{encoder}", str(error).splitlines()[0][:200]
        remedy = (
            "If the machine is offline, point ENCODER_WEIGHTS to a local .safetensors or .pth "
            f"file of {encoder}, or set it to none"
        )
        raise UserError(
            f"{name} with ENCODER_WEIGHTS={weights!r} cannot be built: {reason}. {remedy}"
        ) from error


def _smp(architecture: str, encoder: str, **dials: Any) -> Callable[..., nn.Module]:
    return functools.partial(build_smp, architecture, encoder, **dials)


# name -> builder(weights=, channels=, classes=) of an nn.Module that maps (B, channels, H, W) to
# logits (B, classes, H, W). A network of your own is one row: "mine": lambda **kw: MyNet(**kw).
MODELS: dict[str, Callable[..., nn.Module]] = {
    "smp_unet_resnet34": _smp("unet", "resnet34"),
    "smp_unet_resnet50": _smp("unet", "resnet50"),
    "smp_unet_resnext50_32x4d": _smp("unet", "resnext50_32x4d"),
    "smp_unet_se_resnext50_32x4d": _smp("unet", "se_resnext50_32x4d"),
    "smp_unet_efficientnet-b4": _smp("unet", "efficientnet-b4"),
    "smp_unet_efficientnet-b7": _smp("unet", "efficientnet-b7"),
    "smp_unet_timm-efficientnet-b5": _smp("unet", "timm-efficientnet-b5"),
    "smp_unet_resnet18": _smp("unet", "resnet18"),
    "smp_unet_scse_resnet34": _smp("unet", "resnet34", decoder_attention_type="scse"),
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
}


def build_model(
    name: str, *, weights: str | None = None, channels: int = 3, classes: int = 1,
    gate: bool = False,
) -> nn.Module:  # fmt: skip
    """A fresh network: (B, channels, H, W) to raw logits (B, classes, H, W), any H and W.

    Args:
        name: a row of MODELS, or smp_<architecture>_<encoder>.
        weights: "imagenet", None, or a local .safetensors/.pth file of the encoder.
        gate: with a second head, whether a class is in the image at all; its logits are channels
            K to 2 K - 1, each of one value.

    Raises:
        UserError: an unknown name, weights that cannot be had or do not fit, or no second head.
    """
    builder = MODELS.get(name) or _resolve(name)
    local = weights is not None and weights != "imagenet"
    head: dict[str, Any] = {"aux_params": {"classes": classes}} if gate else {}
    try:
        model = builder(
            weights=None if local else weights, channels=channels, classes=classes, **head
        )
    except TypeError as error:
        if not gate or "aux_params" not in str(error):
            raise
        raise UserError(f"GATE=head: {name} has no second head: take an SMP network") from error
    if weights is not None and local:
        load_encoder_weights(encoder_of(model), Path(weights))
    return model


def _resolve(name: str) -> Callable[..., nn.Module]:
    parts = name.split("_", 2)
    if len(parts) == 3 and parts[0] == "smp" and parts[1] in ARCHITECTURES:
        return _smp(parts[1], parts[2])
    known = ", ".join(MODELS)
    raise UserError(
        f"unknown model {name!r}.{nearest(name, MODELS)} Known: {known}; "
        f"or smp_<architecture>_<encoder> with {', '.join(ARCHITECTURES)}"
    )


def encoder_of(model: nn.Module) -> nn.Module:
    """The encoder of a model built here: the pretrained part, trained at a smaller rate."""
    net = getattr(model, "net", model)
    return getattr(net, "encoder", net)


def load_encoder_weights(encoder: nn.Module, path: Path) -> None:
    """Fills `encoder` from a local file with the keys of timm or SMP; the classifier is left out.

    Other channel counts than the file's reuse its first convolution as timm does.

    Raises:
        UserError: no such file, or tensors that are missing or of another shape.
    """
    target = encoder.state_dict()
    # timm's feature networks write stem_0 where its files have stem.0.
    names = {key.replace(".", "_"): key for key in target}
    file = _read_weights(path)
    renamed = max((_rename(file, *ways) for ways in _PREFIXES), key=lambda t: len(t.keys() & names))
    known = {names[key]: value for key, value in renamed.items() if key in names}
    source = {key: _fit_stem(value, target[key]) for key, value in known.items()}
    wrong = [key for key, value in source.items() if value.shape != target[key].shape]
    missing = [k for k in target if k not in source and not k.endswith("num_batches_tracked")]
    if wrong or missing:
        raise UserError(
            f"{path.name}: {len(missing)} tensors of the encoder are missing and {len(wrong)} have "
            f"another shape (first: {(missing + wrong)[0]}). The file must hold the weights of the "
            "encoder that MODEL_NAME names"
        )
    encoder.load_state_dict(source, strict=False)


# (prefix to cut from the file's keys, prefix to add): plain, SMP networks, DDP, timm-universal.
_PREFIXES = [("", ""), ("encoder.", ""), ("module.", ""), ("", "model."), ("model.", "")]


def _rename(source: Mapping[str, torch.Tensor], cut: str, add: str) -> dict[str, torch.Tensor]:
    return {
        (add + key.removeprefix(cut)).replace(".", "_"): value
        for key, value in source.items()
        if key.startswith(cut)
    }


def _read_weights(path: Path) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise UserError(
            f"ENCODER_WEIGHTS: no file {path}. Need imagenet, none, or a local .safetensors or .pth"
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        return loaded.get("state_dict", loaded)
    except Exception as error:
        raise UserError(f"ENCODER_WEIGHTS: {path} cannot be read: {error}") from error


def _fit_stem(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    if value.ndim != 4 or value.shape == target.shape or value.shape[1] != 3:
        return value
    from timm.models import adapt_input_conv

    return adapt_input_conv(target.shape[1], value)
