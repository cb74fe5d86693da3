"""What Lightning says while it trains: a bar on a terminal, a plain line an epoch elsewhere."""

import logging
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

# Hints for other projects' loops, not for this one.
HINTS = (
    "does not have many workers",
    "exists and is not empty",
    "treespec, LeafSpec",
    "logging interval",
)


def quiet_lightning() -> None:
    """Leaves Lightning's real warnings, hides its hints and advertisements.

    Importing Lightning sets its level to INFO again, so it is imported first (above).
    """
    for name in (pl.__name__, "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for hint in HINTS:
        warnings.filterwarnings("ignore", f".*{hint}.*")


def on_terminal() -> bool:
    """Whether somebody watches stdout, where Lightning draws its bars."""
    return sys.stdout.isatty()


class EpochLines(Callback):
    """Prints a line an epoch, for logs: loss of the last step, scores, the best, seconds.

    Args:
        name: of what is trained, such as "fold 0".
        monitor: the score that best.ckpt follows.
    """

    def __init__(self, name: str, monitor: str):
        self.name, self.monitor = name, monitor
        self.began, self.validated = 0.0, False

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.began, self.validated = time.monotonic(), False

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Comes after the epoch's validation, if it has one."""
        names = ("train_loss", *(("val_loss", self.monitor) if self.validated else ()))
        # Asked for by every rank: scores are summed over ranks.
        values = {name: float(trainer.callback_metrics[name]) for name in names}
        words = [f"{name} {value:.4f}" for name, value in values.items()]
        if self.validated:
            words.append(f"best {self._best(trainer, values[self.monitor]):.4f}")
        if trainer.is_global_zero:
            print(
                f"{self.name}, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                f"{', '.join(words)}, {time.monotonic() - self.began:.1f} s",
                flush=True,
            )

    @staticmethod
    def _best(trainer: Any, score: float) -> float:
        """The best so far: Lightning's checkpoints hear of this epoch's score last."""
        checkpoint = trainer.checkpoint_callbacks[0]
        if checkpoint.best_model_score is None:
            return score
        better = max if checkpoint.mode == "max" else min
        return better(float(checkpoint.best_model_score), score)
