"""Stops within an epoch: last.ckpt is written where a training stands, and it ends in time."""

import math
import time
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback


class TimeIsUp(Exception):
    """The time that a training was given is spent; last.ckpt holds where it stands."""


class Pauses(Callback):
    """Writes last.ckpt between two steps of an epoch, at the deadline and every so many seconds.

    It is the last to hear of a step: all others have had their say in what is written. Never
    between two batches whose gradients add up.

    Args:
        path: of last.ckpt; None where no checkpoints are kept.
        deadline: by time.monotonic, after which the training ends; inf = never.
        every: seconds between two checkpoints within an epoch; inf = none.
    """

    def __init__(self, path: Path | None, *, deadline: float = math.inf, every: float = math.inf):
        self.path, self.deadline, self.every = path, deadline, every
        self.written, self.rounds = time.monotonic(), 0

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Lightning goes on within an epoch without telling anybody that it began."""
        if trainer.fit_loop.restarted_mid_epoch:
            for callback in trainer.callbacks:
                if callback is not self:
                    callback.on_train_epoch_start(trainer, module)
            module.on_train_epoch_start()

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """The epoch before has just been written to last.ckpt.

        A fold that may be stopped is validated until it has a network to show.
        """
        self.written = time.monotonic()
        if self.path and self.deadline < math.inf:
            if not self.path.with_name("best.ckpt").is_file():
                self.rounds = self.rounds or trainer.check_val_every_n_epoch
                trainer.check_val_every_n_epoch = 1
            elif self.rounds and trainer.current_epoch + 1 < trainer.max_epochs:
                trainer.check_val_every_n_epoch = self.rounds
        if self._agreed(trainer, time.monotonic() >= self.deadline):
            raise TimeIsUp

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        batch = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if batch % trainer.accumulate_grad_batches or batch >= trainer.num_training_batches:
            return
        over = self._agreed(trainer, time.monotonic() >= self.deadline)
        if self.path and (
            over or self._agreed(trainer, time.monotonic() >= self.written + self.every)
        ):
            trainer.save_checkpoint(self.path)
            self.written = time.monotonic()
        if over:
            raise TimeIsUp

    def _agreed(self, trainer: Any, mine: bool) -> bool:
        """What one rank wants all of them do: their clocks differ."""
        if trainer.world_size == 1:
            return mine
        return bool(trainer.strategy.reduce_boolean_decision(mine, all=False))
