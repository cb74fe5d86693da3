"""What a network costs: parameters, operations, memory, speed, and the largest batch that fits."""

import time
from typing import Any, NamedTuple

import torch
from torch import nn

from core.memory import physical_memory

# Steps timed after a first one.
TIMED = 3
# Of the memory, what a batch may take.
SHARE = 0.8
# Weights, gradients and AdamW's two moments.
COPIES = 4


class Cost(NamedTuple):
    """What a network costs at one size of image.

    Attributes:
        parameters: numbers that are learnt.
        flops: multiplications and additions of a forward of one image.
        kept: bytes that a training step keeps for the gradient, an image.
        train, infer: seconds an image.
        batch: images of a training step that fit into the memory.
        memory: bytes of the device.
    """

    parameters: int
    flops: int
    kept: int
    train: float
    infer: float
    batch: int
    memory: int


def count_parameters(model: nn.Module) -> int:
    """Numbers that are learnt."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def measure_cost(module: Any, batch: dict[str, Any]) -> Cost:
    """Costs of a module on its device, on images of this batch (two or more)."""
    from torch.utils.flop_counter import FlopCounterMode

    count = len(batch["image"])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module.eval()(batch["image"])
    kept = _kept_bytes(module.train(), batch) // count
    device = batch["image"].device
    train = _seconds(lambda: _train_once(module, batch), device) / count
    module.eval()
    infer = _seconds(lambda: _infer_once(module, batch), device) / count
    memory = physical_memory()
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    own = COPIES * sum(p.numel() * p.element_size() for p in module.parameters())
    fits = max(0, int((SHARE * memory - own) // max(kept, 1)))
    flops = counter.get_total_flops() // count
    return Cost(count_parameters(module.model), flops, kept, train, infer, fits, memory)


def _kept_bytes(module: Any, batch: dict[str, Any]) -> int:
    """Bytes of all tensors that autograd keeps, each once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = module._loss(module(batch["image"]), batch)
    del loss
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    return sum(size for place, size in kept.items() if place not in weights)


def _train_once(module: Any, batch: dict[str, Any]) -> None:
    module._loss(module(batch["image"]), batch).backward()
    module.zero_grad()


def _infer_once(module: Any, batch: dict[str, Any]) -> None:
    with torch.no_grad():
        module(batch["image"])


def _seconds(step: Any, device: torch.device) -> float:
    step()
    began = _now(device)
    for _ in range(TIMED):
        step()
    return (_now(device) - began) / TIMED


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
