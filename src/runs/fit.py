"""How the folds of a run are trained, and when each has its turn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runs.trial import Machine
from training.steps import Steps

# --help and wrong flags answer at once: torch comes in where it is used.
if TYPE_CHECKING:
    from Lightning_module import Recipe


@dataclass(frozen=True)
class Turn:
    """A fold's turn in a session.

    Attributes:
        number: from 1.
        of: folds of the session.
        deadline: of the session, by time.monotonic: there the fold stops.
        end: of the fold by the same clock: its epochs are moved so that it comes in time.
    """

    number: int = 1
    of: int = 1
    deadline: float = math.inf
    end: float = math.inf


ALONE = Turn()


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How the folds of a run are trained; each field is called as its knob, in config.py.

    `runs.experiment.fit_of` makes it of a configuration.

    Attributes:
        machine: where, and with which numbers.
        recipe: what the module of a fold is told.
        knobs: every knob as JSON holds it, for the checkpoint.
        free: names of those that do not make a run what it is.
    """

    model_name: str
    encoder_weights: str | None
    init_ckpt: str
    freeze_encoder: int | bool
    freeze_layers: tuple[str, ...]
    pseudo: str
    pseudo_ratio: float
    seed: int
    metric: str
    resize_mode: str

    epochs: int
    crops_per_image: int
    train_batch_size: int
    accumulate_grad_batches: int
    limit_batches: int | float
    val_every: int
    grad_clip: float
    ema_decay: float
    swa: bool | float
    early_stopping: int | None
    early_stopping_delta: float
    save_top_k: int
    save_minutes: float

    precision: str
    channels_last: str
    compile: str
    gradient_checkpointing: bool
    callbacks: tuple[str, ...]
    loggers: tuple[str, ...]
    log_images: int
    log_histograms: bool
    profiler: str
    trainer_kwargs: Mapping[str, Any]

    machine: Machine
    recipe: "Recipe"
    knobs: Mapping[str, Any]
    free: frozenset[str]

    @property
    def keeps_checkpoints(self) -> bool:
        """Whether a training leaves networks behind: fast_dev_run and its like do not."""
        options = self.trainer_kwargs
        return bool(options.get("enable_checkpointing", True)) and not options.get("fast_dev_run")

    def with_epochs(self, epochs: int) -> "Fit":
        """The same with other EPOCHS."""
        return replace(self, epochs=epochs, knobs={**self.knobs, "EPOCHS": epochs})

    def steps(self, images: int) -> Steps:
        """Steps of a training on that many images."""
        options = self.trainer_kwargs
        once = int(options.get("fast_dev_run") or 0)
        again = options.get("overfit_batches") or 0
        return Steps(
            images,
            batch=self.train_batch_size,
            accumulate=self.accumulate_grad_batches,
            devices=self.machine.world,
            crops=self.crops_per_image,
            epochs=1 if once else self.epochs,
            limit=once or again or self.limit_batches,
            most=-1 if once else options.get("max_steps", -1),
            trial=bool(once or again),
        )
