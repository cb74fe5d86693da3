"""How fast the folds of a run are trained on this machine, measured on a network thrown away."""

import contextlib
import io
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runs.fit import Fit
from runs.run import Run
from runs.starts import build_data, build_fold

# A trial: so many batches an epoch and epochs, the first of which warms up.
BATCHES, EPOCHS = 8, 4
# Arguments of Lightning's Trainer that would end a trial before it has seen enough.
ENDS = ("max_steps", "max_time", "fast_dev_run", "overfit_batches", "min_epochs", "min_steps")
# That the few batches of a trial have no room for.
DIVIDES = ("val_check_interval",)


@dataclass(frozen=True)
class Pace:
    """What a fold takes, measured.

    Attributes:
        start: seconds from the beginning of a fold to its first epoch, and what that one takes more
            than others: it warms up.
        step: seconds of a batch of training.
        image: seconds of an image of validation.
        epoch: seconds of an epoch beside: first batch, curves, checkpoints.
        memory: GB at most, of the GPU, or of the process without one.
        disk: bytes of a fold's checkpoints at most.
    """

    start: float
    step: float
    image: float
    epoch: float
    memory: float
    disk: int

    def epoch_seconds(self, batches: int, images: int, *, val_every: int = 1) -> float:
        """An epoch of so many batches and images of validation."""
        return batches * self.step + images * self.image / val_every + self.epoch


def measure_pace(fit: Fit, run: Run, fold: int, *, limit: float, cache: Any = None) -> Pace:
    """Trains a fold's network for some batches in a temporary folder, as it will be trained.

    Args:
        fit: how it is trained.
        run: that it is of.
        fold: its number.
        limit: seconds after which no further epoch of the trial is begun.
        cache: of `prepare_data`.
    """
    import pytorch_lightning as pl

    from runs.fitting import build_trainer
    from runs.training import run_trainer
    from training.pacing import Meter
    from training.recomputation import recompute_blocks

    short = replace(
        fit.with_epochs(EPOCHS),
        limit_batches=BATCHES,
        early_stopping=None,
        val_every=1,
        callbacks=(),
        loggers=tuple(name for name in fit.loggers if name in ("csv", "tensorboard")),
        log_images=0,
        profiler="none",
        trainer_kwargs={k: v for k, v in fit.trainer_kwargs.items() if k not in (*ENDS, *DIVIDES)},
    )
    pl.seed_everything(fit.seed + fold, workers=True, verbose=False)
    meter = Meter(limit)
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        data = build_data(short, run, fold, cache=cache)
        module = build_fold(short, run, fold, weights=True)
        if fit.gradient_checkpointing:
            recompute_blocks(module.model)
        folder = Path(place) / f"fold_{fold}"
        mode = "max" if module.metric.higher_is_better else "min"
        trainer = build_trainer(short, folder, mode, module=module, turn=None, extra=[meter])
        run_trainer(trainer, module, data, None, f"the trial of fold {fold}")
        kept = (folder / "checkpoints").glob("*.ckpt")
        disk = sum(path.stat().st_size for path in kept)
    return pace_of(meter, disk)


def pace_of(meter: Any, disk: int) -> Pace:
    """What a trial's Meter has seen, its first epoch left out where there are others."""
    epoch, validation = (
        statistics.median(of[1:] or of) for of in (meter.epochs, meter.validations)
    )
    steps = meter.steps[meter.batches - 1 :] or meter.steps or [epoch - validation]
    step = statistics.mean(steps)
    return Pace(
        start=meter.first - meter.made + max(0.0, meter.epochs[0] - epoch),
        step=step,
        image=validation / max(1, meter.images),
        epoch=max(0.0, epoch - validation - meter.batches * step),
        memory=meter.memory,
        disk=disk,
    )
