"""SCHEDULERS: a name to the course of the learning rate."""

import math
from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from core.errors import pick


def rate_at(step: int, steps: int, warmup: float, share: Callable[[float], float]) -> float:
    """Share of the peak rate at a step: a line up over `warmup` of all steps, then `share`.

    Args:
        step: from 0.
        steps: of the whole training.
        warmup: 0-1.
        share: of the peak, given how much of the steps after the warm-up is done, 0-1.
    """
    climb = max(1, round(warmup * steps))
    if step < climb:
        return (step + 1) / climb
    return share(min(1.0, (step - climb) / max(1, steps - climb)))


def cosine(done: float) -> float:
    """Half a cosine from 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * done))


def poly(done: float) -> float:
    """(1 - done)^0.9. Source: Chen et al. 2017 (DeepLab)."""
    return (1 - done) ** 0.9


def tenths(done: float) -> float:
    """1, a tenth from 60 % on, a hundredth from 85 % on."""
    return 0.1 ** ((done >= 0.6) + (done >= 0.85))


def constant(done: float) -> float:
    """1 all the time."""
    return 1.0


def by_step(share: Callable[[float], float]) -> Callable[..., LRScheduler]:
    """A row that follows `rate_at` with this share of the peak."""

    def build(optimizer: Optimizer, *, steps: int, warmup: float, **_: Any) -> LRScheduler:
        return LambdaLR(optimizer, lambda step: rate_at(step, steps, warmup, share))

    return build


def one_cycle(optimizer: Optimizer, *, steps: int, warmup: float, **_: Any) -> LRScheduler:
    """Up from a 25th of the peak over the warm-up, down to next to nothing, both as cosines.

    Source: Smith & Topin 2018.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=warmup)


def plateau(optimizer: Optimizer, *, mode: str, **_: Any) -> LRScheduler:
    """A tenth of the rate after three validations in a row without a new best score."""
    return ReduceLROnPlateau(optimizer, "max" if mode == "max" else "min", patience=2)


# Each row is called with (optimizer, steps=, warmup=, mode=); mode is max or min, whichever is
# better of METRIC. It is stepped after each step of the optimiser; a ReduceLROnPlateau with METRIC
# after each validation.
SCHEDULERS: dict[str, Callable[..., LRScheduler]] = {
    "cosine": by_step(cosine),
    "poly": by_step(poly),
    "step": by_step(tenths),
    "none": by_step(constant),
    "onecycle": one_cycle,
    # Does not know WARMUP.
    "plateau": plateau,
}


def build_scheduler(
    name: str,
    optimizer: Optimizer,
    *,
    steps: int,
    warmup: float,
    monitor: str,
    mode: str,
    val_every: int,
) -> dict[str, Any]:
    """The schedule of a row of SCHEDULERS, as Lightning takes it.

    Args:
        name: the row.
        optimizer: whose groups hold the peak rates.
        steps: of the optimiser in the whole training.
        warmup: share of them, 0-1.
        monitor: logged score that a plateau is seen in.
        mode: max or min, whichever is better of it.
        val_every: epochs between its values.

    Raises:
        UserError: an unknown name.
    """
    row = pick(SCHEDULERS, name, "scheduler")
    schedule = row(optimizer, steps=steps, warmup=warmup, mode=mode)
    if isinstance(schedule, ReduceLROnPlateau):
        return {
            "scheduler": schedule,
            "interval": "epoch",
            "monitor": monitor,
            "frequency": val_every,
        }
    return {"scheduler": schedule, "interval": "step"}
