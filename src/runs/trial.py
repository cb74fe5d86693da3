"""What a run asks of the machine and of its network, tried before any image is read."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UserError, nearest
from runs.launch import check_launch, environment_plugins, launched
from training.precision import precision_here

if TYPE_CHECKING:
    from data.specs import DataSpec

# Of the names of Lightning's strategies that go on in copies of this process, for notebooks.
COPYING = ("spawn", "fork", "notebook")


def choose_strategy(asked: str, world: int) -> str:
    """Lightning's strategy name; ddp allows for weights without a gradient.

    EfficientNet encoders and others keep layers that no decoder reads: plain ddp stops at them.
    """
    if asked == "ddp" or (asked == "auto" and world > 1):
        return "ddp_find_unused_parameters_true"
    return asked


@dataclass(frozen=True)
class Machine:
    """Where a run is trained, and with which numbers; each is called as its knob, in config.py."""

    accelerator: str
    devices: int
    num_nodes: int
    strategy: str
    sync_batchnorm: bool
    precision: str

    @property
    def places(self) -> tuple[int, int]:
        """(devices a machine, machines): the launcher's, where there is one; -1 = all devices."""
        return launched() or (self.devices, self.num_nodes)

    @property
    def world(self) -> int:
        """Processes that share a training."""
        import torch

        devices, nodes = self.places
        return nodes * (max(1, torch.cuda.device_count()) if devices == -1 else devices)

    @property
    def options(self) -> dict[str, Any]:
        """Arguments of Lightning's Trainer; its plugins are those of who has started it."""
        from training.sharding import build_strategy

        devices, nodes = self.places
        return {
            "accelerator": self.accelerator,
            # Lightning's own -1 is for GPUs alone.
            "devices": "auto" if devices == -1 else devices,
            "num_nodes": nodes,
            "strategy": build_strategy(choose_strategy(self.strategy, self.world)),
            "sync_batchnorm": self.sync_batchnorm,
            "precision": precision_here(self.precision, self.accelerator),
            "plugins": environment_plugins(),
        }


def check_strategy(name: str, *, on_cpu: bool) -> None:
    """Makes sure that a strategy of Lightning is one that the scripts can be started by.

    Raises:
        UserError: it is unknown, for GPUs alone, or copies a process instead of starting one.
    """
    from pytorch_lightning.strategies import StrategyRegistry

    known = ["auto", *StrategyRegistry.available_strategies()]
    if name not in known:
        raise UserError(
            f"STRATEGY: Lightning has no {name!r}.{nearest(name, known)} Need auto, ddp or fsdp"
        )
    if any(way in name for way in COPYING):
        raise UserError(f"STRATEGY={name}: copies of a process are none of a script: need ddp")
    if on_cpu and name.startswith(("fsdp", "deepspeed")):
        raise UserError(f"STRATEGY={name}: it is for GPUs, got a CPU: need auto or ddp")
    if name.startswith("deepspeed"):
        raise UserError(
            f"STRATEGY={name}: it leaves folders of parts in the place of best.ckpt, which no "
            "stage after training reads: need fsdp, which shares weights and the optimiser's "
            "memory out likewise, or ddp"
        )


def check_machine(machine: Machine, more: Mapping[str, Any] | None = None) -> None:
    """Makes sure that Lightning finds the devices and knows the strategy.

    Args:
        machine: where a run is trained.
        more: arguments of Lightning's Trainer, TRAINER_KWARGS.

    Raises:
        UserError: it does not; in Lightning's words.
    """
    import pytorch_lightning as pl
    import torch

    check_launch(machine.num_nodes)
    on_cpu = machine.accelerator == "cpu" or not torch.cuda.is_available()
    if machine.sync_batchnorm and on_cpu:
        raise UserError("SYNC_BATCHNORM: PyTorch has it for GPUs alone, got a CPU: need false")
    check_strategy(machine.strategy, on_cpu=on_cpu)
    cores = max(2, os.cpu_count() or 1)
    if on_cpu and machine.devices > cores:
        raise UserError(
            f"DEVICES: of a CPU they are processes, got {machine.devices}, need at most {cores}"
        )
    seen, needed = torch.cuda.device_count(), (launched() or (1, 1))[0]
    if not on_cpu and seen < needed:
        raise UserError(
            f"{needed} processes were started on a machine, and each sees {seen} GPUs, need "
            f"{needed}: ask for GPUs of a machine (--gpus-per-node), not of a task, and as many "
            "processes as there are"
        )
    quiet = ("enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = {**(more or {}), **dict.fromkeys(quiet, False)}
    try:
        pl.Trainer(**machine.options, logger=False, **options)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"ACCELERATOR, DEVICES, NUM_NODES, STRATEGY, PRECISION or TRAINER_KWARGS: {reason}"
        ) from error


def check_network(name: str, spec: "DataSpec", *, batch: int, scales: Sequence[float] = ()) -> Any:
    """A row of MODELS that can be trained on images of `spec`, without weights; see `try_network`.

    Raises:
        UserError: it cannot.
    """
    from training.trial import try_network

    return try_network(
        name,
        channels=spec.channels,
        outputs=spec.outputs,
        gates=spec.classes if spec.gate else 0,
        sides=spec.sides,
        size=spec.size,
        batch=batch,
        crops=spec.resize_mode == "crop",
        scales=scales,
    )
