"""What one changed knob gives in a short training: fold 0 of recipes, equal pixels, some seeds.

Each of BENCH_RECIPES is a file of flags, --input among them; BENCH_FLAGS are of all. EPOCHS is set
so that some BENCH_PIXELS millions go through the network. Trainings that are in BENCH_PLACE already
are kept: a call that was stopped goes on. BENCH_ARMS takes some changes, parted by ";".

BENCH_RECIPES="one.args two.args" BENCH_FLAGS="--model-name smp_unet_resnet18" BENCH_PIXELS=60 \\
    BENCH_SEEDS=2 BENCH_PLACE=folder BENCH_ARMS="batch 4;flips" python benchmarks/run.py ablation
"""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import folds
import tune
from bench_recipe import plan, score_of
from core.errors import UserError
from core.flags import load_config
from frames import frames, scratch
from harness import Line, gate
from runs.experiment import run_of
from runs.pairs import run_values
from scoring.gains import paired_gain

BASE = "as it is"
TOY = "--model-name smp_unet_resnet18 --encoder-weights none --crop-size 64 --n-folds 2"
LOSSES = {
    "multiclass": ("ce", "ce+dice", "dice", "ce+lovasz", "ce+tversky", "focal+dice"),
    "binary": ("bce", "bce+dice", "dice", "bce+lovasz", "bce+tversky", "focal+dice"),
}
CONSTANT = "--ema-decay 0 --scheduler none"


def run(*, toy: bool) -> list[Line]:
    """A line a recipe and change, a number a seed."""
    recipes = os.environ.get("BENCH_RECIPES", "").split()
    if not toy and not recipes:
        raise UserError(f"ablation needs BENCH_RECIPES. {__doc__}")
    place = Path(os.environ.get("BENCH_PLACE") or scratch("ablation"))
    return [
        line
        for name, flags in (
            [("toy", ["--input", str(frames(toy=True)), *shlex.split(TOY)])]
            if toy
            else [(Path(recipe).stem, [f"@{recipe}"]) for recipe in recipes]
        )
        for line in ablate(name, flags, place.resolve() / name, toy=toy)
    ]


def ablate(name: str, recipe: list[str], place: Path, *, toy: bool) -> list[Line]:
    """A line a change: the recipe's score as the reference, the changed one's as ours."""
    flags = [*recipe, *shlex.split(os.environ.get("BENCH_FLAGS", ""))]
    flags += ["--output", str(place), "--logs", str(place / "logs")]
    config, _ = load_config(flags)
    if not config.FOLDS_CSV.exists() and folds.main(flags):
        raise SystemExit(f"{name}: no folds")
    changes = changes_of(config)
    asked = "scse" if toy else os.environ.get("BENCH_ARMS", "")
    if asked:
        changes = {arm: changes[arm] for arm in asked.split(";")}
    lines: dict[str, Line] = {}
    scores: dict[str, list[float]] = {}
    told = gate(True, "same folds, images, network but for the change; pixels to whole epochs")
    for seed in range(1 if toy else int(os.environ.get("BENCH_SEEDS", "2"))):
        for arm, change in {BASE: "", **changes}.items():
            scores.setdefault(arm, []).append(trained(flags, arm, change, seed, toy=toy))
            if arm == BASE:
                continue
            runs = [(run_name(BASE, at), run_name(arm, at)) for at in range(seed + 1)]
            note = f"{change or 'tune.py soup'}. {gain_of(config, runs)}"
            times = {"reference": scores[BASE], "ours": scores[arm]}
            line = f"{name}, {config.METRIC}: {arm}"
            lines[arm] = Line(line, "score", times, told, notes=note, rate=True)
            print(f"{line}, seed {seed}: {scores[arm][-1]:.4f}; {note}", flush=True)
    return list(lines.values())


def changes_of(config: Any) -> dict[str, str]:
    """Flags by name, each a change of one tool; what the recipe has already is left out."""
    network, crop = config.MODEL_NAME, config.SIZE
    parts = network.split("_", 2)
    height, width = ([side * part // 4 // 32 * 32 for part in (3, 5)] for side in crop)
    found = {
        "no moving average": "--ema-decay 0",
        "SWA": f"{CONSTANT} --swa 0.5",
        "constant rate": CONSTANT,
        "one-cycle": "--scheduler onecycle",
        "poly": "--scheduler poly",
        "twice the rate": f"--lr {config.LR * 2}",
        "half the rate": f"--lr {config.LR / 2}",
        "encoder rate 0.1": "--encoder-lr-factor 0.1",
        "encoder rate 1": "--encoder-lr-factor 1",
        "batch 4": "--train-batch-size 4",
        "batch 4, light": "--train-batch-size 4 --augmentation light",
        "clipping": "--grad-clip 1",
        "deep supervision": "--deep-supervision true",
        "scse": f"--model-name {parts[0]}_{parts[1]}_scse_{parts[-1]}",
        "smaller crops": f"--crop-size {height[0]},{width[0]}",
        "larger crops": f"--crop-size {height[1]},{width[1]}",
        "soup": "",
    }
    if config.RESIZE_MODE == "crop":
        found["window of a crop"] = f"--window {crop[0]},{crop[1]}"
    if config.CLASSES > 1:
        found["class weights"] = "--class-weights auto"
    for policy in ("none", "flips", "light", "medium", "strong"):
        if policy != config.AUGMENTATION:
            found[policy] = f"--augmentation {policy}"
    for loss in LOSSES.get(config.TASK, ()):
        if loss != config.LOSS:
            found[loss] = f"--loss {loss}"
    return found


def run_name(arm: str, seed: int) -> str:
    """The run of a change."""
    return f"{arm.replace(', ', '_').replace(' ', '_').replace('+', '_')}_{seed}"


def trained(flags: Sequence[str], arm: str, change: str, seed: int, *, toy: bool) -> float:
    """The score of fold 0, of a training that may be there already."""
    words = [*flags, *shlex.split(change), "--seed", str(seed), "--run", run_name(arm, seed)]
    epochs, _ = plan(load_config(words)[0], toy=toy)
    score = score_of(words, epochs)
    if arm == "soup":
        tune.main(["soup", *words, "--folds", "0", "--epochs", str(epochs)])
        score = score_of(words, epochs)
    return score


def gain_of(config: Any, pairs: Sequence[tuple[str, str]]) -> str:
    """The gain over all seeds: each image counts once a seed, its seeds go together."""
    before, after, groups = [], [], []
    for names in pairs:
        values, whole, labels = run_values(run_of(config), names)
        before.append(values[names[0]])
        after.append(values[names[1]])
        groups.append(labels)
    gain = paired_gain(
        torch.cat(before), torch.cat(after), whole.score, groups=np.concatenate(groups)
    )
    return str(gain)
