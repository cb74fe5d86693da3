"""Does look.py's recipe beat config.py's plain defaults? The score of fold 0 at native size.

Both arms have the same files, masks, folds, metric, flags and, to whole epochs, pixels to train on:
EPOCHS is set so that some BENCH_PIXELS millions go through the network. BENCH_FLAGS are of both and
of look.py:

BENCH_DATA="../data/one ../data/two" BENCH_FLAGS="--model-name smp_unet_resnet18" BENCH_PIXELS=20 \\
    BENCH_SEEDS=2 python benchmarks/run.py recipe
"""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import pandas as pd

import folds
import Lightning_tester
import Lightning_trainer
import look
from core.errors import UserError
from core.flags import load_config
from frames import frames, scratch
from harness import Line, Target, gate

# Headings of a recipe that say what the data are, not how to train on them.
DATA = ("Files", "Masks", "Images", "Folds")
# How many times the pixels of the other arm one may have, as epochs are whole.
UNEVEN = 1.5
# Plain defaults are for one class of foreground.
SEVERAL = ("--loss", "ce+dice")
PIXELS, SEEDS = "20", "2"


def run(*, toy: bool) -> list[Line]:
    """A line a data set, a number a seed; arms by turns."""
    places = [frames(toy=True)] if toy else map(Path, os.environ.get("BENCH_DATA", "").split())
    lines = [compare(place.resolve(), toy=toy) for place in places]
    if not lines:
        raise UserError(f"recipe needs BENCH_DATA. {__doc__}")
    return lines


def compare(place: Path, *, toy: bool) -> Line:
    """Both arms on one data set."""
    root, network = scratch("recipe"), "smp_unet_resnet18 --encoder-weights none --crop-size 64"
    words = f"--model-name {network}" if toy else os.environ.get("BENCH_FLAGS", "")
    common = ["--input", str(place), "--output", str(root), "--logs", str(root / "logs")]
    common += shlex.split(words)
    look.main([*common, "--recipes", str(root), "--name", "data"])
    arms = {"reference": plain_flags(root / "data.args"), "ours": [f"@{root / 'data.args'}"]}
    folds.main([*arms["ours"], *common])
    scores: dict[str, list[float]] = {name: [] for name in arms}
    plans = {name: plan(load_config([*arms[name], *common])[0], toy=toy) for name in arms}
    spent = [pixels for _, pixels in plans.values()]
    told = gate(max(spent) <= UNEVEN * min(spent), "same folds, network, weights, metric, pixels")
    for seed in range(1 if toy else int(os.environ.get("BENCH_SEEDS", SEEDS))):
        for name in list(arms)[:: -1 if seed % 2 else 1]:
            flags = [*arms[name], *common, "--run", f"{name}{seed}", "--seed", str(seed)]
            scores[name].append(score_of(flags, plans[name][0]))
            print(f"recipe, {place.name}, seed {seed}, {name}: {scores[name][-1]:.4f}", flush=True)
    gains = [a - b for a, b in zip(scores["ours"], scores["reference"], strict=True)]
    shown = ", ".join(f"{gain:+.4f}" for gain in gains)
    line = Line(
        f"{place.name}: {load_config([*arms['ours'], *common])[0].METRIC} of fold 0",
        "score",
        scores,
        told,
        notes=f"Pixels: {spent[0]:.3g}, ours {spent[1]:.3g}. Differences, a seed each: {shown}.",
        rate=True,
    )
    line.targets = [Target("score more", sum(gains) / len(gains), 0.0)]
    return line


def plain_flags(recipe: Path) -> list[str]:
    """What a recipe says of the data, and nothing of the training but the metric."""
    flags: list[str] = []
    heading = ""
    for line in recipe.read_text().splitlines():
        if line.startswith("# ---- "):
            heading = line.strip("# -")
        elif line.startswith("--") and (heading in DATA or line.startswith("--metric ")):
            flags += shlex.split(line)
    return [*flags, *(SEVERAL if "multiclass" in flags else ())]


def plan(config: Any, *, toy: bool) -> tuple[int, int]:
    """(EPOCHS for BENCH_PIXELS in fold 0, the pixels that these are)."""
    table = pd.read_csv(config.FOLDS_CSV)
    images = int((table["kfold"] != 0).sum()) * config.CROPS_PER_IMAGE
    epoch = images * config.SIZE[0] * config.SIZE[1]
    millions = 0.01 if toy else float(os.environ.get("BENCH_PIXELS", PIXELS))
    epochs = max(1, round(millions * 1e6 / epoch))
    return epochs, epochs * epoch


def score_of(flags: list[str], epochs: int) -> float:
    """Trains fold 0 and scores it."""
    config, _ = load_config(flags)
    flags = [*flags, "--folds", "0", "--epochs", str(epochs), "--loggers", "csv"]
    flags += ["--val-every", str(epochs), "--num-workers", "0"]
    if Lightning_trainer.main(flags) or Lightning_tester.main(flags):
        raise SystemExit(f"run {config.RUN!r} has no score")
    report = json.loads((config.RUN_OUTPUT / "report.json").read_text())
    return float(report["score"])
