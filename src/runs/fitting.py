"""The Trainer of one fold, and the callbacks that every training has."""

from pathlib import Path
from typing import Any

from core.knobs import fill
from runs.trial import Machine


def validate_last_epoch(trainer: Any, module: Any) -> None:
    """Ends every training with a validation, also when VAL_EVERY does not divide EPOCHS."""
    if trainer.current_epoch + 1 == trainer.max_epochs:
        trainer.check_val_every_n_epoch = 1


def build_callbacks(
    config: Any, folder: Path, mode: str, *, layout: Any = None, place: tuple[int, int] = (1, 1)
) -> list[Any]:
    """Best and last checkpoint, timing, learning rate, moving average, layout, progress."""
    from pytorch_lightning.callbacks import (
        LambdaCallback,
        LearningRateMonitor,
        Timer,
        WeightAveraging,
    )

    from training.averaging import build_average
    from training.callbacks import build_extras
    from training.checkpoints import MovableCheckpoint
    from training.console import EpochLines, Live, on_terminal
    from training.finite import Finite
    from training.memory_format import ChannelsLast
    from training.pulse import Pulse

    checkpoints = folder / "checkpoints"
    best = MovableCheckpoint(
        checkpoints,
        filename="best",
        monitor=f"val_{config.METRIC}",
        mode=mode,
        enable_version_counter=False,
    )
    last = MovableCheckpoint(
        checkpoints, filename="last", save_on_train_epoch_end=True, enable_version_counter=False
    )
    name = folder.name.replace("_", " ")
    pulse = Pulse(*place)
    shown = (Live if on_terminal() else EpochLines)(name, f"val_{config.METRIC}", pulse)
    final = LambdaCallback(on_train_epoch_start=validate_last_epoch)
    # The layout before the moving average, which copies the network.
    memory = ChannelsLast(config.CHANNELS_LAST, config.TRAIN_BATCH_SIZE, layout)
    rates = LearningRateMonitor("step")
    callbacks = [best, Finite(name), rates, Timer(), pulse, shown, final, memory]
    if config.EMA_DECAY:
        callbacks.append(WeightAveraging(multi_avg_fn=build_average(config.EMA_DECAY)))
    if config.COMPILE != "off":
        from training.compilation import Compile

        callbacks.append(Compile(config.COMPILE))
    return [*callbacks, *build_extras(config.CALLBACKS), last]


def build_trainer(
    config: Any, folder: Path, mode: str, *, layout: Any = None, place: tuple[int, int] = (1, 1)
) -> Any:
    """The Trainer of one fold.

    Args:
        config: the configuration.
        folder: of the fold.
        mode: "max" where more of METRIC is better, else "min".
        layout: what an earlier session of the fold has measured.
        place: of the fold among those of this session, from 1, and their number.
    """
    import pytorch_lightning as pl
    import torch

    from training.checkpoints import CheckpointFiles
    from training.loggers import build_loggers

    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it and fp32 is asked for
    return pl.Trainer(
        **fill(Machine, config).options,
        max_epochs=config.EPOCHS,
        accumulate_grad_batches=config.ACCUMULATE_GRAD_BATCHES,
        gradient_clip_val=config.GRAD_CLIP or None,
        check_val_every_n_epoch=config.VAL_EVERY,
        callbacks=build_callbacks(config, folder, mode, layout=layout, place=place),
        plugins=[CheckpointFiles()],
        logger=build_loggers(config.LOGGERS, folder),
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=False,  # the displays are ours
        use_distributed_sampler=False,  # the samplers share images among ranks, none twice
        benchmark=config.RESIZE_MODE != "crop",
        default_root_dir=folder,
    )
