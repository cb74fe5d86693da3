"""What a run asks of the machine and of its network, tried before any image is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UserError
from training.precision import precision_here

if TYPE_CHECKING:
    from data.specs import DataSpec


def choose_strategy(asked: str, devices: int) -> str:
    """Lightning's strategy name; ddp allows for weights without a gradient.

    EfficientNet encoders and others keep layers that no decoder reads: plain ddp stops at them.
    """
    import torch

    several = devices > 1 or (devices == -1 and torch.cuda.device_count() > 1)
    if asked == "ddp" or (asked == "auto" and several):
        return "ddp_find_unused_parameters_true"
    return asked


@dataclass(frozen=True)
class Machine:
    """Where a run is trained, and with which numbers; each is called as its knob, in config.py."""

    accelerator: str
    devices: int
    strategy: str
    precision: str

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of Lightning's Trainer."""
        return {
            "accelerator": self.accelerator,
            # Lightning's own -1 is for GPUs alone.
            "devices": "auto" if self.devices == -1 else self.devices,
            "strategy": choose_strategy(self.strategy, self.devices),
            "precision": precision_here(self.precision, self.accelerator),
        }


def check_machine(machine: Machine, more: Mapping[str, Any] | None = None) -> None:
    """Makes sure that Lightning finds the devices and knows the strategy.

    Args:
        machine: where a run is trained.
        more: arguments of Lightning's Trainer, TRAINER_KWARGS.

    Raises:
        UserError: it does not; in Lightning's words.
    """
    import pytorch_lightning as pl

    quiet = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {**(more or {}), **dict.fromkeys(quiet, False)}
    try:
        pl.Trainer(**machine.options, logger=False, **options)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"ACCELERATOR, DEVICES, STRATEGY, PRECISION or TRAINER_KWARGS: {reason}"
        ) from error


def check_network(name: str, spec: "DataSpec", *, batch: int) -> None:
    """Makes sure that a row of MODELS can be trained on images of `spec`, see `try_network`."""
    from training.trial import try_network

    try_network(
        name,
        channels=spec.channels,
        outputs=spec.outputs,
        gates=spec.classes if spec.gate else 0,
        sides=spec.sides,
        size=spec.size,
        batch=batch,
        crops=spec.resize_mode == "crop",
    )
