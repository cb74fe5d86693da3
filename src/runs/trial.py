"""What a run asks of the machine and of its network, tried before any image is read."""

from typing import Any

from core.errors import UserError
from runs.experiment import data_spec
from training.precision import precision_here


def choose_strategy(asked: str, devices: int) -> str:
    """Lightning's strategy name; ddp allows for weights without a gradient.

    EfficientNet encoders and others keep layers that no decoder reads: plain ddp stops at them.
    """
    import torch

    several = devices > 1 or (devices == -1 and torch.cuda.device_count() > 1)
    if asked == "ddp" or (asked == "auto" and several):
        return "ddp_find_unused_parameters_true"
    return asked


def machine_options(config: Any) -> dict[str, Any]:
    """What of a Trainer says where it runs, and with which numbers."""
    return {
        "accelerator": config.ACCELERATOR,
        # Lightning's own -1 is for GPUs alone.
        "devices": "auto" if config.DEVICES == -1 else config.DEVICES,
        "strategy": choose_strategy(config.STRATEGY, config.DEVICES),
        "precision": precision_here(config.PRECISION, config.ACCELERATOR),
    }


def check_machine(config: Any) -> None:
    """Makes sure that Lightning finds the devices and knows the strategy.

    Raises:
        UserError: it does not; in Lightning's words.
    """
    import pytorch_lightning as pl

    try:
        pl.Trainer(
            **machine_options(config),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(f"ACCELERATOR, DEVICES, STRATEGY or PRECISION: {reason}") from error


def check_network(config: Any) -> None:
    """Makes sure that MODEL_NAME can be trained on images of CROP_SIZE, see `try_network`."""
    from training.trial import try_network

    spec = data_spec(config)
    try_network(
        config.MODEL_NAME,
        channels=spec.channels,
        outputs=spec.outputs,
        gates=spec.classes if spec.gate else 0,
        size=spec.size,
        batch=config.TRAIN_BATCH_SIZE,
        crops=spec.resize_mode == "crop",
    )
