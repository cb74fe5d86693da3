"""Local files of pretrained weights, with the keys of timm or SMP, into an encoder."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from core.errors import UserError, reason_of


def load_encoder_weights(encoder: nn.Module, path: Path) -> None:
    """Fills `encoder` from a local file with the keys of timm or SMP; the classifier is left out.

    Other channel counts than the file's reuse its first convolution as timm does; patches and
    positions of transformers are resampled to another size.

    Raises:
        UserError: no such file, or tensors that are missing or of another shape.
    """
    target = encoder.state_dict()
    # timm's feature networks write stem_0 where its files have stem.0.
    names = {key.replace(".", "_"): key for key in target}
    file = read_weights(path)
    renamed = max((_rename(file, *ways) for ways in _PREFIXES), key=lambda t: len(t.keys() & names))
    known = {names[key]: value for key, value in renamed.items() if key in names}
    source = {key: fit_tensor(value, target[key]) for key, value in known.items()}
    wrong = [key for key, value in source.items() if value.shape != target[key].shape]
    missing = [k for k in target if k not in source and not k.endswith("num_batches_tracked")]
    if wrong or missing:
        raise UserError(
            f"{path.name}: {len(missing)} tensors of the encoder are missing and {len(wrong)} have "
            f"another shape (first: {(missing + wrong)[0]}). The file must hold the weights of the "
            "encoder that MODEL_NAME names"
        )
    encoder.load_state_dict(source, strict=False)


# (prefix to cut from the file's keys, prefix to add): plain, SMP networks, DDP, timm-universal, and
# checkpoints of this project.
_PREFIXES = [
    *(("", ""), ("encoder.", ""), ("module.", ""), ("", "model."), ("model.", "")),
    *(("model.net.encoder.", ""), ("model.encoder.", "")),
]


def _rename(source: Mapping[str, torch.Tensor], cut: str, add: str) -> dict[str, torch.Tensor]:
    return {
        (add + key.removeprefix(cut)).replace(".", "_"): value
        for key, value in source.items()
        if key.startswith(cut)
    }


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a .safetensors or .pth file by name.

    Raises:
        UserError: no such file, or one that cannot be read.
    """
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
        raise UserError(f"ENCODER_WEIGHTS: {path} cannot be read: {reason_of(error)}") from error


def fit_tensor(value: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A tensor of the file in the shape of the encoder's, where there is a way; else as it is."""
    from timm.layers.patch_embed import resample_patch_embed
    from timm.layers.pos_embed import resample_abs_pos_embed
    from timm.models import adapt_input_conv

    if value.ndim == 4 and target.ndim == 4 and value.shape[1] == 3 != target.shape[1]:
        value = adapt_input_conv(target.shape[1], value)
    patch = target.shape[-2:]
    if value.ndim == 4 and value.shape[:2] == target.shape[:2] and min(patch, default=1) > 7:
        return resample_patch_embed(value, list(patch))
    grids = _prefix(value), _prefix(target)
    if value.ndim == 3 == target.ndim and value.shape != target.shape and None not in grids:
        side = math.isqrt(target.shape[1])
        return resample_abs_pos_embed(value, [side, side], num_prefix_tokens=grids[0] or 0)
    return value


def _prefix(positions: torch.Tensor) -> int | None:
    """Tokens before a square grid of patches in positions (1, N, C); None where it is none."""
    if positions.ndim != 3 or positions.shape[0] != 1:
        return None
    count = positions.shape[1]
    return next((n for n in (0, 1, 2, 5) if math.isqrt(count - n) ** 2 == count - n), None)
