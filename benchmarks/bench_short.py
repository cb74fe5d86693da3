"""Is a short training on few images as good as a bare loop? Dice out of fold, five seeds.

24 grey slices are drawn with a mask each; U-Net with resnet18 from noise learns 128² crops of 16
of them in bfloat16, and is scored once, at its end, on the other 8. BENCH_STEPS=24,48 (multiples of
the 4 steps of an epoch) and BENCH_SEEDS=5 choose how much is run, BENCH_FLAGS="--ema-decay 0"
changes our recipe.
"""

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from core.errors import UserError
from core.gates import is_whole_number
from frames import scratch
from harness import Line, Target, gate

SLICES, HELD_OUT, SIDE, CROP, BATCH, RATE = 24, 8, 192, 128, 4, 1e-3
STEPS, SEEDS = "24,48,96,200,500", "5"
EPOCH = -(-(SLICES - HELD_OUT) // BATCH)


def run(*, toy: bool) -> list[Line]:
    """A line a number of steps; arms by turns."""
    steps = asked("BENCH_STEPS", "4" if toy else STEPS, EPOCH)
    (seeds,) = asked("BENCH_SEEDS", "1" if toy else SEEDS, 1)[:1]
    network = "small_unet" if toy else "smp_unet_resnet18"
    root = scratch("short")
    draw_slices(root)
    equal = gate(same(root, network), "same images held out, networks of as many weights")
    return [race_over(root, network, number, seeds, equal) for number in steps]


def asked(name: str, usual: str, unit: int) -> list[int]:
    """The numbers of an environment variable, multiples of `unit`.

    Raises:
        UserError: one is none.
    """
    words = os.environ.get(name, usual).split(",")
    for word in words:
        if not is_whole_number(word) or int(word) < unit or int(word) % unit:
            raise UserError(f"{name}: got {word!r}, need multiples of {unit}")
    return list(map(int, words))


def same(root: Path, network: str) -> bool:
    """Whether both arms hold out the same images, and their networks have as many weights."""
    from runs.starts import build_data, build_fold

    run, fit = settings(root, network)
    held = [row["img"] for row in build_data(fit, run, 1).rows["val"]]
    ours, theirs = build_fold(fit, run, 1, weights=False).model, build_network(network)
    weights = [sum(one.numel() for one in net.parameters()) for net in (ours, theirs)]
    return held == [f"{at:02d}" for at in range(SLICES - HELD_OUT, SLICES)] and (
        weights[0] == weights[1]
    )


def race_over(root: Path, network: str, steps: int, seeds: int, equal: str) -> Line:
    """Scores of both arms after some steps, a number a seed; `equal`: words of the gate."""
    arms = {"reference": bare_loop, "ours": template}
    scores: dict[str, list[float]] = {name: [] for name in arms}
    for seed in range(seeds):
        for name in list(arms)[:: -1 if seed % 2 else 1]:
            scores[name].append(arms[name](root, network, steps, seed))
    for name, values in scores.items():
        told = " ".join(f"{value:.4f}" for value in values)
        print(f"{steps} steps, {name}: {told}, mean {np.mean(values):.4f}", flush=True)
    gains = np.subtract(scores["ours"], scores["reference"])
    mean = float(gains.mean())
    error = float(gains.std(ddof=1)) / seeds**0.5 if seeds > 1 else 0.0
    line = Line(
        f"Dice out of fold after {steps} steps",
        "Dice",
        scores,
        equal,
        notes=f"Difference {mean:+.4f}, standard error {error:.4f}, of {seeds} seeds.",
        rate=True,
    )
    line.targets = [Target("Dice more, and twice its error", mean + 2 * error, 0.0)]
    return line


def draw_slices(root: Path) -> None:
    """Grey slices whose outline is a wavy disc of 71 to 82 % of the area, and train_folds.csv."""
    rng, rows = np.random.default_rng(0), []
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    for at in range(SLICES):
        angle, waves = np.arctan2(y, x), rng.normal(0, 0.03, (3, 2))
        wavy = sum(
            a * np.cos(k * angle) + b * np.sin(k * angle) for k, (a, b) in enumerate(waves, 2)
        )
        reach = np.maximum(abs(x), abs(y)) * 0.7 + np.hypot(x, y) * 0.3
        distance = reach / (1 + wavy)
        mask = distance < np.quantile(distance, rng.uniform(0.71, 0.82))
        texture = cv2.GaussianBlur(rng.normal(0, 1, (SIDE, SIDE)), (0, 0), 4) * 150
        grey = 110 + 25 * mask + texture + rng.normal(0, 12, (SIDE, SIDE))
        image, truth = f"{at:02d}.png", f"{at:02d}_mask.png"
        cv2.imwrite(str(root / image), grey.clip(0, 255).astype(np.uint8))
        cv2.imwrite(str(root / truth), 255 * mask.astype(np.uint8))
        fold = int(at >= SLICES - HELD_OUT)
        rows.append({"img": image[:2], "image": image, "mask": truth, "group": at, "kfold": fold})
    pd.DataFrame(rows).to_csv(root / "train_folds.csv", index=False)


def flags(root: Path, network: str) -> list[str]:
    """Of our recipe: as config.py has it, but for what is equal in both arms."""
    return [
        *("--input", str(root), "--output", str(root), "--logs", str(root / "logs")),
        *("--train-path", ".", "--mask-path", ".", "--mask-suffix", "_mask.png"),
        *("--model-name", network, "--encoder-weights", "none"),
        *("--resize-mode", "crop", "--crop-size", str(CROP), "--train-batch-size", str(BATCH)),
        *("--augmentation", "flips", "--precision", "bf16-mixed", "--loggers", "csv"),
        *("--num-workers", "0", "--cache", "ram", "--save-minutes", "0", "--channels-last", "on"),
        *shlex.split(os.environ.get("BENCH_FLAGS", "")),
    ]


def settings(root: Path, network: str) -> tuple[Any, Any]:
    """Run and Fit of our recipe."""
    from core.flags import load_config
    from runs.experiment import fit_of, run_of

    config, _ = load_config(flags(root, network))
    return run_of(config), fit_of(config)


def template(root: Path, network: str, steps: int, seed: int) -> float:
    """Our trainer."""
    from runs.prepared import prepare_data
    from runs.training import train_fold

    run, fit = settings(root, network)
    epochs = steps // EPOCH
    run = replace(run, name=f"{steps}_{seed}", loader=replace(run.loader, seed=seed))
    fit = replace(fit.with_epochs(epochs), seed=seed, val_every=epochs)
    ended = train_fold(fit, run, 1, cache=prepare_data(run, cache="ram"))
    assert ended is not None
    return ended.score


def build_network(name: str) -> Any:
    """The network of the bare loop."""
    from model_dispatcher import build_model

    return build_model(name, weights=None, channels=3, classes=1, size=(CROP, CROP))


def bare_loop(root: Path, network: str, steps: int, seed: int) -> float:
    """What one writes in an hour: Adam at one rate, random crops, quarter turns and a flip."""
    import torch

    from losses import build_loss
    from metrics import build_metric

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images, masks = read_slices(root)
    net = build_network(network).to(memory_format=torch.channels_last)
    loss = build_loss("bce+dice", task="binary", classes=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    train = np.arange(SLICES - HELD_OUT)
    for step in range(steps):
        if step * BATCH % len(train) == 0:
            rng.shuffle(train)
        start = step * BATCH % len(train)
        pairs = [cut(images[at], masks[at], rng) for at in train[start : start + BATCH]]
        image, mask = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(image.to(memory_format=torch.channels_last))
        loss(logits.float(), mask).backward()
        optimizer.step()
    metric = build_metric("dice", task="binary", classes=1)
    net.eval()
    with torch.inference_mode():
        for at in range(SLICES - HELD_OUT, SLICES):
            decided = net(torch.from_numpy(images[at][None])) > 0
            metric.update(decided.to(torch.uint8), torch.from_numpy(masks[at][None]))
    return float(metric.compute())


def read_slices(root: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images float32 (3, H, W), normalised as our module does, and masks uint8 (1, H, W)."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def image(at: int) -> np.ndarray:
        grey = cv2.imread(str(root / f"{at:02d}.png"))[..., ::-1] / 255
        return np.float32((grey - mean) / std).transpose(2, 0, 1)

    def mask(at: int) -> np.ndarray:
        return (cv2.imread(str(root / f"{at:02d}_mask.png"), 0) > 0).astype(np.uint8)[None]

    return [image(at) for at in range(SLICES)], [mask(at) for at in range(SLICES)]


def cut(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> Sequence[np.ndarray]:
    """A random window of both, turned and flipped alike."""
    top, left = rng.integers(0, SIDE - CROP + 1, 2)
    turns, flip = int(rng.integers(4)), 1 - 2 * int(rng.integers(2))
    window = (slice(None), slice(top, top + CROP), slice(left, left + CROP))
    return [np.rot90(part[window], turns, (1, 2))[..., ::flip].copy() for part in (image, mask)]
