"""The training step rung by rung: each of our defaults beside the step without it."""

from itertools import pairwise

from bench_step import build_step
from elsewhere import Elsewhere
from harness import Line, Target, gate, per, race
from noise import DEVICE
from training.precision import precision_here

# Losses of the same weights and batch in bfloat16 and in float32.
TOLERANCE = 0.02
KEPT, COMPILED = "freed memory kept", "torch.compile"


def run(*, toy: bool) -> list[Line]:
    """U-Net-resnet34 at 256², and the last rung at 512² (toy: resnet18 at 64², not compiled)."""
    if toy:
        return climb("smp_unet_resnet18", 64, 2, skipped=(COMPILED,), repeats=2)
    name = "smp_unet_resnet34"
    early = ("float32", precision_here("auto", "auto"), "channels-last", COMPILED)
    return [*climb(name, 256, 4), *climb(name, 512, 4, skipped=early)]


def climb(
    name: str, side: int, count: int, *, skipped: tuple[str, ...] = (), repeats: int = 9
) -> list[Line]:
    """A line for each rung but the first; each rung is a process of its own."""
    half = precision_here("auto", "auto")
    # Precision, channels-last, fused optimiser, compiled; then: is freed memory kept.
    steps = {
        "float32": ("32-true", False, False, False, False),
        half: (half, False, False, False, False),
        "channels-last": (half, True, False, False, False),
        "fused AdamW": (half, True, True, False, False),
        KEPT: (half, True, True, False, True),
        COMPILED: (half, True, True, True, True),
    }
    rungs = {
        rung: Elsewhere(build_step, name, side, count, *how[:4], keep=how[4])
        for rung, how in steps.items()
        if rung not in skipped
    }
    first = [rung.first for rung in rungs.values()]
    apart = max(first) - min(first)
    checked = gate(apart < TOLERANCE, f"first losses equal within {apart:.1e}")
    title = f"training step by rungs, {name[4:]} {side}², batch {count}, {DEVICE.type}"
    times = per(race(rungs, what=title, repeats=repeats), 1000 / count)
    lines = []
    for before, rung in pairwise(rungs):
        pair = {"reference": times[before], "ours": times[rung]}
        line = Line(f"+ {rung}, {name[4:]} {side}²", "ms an image", pair, checked)
        line.notes = f"Reference: the rung before ({before}); each in a process of its own."
        if rung == COMPILED:
            seconds = rungs[rung].first_seconds
            line.notes += f" First step, with compiling: {seconds:.0f} s. Off by default on a CPU."
        else:
            line.targets = [Target("times the rung before", line.gain("reference"), 1.0)]
        lines.append(line)
    for step in rungs.values():
        step.close()
    return lines
