"""Times rival ways to do one thing, side by side: reference, ours, floor."""

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
REPEATS = 7


@dataclass
class Target:
    """A bound that issue or README promises; `value` is what was measured."""

    what: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        """Whether the promise is kept."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound


@dataclass
class Line:
    """One row of the table.

    Attributes:
        name: what is measured, in words.
        unit: of the numbers; smaller is better unless `rate`.
        times: arm (reference, ours, floor) to one number a round.
        gate: the equality that was checked before the first round.
        targets: promises.
        notes: what a reader must know to judge the numbers.
        rate: the numbers are speeds.
    """

    name: str
    unit: str
    times: dict[str, list[float]]
    gate: str
    targets: list[Target] = field(default_factory=list)
    notes: str = ""
    rate: bool = False

    def median(self, arm: str) -> float:
        """The middle of an arm's rounds."""
        return statistics.median(self.times[arm])

    def gain(self, arm: str) -> float:
        """How many times faster ours is than `arm`: the median over rounds of their ratio."""
        pairs = zip(self.times[arm], self.times["ours"], strict=True)
        return statistics.median(b / a if self.rate else a / b for a, b in pairs)

    def to_dict(self) -> dict[str, Any]:
        """Plain values with what follows from them."""
        gains = {arm: self.gain(arm) for arm in self.times if arm != "ours"}
        held = [{**asdict(target), "holds": target.holds} for target in self.targets]
        return {**asdict(self), "gains": gains, "targets": held}


def race(
    arms: Mapping[str, Callable[[], Any]], *, what: str, repeats: int = REPEATS, warm_up: int = 1
) -> dict[str, list[float]]:
    """Seconds of each arm and round; every other round goes backwards: A B B A.

    Args:
        arms: name to what is timed; one that returns a float has timed itself.
        what: for the line of progress.
        repeats: rounds.
        warm_up: rounds before, not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    for at in range(-warm_up, repeats):
        if sys.stdout.isatty():
            print(f"\r{what}: round {max(at + 1, 0)} of {repeats}   ", end="", flush=True)
        for name in list(arms) if at % 2 else list(arms)[::-1]:
            begin = time.perf_counter()
            own = arms[name]()
            seconds = own if isinstance(own, float) else time.perf_counter() - begin
            if at >= 0:
                times[name].append(seconds)
    told = ", ".join(f"{name} {statistics.median(v):.4g} s" for name, v in times.items())
    print(f"\r{what}: {told}", flush=True)
    return times


def per(times: Mapping[str, Sequence[float]], scale: float) -> dict[str, list[float]]:
    """Times multiplied: 1000 / n gives milliseconds a piece."""
    return {name: [value * scale for value in values] for name, values in times.items()}


def speeds(times: Mapping[str, Sequence[float]], amount: float) -> dict[str, list[float]]:
    """`amount` a second instead of seconds."""
    return {name: [amount / value for value in values] for name, values in times.items()}


def gate(holds: bool, what: str) -> str:
    """The words for the table, when the arms do the same.

    Raises:
        SystemExit: they do not, and times would mean nothing.
    """
    if not holds:
        raise SystemExit(f"gate: {what} does not hold: nothing is timed")
    return what


def machine() -> dict[str, Any]:
    """Where and with what the numbers were taken."""
    import cv2
    import numpy as np
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)),
        "gpu": gpu,
        "torch_threads": torch.get_num_threads(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "commit": _commit(),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "unknown")


def _commit() -> str:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "src", "benchmarks/*.py")
    return git("rev-parse", "--short", "HEAD") + (" with changes" if changed else "")
