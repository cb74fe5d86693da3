"""Seconds from the start of the process to a validation score: ours beside a notebook's loop.

Long, hence only by name. It needs a competition that folds.py has split, and flags for it:

BENCH_FLAGS="@recipes/dsb2018.args --input DATA --folds 0 --encoder-weights FILE" \\
    BENCH_SCORES=0.85,0.90 python benchmarks/run.py quality
"""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from errors import UserError
from frames import frames, rows, scratch
from harness import ROOT, Line, Target, gate

Curve = list[tuple[float, float]]


def run(*, toy: bool) -> list[Line]:
    """Two seeds, arms by turns; a line a score that both arms reach."""
    if toy:
        words, scores = toy_flags(), [0.01]
    else:
        words = shlex.split(os.environ.get("BENCH_FLAGS", ""))
        scores = [float(text) for text in os.environ.get("BENCH_SCORES", "").split(",") if text]
    if not words or not scores:
        raise UserError(f"quality needs BENCH_FLAGS and BENCH_SCORES. {__doc__}")
    curves: dict[str, list[Curve]] = {"reference": [], "ours": []}
    for seed, order in ((1, ("reference", "ours")), (2, ("ours", "reference"))):
        for arm in order:
            curves[arm].append(curve_of(arm, words, seed))
            print(f"quality, seed {seed}, {arm}: {curves[arm][-1]}", flush=True)
    best = {arm: [max(s for _, s in curve) for curve in found] for arm, found in curves.items()}
    return [line_of(score, curves, best) for score in scores]


def line_of(score: float, curves: dict[str, list[Curve]], best: dict[str, list[float]]) -> Line:
    """Seconds to one score; an arm that never reaches it counts with its whole time."""
    times = {
        arm: [next((t for t, s in curve if s >= score), curve[-1][0]) for curve in found]
        for arm, found in curves.items()
    }
    line = Line(
        f"time to a validation score of {score:g}",
        "s",
        times,
        gate(all(best["ours"]), "same rows, network, weights, loss, batch, metric"),
    )
    final = sum(best["ours"]) / 2 - sum(best["reference"]) / 2
    line.targets = [
        Target("times the notebook", line.gain("reference"), 1.0),
        Target("best score less the notebook's", final, -0.005),
    ]
    line.notes = (
        f"From process start, two seeds. Best scores: ours {best['ours']}, reference "
        f"{best['reference']}. An arm that does not reach the score counts with all its time."
    )
    return line


def curve_of(arm: str, words: list[str], seed: int) -> Curve:
    """(seconds, score) after each validation of one training."""
    name = f"quality_{arm}_{seed}_{os.getpid()}"
    command = [sys.executable, str(ROOT / "benchmarks" / "raw_loop.py"), arm, str(time.time())]
    more = ["--seed", str(seed), "--run", name, "--val-every", "1", "--logs", str(scratch("logs"))]
    done = subprocess.run([*command, *words, *more], cwd=ROOT, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("score ")]
    if done.returncode or not lines:
        raise UserError(f"quality, {arm}: {(done.stderr or done.stdout)[-600:]}")
    return [(float(seconds), float(score)) for _, seconds, score in lines]


def toy_flags() -> list[str]:
    """A competition of eight frames, for a run that only shows that it runs."""
    folder = frames(toy=True)
    root = scratch("quality")
    output: Path = root / "output"
    output.mkdir()
    pd.DataFrame(rows(folder)).to_csv(output / "train_folds.csv", index=False)
    return [
        *("--input", str(folder), "--output", str(output), "--folds", "0", "--epochs", "2"),
        *("--crop-size", "64", "--model-name", "smp_unet_resnet18", "--encoder-weights", "none"),
        *(
            "--train-batch-size",
            "2",
        ),
    ]
