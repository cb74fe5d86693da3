"""What a training says: a display that renews itself on a terminal, plain lines elsewhere."""

import logging
import os
import shutil
import sys
import time
import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from tqdm import tqdm

from core.quantities import time_words
from training.pulse import Pulse, memory_in_use

# Hints for other projects' loops, not for this one.
HINTS = (
    "does not have many workers",
    "exists and is not empty",
    "treespec, LeafSpec",
    "logging interval",
    "dataloader is not resumable",  # the data module is
    # fp16 skips its first steps while it looks for a scale; they are counted (training/finite.py).
    r"lr_scheduler.step\(\)` before `optimizer.step\(\)",
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
    """Whether somebody watches stdout; terminals of some containers have no width to draw in."""
    return sys.stdout.isatty() and os.get_terminal_size(sys.stdout.fileno()).columns > 0


class Shown(Callback):
    """What both displays know of a fold.

    Args:
        name: of what is trained, such as "fold 0".
        monitor: the score that best.ckpt follows.
        pulse: measures the steps; among the callbacks, too.
    """

    def __init__(self, name: str, monitor: str, pulse: Pulse):
        self.name, self.monitor, self.pulse = name, monitor, pulse
        self.best: float | None = None

    def best_of(self, trainer: Any, score: float) -> float:
        """The best so far: Lightning's checkpoints hear of an epoch's score last."""
        checkpoint = next(iter(trainer.checkpoint_callbacks), None)
        if checkpoint is None or checkpoint.best_model_score is None:
            return score
        better = max if checkpoint.mode == "max" else min
        return better(float(checkpoint.best_model_score), score)

    def speed_words(self) -> str:
        """Images a second, waiting, memory."""
        return (
            f"{self.pulse.speed:.3g} images/s, {self.pulse.waiting:.0%} waiting for data, "
            f"{memory_in_use():.1f} GB"
        )

    def left_words(self, trainer: Any) -> str:
        """Time left of the fold, and of all where there are more."""
        fold, whole = self.pulse.left(trainer)
        more = "" if whole == fold else f", {time_words(whole)} with the other folds"
        return f"{time_words(fold)} left{more}"


class EpochLines(Shown):
    """Prints a line an epoch, for logs: loss of the last step, scores, the best, seconds.

    After the first steps a line more says how long it will take.
    """

    def __init__(self, name: str, monitor: str, pulse: Pulse):
        super().__init__(name, monitor, pulse)
        self.began, self.validated, self.told = 0.0, False, False

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.began, self.validated = time.monotonic(), False

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if self.told or not self.pulse.known or not trainer.is_global_zero:
            return
        self.told = True
        lines = [f"{self.name}: {self.speed_words()}, {self.left_words(trainer)}"]
        starved = self.pulse.starved(module)
        lines += [f"note: {starved}"] if starved else []
        print("\n".join(lines), flush=True)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validated = True

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        """Comes after the epoch's validation, if it has one."""
        names = ("train_loss", *(("val_loss", self.monitor) if self.validated else ()))
        # Asked for by every rank: scores are summed over ranks.
        values = {name: float(trainer.callback_metrics[name]) for name in names}
        words = [f"{name} {value:.4f}" for name, value in values.items()]
        if self.validated:
            words.append(f"best {self.best_of(trainer, values[self.monitor]):.4f}")
        if trainer.is_global_zero:
            print(
                f"{self.name}, epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                f"{', '.join(words)}, {time.monotonic() - self.began:.1f} s",
                flush=True,
            )


class Live(Shown):
    """Three lines on a terminal that renew themselves: a bar over all epochs, scores, speed."""

    def __init__(self, name: str, monitor: str, pulse: Pulse):
        super().__init__(name, monitor, pulse)
        self.score = ""

    def on_train_start(self, trainer: Any, module: Any) -> None:
        batches = trainer.num_training_batches
        hidden = not trainer.is_global_zero
        more: dict[str, Any] = {"disable": hidden, "file": sys.stdout, "dynamic_ncols": True}
        self.bar = tqdm(
            desc=f"{self.name} ({self.pulse.place} of {self.pulse.folds})",
            total=batches * trainer.max_epochs,
            initial=trainer.current_epoch * batches,
            bar_format="{desc} {bar} {percentage:3.0f} %",
            **more,
        )
        self.lines = [tqdm(bar_format="{desc}", position=at, **more) for at in (1, 2)]

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """A budget may have moved the end."""
        self.bar.total = trainer.num_training_batches * trainer.max_epochs

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if self.bar.update():  # True where it was drawn: some ten times a second at most
            self._draw(trainer, f"loss {float(trainer.callback_metrics['train_loss']):.4f}")

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self._draw(trainer, "validating")

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        value = float(trainer.callback_metrics[self.monitor])
        best = self.best_of(trainer, value)
        self.score = f", {self.monitor} {value:.4f}, best {best:.4f}"
        self._draw(trainer, "validated")

    def on_train_end(self, trainer: Any, module: Any) -> None:
        for line in (self.bar, *self.lines):
            line.close()

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.on_train_end(trainer, module)

    def _draw(self, trainer: Any, what: str) -> None:
        epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        texts = [f"{epoch}, {what}{self.score}"]
        if self.pulse.known:
            texts.append(f"{self.speed_words()}, {self.left_words(trainer)}")
        columns = shutil.get_terminal_size().columns - 1
        for line, text in zip(self.lines, texts, strict=False):
            line.set_description_str(text[:columns])
