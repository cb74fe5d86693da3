"""Whether a fold's checkpoints will find room: asked after the first step, not after an epoch."""

import shutil
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging

from core.errors import UserError
from core.quantities import size_words


class Room(Callback):
    """Stops a fold for whose checkpoints the disk has too little room.

    What an optimiser remembers is only there after a step, and is most of a checkpoint.

    Args:
        name: of what is trained, such as "fold 0".
        folder: of its checkpoints.
        top: of the best networks that are kept.
    """

    def __init__(self, name: str, folder: Path, top: int = 1):
        self.name, self.folder, self.top, self.start = name, folder, top, -1

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.start = trainer.global_step

    def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
        if self.start < 0 or trainer.global_step == self.start:
            return
        self.start = -1  # asked once
        one = checkpoint_size(trainer, module)
        # best.ckpt and last.ckpt; beside them the one that is written anew, from the second on.
        needed = one * (2 if trainer.current_epoch + 1 == trainer.max_epochs else 3)
        # The runners-up, the best of them as best.ckpt's twin.
        kept = min(self.top, trainer.max_epochs) if trainer.max_epochs > 0 else self.top
        needed += one * kept if self.top > 1 else 0
        there = [self.folder / name for name in ("best.ckpt", "last.ckpt")]
        there += [*self.folder.glob("top_*.ckpt"), *self.folder.glob("best_*.ckpt")]
        needed -= sum(path.stat().st_size for path in there if path.is_file())
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UserError(
                f"{self.name}: its checkpoints take {size_words(one)} each, {size_words(needed)} "
                f"more while they are written, and {self.folder} has {size_words(free)} free: "
                "free some space there, or choose another --logs"
            )


def checkpoint_size(trainer: Any, module: Any) -> int:
    """Bytes of the tensors in last.ckpt: weights, those behind an average, the optimiser's."""
    averaged = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)
    weights = sum(value.nbytes for value in module.state_dict().values())
    states = [state for optimizer in trainer.optimizers for state in optimizer.state.values()]
    values = [value for state in states for value in state.values()]
    kept = sum(value.nbytes for value in values if isinstance(value, torch.Tensor))
    return weights * (1 + averaged) + kept
