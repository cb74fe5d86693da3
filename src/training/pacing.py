"""A fold that ends in time: its speed is measured, its last epoch moved."""

import math
import time
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch.optim.lr_scheduler import OneCycleLR

from training.pulse import memory_in_use
from training.schedules import Course

# How far the end of a fold is moved, as shares of its epochs; what would need fewer is stopped.
LEAST, MOST = 1 / 2, 2


def from_first_rank(value: Any) -> Any:
    """What the first of several processes has; `value` itself where there is one process.

    Raises:
        SystemExit: the first has ended, and told why.
    """
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    values = [value]
    try:
        distributed.broadcast_object_list(values, src=0)
    except RuntimeError:
        if distributed.get_rank() == 0:
            raise
        raise SystemExit(2) from None
    return values[0]


class Meter(Callback):
    """Times the epochs of a trial: steps, validation, and what an epoch costs beside.

    Args:
        limit: seconds after which no further epoch is begun.
    """

    def __init__(self, limit: float):
        self.limit, self.made, self.first = limit, time.monotonic(), 0.0
        self.epochs: list[float] = []
        self.steps: list[float] = []
        self.validations: list[float] = []
        self.began = self.images = self.ended = 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        now = time.monotonic()
        self.first = self.first or now
        if self.ended:
            self.epochs.append(now - self.began)
        self.began, self.ended, self.images = now, 0.0, 0

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        now = time.monotonic()
        if self.ended:  # the first of an epoch waits for the workers
            self.steps.append(now - self.ended)
        self.ended = now

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.validating = time.monotonic()

    def on_validation_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        self.images += len(batch["image"]) * trainer.world_size

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validations.append(time.monotonic() - self.validating)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        trainer.should_stop |= from_first_rank(time.monotonic() - self.first > self.limit)

    def on_train_end(self, trainer: Any, module: Any) -> None:
        self.epochs.append(time.monotonic() - self.began)
        self.memory = memory_in_use()
        self.batches = trainer.num_training_batches


class Pacing(Callback):
    """Moves the end of a fold by the speed that is seen, so that it comes in time.

    The rate follows: a schedule over all steps is one over those that there will be. One of torch's
    own (onecycle) is only cut short. The checkpoint's notes tell the epochs of now.

    The first epoch of a session warms up. Of it the second half of its steps counts, and what it
    takes beside steps and validation; later ones count whole.

    Args:
        end: by time.monotonic.
        planned: epochs of the fold.
        val_every: epochs to a validation; the last is always validated.
        over: of an epoch, what may end later to keep the plan: folds to come have so much less.
    """

    def __init__(self, end: float, planned: int, val_every: int, over: float = 0.0):
        self.end, self.planned, self.val_every, self.over = end, planned, val_every, over
        self.marks: list[tuple[int, float]] = []
        # Of the epoch before: when half of its steps and all were done, its validation.
        self.half: tuple[int, float] | None = None
        self.trained = self.steady = self.validation = 0.0

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The seconds that all steps of an epoch take, by those of its second half."""
        self.trained, count = time.monotonic(), trainer.num_training_batches
        if batch_idx == (count - 1) // 2:
            self.half = batch_idx, self.trained
        elif self.half:
            first, then = self.half
            self.steady = (self.trained - then) / (batch_idx - first) * count

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.validation = -time.monotonic()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validation += time.monotonic()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """Comes before those that ask which epoch is the last."""
        self.marks.append((trainer.current_epoch, time.monotonic()))
        last = from_first_rank(self._last())
        if any(type(other.scheduler) is OneCycleLR for other in trainer.lr_scheduler_configs):
            last = min(last, self.planned)
        before = trainer.max_epochs
        if last == before:
            return
        trainer.fit_loop.max_epochs = last
        if data := getattr(trainer, "datamodule", None):
            data.epochs = last
        for each in trainer.lr_scheduler_configs:
            if isinstance(each.scheduler, Course):
                each.scheduler.steps = each.scheduler.steps // before * last
        notes = module.hparams["notes"]
        module.hparams["notes"] = {**notes, "config": {**notes["config"], "EPOCHS": last}}

    def _last(self) -> int:
        """The epochs that end in time; as planned until the speed is known."""
        epoch, now = self.marks[-1]
        if len(self.marks) == 1:
            return self.planned
        left = self.end - now - (self.validation if self.val_every > 1 else 0.0)
        room = left / max(1e-9, self._epoch_seconds(epoch, now))
        fits = epoch + int(room)
        if fits < self.planned:
            fits = min(self.planned, epoch + int(room + self.over))
        least = max(epoch + 1, math.ceil(self.planned * LEAST))
        return max(least, min(fits, int(self.planned * MOST)))

    def _epoch_seconds(self, epoch: int, now: float) -> float:
        first, began = self.marks[0]
        if len(self.marks) > 2:
            first, began = self.marks[1]
            return (now - began) / (epoch - first)
        if not self.steady:  # an epoch of a step or two
            return now - began - (self.validation if self.val_every > 1 else 0.0)
        beside = max(0.0, now - self.trained - self.validation)
        return self.steady + beside + self.validation / self.val_every
