"""How time and memory of each stage grow with the number of images: the exponent of n.

Times are of whole scripts. What the smallest size takes is taken off the others: starting Python,
and what is done once.
"""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from frames import scratch
from harness import ROOT, Line, Target, gate

# Images to train on; half as many to predict. GROWTH_SIZES=100,1000,5000 takes others.
SIZES, TOY = (100, 1_000, 10_000), (16, 32, 64)
SIDE = 64
# Different pictures; the rest are links to them.
ORIGINALS = 50
# look.py writes it among the recipes.
RECIPE = "bench_growth"
STAGES = {
    "folds": ("folds.py",),
    "look": ("look.py", "--name", RECIPE),
    "training, one epoch of fold 0, cache built": ("Lightning_trainer.py", "--fold", "0"),
    "tester, fold 0": ("Lightning_tester.py", "--fold", "0"),
    "tune": ("tune.py",),
    "ensemble, linter": ("ensemble.py", "--fold", "0"),
    "linter": ("submission.py", "check"),
}


def run(*, toy: bool) -> list[Line]:
    """A line a stage: seconds at the largest size, the exponents of time, MB at each size."""
    asked = os.environ.get("GROWTH_SIZES", "")
    sizes = TOY if toy else tuple(int(text) for text in asked.split(",") if text) or SIZES
    stages = dict(list(STAGES.items())[:1]) if toy else STAGES
    measured = {size: measure(size, list(stages.values())) for size in sizes}
    lines = []
    for at, name in enumerate(stages):
        seconds, memory = zip(*(measured[size][at] for size in sizes), strict=True)
        told = ", ".join(
            f"{n:,}: {s:.1f} s, {m:.0f} MB" for n, s, m in zip(sizes, seconds, memory, strict=True)
        )
        exponent = exponent_of(sizes, seconds)
        each = 1e3 * (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0])
        print(f"{name}: n^{exponent:.2f}, {each:.3g} ms an image; {told}", flush=True)
        line = Line(
            f"{name}, {sizes[-1]:,} images of {SIDE}²",
            "s",
            {"ours": [seconds[-1]]},
            gate(True, "every stage ended well"),
            [
                Target("exponent of time", exponent, 1.1, at_least=False),
                Target("times the memory of the smallest", memory[-1] / memory[0], 2.0, False),
            ],
            f"{each:.3g} ms an image more. Images, seconds, most memory of a process: {told}.",
        )
        lines.append(line)
    return lines


def exponent_of(sizes: tuple[int, ...], seconds: tuple[float, ...]) -> float:
    """p of c·n^p through the two largest sizes, the time of the smallest taken off."""
    low, middle, high = (np.array([sizes[at], seconds[at]]) for at in (0, -2, -1))
    more, less = high - low, np.maximum(middle - low, 1e-3)
    return float(math.log(max(more[1], 1e-3) / less[1]) / math.log(more[0] / less[0]))


def measure(size: int, stages: list[tuple[str, ...]]) -> list[tuple[float, float]]:
    """(seconds, MB at most) of each stage for so many images."""
    root = scratch("growth")
    write_inputs(root / "input", size)
    flags = [
        *("--input", str(root / "input"), "--output", str(root / "output")),
        *("--logs", str(root / "logs"), "--model-name", "small_unet", "--encoder-weights", "none"),
        *("--crop-size", "32", "--epochs", "1", "--train-batch-size", "16", "--n-folds", "2"),
        *("--mask-suffix", ".png", "--mask-format", "image"),
        *("--num-workers", "0", "--channels-last", "off", "--accelerator", "cpu"),
    ]
    found = []
    for script, *words in stages:
        command = [sys.executable, str(ROOT / "src" / script), *words, *flags]
        began = time.perf_counter()
        with (root / "log.txt").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, cwd=root)
            _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        (ROOT / "recipes" / f"{RECIPE}.args").unlink(missing_ok=True)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{script}: {(root / 'log.txt').read_text()[-2000:]}")
        found.append((seconds, usage.ru_maxrss / 1024))
    return found


def write_inputs(folder: Path, size: int) -> None:
    """Pictures with a bright disc each, masks, tables; most are links to a few."""
    rng = np.random.default_rng(0)
    for name in ("train_hq", "train_masks", "test_hq"):
        (folder / name).mkdir(parents=True)
    for at in range(size):
        places = _places(folder, at)[: 2 if at % 2 else 3]  # half as many to predict
        if at < ORIGINALS:
            mask = np.zeros((SIDE, SIDE), np.uint8)
            cv2.circle(mask, tuple(map(int, rng.integers(20, 44, 2))), 14, 255, -1)
            image = (rng.integers(0, 90, (SIDE, SIDE, 3)) + mask[..., None] // 2).astype(np.uint8)
            for place in places:
                cv2.imwrite(str(place), mask if place.suffix == ".png" else image)
            continue
        source = at % ORIGINALS // 2 * 2
        for place, other in zip(places, _places(folder, source), strict=False):
            os.link(other, place)
    tests = sorted(path.name for path in (folder / "test_hq").iterdir())
    table = pd.DataFrame({"img": tests, "rle_mask": "1 1"})
    table.to_csv(folder / "sample_submission.csv", index=False)


def _places(folder: Path, at: int) -> list[Path]:
    name = f"car{at // 8}_{at % 8:02d}"
    return [
        folder / "train_hq" / f"{name}.jpg",
        folder / "train_masks" / f"{name}.png",
        folder / "test_hq" / f"new{at}_01.jpg",
    ]
