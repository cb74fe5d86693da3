"""Seconds from the start of the process to a validation score: ours, a notebook's loop, fastai's.

Long, hence only by name. It needs a competition that folds.py has split, and flags for it (of
several, with a semicolon between them); fastai takes part where it is installed:

BENCH_FLAGS="@recipes/dsb2018.args --input DATA --folds 0 --encoder-weights FILE" \\
    BENCH_SCORES=0.85,0.90 python benchmarks/run.py quality
"""

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from core.errors import UserError
from core.flags import load_config
from frames import frames, rows, scratch
from harness import ROOT, Line, Target, gate

Curve = list[tuple[float, float]]


def run(*, toy: bool) -> list[Line]:
    """Two seeds, arms by turns; a line a score and peer."""
    if toy:
        return race_to([0.01], toy_flags())
    flags = os.environ.get("BENCH_FLAGS", "").split(";")
    scores = os.environ.get("BENCH_SCORES", "").split(";")
    if not all([*flags, *scores]) or len(flags) != len(scores):
        raise UserError(f"quality needs BENCH_FLAGS and BENCH_SCORES. {__doc__}")
    lines = []
    for words, texts in zip(flags, scores, strict=True):
        lines += race_to([float(text) for text in texts.split(",")], shlex.split(words))
    return lines


def race_to(scores: list[float], words: list[str]) -> list[Line]:
    """The lines of one competition."""
    peers = ["notebook", *(["fastai"] if importlib.util.find_spec("fastai") else [])]
    curves: dict[str, list[Curve]] = {arm: [] for arm in [*peers, "ours"]}
    for seed, order in ((1, list(curves)), (2, list(curves)[::-1])):
        for arm in order:
            curves[arm].append(curve_of(arm, words, seed))
            print(f"quality, seed {seed}, {arm}: {curves[arm][-1]}", flush=True)
    name = next((Path(word[1:]).stem for word in words if word.startswith("@")), "toy")
    return [line_of(score, curves, peer, name) for score in scores for peer in peers]


def line_of(score: float, curves: dict[str, list[Curve]], peer: str, name: str) -> Line:
    """Seconds to one score, beside one peer; an arm that never gets there counts as a whole."""
    both = {"reference": curves[peer], "ours": curves["ours"]}
    best = {arm: [max(s for _, s in curve) for curve in found] for arm, found in both.items()}
    times = {
        arm: [next((t for t, s in curve if s >= score), curve[-1][0]) for curve in found]
        for arm, found in both.items()
    }
    line = Line(
        f"{name}: time to a validation score of {score:g}, {peer} as reference",
        "s",
        times,
        gate(all(best["ours"]), "same rows, network, weights, loss, batch, metric"),
    )
    final = sum(best["ours"]) / 2 - sum(best["reference"]) / 2
    line.targets = [
        Target("times the reference", line.gain("reference"), 1.0),
        Target("best score less the reference's", final, 0.0),
    ]
    line.notes = (
        f"From process start, two seeds. Best scores: ours {best['ours']}, {peer} "
        f"{best['reference']}. An arm that does not reach the score counts with all its time."
    )
    return line


def curve_of(arm: str, words: list[str], seed: int) -> Curve:
    """(seconds, score) after each validation of one training."""
    name, output = f"quality_{arm}_{seed}_{os.getpid()}", scratch("output")
    # The folds and nothing else: no check and no cache of an earlier run saves anybody time.
    config, _ = load_config(words)
    shutil.copy(config.OUTPUT / "train_folds.csv", output)
    command = [sys.executable, str(ROOT / "benchmarks" / "quality_arms.py"), arm, str(time.time())]
    more = ["--seed", str(seed), "--run", name, "--val-every", "1"]
    more += ["--output", str(output), "--logs", str(scratch("logs"))]
    done = subprocess.run([*command, *words, *more], cwd=ROOT, capture_output=True, text=True)
    # A progress bar may stand before it on the same line.
    found = re.findall(r"score ([0-9.]+) ([0-9.]+)$", done.stdout, re.M)
    if done.returncode or not found:
        raise UserError(f"quality, {arm}: {(done.stderr or done.stdout)[-600:]}")
    return [(float(seconds), float(score)) for seconds, score in found]


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
        *("--train-batch-size", "2"),
    ]
