"""SCHEDULERS: a name to the course of the learning rate; `cosine:floor=0.05`, `step:at=0.5/0.8`."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from core.arguments import (
    NotNegative,
    Positive,
    Range,
    Share,
    check_arguments,
    parameters_of,
    read_name,
)
from core.errors import UserError, reason_of
from core.rows import pick


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


def cosine(done: float, *, floor: Share = 0.0, cycles: Annotated[int, Range(1)] = 1) -> float:
    """Half a cosine from 1 to `floor`, so often as there are cycles.

    Source: Loshchilov & Hutter 2017 (SGDR).
    """
    if done < 1:
        done = done * cycles % 1
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def poly(done: float, *, power: Positive = 0.9) -> float:
    """(1 - done)^power. Source: Chen et al. 2017 (DeepLab)."""
    return (1 - done) ** power


def steps_down(
    done: float,
    *,
    at: Annotated[float | tuple[float, ...], Range(0, 1)] = (0.6, 0.85),
    factor: Share = 0.1,
) -> float:
    """1, times `factor` from each share of the training in `at` on."""
    edges = at if isinstance(at, tuple) else (at,)
    return factor ** sum(done >= edge for edge in edges)


def constant(done: float) -> float:
    """1 all the time."""
    return 1.0


class Course(LambdaLR):
    """A rate that is a function of the share of the steps that is done; `steps` may be moved.

    Args:
        optimizer: whose groups hold the peak rates.
        share: of the peak, see `rate_at`.
        steps: of the whole training.
        warmup: share of them, 0-1.
    """

    def __init__(
        self, optimizer: Optimizer, share: Callable[[float], float], steps: int, warmup: float
    ):
        self.steps = steps
        super().__init__(optimizer, lambda step: rate_at(step, self.steps, warmup, share))

    def state_dict(self) -> dict[str, Any]:
        """Without the number of steps: a training that is resumed may have more of them."""
        return {name: value for name, value in super().state_dict().items() if name != "steps"}


def by_step(share: Callable[..., float]) -> Callable[..., LRScheduler]:
    """A row that follows `rate_at` with this share of the peak; its arguments are the share's."""

    def build(
        optimizer: Optimizer, *, steps: int, warmup: float, mode: str, **options: Any
    ) -> LRScheduler:
        check_arguments(share, options, share.__name__, "scheduler")
        return Course(optimizer, partial(share, **options), steps, warmup)

    return build


def one_cycle(
    optimizer: Optimizer,
    *,
    steps: int,
    warmup: float,
    mode: str,
    start: Annotated[float, Range(1)] = 25.0,
    end: Annotated[float, Range(1)] = 1e4,
    linear: bool = False,
) -> LRScheduler:
    """Up from a `start`-th of the peak over the warm-up, down to an `end`-th of that.

    Both are cosines, or lines where `linear`.

    Source: Smith & Topin 2018.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    # torch divides by the steps of the way up less one.
    share = max(warmup, 2 / steps)
    return OneCycleLR(
        optimizer,
        peaks,
        total_steps=max(steps, 3),
        pct_start=min(share, 0.99),
        div_factor=start,
        final_div_factor=end,
        anneal_strategy="linear" if linear else "cos",
    )


def plateau(
    optimizer: Optimizer,
    *,
    steps: int,
    warmup: float,
    mode: str,
    factor: Share = 0.5,
    patience: Annotated[int, Range(0)] = 2,
    least: NotNegative = 1e-6,
) -> LRScheduler:
    """`factor` times the rate after `patience` + 1 validations in a row without a new best score.

    No rate falls below `least`.
    """
    floors = [min(least, group["lr"]) for group in optimizer.param_groups]
    return ReduceLROnPlateau(
        optimizer,
        "max" if mode == "max" else "min",
        factor=factor,
        patience=patience,
        min_lr=floors,
        threshold=0.0,
        eps=0.0,
    )


# Arguments that come from elsewhere.
GIVEN = ("optimizer", "steps", "warmup", "mode")
# Each row is called with (optimizer, steps=, warmup=, mode=) and the arguments in its name; mode is
# max or min, whichever is better of METRIC. It is stepped after each step of the optimiser; a
# ReduceLROnPlateau with METRIC after each validation.
SCHEDULERS: dict[str, Callable[..., LRScheduler]] = {
    "cosine": by_step(cosine),
    "poly": by_step(poly),
    "step": by_step(steps_down),
    "none": by_step(constant),
    "onecycle": one_cycle,
    # Does not know WARMUP.
    "plateau": plateau,
}


def check_scheduler(name: str) -> None:
    """Builds the schedule of one weight, to tell at once what is wrong with its name.

    Raises:
        UserError: an unknown name, or arguments that it does not take.
    """
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    build_scheduler(name, optimizer, steps=9, warmup=0.1, monitor="", mode="max", val_every=1)


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
        name: the row, with arguments of it.
        optimizer: whose groups hold the peak rates.
        steps: of the optimiser in the whole training.
        warmup: share of them, 0-1.
        monitor: logged score that a plateau is seen in.
        mode: max or min, whichever is better of it.
        val_every: epochs between its values.

    Raises:
        UserError: an unknown name, or arguments that it does not take.
    """
    short, arguments = read_name(name, "scheduler")
    row = pick(SCHEDULERS, short, "scheduler")
    if short not in SCHEDULERS:
        _check_row(row, name)
    if not any(p.kind is p.VAR_KEYWORD for p in parameters_of(row, name, "scheduler").values()):
        check_arguments(row, arguments, name, "scheduler", taken=GIVEN)
    try:
        schedule = row(optimizer, steps=steps, warmup=warmup, mode=mode, **arguments)
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise UserError(f"scheduler {name!r}: {reason_of(error)}") from error
    if not isinstance(schedule, LRScheduler):
        raise UserError(f"scheduler {name!r} makes a {type(schedule).__name__}, no LRScheduler")
    if isinstance(schedule, ReduceLROnPlateau):
        return {
            "scheduler": schedule,
            "interval": "epoch",
            "monitor": monitor,
            "frequency": val_every,
        }
    return {"scheduler": schedule, "interval": "step"}


def _check_row(row: Callable[..., LRScheduler], name: str) -> None:
    """Makes sure that what an import path names takes what a row of SCHEDULERS does."""
    taken = parameters_of(row, name, "scheduler").values()
    lacking = {"steps", "warmup", "mode"} - {p.name for p in taken}
    if lacking and not any(p.kind is p.VAR_KEYWORD for p in taken):
        raise UserError(
            f"scheduler {name!r}: by import path it takes (optimizer, *, steps, warmup, mode): "
            "make torch's a row in a recipe's .py, "
            'SCHEDULERS["mine"] = lambda optimizer, **_: StepLR(optimizer, 30)'
        )
