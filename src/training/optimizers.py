"""OPTIMIZERS: a name to an optimiser of parameter groups, each with a rate of its own."""

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from core.errors import pick

# Each row is called with (groups, lr=, weight_decay=), and fused= where it has such an argument.
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "adamw": torch.optim.AdamW,
    # Weight decay is a part of its gradient: 1e-2 as for adamw is much.
    "adam": torch.optim.Adam,
    # Wants a rate ten to a hundred times that of adamw.
    "sgd": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
}


def build_optimizer(
    name: str, groups: Sequence[dict[str, Any]], *, lr: float, weight_decay: float, fused: bool
) -> Optimizer:
    """The optimiser of a row of OPTIMIZERS.

    Args:
        name: the row.
        groups: parameters and rates.
        lr: of groups without a rate.
        weight_decay: of all groups.
        fused: one kernel for the whole step, where the optimiser has it.

    Raises:
        UserError: an unknown name.
    """
    row = pick(OPTIMIZERS, name, "optimiser")
    more = {"fused": fused} if "fused" in inspect.signature(row).parameters else {}
    return row(groups, lr=lr, weight_decay=weight_decay, **more)
