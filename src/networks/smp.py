"""Networks of segmentation_models_pytorch (SMP), its own encoders and timm's."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from core.errors import UserError, nearest
from core.rows import pick
from networks.attention import attend
from networks.padding import PaddedModel, padded_side

# Names as in MODEL_NAME to SMP's classes.
ARCHITECTURES = {
    "unet": "Unet",
    "unet_scse": "Unet",
    "unet_gated": "Unet",
    "unet_cbam": "Unet",
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
# Those with attention in the decoder; scSE is SMP's own.
SCSE = {"unet_scse": {"decoder_attention_type": "scse"}}
ATTENTIONS = {"unet_gated": "gate", "unet_cbam": "cbam"}
STRIDE = 32
# PAN halves its encoder's last map three times: 8 pixels there, of a stride of 16 or 32.
PAN_SIDE, PAN_SIDE_UNDILATED = 128, 256
# Patches that DPT's decoder can bring to its own strides of 4, 8, 16 and 32.
PATCHES = (4, 8, 16, 32)


def build_smp(
    architecture: str,
    encoder: str | nn.Module,
    *,
    weights: str | None,
    channels: int,
    classes: int,
    size: tuple[int, int] | None = None,
    gate: bool = False,
    **dials: Any,
) -> PaddedModel:
    """A network of SMP that returns logits for any size.

    Args:
        architecture: a key of ARCHITECTURES.
        encoder: as SMP names it, or tu-<timm name>; or a Pyramid, whose weights are its own.
        weights: "imagenet" downloads, None is noise.
        size: (H, W) of its images: an encoder that takes one size only is built for it.
        gate: with a second head, see `logits_of`.
        dials: passed on: decoder_channels, decoder_attention_type, encoder_depth...

    Raises:
        UserError: an unknown name, a pair that SMP cannot build, weights that cannot be had.
    """
    import segmentation_models_pytorch as smp

    smallest = PAN_SIDE if architecture == "pan" else STRIDE
    dials = {**SCSE.get(architecture, {}), **dials}
    if isinstance(encoder, str):
        check_encoder(encoder, weights)
        dials = {**encoder_options(encoder, size and padded_size(size, smallest)), **dials}
    elif architecture == "dpt":
        raise UserError("dpt reads transformers of timm itself: smp_dpt_tu-<name>")
    named = encoder if isinstance(encoder, str) else type(encoder).__name__
    build = functools.partial(
        _build,
        getattr(smp, ARCHITECTURES[architecture]),
        encoder,
        in_channels=channels,
        classes=classes,
        activation=None,
        aux_params={"classes": classes} if gate else None,
    )
    if architecture == "pan" and not _builds(build, dials):
        dials, smallest = {"encoder_output_stride": 32, **dials}, PAN_SIDE_UNDILATED
    try:
        net = build(encoder_weights=weights, **dials)
    except Exception as error:
        name = f"smp_{architecture}_{named}"
        if weights and _builds(build, dials):
            raise offline_error(name, named, weights, error) from error
        raise UserError(
            f"{name} cannot be built: {line_of(error)}. This encoder does not fit this "
            "architecture: change one of the two in MODEL_NAME"
        ) from error
    if architecture in ATTENTIONS:
        attend(net, ATTENTIONS[architecture])
    # DPT's decoder halves the encoder's last map once more.
    stride = max(STRIDE, 2 * net.encoder.output_stride) if architecture == "dpt" else STRIDE
    return PaddedModel(net, stride=stride, smallest=smallest)


def _build(network: Any, encoder: str | Any, **options: Any) -> Any:
    """SMP's network on an encoder; one of our own goes in by the way that SMP's docs describe."""
    if isinstance(encoder, str):
        return network(encoder, **options)
    from segmentation_models_pytorch.encoders import encoders

    row = {"encoder": encoder.for_smp, "pretrained_settings": {}, "params": {}}
    with _entry(encoders, "own", row):
        return network("own", **options)


@contextlib.contextmanager
def _entry(table: dict[str, Any], name: str, row: Any) -> Iterator[None]:
    table[name] = row
    try:
        yield
    finally:
        del table[name]


def check_encoder(encoder: str, weights: str | None) -> None:
    """Makes sure that SMP or timm has the encoder, and the weights that are asked for.

    Raises:
        UserError: they do not; names the nearest that they have.
    """
    from segmentation_models_pytorch.encoders import encoders

    name = timm_name(encoder)
    if name is None:
        row = pick(encoders, encoder, "encoder (timm's are tu-<name>)")
        known = weights in row["pretrained_settings"]
    else:
        import timm

        if not timm.is_model(name):
            close = nearest(name, timm.list_models())
            raise UserError(f"unknown encoder {encoder!r}: timm has no {name}.{close}")
        known = timm.models.is_model_pretrained(name)
    if weights and not known:
        raise UserError(
            f"ENCODER_WEIGHTS={weights}: there are no such weights of {encoder}. "
            "Need none, or a local .safetensors or .pth file"
        )


def timm_name(encoder: str) -> str | None:
    """timm's name of an encoder that timm builds, None for SMP's own.

    SMP lists neither its aliases of the form timm-<name> nor what they stand for.
    """
    from segmentation_models_pytorch.encoders import is_equivalent_to_timm_universal

    if encoder.startswith("tu-"):
        return encoder.removeprefix("tu-")
    if not is_equivalent_to_timm_universal(encoder):
        return None
    name = encoder.removeprefix("timm-")
    return f"tf_{name}" if "mobilenetv3" in name else name


@functools.cache
def encoder_options(encoder: str, size: tuple[int, int] | None) -> dict[str, Any]:
    """What makes a timm encoder take images of other sizes than it was pretrained on.

    Args:
        encoder: as in `build_smp`.
        size: (H, W) it will be fed; None: unknown.
    """
    name = timm_name(encoder)
    if name is None:
        return {}
    model = on_meta(functools.partial(_timm_model, name))
    accepted = inspect.signature(type(model).__init__).parameters
    if "strict_img_size" in accepted:
        return {"strict_img_size": False}
    if "dynamic_img_size" in accepted:
        # timm resamples pretrained patches to another size.
        patch = model.patch_embed.patch_size[0]
        return {"dynamic_img_size": True} | ({} if patch in PATCHES else {"patch_size": 16})
    fixed = "img_size" in accepted and model.pretrained_cfg.get("fixed_input_size")
    return {"img_size": size} if fixed and size and not _takes(model, size) else {}


def _timm_model(name: str) -> Any:
    import timm

    return timm.create_model(name)


def _takes(model: Any, size: tuple[int, int]) -> bool:
    """Whether a timm model runs on images of a size, (H, W)."""
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model.eval().forward_features(torch.zeros(1, 3, *size, device=device))
    except (AssertionError, RuntimeError, ValueError):
        return False
    return True


def _builds(build: Callable[..., nn.Module], dials: dict[str, Any]) -> bool:
    """Whether SMP builds that network without pretrained weights."""
    try:
        on_meta(functools.partial(build, encoder_weights=None, **dials))
    except Exception:
        return False
    return True


def offline_error(name: str, encoder: str, weights: str, error: Exception) -> UserError:
    """What is told where weights cannot be fetched."""
    return UserError(
        f"{name}: the {weights} weights cannot be fetched: {line_of(error)}. If the machine is "
        f"offline, point ENCODER_WEIGHTS to a local .safetensors or .pth file of {encoder}, or set "
        "it to none"
    )


def on_meta(build: Callable[[], Any]) -> Any:
    """A network without memory; with it where it asks for values while it is built."""
    try:
        with torch.device("meta"):
            return build()
    except Exception:
        with torch.device("cpu"):  # this may be called where others build without memory
            return build()


def padded_size(size: tuple[int, int], smallest: int = STRIDE) -> tuple[int, int]:
    """(H, W) of images that a network of these strides is fed."""
    height, width = (padded_side(side, STRIDE, smallest) for side in size)
    return height, width


def line_of(error: Exception) -> str:
    """A library's error as one line of at most 200 characters."""
    text = " ".join(str(error).split())[:200].rstrip(".")
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
