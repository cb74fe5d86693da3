"""Processes of one training that were started for different ones are told so."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from core.errors import UserError

SHOWN = 3


class Agreement(Callback):
    """Stops a training whose processes have other knobs, folds, tables or checkpoints.

    Each would train on images of its own and hand the others gradients of another network.

    Args:
        mine: plain values by name, which all processes must have alike.
    """

    def __init__(self, mine: Mapping[str, Any]):
        self.mine = dict(mine)

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Compares them with those of the first process.

        Raises:
            UserError: they differ; lists what does.
            SystemExit: they do, and the first process tells it.
        """
        if trainer.world_size == 1:
            return
        everyone: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(everyone, self.mine)
        first = everyone[0]
        for rank, other in enumerate(everyone):
            names = [name for name in first if str(other.get(name)) != str(first[name])]
            if names:
                told = "; ".join(
                    f"{name} is {first[name]} and {other.get(name)}" for name in names[:SHOWN]
                )
                if not trainer.is_global_zero:
                    raise SystemExit(2)
                raise UserError(
                    f"processes 0 and {rank} of this training are not of one: {told}. Start all "
                    "with the same flags, and on machines that have LOGS and OUTPUT in common"
                )
