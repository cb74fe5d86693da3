"""A network is tried before it is trained: what it cannot do is known before any image is read."""

import functools
from collections.abc import Sequence

import torch
from torch import nn

from core.errors import UserError
from model_dispatcher import build_model
from networks.outputs import logits_of
from training.batches import scaled_size

Size = tuple[int, int]


def try_network(
    name: str,
    *,
    channels: int,
    outputs: int,
    gates: int,
    sides: bool = False,
    size: Size,
    batch: int,
    crops: bool,
    scales: Sequence[float] = (),
) -> nn.Module:
    """Runs a network once as in validation and once as in training; returns it, without weights.

    Args:
        name: as for `build_model`.
        channels: of an image.
        outputs: channels of its logits.
        gates: channels of its second head, 0: it has none.
        sides: stages of its decoder give logits, too, in training.
        size: (H, W) of its images.
        batch: images of a training step.
        crops: whole images of any size are predicted, not only of `size`.
        scales: lowest and highest share of `size` that it is trained at; () = at `size` alone.

    Raises:
        UserError: it cannot be built, does not run on such images, or not on so few at once.
    """
    build = functools.partial(
        build_model,
        name,
        channels=channels,
        classes=outputs,
        size=size,
        gate=gates > 0,
        sides=sides,
    )
    larger = (2 * size[0] + 32, 2 * size[1])
    shapes = [(1, channels, *size), *([(1, channels, *larger)] if crops else [])]
    # meta computes shapes alone: no memory, hardly any time; some networks ask for values.
    with torch.device("meta"):
        try:
            return _try(name, build(), shapes, batch, outputs + gates, scales)
        except Exception:
            pass
    return _try(name, build(), shapes, batch, outputs + gates, scales)


def _try(
    name: str,
    model: nn.Module,
    shapes: Sequence[tuple[int, ...]],
    batch: int,
    outputs: int,
    scales: Sequence[float],
) -> nn.Module:
    for shape in shapes:
        error = _error(model.eval(), shape, outputs)
        if error:
            only = " (RESIZE_MODE=crop predicts whole images)" if shape != shapes[0] else ""
            raise UserError(f"MODEL_NAME={name} cannot run on {_text(shape)}{only}: {error}")
    shape = shapes[0][1:]
    error = _error(model.train(), (batch, *shape), outputs)
    if error:
        alone = batch == 1 and not _error(model, (2, *shape), outputs)
        need = ". Need TRAIN_BATCH_SIZE=2 or more" if alone else ""
        raise UserError(
            f"MODEL_NAME={name} cannot be trained on {batch} {_text(shape)}: {error}{need}"
        )
    for scale in scales:
        scaled = (shape[0], *scaled_size(shape[1:], scale))
        if error := _error(model, (batch, *scaled), outputs):
            raise UserError(
                f"TRAIN_SCALES: MODEL_NAME={name} cannot be trained on {_text(scaled)} beside "
                f"{_text(shape)}: {error}: leave it empty, or take another network"
            )
    return model


def _text(shape: tuple[int, ...]) -> str:
    return f"images of {shape[-2]} x {shape[-1]} pixels"


def _error(model: nn.Module, shape: tuple[int, ...], outputs: int) -> str:
    """What a forward of that input shape ends with, as one line; "" where all is well."""
    try:
        with torch.no_grad():
            # Logits of stages come behind.
            logits = logits_of(model(torch.zeros(shape)))[:, :outputs]
    except Exception as error:
        return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
    need = (shape[0], outputs, *shape[2:])
    return "" if logits.shape == need else f"its logits are {tuple(logits.shape)}, need {need}"
