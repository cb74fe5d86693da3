"""OPTIMIZERS: a name to an optimiser of parameter groups, each with a rate of its own.

Beside the rows any optimiser of torch.optim or timm goes by its name: radam, nadamw, lion, lamb...
Arguments stand in the name: `adamw:betas=0.9/0.98`, `sgd:momentum=0.85,nesterov=false`.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from core.arguments import check_arguments, parameters_of, read_name
from core.errors import UserError, nearest, reason_of
from core.imports import is_import_path, load_object
from core.recipes import load_recipe

# Arguments that come from knobs of their own.
KNOBS = ("params", "lr", "weight_decay", "fused")
# Of weights in float16, in which the usual 1e-8 is 0: steps would be divided by nothing.
HALF_EPS = 1e-4


def timm_optimizer(name: str) -> Callable[..., Optimizer]:
    """A row from timm's table of optimisers."""

    def build(groups: Any, *, lr: float, weight_decay: float, **options: Any) -> Optimizer:
        from timm.optim import create_optimizer_v2

        optimizer: Optimizer = create_optimizer_v2(groups, name, lr, weight_decay, **options)
        return optimizer

    return build


# Each row is called with (groups, lr=, weight_decay=), and fused= where it has such an argument.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    # Weight decay is a part of its gradient: 1e-2 as for adamw is much.
    "adam": torch.optim.Adam,
    # Wants a rate ten to a hundred times that of adamw.
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    # Steps of orthogonal matrices, AdamW for what is no matrix; wants ten times the rate of adamw.
    "muon": timm_optimizer("muon"),
}


def find_row(name: str) -> Callable[..., Optimizer]:
    """The row of that name, else torch's optimiser, else timm's.

    Raises:
        UserError: nobody knows it; names the nearest.
    """
    from timm.optim import list_optimizers

    load_recipe()
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    if is_import_path(name):
        row: Callable[..., Optimizer] = load_object(name, "optimiser")
        return row
    known: dict[str, Any] = {str(key): timm_optimizer(str(key)) for key in list_optimizers()}
    known |= {key.lower(): v for key, v in vars(torch.optim).items() if inspect.isclass(v)}
    if name.lower() not in known:
        raise UserError(
            f"unknown optimiser {name!r}.{nearest(name, [*OPTIMIZERS, *known])} Known: "
            f"{', '.join(OPTIMIZERS)}, and those of torch.optim and timm by their names"
        )
    return known[name.lower()]


def build_optimizer(
    name: str, groups: Sequence[dict[str, Any]], *, lr: float, weight_decay: float, fused: bool
) -> Optimizer:
    """The optimiser of a row of OPTIMIZERS, or of torch's or timm's by its name.

    Args:
        name: the row, with arguments of it.
        groups: parameters and rates.
        lr: of groups without a rate.
        weight_decay: of all groups that have none of their own.
        fused: one kernel for the whole step, where the optimiser has it.

    Raises:
        UserError: an unknown name, or arguments that it does not take.
    """
    short, arguments = read_name(name, "optimiser")
    row = find_row(short)
    accepted = parameters_of(row, name, "optimiser")
    open_ended = any(p.kind is p.VAR_KEYWORD for p in accepted.values())
    if not open_ended:
        check_arguments(row, arguments, name, "optimiser", taken=KNOBS)
    more: dict[str, float] = {"fused": fused} if "fused" in accepted else {}
    if open_ended or "weight_decay" in accepted:
        more["weight_decay"] = weight_decay
    if "eps" in accepted and any(p.dtype == torch.float16 for g in groups for p in g["params"]):
        arguments.setdefault("eps", HALF_EPS)
    try:
        return row(groups, lr=lr, **more, **arguments)
    except (TypeError, ValueError, ImportError, AssertionError) as error:
        raise UserError(f"optimiser {name!r}: {reason_of(error)}") from error


def check_optimizer(name: str) -> None:
    """Takes a step of a weight and a bias, to tell at once what an optimiser cannot.

    Raises:
        UserError: as `build_optimizer`, or it needs more than gradients.
    """
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((2, 2, 3, 3), (2,))]
    groups = [{"params": [weight], "lr": 0.1} for weight in weights]
    optimizer = build_optimizer(name, groups, lr=0.1, weight_decay=0.0, fused=False)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    try:
        optimizer.step()
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f"optimiser {name!r} needs more than gradients: {reason_of(error)}"
        ) from error
