"""The training step rung by rung: each of our defaults beside the step without it."""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from bench_step import RATE, batch_of, raw_step
from harness import Line, Target, gate, per, race
from networks import DEVICE, finish, noise_module
from precision import precision_here

# Losses of the same weights and batch in bfloat16 and in float32.
TOLERANCE = 0.02


def run(*, toy: bool) -> list[Line]:
    """U-Net-resnet34 at 256² (toy: resnet18 at 64², not compiled); a line a rung."""
    name, side, count = ("smp_unet_resnet18", 64, 2) if toy else ("smp_unet_resnet34", 256, 4)
    batch, precision = batch_of(side, count), precision_here("auto", "auto")
    rungs = {
        "float32": build(name, side, batch),
        precision: build(name, side, batch, precision=precision),
        "channels-last": build(name, side, batch, precision=precision, last=True),
        "fused AdamW": build(name, side, batch, precision=precision, last=True, fused=True),
    }
    if not toy:
        rungs["torch.compile"] = build(
            name, side, batch, precision=precision, last=True, fused=True, compiled=True
        )
    begin, first = time.perf_counter(), {}
    for rung, step in rungs.items():
        first[rung] = float(step())
        seconds, begin = time.perf_counter() - begin, time.perf_counter()
    apart = max(first.values()) - min(first.values())
    checked = gate(apart < TOLERANCE, f"first losses equal within {apart:.1e}")
    title = f"training step by rungs, {name[4:]} {side}², batch {count}, {DEVICE.type}"
    times = per(race(rungs, what=title, repeats=2 if toy else 9), 1000 / count)
    lines = []
    for before, rung in pairwise(rungs):
        pair = {"reference": times[before], "ours": times[rung]}
        line = Line(f"+ {rung}, {name[4:]} {side}²", "ms an image", pair, checked)
        line.notes = f"Reference: the rung before ({before})."
        if rung == "torch.compile":
            line.notes += f" First step, with compiling: {seconds:.0f} s. Off by default on a CPU."
        else:
            line.targets = [Target("times the rung before", line.gain("reference"), 1.0)]
        lines.append(line)
    return lines


def build(
    name: str, side: int, batch: dict[str, Any], *, precision: str = "32-true",
    last: bool = False, fused: bool = False, compiled: bool = False,
) -> Callable[[], torch.Tensor]:  # fmt: skip
    """A step of a network of its own, always with the same weights at first."""
    module = noise_module(name, side).to(DEVICE).train()
    if last:
        module.model.to(memory_format=torch.channels_last)
    if compiled:
        module.model.compile()
    shown = batch if last else {**batch, "image": batch["image"].contiguous()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=fused)

    def step() -> torch.Tensor:
        loss = raw_step(module, optimizer, shown, precision)
        finish()
        return loss

    return step
