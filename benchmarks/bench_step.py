"""One training step: our defaults beside float32, and Lightning beside a bare loop."""

import contextlib
import copy
import io
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from core.flags import load_config
from elsewhere import Elsewhere
from harness import Line, Target, gate, per, race
from inference.predictor import autocast
from Lightning_datamodule import LoaderSpec, build_loader
from noise import DEVICE, finish, noise_module
from reference import train_step
from runs.experiment import fit_of
from runs.fitting import build_trainer
from training.averaging import build_average
from training.precision import precision_here
from training.schedules import cosine, rate_at

# Steps of a loop that are not timed: allocators and caches fill up.
COLD = 2
RATE = 1e-3


def run(*, toy: bool) -> list[Line]:
    """The step itself on U-Net-resnet34, then what Lightning adds to it and to a small network."""
    if toy:
        return [
            step_line("smp_unet_resnet18", 64, 2, toy=True),
            loop_line("smp_unet_resnet18", 64, 4, toy=True),
        ]
    return [
        step_line("smp_unet_resnet34", 256, 4),
        step_line("smp_unet_resnet34", 512, 4),
        loop_line("smp_unet_resnet34", 256, 8, goal=0.03),
        loop_line("smp_unet_resnet18", 64, 40),
    ]


def batch_of(side: int, count: int = 4) -> dict[str, torch.Tensor]:
    """A batch as the loader ships it: uint8, channels last."""
    torch.manual_seed(1)
    image = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    mask = (torch.rand(count, 1, side // 8, side // 8) < 0.5).byte()
    mask = torch.nn.functional.interpolate(mask, size=(side, side))
    return {"image": image.to(DEVICE), "mask": mask.to(DEVICE)}


def raw_step(module: Any, optimizer: Any, batch: dict[str, Any], precision: str) -> torch.Tensor:
    """Our step without Lightning: autocast, loss, backward, clipping, optimiser."""
    with autocast(DEVICE, precision):
        loss = module.loss(module(batch["image"]), batch["mask"])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def build_step(
    name: str, side: int, count: int, precision: str, last: bool, fused: bool, compiled: bool
) -> Callable[[], float]:
    """A step of a network of its own, always with the same weights and batch; returns the loss."""
    module, batch = noise_module(name, side).to(DEVICE).train(), batch_of(side, count)
    module.set_channels_last(last)
    if compiled:
        module.model.compile()
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=fused)
    return lambda: float(finish(raw_step(module, optimizer, batch, precision)))


def build_plain(name: str, side: int, count: int) -> Callable[[], float]:
    """The same step as a notebook writes it: float32, NCHW, eager, pictures normalised before."""
    module, batch = noise_module(name, side).to(DEVICE).train(), batch_of(side, count)
    image = ((batch["image"].float() / 255 - module.mean) / module.std).contiguous()
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE)
    return lambda: float(
        finish(train_step(module.model, module.loss, optimizer, image, batch["mask"]))
    )


def step_line(name: str, side: int, count: int, *, toy: bool = False) -> Line:
    """The bare step: our defaults against fp32 NCHW eager, each in a process of its own."""
    ours = name, side, count, precision_here("auto", "auto"), True, True, False
    arms = {
        "reference": Elsewhere(build_plain, name, side, count, keep=False),
        "ours": Elsewhere(build_step, *ours, keep=True),
    }
    losses = tuple(arm.first for arm in arms.values())
    checked = gate(abs(losses[0] - losses[1]) < 0.02, "first loss equal within 0.02")
    title = f"train step, {name[4:]} {side}², batch {count}, {DEVICE.type}"
    line = Line(title, "ms an image", {}, checked)
    line.times = per(race(arms, what=title, repeats=2 if toy else 9), 1000 / count)
    for arm in arms.values():
        arm.close()
    line.notes = (
        f"Ours: {ours[3]}, channels-last, fused AdamW, uint8 in, freed memory kept; losses "
        f"{losses}. Of ours {conv_share(build_step(*ours)):.0%} is spent inside the library's "
        "convolutions (torch.profiler): they hold it; see the ladder for each rung."
    )
    if not toy and DEVICE.type == "cpu":
        line.targets = [Target("times fp32 NCHW", line.gain("reference"), 2.4)]
    return line


def conv_share(step: Callable[[], Any]) -> float:
    """Share of a step's time on the CPU that convolutions take themselves, forward and backward."""
    from torch.profiler import ProfilerActivity, profile

    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        step()
    events = profiled.key_averages()
    convs = sum(e.self_cpu_time_total for e in events if "convolution" in e.key)
    return convs / sum(e.self_cpu_time_total for e in events)


class Resident(torch.utils.data.Dataset):
    """Samples that are in memory already."""

    def __init__(self, batch: dict[str, torch.Tensor], length: int):
        self.batch, self.length = {k: v.cpu() for k, v in batch.items()}, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {key: value[index % len(value)] for key, value in self.batch.items()}


def loop_line(
    name: str, side: int, steps: int, *, goal: float | None = None, toy: bool = False
) -> Line:
    """Our trainer with all that it does in a step, against a loop of the same step."""
    start = noise_module(name, side).to(DEVICE)
    start.set_channels_last(True)
    batch = batch_of(side)
    loader = build_loader(
        Resident(batch, (steps + COLD) * 4), LoaderSpec(num_workers=0), batch_size=4, shuffle=False
    )
    losses: dict[str, list[float]] = {"raw": [], "ours": []}
    arms = {
        "ours": lambda: by_lightning(copy.deepcopy(start), loader, losses["ours"]),
        "floor": lambda: by_hand(copy.deepcopy(start), loader, losses["raw"]),
    }
    for arm in arms.values():
        arm()
    pairs = zip(losses["raw"], losses["ours"], strict=True)
    apart = max(abs(a - b) for a, b in pairs)
    title = f"Lightning over a bare loop, {name[4:]} {side}², batch 4, {DEVICE.type}"
    checked = gate(apart < 1e-2, f"losses of all {steps + COLD} steps equal within {apart:.1e}")
    times = race(arms, what=title, repeats=2 if toy else 7)
    line = Line(title, "ms a step", per(times, 1000), checked)
    over = line.median("ours") - line.median("floor")
    line.notes = (
        f"Floor: the bare loop, same loader, step, schedule and moving average. Lightning logs "
        f"and moves the progress bar besides: {over:+.2f} ms a step."
    )
    if goal is not None:
        share = 1 / line.gain("floor") - 1
        line.targets = [Target("share on top", share, goal, at_least=False)]
    return line


def by_hand(module: Any, loader: Any, losses: list[float]) -> float:
    """Seconds a step of a bare loop."""
    precision, steps = precision_here("auto", "auto"), len(loader)
    optimizer = torch.optim.AdamW(module.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda at: rate_at(at, steps, 0.05, cosine)
    )
    average = torch.optim.swa_utils.AveragedModel(module, multi_avg_fn=build_average(0.99))
    module.train()
    seen, began = [], []
    for batch in loader:
        began.append(time.perf_counter())
        batch = {key: value.to(DEVICE) for key, value in batch.items()}
        seen.append(finish(raw_step(module, optimizer, batch, precision)))
        schedule.step()
        average.update_parameters(module)
    losses[:] = [float(loss) for loss in seen]
    return step_seconds(began)


def by_lightning(module: Any, loader: Any, losses: list[float]) -> float:
    """Seconds a step of the trainer that Lightning_trainer.py builds, without checkpoints."""
    from pytorch_lightning.callbacks import Callback, ModelCheckpoint

    from training.console import quiet_lightning

    quiet_lightning()
    # As the floor has it: auto may choose the other layout, whose sums are rounded otherwise.
    config, _ = load_config(["--epochs", "1", "--channels-last", "on"])
    began: list[float] = []
    seen: list[torch.Tensor] = []

    class Clock(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            began.append(time.perf_counter())

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *_: Any) -> None:
            seen.append(finish(outputs["loss"].detach()))

    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(fit_of(config), Path(folder) / "bench" / "fold_0", "max")
        kept = [c for c in trainer.callbacks if not isinstance(c, ModelCheckpoint)]
        trainer.callbacks = [*kept, Clock()]
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            trainer.fit(module, train_dataloaders=loader)
    losses[:] = [float(loss) for loss in seen]
    return step_seconds(began)


def step_seconds(began: Sequence[float]) -> float:
    """Mean seconds from the start of a step to the next, the first ones left out."""
    return (began[-1] - began[COLD]) / (len(began) - 1 - COLD)
