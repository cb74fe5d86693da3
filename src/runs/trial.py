"""What a run asks of the machine and of its network, tried before any image is read."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core.errors import UserError, nearest
from core.gates import is_whole_number
from training.precision import precision_here

if TYPE_CHECKING:
    from data.specs import DataSpec

# Of the names of Lightning's strategies that go on in copies of this process, for notebooks.
COPYING = ("spawn", "fork", "notebook")


def launched() -> tuple[int, int] | None:
    """(processes a machine, machines) as torchrun or Slurm have started them; None: by hand.

    Raises:
        UserError: variables of theirs that are no numbers.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = _count_in("LOCAL_WORLD_SIZE")
        return local, _count_in("WORLD_SIZE") // local
    tasks, nodes = _count_in("SLURM_NTASKS"), _count_in("SLURM_NNODES")
    return (tasks // nodes, nodes) if tasks > 1 else None


def _count_in(variable: str) -> int:
    text = os.environ.get(variable, "1")
    if not (is_whole_number(text) and int(text) > 0):
        raise UserError(f"{variable}: got {text!r}, need a number of processes or machines")
    return int(text)


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
        """Arguments of Lightning's Trainer."""
        devices, nodes = self.places
        return {
            "accelerator": self.accelerator,
            # Lightning's own -1 is for GPUs alone.
            "devices": "auto" if devices == -1 else devices,
            "num_nodes": nodes,
            "strategy": choose_strategy(self.strategy, self.world),
            "sync_batchnorm": self.sync_batchnorm,
            "precision": precision_here(self.precision, self.accelerator),
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
            f"STRATEGY: Lightning has no {name!r}.{nearest(name, known)} Need auto, ddp, fsdp or "
            "deepspeed"
        )
    if any(way in name for way in COPYING):
        raise UserError(f"STRATEGY={name}: copies of a process are none of a script: need ddp")
    if on_cpu and name.startswith(("fsdp", "deepspeed")):
        raise UserError(f"STRATEGY={name}: it is for GPUs, got a CPU: need auto or ddp")


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

    on_cpu = machine.accelerator == "cpu" or not torch.cuda.is_available()
    if machine.sync_batchnorm and on_cpu:
        raise UserError("SYNC_BATCHNORM: PyTorch has it for GPUs alone, got a CPU: need false")
    check_strategy(machine.strategy, on_cpu=on_cpu)
    cores = max(2, os.cpu_count() or 1)
    if on_cpu and machine.devices > cores:
        raise UserError(
            f"DEVICES: of a CPU they are processes, got {machine.devices}, need at most {cores}"
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


def check_network(name: str, spec: "DataSpec", *, batch: int) -> Any:
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
    )
