"""channels_last where it pays: both memory layouts are run for some steps, the faster one stays."""

import contextlib
import copy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback
from torch import nn

from core.files import write_json
from core.gates import json_value
from networks.outputs import logits_of

# A gain below this is noise of the clock.
WORTH = 1.03
# Rounds of both layouts at least and at most; seconds after which no further one begins.
LEAST, ROUNDS, TRAIN_SECONDS, PREDICT_SECONDS = 3, 8, 3.0, 0.5
# Images a step on a CPU: more take longer and tell the same.
CPU_BATCH = 2
AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def gain_of_channels_last(
    model: nn.Module, image: torch.Tensor, *, precision: str, training: bool
) -> float:
    """How many times faster a step is in channels_last than in the usual layout.

    The first round warms up. On a CPU it is the lesser of the gains in time and in processor time:
    other processes disturb the one, a layout that keeps fewer threads busy flatters the other.

    Args:
        model: on the image's device; it is left as it is.
        image: (B, C, H, W) float32.
        precision: Lightning's name.
        training: forward and backward, else forward alone.
    """
    usual, last = torch.contiguous_format, torch.channels_last
    arms = {
        form: (
            copy.deepcopy(model).train(training).to(memory_format=form),
            image.contiguous(memory_format=form),
        )
        for form in (usual, last)
    }
    steps: dict[torch.memory_format, list[tuple[float, ...]]] = {form: [] for form in arms}
    began, budget = time.perf_counter(), TRAIN_SECONDS if training else PREDICT_SECONDS
    devices = [image.device] if image.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.backends.cudnn.flags(benchmark=True):
        for at in range(ROUNDS):
            for form in (usual, last) if at % 2 else (last, usual):
                steps[form].append(_step_seconds(*arms[form], precision, training))
            if at + 1 >= LEAST and time.perf_counter() - began > budget:
                break
    best = {
        form: [min(clock) for clock in zip(*rounds[1:], strict=True)]
        for form, rounds in steps.items()
    }
    return min(one / two for one, two in zip(best[usual], best[last], strict=True))


def _step_seconds(
    model: nn.Module, image: torch.Tensor, precision: str, training: bool
) -> tuple[float, ...]:
    """Seconds of a step; on a CPU those of its processors, too."""
    kind = AUTOCAST.get(precision)
    mixed = torch.autocast(image.device.type, dtype=kind) if kind else contextlib.nullcontext()
    began = _now(image.device)
    with torch.set_grad_enabled(training), mixed:
        loss = logits_of(model(image)).float().mean()
    if training:
        loss.backward()
    return tuple(now - then for now, then in zip(_now(image.device), began, strict=True))


def _now(device: torch.device) -> tuple[float, ...]:
    if device.type == "cpu":
        return time.perf_counter(), time.process_time()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (time.perf_counter(),)


def machine_of(device: torch.device) -> str:
    """What a measurement holds for: the GPU's name, or the processor's vectors.

    Not for so many threads: processes that share a machine would each measure, and round apart.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


class ChannelsLast(Callback):
    """Puts the network into the memory layout of CHANNELS_LAST before it is trained.

    The decision goes into the checkpoint's notes, "channels_last": {"train", "predict", "machine"};
    a resumed run keeps it, for another layout rounds otherwise. So do other folds and runs: what
    was measured stands in a file.

    Args:
        mode: auto, on or off.
        batch: images of a training step.
        known: the decision of an earlier session of this fold.
        measured: a JSON file of decisions by network, image, batch, precision and machine; None:
            nothing is kept.
    """

    def __init__(
        self,
        mode: str,
        batch: int,
        known: Mapping[str, Any] | None = None,
        measured: Path | None = None,
    ):
        self.mode, self.batch, self.known, self.measured = mode, batch, known, measured

    def setup(self, trainer: Any, module: Any, stage: str) -> None:
        """Decides on the first rank for all of them: DDP wants equal strides."""
        device = trainer.strategy.root_device
        decided: dict[str, Any] = {}
        if trainer.is_global_zero:
            decided = self._decide(module, device, str(trainer.precision))
        decided = trainer.strategy.broadcast(decided)
        module.hparams["notes"] = {**(module.hparams["notes"] or {}), "channels_last": decided}
        module.set_channels_last(decided["train"])

    def _decide(self, module: Any, device: torch.device, precision: str) -> dict[str, Any]:
        if self.mode != "auto":
            return {"train": self.mode == "on", "predict": self.mode == "on", "machine": "any"}
        here = machine_of(device)
        if self.known and self.known["machine"] == here:
            return dict(self.known)
        size = " x ".join(map(str, (module.spec.channels, *module.spec.size)))
        name = f"{module.hparams['model_name']}, {self.batch} of {size}, {precision}, {here}"
        key = f"{name}, torch {torch.__version__}"
        before = read_decisions(self.measured)
        if key not in before:
            before[key] = {**self._measure(module, device, precision, here), "machine": here}
            if self.measured:
                write_json(self.measured, {**read_decisions(self.measured), key: before[key]})
        return before[key]

    def _measure(
        self, module: Any, device: torch.device, precision: str, here: str
    ) -> dict[str, bool]:
        small = device.type == "cpu"
        batch = min(self.batch, CPU_BATCH) if small else self.batch
        model = copy.deepcopy(module.model).to(device)
        image = torch.zeros(batch, module.spec.channels, *module.spec.size, device=device)
        gains = {
            "train": gain_of_channels_last(model, image, precision=precision, training=True),
            "predict": gain_of_channels_last(
                model, image[:1] if small else image, precision=precision, training=False
            ),
        }
        told = ", ".join(
            f"{gain:.2f}x in {what}: {'on' if gain > WORTH else 'off'}"
            for what, gain in zip(("training", "prediction"), gains.values(), strict=True)
        )
        print(f"channels-last auto: {told} ({here})", flush=True)
        return {name: gain > WORTH for name, gain in gains.items()}


def read_decisions(path: Path | None) -> dict[str, dict[str, Any]]:
    """What ChannelsLast has measured before; what cannot be read is measured anew."""
    try:
        found = json_value(path.read_text(encoding="utf-8")) if path else {}
        return {
            key: {"train": bool(one["train"]), "predict": bool(one["predict"]), "machine": here}
            for key, one in found.items()
            if isinstance(here := one["machine"], str)
        }
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        return {}
