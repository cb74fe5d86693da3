"""The average of weights that is validated, kept and predicted with."""

from typing import Any

from pytorch_lightning.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from training.batch_norm import FreshStatistics

# Share of the steps after which SWA=true begins.
LAST_QUARTER = 0.75


def build_average(decay: float) -> Any:
    """The moving average of weights, for torch's AveragedModel.

    It starts short and grows to `decay`: the first weights of a run of few steps are noise that a
    long memory would keep.
    """

    def average(averaged: Any, current: Any, count: Any) -> None:
        steps = int(count)
        get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))(averaged, current, count)

    return average


class EvenAverage(WeightAveraging):
    """The mean of the weights after each step from a share of the training on; before, the last.

    A rate that falls to 0 leaves nothing to average: SCHEDULER=cosine:floor=0.1 keeps the weights
    on the move.

    Source: Izmailov et al. 2018.

    Args:
        start: share of all steps, 0-1.
        half: whether the weights are of half precision, their mean is not.
    """

    def __init__(self, start: float, *, half: bool = False):
        super().__init__(**_way(self._average, half))
        self.start, self.first = start, -1

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Only now the number of steps is known; a longer training averages from later on."""
        goal = round(self.start * trainer.estimated_stepping_batches)
        if self.first < 0 or goal > trainer.global_step:
            self.first = goal

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """A budget moves the end, and with it where the mean begins, as long as it has not."""
        if trainer.global_step <= self.first:
            goal = round(self.start * trainer.estimated_stepping_batches)
            self.first = max(trainer.global_step, goal)

    def state_dict(self) -> dict[str, Any]:
        """With the step that the mean begins after."""
        return {**super().state_dict(), "first": self.first}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.first = state_dict.get("first", -1)

    def averages(self, step: int) -> bool:
        """Whether the mean is of several networks after a step, whose statistics fit none."""
        return step > self.first + 1

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        seen = max(0, int(count) - self.first)
        get_ema_multi_avg_fn(seen / (seen + 1))(averaged, current, count)


def build_averaging(ema_decay: float, swa: float, *, half: bool = False) -> list[Callback]:
    """The callback that averages weights, if any, and the one of BatchNorm's statistics.

    Args:
        ema_decay: share kept by the moving average at each step; 0 = none.
        swa: share of the training after which all weights count alike, instead; 0 = none.
        half: whether the weights are of half precision; a hundredth of them would be rounded off.
    """
    if swa:
        even = EvenAverage(LAST_QUARTER if swa is True else swa, half=half)
        return [even, FreshStatistics(even.averages)]
    moving = [WeightAveraging(**_way(build_average(ema_decay), half))] if ema_decay else []
    return [*moving, FreshStatistics()]


def _way(average: Any, half: bool) -> dict[str, Any]:
    """How AveragedModel calls it: with all tensors at once, if they are of one type."""

    def one(averaged: Any, current: Any, count: Any) -> Any:
        mean = averaged.clone()
        average([mean], [current.to(mean.dtype)], count)
        return mean

    return {"avg_fn": one} if half else {"multi_avg_fn": average}
