"""A GPU's truth: training and prediction rung by rung, beside its largest matrix product."""

import copy
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

import bench_ensemble
from bench_epoch import quiet
from bench_step import batch_of
from core.errors import UserError
from core.flags import load_config
from frames import frames, more_frames, rows, scratch
from harness import Line, Target, gate, race, speeds
from inference.predictor import autocast
from noise import DEVICE, finish, noise_module
from runs.experiment import fit_of, run_of
from runs.prepared import prepare_data
from runs.training import train_fold
from training.console import quiet_lightning
from training.pulse import Pulse

NETWORK, TOY = "smp_unet_resnet34", "small_unet"
# (side, images a step) of the ladders.
SIZES = ((512, 32), (1024, 8))
# Losses of the same weights and batch in float16 and in float32.
TOLERANCE = 0.05
# Steps a round: launching the first one is not what is measured.
BURST = 10
ROUNDS = 5


def run(*, toy: bool) -> list[Line]:
    """The ladders, the copies, an epoch's waiting and the ensemble (toy: tiny, on any machine)."""
    if DEVICE.type != "cuda" and not toy:
        raise UserError("the benchmark gpu needs a CUDA GPU; --toy tries it without one")
    if toy:
        ladders = [(TOY, 64, 2)]
        epoch = epoch_line(TOY, 64, 2, toy=True)
        return [*ladder(ladders, 1e9, toy=True), *copies(64, 2), epoch]
    lines = [epoch_line(NETWORK, 512, 16), ensemble_line(), *copies(1024, 16)]
    return [*lines, *ladder([(NETWORK, *size) for size in SIZES], matmul_peak())]


def matmul_peak(side: int = 8192) -> float:
    """Floating-point operations a second of a float16 matrix product of random numbers."""
    a, b = torch.randn(2, side, side, device=DEVICE, dtype=torch.float16).unbind()
    seconds = []
    for _ in range(8):
        began = time.perf_counter()
        for _ in range(BURST):
            a @ b
        finish()
        seconds.append(time.perf_counter() - began)
    return 2 * side**3 * BURST / min(seconds)


def ladder(sizes: Sequence[tuple[str, int, int]], peak: float, *, toy: bool = False) -> list[Line]:
    """The rungs of training and of prediction at each size."""
    lines = []
    rounds = 1 if toy else ROUNDS
    for name, side, count in sizes:
        arms = train_arms(name, side, count, toy=toy)
        lines += rungs(arms, "training", name, side, count, peak, rounds)
        forget()
        arms = infer_arms(name, side, count, toy=toy)
        lines += rungs(arms, "prediction", name, side, count, peak, rounds)
        forget()
    return lines


def forget() -> None:
    """Frees the device and what was compiled: else another size is compiled for any size."""
    torch._dynamo.reset()
    torch.cuda.empty_cache()


def rungs(
    arms: dict[str, Callable[[], Any]],
    what: str,
    name: str,
    side: int,
    count: int,
    peak: float,
    rounds: int,
) -> list[Line]:
    """A line a rung but the first: the rung before, this one, and what the matrix units allow."""
    began = time.perf_counter()
    firsts = {rung: float(arm()) for rung, arm in arms.items()}
    warm = time.perf_counter() - began
    apart = max(firsts.values()) - min(firsts.values())
    checked = gate(apart < TOLERANCE, f"first {what} equal within {apart:.1e}")
    burst = {rung: (lambda arm=arm: (steps(arm), None)[1]) for rung, arm in arms.items()}
    title = f"{what}, {name.removeprefix('smp_')} {side}², batch {count}"
    rates = speeds(race(burst, what=title, repeats=rounds), count * BURST)
    limit = peak / operations(name, side, training=what == "training")
    lines = []
    for before, rung in pairwise(rates):
        arm = {"reference": rates[before], "ours": rates[rung], "floor": [limit] * rounds}
        line = Line(
            f"{what}: {rung}, {name.removeprefix('smp_')} {side}²", "img/s", arm, checked, rate=True
        )
        line.notes = (
            f"Batch {count}. Reference: the rung before ({before}). Floor: {limit:.0f} img/s, "
            f"{peak / 1e12:.0f} TFLOP/s of a float16 matrix product over the network's operations. "
            f"All rungs' first steps, with compiling: {warm:.0f} s."
        )
        lines.append(line)
    return lines


def steps(arm: Callable[[], Any]) -> None:
    """A burst of steps, waited for at its end."""
    for _ in range(BURST):
        arm()
    finish()


def operations(name: str, side: int, *, training: bool) -> float:
    """Floating-point operations of an image: forward, or forward and backward."""
    module = noise_module(name, side).train(training)
    image = torch.zeros(2, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(training):
        out = module.model(image)
        if training:
            out.mean().backward()
    return counter.get_total_flops() / 2


def train_arms(name: str, side: int, count: int, *, toy: bool) -> dict[str, Callable[[], Any]]:
    """Training steps, each rung with one thing more than the one before."""
    half = "bf16-mixed" if toy else "16-mixed"
    rungs = {
        "float32": ("32-true", False, False, ""),
        half: (half, False, False, ""),
        "channels-last": (half, True, False, ""),
        "fused AdamW": (half, True, True, ""),
        "torch.compile": (half, True, True, "default"),
    }
    if toy:
        del rungs["torch.compile"]
    batch = batch_of(side, count)
    return {rung: train_arm(name, side, batch, *how) for rung, how in rungs.items()}


def train_arm(
    name: str, side: int, batch: dict[str, Any], precision: str, last: bool, fused: bool, mode: str
) -> Callable[[], Any]:
    """A step as the trainer makes it: autocast, scaled loss, clipping, optimiser."""
    module = noise_module(name, side).to(DEVICE).train()
    module.set_channels_last(last)
    if mode:
        module.model.compile(mode=mode)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=fused)
    scaler = torch.amp.GradScaler(DEVICE.type, enabled=precision == "16-mixed")

    def step() -> torch.Tensor:
        with autocast(DEVICE, precision):
            loss = module.loss(module(batch["image"]), batch["mask"])
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return loss.detach()

    return step


def infer_arms(name: str, side: int, count: int, *, toy: bool) -> dict[str, Callable[[], Any]]:
    """Predictions of a batch in memory; each arm's value is its mean probability."""
    half = "bf16-mixed" if toy else "16-mixed"
    rungs = {
        "float32": ("32-true", False, ""),
        half: (half, False, ""),
        "channels-last": (half, True, ""),
        "torch.compile": (half, True, "default"),
        "CUDA graphs": (half, True, "reduce-overhead"),
    }
    if toy:
        del rungs["torch.compile"], rungs["CUDA graphs"]
    image = batch_of(side, count)["image"]
    start = noise_module(name, side).to(DEVICE).eval()
    return {rung: infer_arm(copy.deepcopy(start), image, *how) for rung, how in rungs.items()}


def infer_arm(
    module: Any, image: torch.Tensor, precision: str, last: bool, mode: str
) -> Callable[[], Any]:
    """A batch through a network of its own."""
    module.set_channels_last(last)
    if mode:
        module.model.compile(mode=mode)

    @torch.inference_mode()
    def predict() -> torch.Tensor:
        with autocast(DEVICE, precision):
            return module(image).float().sigmoid().mean()

    return predict


def copies(side: int, count: int) -> list[Line]:
    """A batch of uint8 to the device: from memory that is pinned, and from memory that is not."""
    plain = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)
    pinned = plain.pin_memory() if DEVICE.type == "cuda" else plain.clone()
    same = torch.equal(plain.to(DEVICE), pinned.to(DEVICE, non_blocking=True))
    arms = {
        "reference": lambda: steps(lambda: plain.to(DEVICE)),
        "ours": lambda: steps(lambda: pinned.to(DEVICE, non_blocking=True)),
    }
    title = f"batch of {count} × {side}² to the device"
    times = speeds(race(arms, what=title), BURST * plain.numel() / 1e9)
    line = Line(title, "GB/s", times, gate(same, "the same bytes"), rate=True)
    line.notes = "Ours: pinned memory, as the loaders give it; reference: pageable."
    return [line]


def epoch_line(name: str, side: int, count: int, *, toy: bool = False) -> Line:
    """Real trainings from frames on disk: how long the GPU waits, and what stands in last.ckpt."""
    folder, root = more_frames_of(toy), scratch("gpu")
    config, _ = load_config(
        [
            *("--input", str(folder), "--output", str(root / "output"), "--logs", str(root)),
            *("--model-name", name, "--encoder-weights", "none", "--crop-size", str(side)),
            *("--epochs", "2" if toy else "4", "--train-batch-size", str(count), "--run", "bench"),
        ]
    )
    config.OUTPUT.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows(folder)).to_csv(config.FOLDS_CSV, index=False)
    quiet_lightning()
    with quiet() as callbacks:
        own = run_of(config)
        cache = prepare_data(own, cache=config.CACHE)
        train_fold(fit_of(config), own, 0, cache=cache)
    last = root / "bench" / "fold_0" / "checkpoints" / "last.ckpt"
    held = torch.load(last, map_location="cpu", weights_only=True)
    scaled = held.get("MixedPrecision", {})
    fp16 = DEVICE.type == "cuda"
    checked = gate(not fp16 or scaled.get("scale", 0) > 0, "last.ckpt holds the gradient scaler")
    pulse = next(callback for callback in callbacks if isinstance(callback, Pulse))
    title = f"waiting for data in an epoch, {name.removeprefix('smp_')} {side}²"
    line = Line(title, "% of its steps", {"ours": [100 * max(pulse.waiting, 1e-6)]}, checked)
    line.targets = [Target("% of the steps", line.median("ours"), 5, at_least=False)]
    line.notes = (
        f"Last {len(pulse.steps)} steps of 4 epochs over {len(rows(folder))} JPEG frames of "
        f"1918×1280 through the cache, {pulse.speed:.0f} img/s trained; gradient scaler of "
        f"last.ckpt: {scaled.get('scale', 'none, no fp16')}."
    )
    return line


def more_frames_of(toy: bool) -> Path:
    """Frames to train on, enough for some tens of steps an epoch."""
    return frames(toy=True) if toy else more_frames(frames(toy=False), scratch("frames") / "in", 24)


def ensemble_line() -> Line:
    """Five folds and a flip of the large network, from JPEG to a checked submission."""
    return bench_ensemble.race_files(NETWORK, 1024, 5, batch=16, times=8, rival=False)
