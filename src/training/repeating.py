"""Random numbers of the network itself, such as dropout's."""

from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from training.batches import draw_for


class SameDraws(Callback):
    """Each step draws what it would have drawn in a training that nothing broke off.

    A checkpoint does not hold where torch's generators stood.

    Args:
        seed: of the fold.
    """

    def __init__(self, seed: str):
        self.seed = seed

    def on_train_batch_start(
        self, trainer: Any, module: Any, batch: Any, batch_idx: int, *_: Any
    ) -> None:
        """Ranks draw apart from each other."""
        draw = draw_for(trainer.global_step, batch_idx, f"{self.seed}/{trainer.global_rank}/")
        torch.manual_seed(draw.getrandbits(63))
