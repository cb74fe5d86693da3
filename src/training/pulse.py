"""How fast a training goes, what it waits for, and when it will be over."""

import time
from collections import deque
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from core.memory import memory_of_process

# Steps before the first estimate: the first ones warm up caches and kernels.
COLD = 10
# Steps that the present speed is a mean of.
WINDOW = 50
# A process that computes on a free core gets nearly all of it.
LITTLE = 0.6


class Pulse(Callback):
    """Measures every step of a fold.

    Args:
        place: of the fold among those of this session, from 1.
        folds: their number.
    """

    def __init__(self, place: int = 1, folds: int = 1):
        self.place, self.folds = place, folds
        self.steps: deque[tuple[float, float, float, int]] = deque(maxlen=WINDOW)
        self.seen = 0
        self.validations: list[float] = []
        self.ended, self.computing, self.began = 0.0, 0.0, 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.ended = time.perf_counter()

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.began, self.computing = time.perf_counter(), time.thread_time()

    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, cpu = time.perf_counter(), time.thread_time() - self.computing
        self.seen += 1
        if self.seen > COLD // 2:
            images = len(batch["image"]) * trainer.world_size
            self.steps.append((self.began - self.ended, now - self.began, cpu, images))
        self.ended = now

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        self.began = time.perf_counter()

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        self.validations.append(time.perf_counter() - self.began)

    @property
    def known(self) -> bool:
        """Whether there are steps enough for an estimate."""
        return self.seen >= COLD

    @property
    def seconds(self) -> float:
        """Of one step, with what it waits for."""
        return sum(wait + work for wait, work, *_ in self.steps) / max(1, len(self.steps))

    @property
    def speed(self) -> float:
        """Images a second."""
        images = sum(images for *_, images in self.steps)
        return images / max(1e-9, self.seconds * len(self.steps))

    @property
    def waiting(self) -> float:
        """Share of the time in which the network waits for data, 0-1."""
        waited = sum(wait for wait, *_ in self.steps)
        return waited / max(1e-9, self.seconds * len(self.steps))

    def left(self, trainer: Any) -> tuple[float, float]:
        """Seconds of this fold, and of all folds, that are still to come."""
        batches = trainer.num_training_batches
        done = trainer.fit_loop.total_batch_idx + 1
        every = trainer.check_val_every_n_epoch or 1
        each = sum(self.validations) / max(1, len(self.validations))
        rounds = -(-trainer.max_epochs // every)
        whole = trainer.max_epochs * batches * self.seconds + rounds * each
        to_come = rounds - (trainer.current_epoch // every)
        fold = max(0, trainer.max_epochs * batches - done) * self.seconds + to_come * each
        return fold, fold + (self.folds - self.place) * whole

    def starved(self, module: Any) -> str:
        """A word where others take the core that this process computes on, else nothing."""
        worked = sum(work for _, work, *_ in self.steps)
        share = sum(cpu for *_, cpu, _ in self.steps) / max(1e-9, worked)
        if module.device.type != "cpu" or share >= LITTLE:
            return ""
        return f"this process gets {share:.0%} of a core: others are busy on this machine"


def memory_in_use() -> float:
    """GB of the GPU at most, or of this process on a machine without."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    return memory_of_process()
