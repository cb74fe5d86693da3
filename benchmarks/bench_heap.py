"""Freed memory kept: the same training step with and without what src/heap.py tells glibc."""

import functools
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from bench_step import COLD, RATE, batch_of, raw_step
from harness import Line, Target, gate, per, race
from heap import keep_freed_memory
from networks import DEVICE, finish, noise_module
from precision import precision_here


def run(*, toy: bool) -> list[Line]:
    """U-Net-resnet34 at 256² and 512² (toy: resnet18 at 64²), each arm in a process of its own."""
    if toy:
        return [line_of("smp_unet_resnet18", 64, steps=2, repeats=2)]
    return [line_of("smp_unet_resnet34", side, steps=6, repeats=7) for side in (256, 512)]


def line_of(name: str, side: int, *, steps: int, repeats: int, count: int = 4) -> Line:
    """Seconds a step; the bare loop of bench_step.py."""
    seen: dict[bool, dict[str, Any]] = {}

    def arm(keep: bool) -> float:
        # Spawned: a forked process would have this one's allocator.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seen[keep] = pool.submit(train, name, side, count, steps, keep).result()
        return seen[keep]["seconds"]

    arms = {"reference": functools.partial(arm, False), "ours": functools.partial(arm, True)}
    title = f"freed memory kept, {name[4:]} {side}², batch {count}, {DEVICE.type}"
    times = per(race(arms, what=title, repeats=repeats), 1000 / count)
    same = gate(seen[True]["loss"] == seen[False]["loss"], "the same last loss")
    line = Line(title, "ms an image", times, same)
    line.targets = [Target("times glibc's own ways", line.gain("reference"), 1.0)]
    line.notes = (
        "Reference: the same step with glibc's own thresholds, which give each step "
        f"{seen[False]['faults']:,.0f} pages back and fetch them anew (ours "
        f"{seen[True]['faults']:,.0f}). Peak memory {seen[False]['peak']:,.0f} MB and "
        f"{seen[True]['peak']:,.0f} MB."
    )
    return line


def train(name: str, side: int, count: int, steps: int, keep: bool) -> dict[str, Any]:
    """Seconds a step, pages fetched in one, the last loss, and MB at the peak."""
    import resource

    def fetched() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

    if keep:
        keep_freed_memory()
    module = noise_module(name, side).to(DEVICE).train()
    module.model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=True)
    batch, precision = batch_of(side, count), precision_here("auto", "auto")
    for _ in range(COLD):
        finish(raw_step(module, optimizer, batch, precision))
    pages, begin = fetched(), time.perf_counter()
    for _ in range(steps):
        loss = finish(raw_step(module, optimizer, batch, precision))
    seconds = (time.perf_counter() - begin) / steps
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "seconds": seconds, "faults": (fetched() - pages) / steps, "loss": float(loss),
        "peak": peak,
    }  # fmt: skip
