"""Weights of another training of this project to start from."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.errors import UserError, reason_of


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of this project as it is on disk.

    Raises:
        UserError: no such file, or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"INIT_CKPT: no file {path}. Need a best.ckpt, or a run's name")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"], checkpoint["hyper_parameters"]["model_name"]
    except Exception as error:
        raise UserError(f"INIT_CKPT: {path} is no checkpoint: {reason_of(error, path)}") from error
    return checkpoint


def start_from(model: nn.Module, state: Mapping[str, torch.Tensor], source: str) -> str:
    """Copies what fits of a checkpoint's network into another; returns a line that counts it.

    Args:
        model: the network, `.model` of a module.
        state: `state_dict` of a checkpoint, keys with model. in front.
        source: the checkpoint's name, for the line.

    Raises:
        UserError: nothing fits.
    """
    ours = model.state_dict()
    theirs = {
        key.removeprefix("model."): value
        for key, value in state.items()
        if key.startswith("model.")
    }
    fitting = {k: v for k, v in theirs.items() if k in ours and v.shape == ours[k].shape}
    if not any(value.is_floating_point() for value in fitting.values()):
        raise UserError(
            f"INIT_CKPT: nothing of {source} fits this network: need a network with the same "
            "encoder, or leave it empty"
        )
    model.load_state_dict(fitting, strict=False)
    new = [key for key in ours if key not in fitting]
    unused = len(theirs.keys() - fitting.keys())
    fresh = f", {len(new)} stay new (first: {new[0]})" if new else ""
    left = f", {unused} of {len(theirs)} in the file are not used" if unused else ""
    return f"{len(fitting)} of {len(ours)} tensors from {source}{fresh}{left}"
