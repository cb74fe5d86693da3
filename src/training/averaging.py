"""The moving average of weights that is validated, kept and predicted with."""

from typing import Any


def build_average(decay: float) -> Any:
    """The moving average of weights, for torch's AveragedModel.

    It starts short and grows to `decay`: the first weights of a run of few steps are noise that a
    long memory would keep.
    """
    from torch.optim.swa_utils import get_ema_multi_avg_fn

    def average(averaged: Any, current: Any, count: Any) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averaged, current, count)

    return average
