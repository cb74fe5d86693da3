"""The Trainer of one fold, and the callbacks that every training has."""

import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError, nearest
from runs.fit import ALONE, Fit, Turn

# Arguments of Lightning's Trainer that a knob or this project gives.
OWNED = {
    "accelerator": "ACCELERATOR",
    "strategy": "STRATEGY",
    "devices": "DEVICES",
    "num_nodes": "NUM_NODES",
    "sync_batchnorm": "SYNC_BATCHNORM",
    "precision": "PRECISION",
    "logger": "LOGGERS",
    "callbacks": "CALLBACKS",
    "max_epochs": "EPOCHS",
    "limit_train_batches": "LIMIT_BATCHES",
    "check_val_every_n_epoch": "VAL_EVERY",
    "accumulate_grad_batches": "ACCUMULATE_GRAD_BATCHES",
    "gradient_clip_val": "GRAD_CLIP",
    "profiler": "PROFILER",
    "default_root_dir": "LOGS",
    "barebones": "",
    "plugins": "",
    "use_distributed_sampler": "",
}

# Optimisers that take each number by itself, so that a part of a weight is as good as all of it.
PARTWISE = ("adamw", "adam", "sgd")


def check_trainer_kwargs(given: dict[str, Any]) -> None:
    """Makes sure that Lightning's Trainer takes TRAINER_KWARGS, and no knob says the same.

    Raises:
        UserError: it does not, or one does, or nothing would be validated.
    """
    import pytorch_lightning as pl

    known = [name for name in inspect.signature(pl.Trainer).parameters if name not in OWNED]
    for name in given:
        if OWNED.get(name):
            raise UserError(f"TRAINER_KWARGS: {name} is the knob {OWNED[name]}: set it there")
        if name not in known:
            raise UserError(
                f"TRAINER_KWARGS: no argument {name!r} of Lightning's Trainer."
                f"{nearest(str(name), known)} Known: {', '.join(known)}"
            )
    if given.get("limit_val_batches") == 0:
        raise UserError(
            "TRAINER_KWARGS: limit_val_batches is 0, need 1 or more: best.ckpt is chosen by what "
            "is validated"
        )


def check_sharding(fit: Fit) -> None:
    """Makes sure that nothing is asked of a training by FSDP that needs weights whole.

    Raises:
        UserError: something is; lists it.
    """
    if not fit.machine.strategy.startswith("fsdp"):
        return
    name = fit.recipe.optimizer.partition(":")[0]
    asked = {
        "EMA_DECAY=0": fit.ema_decay,
        "SWA=false": fit.swa,
        "COMPILE=off": fit.compile != "off",
        "FREEZE_ENCODER=0": fit.freeze_encoder,
        "FREEZE_LAYERS empty": fit.freeze_layers,
        "LOG_HISTOGRAMS=false": fit.log_histograms,
        f"OPTIMIZER one of {', '.join(PARTWISE)}": name not in PARTWISE,
    }
    if wrong := [need for need, given in asked.items() if given]:
        raise UserError(
            f"STRATEGY={fit.machine.strategy}: each device holds a part of every weight: need "
            + "; ".join(wrong)
        )


def build_checkpoints(fit: Fit, folder: Path, mode: str) -> tuple[list[Any], list[Any]]:
    """Callbacks that keep best.ckpt and its runners-up, and the one of last.ckpt; best comes first.

    last.ckpt is written after all other callbacks have had their say.
    """
    from training.checkpoints import MovableCheckpoint, TopCheckpoints

    if not fit.keeps_checkpoints:
        return [], []
    place: dict[str, Any] = {"dirpath": folder / "checkpoints", "enable_version_counter": False}
    score: dict[str, Any] = {"monitor": f"val_{fit.metric}", "mode": mode}
    best: list[Any] = [MovableCheckpoint(filename="best", **score, **place)]
    if fit.save_top_k > 1:
        name, count = "top_{epoch}_{step}", fit.save_top_k
        best.append(TopCheckpoints(filename=name, save_top_k=count, **score, **place))
    last = MovableCheckpoint(filename="last", save_on_train_epoch_end=True, **place)
    return best, [last]


def build_callbacks(
    fit: Fit,
    folder: Path,
    mode: str,
    *,
    module: Any = None,
    layout: Any = None,
    turn: Turn | None = ALONE,
) -> list[Any]:
    """What every training has, what knobs ask for, and rows of CALLBACKS.

    Args:
        fit: how it is trained.
        folder: of the fold.
        mode: max or min, whichever is better of METRIC.
        module: what is trained, for the layers that stand still.
        layout: memory layout that an earlier session has measured.
        turn: of the fold in this session; None: a trial, of which nothing is shown.
    """
    from pytorch_lightning.callbacks import LearningRateMonitor, Timer

    from training.averaging import build_averaging
    from training.callbacks import build_extras
    from training.console import EpochLines, Live, on_terminal
    from training.finite import Finite
    from training.freezing import build_freeze
    from training.limits import LastValidation, OwnLength, build_stop
    from training.memory_format import ChannelsLast
    from training.pacing import Pacing
    from training.pulse import Pulse
    from training.repeating import SameDraws
    from training.room import Room
    from training.sights import build_sights

    best, last = build_checkpoints(fit, folder, mode)
    monitor, name = f"val_{fit.metric}", folder.name.replace("_", " ")
    shown: list[Any] = []
    if turn is not None:
        pulse = Pulse(turn.number, turn.of)
        shown = [pulse, (Live if on_terminal() else EpochLines)(name, monitor, pulse)]
    paces = []
    if turn and turn.end < math.inf:
        # Rounded down, all folds but the last would leave the rest of an epoch to that one.
        over = 0.5 if turn.number < turn.of else 0.0
        paces = [Pacing(turn.end, fit.epochs, fit.val_every, over)]
    # Lightning ignores max_time where there is a timer.
    timer = Timer(fit.trainer_kwargs.get("max_time"))
    rates = [LearningRateMonitor("step")] if fit.loggers else []
    # The layout before the moving average, which copies the network.
    measured = folder.parents[1] / "layouts.json" if turn else None
    memory = ChannelsLast(fit.channels_last, fit.train_batch_size, layout, measured)
    ends = [LastValidation(), OwnLength()]
    same = SameDraws(f"{fit.seed}/{folder.name}")
    callbacks = [same, *best, *paces, Finite(name), *rates, timer, *shown, *ends, memory]
    if module is not None:
        callbacks += build_freeze(
            module.model, encoder_epochs=fit.freeze_encoder, layers=fit.freeze_layers
        )
    # Pictures before the averaging, which takes its weights away when a validation ends.
    images, histograms = fit.log_images, fit.log_histograms
    callbacks += build_sights(folder, monitor, mode, images=images, histograms=histograms)
    half = fit.precision in ("16-true", "bf16-true")
    callbacks += build_averaging(fit.ema_decay, fit.swa, half=half)
    if fit.compile != "off":
        from training.compilation import Compile

        callbacks.append(Compile(fit.compile))
    patience, gain = fit.early_stopping, fit.early_stopping_delta
    callbacks += build_stop(monitor, mode, patience=patience, least_gain=gain)
    pauses = [build_pauses(fit, folder, turn)] if turn else []
    room = [Room(name, folder / "checkpoints", fit.save_top_k)] if turn and last else []
    return [*callbacks, *room, *build_extras(fit.callbacks), *pauses, *last]


def build_pauses(fit: Fit, folder: Path, turn: Turn) -> Any:
    """The callback that writes last.ckpt within an epoch, and ends the session in time."""
    from training.pauses import Pauses

    path = folder / "checkpoints" / "last.ckpt" if fit.keeps_checkpoints else None
    every = fit.save_minutes * 60 or math.inf
    return Pauses(path, deadline=turn.deadline, every=every)


def build_trainer(
    fit: Fit,
    folder: Path,
    mode: str,
    *,
    module: Any = None,
    layout: Any = None,
    turn: Turn | None = ALONE,
    extra: Sequence[Any] = (),
) -> Any:
    """The Trainer of one fold; arguments as of `build_callbacks`, and callbacks before them."""
    import pytorch_lightning as pl
    import torch

    from training.checkpoints import CheckpointFiles
    from training.loggers import build_loggers
    from training.profilers import build_profiler

    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it and fp32 is asked for
    options: dict[str, Any] = {
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "enable_progress_bar": False,  # the displays are ours
        "limit_val_batches": fit.limit_batches,
        "benchmark": fit.resize_mode != "crop",
        **fit.trainer_kwargs,
    }
    callbacks = build_callbacks(fit, folder, mode, module=module, layout=layout, turn=turn)
    machine = fit.machine.options
    plugins = [CheckpointFiles(), *machine.pop("plugins")]
    return pl.Trainer(
        **machine,
        max_epochs=fit.epochs,
        accumulate_grad_batches=fit.accumulate_grad_batches,
        gradient_clip_val=fit.grad_clip or None,
        check_val_every_n_epoch=fit.val_every,
        limit_train_batches=fit.limit_batches,
        callbacks=[*extra, *callbacks],
        plugins=plugins,
        logger=build_loggers(fit.loggers, folder),
        profiler=build_profiler(fit.profiler, folder),
        use_distributed_sampler=False,  # the samplers share images among ranks, none twice
        default_root_dir=folder,
        **options,
    )
