"""Training pairs a second out of the loader: 512² and 1024², one core, then two workers."""

import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader

from bench_cache import build
from data import augment
from dataset import SegmentationDataset
from frames import dataset, frames, rows, scratch
from harness import Line, Target, gate, per, race
from imaging.geometry import warp
from Lightning_datamodule import LoaderSpec, build_loader
from reference import TemplatePairs

BATCH = 8


def run(*, toy: bool) -> list[Line]:
    """The same frames at each side, and the gain of a second worker."""
    folder = frames(toy=toy)
    cv2.setNumThreads(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sides = {64: (0.0, 0.0)} if toy else {512: (6.0, 0.6), 1024: (2.7, 0.75)}
    lines = [line_of(folder, side, goal, toy=toy) for side, goal in sides.items()]
    lines.append(scaling(folder, min(sides), toy=toy))
    torch.set_num_threads(threads)
    return lines


def line_of(folder: Path, side: int, goal: tuple[float, float], *, toy: bool) -> Line:
    """One core, no workers: template, ours from a warm cache, the bare warp of image and mask."""
    theirs = TemplatePairs(rows(folder), folder, side, augment=True)
    cache = build(folder, side, scratch("loader"))
    ours = dataset(folder, side, augment="original", cache=cache)
    plain = dataset(folder, side, augment="original")
    warps = drawn_warps(plain)
    loader = build_loader(ours, LoaderSpec(num_workers=0), batch_size=BATCH)
    arms = {
        "reference": lambda: drain(DataLoader(theirs, batch_size=BATCH)),
        "ours": lambda: drain(loader),
        "floor": lambda: [move() for move in warps],
    }
    name = f"loader, 1918×1280 JPEG and GIF to a {side}² pair, one core"
    checked = check(folder, side, ours, plain)
    times = race(arms, what=name, repeats=2 if toy else 7)
    line = Line(name, "ms a pair", per(times, 1000 / len(ours)), checked)
    line.notes = (
        "Policy `original` (shift, zoom, angle). Reference ships normalised float32, ours uint8 "
        "that the network normalises; floor: cv2's warp of image and mask, already in memory."
    )
    line.targets = [
        Target("times the template", line.gain("reference"), goal[0]),
        Target("of the warp", line.gain("floor"), goal[1]),
    ]
    return line


def drawn_warps(source: SegmentationDataset) -> list[Any]:
    """The bare moves that an epoch of `source` draws, as calls."""
    assert source.augment is not None
    moves: list[Any] = []

    def note(*words: Any, **how: Any) -> Any:
        moves.append(partial(warp, *words, **how))
        return warp(*words, **how)

    augment.warp = note
    try:
        for at, row in enumerate(source.rows):
            image, mask, _ = source.reader.read(row)
            source.augment(image, mask, np.random.default_rng((0, 0, at)))
    finally:
        augment.warp = warp
    return moves


def check(folder: Path, side: int, fast: SegmentationDataset, slow: SegmentationDataset) -> str:
    """Cached and uncached samples are one; without augmentation they are the template's."""
    for at in range(4):
        one, two = fast[at, 1], slow[at, 1]
        gate(all(torch.equal(one[key], two[key]) for key in ("image", "mask")), "cached pixels")
    theirs = TemplatePairs(rows(folder), folder, side, augment=False)[0]
    ours = dataset(folder, side)[0]
    std, mean = (torch.tensor(v).view(3, 1, 1) for v in ((0.229, 0.224, 0.225), ours_mean()))
    levels = (theirs["image"] * std + mean) * 255 - ours["image"].float()
    agree = float((theirs["mask"] == ours["mask"]).float().mean())
    # Squeezed tenfold, a toy shows what linear resizing leaves out.
    near = float(levels.abs().mean()) < (4 if side > 256 else 20) and agree > 0.98
    return gate(near, "cached = uncached to the bit; template's pixels within 4 levels on average")


def ours_mean() -> tuple[float, ...]:
    """ImageNet's mean."""
    return (0.485, 0.456, 0.406)


def drain(loader: Any) -> int:
    """Takes every batch of an epoch."""
    return sum(len(batch["image"]) for batch in loader)


class Repeated(torch.utils.data.Dataset):
    """A dataset several times over: an epoch long enough to time."""

    def __init__(self, source: SegmentationDataset, times: int):
        self.source, self.times = source, times

    def __len__(self) -> int:
        return len(self.source) * self.times

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source[index % len(self.source), index]


def scaling(folder: Path, side: int, *, toy: bool) -> Line:
    """One worker (as reference) against two (as ours), and the wait for the first batch."""
    cache = build(folder, side, scratch("scaling"))
    source = dataset(folder, side, augment="original", cache=cache)
    many = Repeated(source, 2 if toy else 12)

    def loader_of(workers: int) -> Any:
        return build_loader(many, LoaderSpec(num_workers=workers), batch_size=BATCH)

    first = [first_batch(loader_of(2)) for _ in range(2 if toy else 5)]
    loaders = {"reference": loader_of(1), "ours": loader_of(2)}
    arms = {arm: lambda loader=loader: drain(loader) for arm, loader in loaders.items()}
    arms["floor"] = lambda: alone(many, 2)
    same = drain(loaders["reference"]) == drain(loaders["ours"]) == len(many)
    name = f"loader at {side}², one worker (reference) and two (ours)"
    times = race(arms, what=name, repeats=2 if toy else 7)
    line = Line(name, "ms a pair", per(times, 1000 / len(many)), gate(same, "every pair once"))
    line.targets = [Target("efficiency", line.gain("reference") / 2, 0.85)]
    line.notes = (
        f"First batch of two new workers after {statistics.median(first):.2f} s. Floor: two bare "
        "processes that make half of the samples each and hand over nothing: what two cores, which "
        "share memory and clock, can gain at all. What holds it: a batch travels in fresh pages of "
        "shared memory, which the worker fills and the process that takes it gives back "
        "(results/profile_loader.txt), and that process needs its share of the two cores. Tried "
        "without gain: image and mask in one tensor, no tensor of sizes."
    )
    return line


def alone(source: Any, processes: int) -> None:
    """Makes every sample of `source`, shared among forked processes."""
    children = []
    for part in range(processes):
        child = os.fork()
        if not child:
            for at in range(part, len(source), processes):
                source[at]
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def first_batch(loader: Any) -> float:
    """Seconds until a new loader hands out its first batch."""
    begin = time.perf_counter()
    next(iter(loader))
    return time.perf_counter() - begin
