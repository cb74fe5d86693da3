"""FSDP: each device keeps a part of every weight, and of what the optimiser remembers of it."""

from typing import Any

import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn


class Sharded(FSDPStrategy):
    """Lightning's FSDP with the numbers of ddp: weights and statistics in float32, and autocast.

    The network is one unit: it is whole while it computes, and in parts between two steps.
    """

    @property
    def mixed_precision_config(self) -> None:
        """None: autocast chooses the types, as without FSDP."""
        return

    def _setup_model(self, model: nn.Module) -> nn.Module:
        from lightning_fabric.strategies.fsdp import _move_torchmetrics_to_device
        from torch.distributed.fsdp import FullyShardedDataParallel

        for parameter in model.parameters():
            parameter.dimensions = parameter.ndim  # type: ignore[attr-defined]  # parts have one
        sharded: nn.Module = FullyShardedDataParallel(
            model,
            cpu_offload=self.cpu_offload,
            sharding_strategy=self.sharding_strategy,
            device_id=self.root_device,
            **self.kwargs,
        )
        _move_torchmetrics_to_device(sharded, self.root_device)
        return sharded


def build_strategy(name: str) -> Any:
    """Lightning's strategy of that name, or its name."""
    return Sharded(cpu_offload=name.endswith("offload")) if name.startswith("fsdp") else name


def sharded_root(trainer: Any) -> Any:
    """What FSDP has made of the module: its forward pass brings the weights together; or None."""
    return trainer.strategy.model if isinstance(trainer.strategy, FSDPStrategy) else None


def share_buffers(module: nn.Module) -> None:
    """All processes take the buffers of the first, which a checkpoint holds, as ddp does."""
    for buffer in module.buffers():
        torch.distributed.broadcast(buffer, src=0)
