"""How time and memory of each stage grow with the number of images: the exponent of n.

Times are of whole scripts. What the smallest size takes is taken off the others: starting Python,
and what is done once. Small sizes are measured several times; how far their rounds are apart says
how well an exponent is known.
"""

import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd

from frames import scratch
from harness import ROOT, Line, Target, gate

# Images to train on, and rounds of each size; a quarter as many to predict.
# GROWTH_SIZES=1000,3000,10000 takes others, a round each.
SIZES, TOY = {1_000: 3, 10_000: 2, 100_000: 1}, {32: 1, 64: 1, 96: 1}
SIDE = 64
# Steps of a training whose images all are in the cache; a fold of 1,000 images holds so many.
STEPS = "200"
FOLDS = 5
# Times of one size are apart by so much at least, as a share, however few rounds there are.
LEAST_SPREAD = 0.02
DRAWS = 4_000


class Stage(NamedTuple):
    """A call of a script.

    Attributes:
        words: the script and its flags.
        share: images that it handles, of those to train on; 0: as many at all sizes.
    """

    words: tuple[str, ...]
    share: float = 1.0


TRAINER = ("Lightning_trainer.py", "--fold", "0", "--val-batch-size", "1", "--limit-batches")
STAGES = {
    "folds": Stage(("folds.py",)),
    "look": Stage(("look.py", "--name", "growth", "--recipes", "recipes"), 1.25),
    "cache of all pairs": Stage((*TRAINER, "1", "--run", "cache")),
    f"training, {STEPS} steps, cache built": Stage((*TRAINER, STEPS), 0.0),
    "tester, fold 0": Stage(("Lightning_tester.py", "--fold", "0"), 1 / FOLDS),
    "tune": Stage(("tune.py",), 1 / FOLDS),
    "ensemble, linter": Stage(("ensemble.py", "--fold", "0"), 0.25),
    "linter": Stage(("submission.py", "check"), 0.25),
}


def run(*, toy: bool) -> list[Line]:
    """A line a stage: seconds at the largest size, the exponent of time, MB at each size."""
    asked = [int(text) for text in os.environ.get("GROWTH_SIZES", "").split(",") if text]
    sizes = TOY if toy else dict.fromkeys(sorted(asked), 1) or SIZES
    if len(sizes) < 3:
        raise SystemExit(f"GROWTH_SIZES: got {len(sizes)} sizes, an exponent needs three")
    stages = dict(list(STAGES.items())[:1]) if toy else STAGES
    measured = {
        size: [measure(size, list(stages.values())) for _ in range(rounds)]
        for size, rounds in sizes.items()
    }
    return [
        line_of(
            name, stage, {size: [one[at] for one in rounds] for size, rounds in measured.items()}
        )
        for at, (name, stage) in enumerate(stages.items())
    ]


def line_of(name: str, stage: Stage, measured: dict[int, list[tuple[float, float]]]) -> Line:
    """The line of a stage from its (seconds, MB) in each round of each size."""
    sizes = list(measured)
    seconds = [[one for one, _ in rounds] for rounds in measured.values()]
    memory = [max(most for _, most in rounds) for rounds in measured.values()]
    told = ", ".join(
        f"{n:,}: {' '.join(f'{s:.1f}' for s in rounds)} s, {m:.0f} MB"
        for n, rounds, m in zip(sizes, seconds, memory, strict=True)
    )
    slope, low, high = exponent_of(sizes, seconds)
    images = (sizes[-1] - sizes[0]) * stage.share
    more = float(np.mean(seconds[-1]) - np.mean(seconds[0]))
    each = f"{1e3 * more / images:.3g} ms an image more" if images else f"{more:.2g} s more"
    print(f"{name}: n^{slope:.2f} ({low:.2f} to {high:.2f}), {each}; {told}", flush=True)
    # Of a part of a second the exponent is that of the clock.
    flat = more < 0.1 * float(np.mean(seconds[0]))
    grows = [] if flat else [Target("exponent of time, at least", low, 1.1, at_least=False)]
    return Line(
        f"{name}, {sizes[-1]:,} images of {SIDE}²",
        "s",
        {"ours": seconds[-1]},
        gate(True, "every stage ended well"),
        [*grows, Target("times the memory of the smallest", memory[-1] / memory[0], 2.0, False)],
        f"n^{slope:.2f}, {low:.2f} to {high:.2f} in nine of ten; {each}. Images, seconds of each "
        f"round, most memory of a process: {told}.",
    )


def exponent_of(sizes: list[int], seconds: list[list[float]]) -> tuple[float, float, float]:
    """p of c·n^p through the two largest sizes less the smallest, and its 5th and 95th percentile.

    The percentiles are of times drawn around the means, as far apart as rounds of one size are.
    """
    chosen = (0, -2, -1)
    means = np.array([np.mean(seconds[at]) for at in chosen])
    apart = [np.std(rounds, ddof=1) / np.mean(rounds) for rounds in seconds if len(rounds) > 1]
    spread = max([LEAST_SPREAD, *apart])
    drawn = np.random.default_rng(0).normal(means, spread * means, (DRAWS, 3))
    low, middle, high = (sizes[at] for at in chosen)
    ratio = math.log((high - low) / (middle - low))

    def exponents(times: np.ndarray) -> np.ndarray:
        more = np.maximum(times[:, 1:] - times[:, :1], 1e-3)
        return np.log(more[:, 1] / more[:, 0]) / ratio

    below, above = np.percentile(exponents(drawn), (5, 95))
    return float(exponents(means[None])[0]), float(below), float(above)


def measure(size: int, stages: list[Stage]) -> list[tuple[float, float]]:
    """(seconds, MB at most) of each stage for so many images."""
    root = scratch("growth")
    write_inputs(root / "input", size)
    flags = [
        *("--input", str(root / "input"), "--output", str(root / "output")),
        *("--logs", str(root / "logs"), "--model-name", "small_unet", "--encoder-weights", "none"),
        *("--crop-size", "32", "--epochs", "1", "--train-batch-size", "4"),
        *("--n-folds", str(FOLDS), "--mask-suffix", ".png", "--mask-format", "image"),
        *("--num-workers", "0", "--cache", "disk", "--channels-last", "off"),
        *("--accelerator", "cpu"),
    ]
    found = []
    for (script, *words), _ in stages:
        command = [sys.executable, str(ROOT / "src" / script), *words, *flags]
        began = time.perf_counter()
        with (root / "log.txt").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{script}: {(root / 'log.txt').read_text()[-2000:]}")
        found.append((seconds, usage.ru_maxrss / 1024))
    shutil.rmtree(root)
    print(f"{size:,} images: {', '.join(f'{seconds:.1f}' for seconds, _ in found)} s", flush=True)
    return found


def write_inputs(folder: Path, size: int) -> None:
    """Pictures with a bright disc each and no two alike, masks, a sample submission."""
    rng = np.random.default_rng(0)
    for name in ("train_hq", "train_masks", "test_hq"):
        (folder / name).mkdir(parents=True)
    for at in range(size):
        name = f"car{at // 8}_{at % 8:02d}"
        image, mask = draw(rng)
        cv2.imwrite(str(folder / "train_hq" / f"{name}.jpg"), image)
        cv2.imwrite(str(folder / "train_masks" / f"{name}.png"), mask)
        if at % 4 == 3:
            cv2.imwrite(str(folder / "test_hq" / f"new{at}_01.jpg"), draw(rng)[0])
    tests = sorted(path.name for path in (folder / "test_hq").iterdir())
    table = pd.DataFrame({"img": tests, "rle_mask": "1 1"})
    table.to_csv(folder / "sample_submission.csv", index=False)


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 (SIDE, SIDE, 3) on a ground of its own, and its mask of {0, 255}."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(mask, tuple(map(int, rng.integers(20, 44, 2))), 14, 255, -1)
    ground = cv2.resize(rng.integers(0, 90, (8, 8, 3), np.uint8), (SIDE, SIDE))
    return ground + mask[..., None] // 2, mask
