"""Layers that stand still, for some epochs or for good."""

from collections.abc import Sequence
from typing import Any

from pytorch_lightning.callbacks import Callback
from torch import nn

from core.errors import UserError, nearest
from model_dispatcher import encoder_of


class Freeze(Callback):
    """Modules whose weights and BatchNorm statistics do not move.

    Gradients are switched off after the strategy has wrapped the network: ddp never hears of a
    weight that has none when it is wrapped.

    Args:
        layers: modules that never move.
        encoder: the module that stands still at first, if any.
        epochs: that it does so; below 0 = all.
    """

    def __init__(self, layers: Sequence[nn.Module], encoder: nn.Module | None, epochs: int):
        self.layers, self.encoder, self.epochs = list(layers), encoder, epochs

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Lightning puts all modules into training mode before."""
        if self.encoder is not None:
            still = self.epochs < 0 or trainer.current_epoch < self.epochs
            self.encoder.requires_grad_(not still).train(not still)
        for layer in self.layers:
            layer.requires_grad_(False).eval()


def build_freeze(
    model: nn.Module, *, encoder_epochs: int | bool, layers: Sequence[str]
) -> list[Freeze]:
    """The callback of FREEZE_ENCODER and FREEZE_LAYERS, if any.

    Args:
        model: the network.
        encoder_epochs: True freezes its encoder, a number for so many epochs.
        layers: names of modules as in `model.named_modules()`; net. in front may be left out.

    Raises:
        UserError: no encoder, or a name that no module has.
    """
    named = {name.removeprefix("net."): module for name, module in model.named_modules() if name}
    unknown = [name for name in layers if name not in named]
    if unknown:
        few = [name for name in named if name.count(".") < 2]
        raise UserError(
            f"FREEZE_LAYERS: the network has no {unknown[0]!r}.{nearest(unknown[0], named)} "
            f"It has {', '.join(few)}"
        )
    encoder = encoder_of(model) if encoder_epochs else None
    if encoder_epochs and encoder is None:
        raise UserError("FREEZE_ENCODER: the network has no .encoder. Name its FREEZE_LAYERS")
    if encoder is None and not layers:
        return []
    epochs = -1 if encoder_epochs is True else int(encoder_epochs)
    return [Freeze([named[name] for name in layers], encoder, epochs)]
