"""Is a difference more than the luck of these images? A jackknife over groups says."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

# Groups that all gain by chance less often than in 2.5 %: 1 / 2 ** 6.
SIGNS = 6
# Of a gain: below it the spread of groups is rounding.
TINY = 1e-9


@dataclass(frozen=True)
class Gain:
    """A difference of two scores and the interval that it would lie in with other images.

    Attributes:
        gain: score of the second minus score of the first.
        low, high: 95 % interval; infinite with a single group, or a few that gain the same.
        groups: of images that the interval rests on; without one, those that the gain is of.
    """

    gain: float
    low: float
    high: float
    groups: int = 0

    @property
    def real(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    def __str__(self) -> str:
        if math.isinf(self.low):
            few = "one group of images" if self.groups < 2 else f"{self.groups} groups, all alike"
            return f"{self.gain:+.4f} ({few}: not enough groups to tell)"
        return f"{self.gain:+.4f} (95 % {self.low:+.4f} to {self.high:+.4f})"


def paired_gain(
    before: Tensor,
    after: Tensor,
    score: Callable[[Tensor], Tensor],
    *,
    groups: np.ndarray | None = None,
) -> Gain:
    """The gain of `after` over `before` on the same images, with its interval.

    The interval is Student's t around the gain, with the spread of the gains without one group
    (the delete-one-group jackknife). With few groups a bootstrap's interval is too narrow: of
    gains that are nothing it calls a quarter real at two groups, a tenth at five. The t interval
    keeps its 2.5 % at any number of them, exactly so for a mean over groups of one size. Groups of
    unequal sizes, in images or in what is pooled (pixels, objects), count as the number of equal
    ones that would tell as much. A few groups that gain exactly the same tell nothing, however many
    others stay as they are; nor does a gain where one group has all that is scored. Where a rare
    group loses far more than others gain, any interval of few groups is too hopeful, this one less:
    of null differences 1 - x, x exponential, it calls 8 % real at 2 groups, 12 at 3 and 5, 10 at
    10, 8 at 20; of x - 1, 1 % at most.

    Args:
        before: (N, V) values of images that add up (see `Objective`).
        after: likewise, row by row of the same images.
        score: sums (..., V) to scores (...).
        groups: (N,) labels; images of one group (views of one car) go together, as they are no
            independent evidence. None: each image by itself.

    Source: Tukey 1958; Bell and McCaffrey 2002 for the degrees of freedom, here Kish's effective
    number of groups less one.
    """
    numbers = (
        np.arange(len(before)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    sizes = np.bincount(numbers)
    both = torch.zeros(len(sizes), 2, before.shape[1], dtype=torch.double)
    pairs = torch.stack([before, after], 1).double()
    both.index_add_(0, torch.from_numpy(numbers), pairs)
    first, second = score(both.sum(0))
    gain, count = float(second - first), len(sizes)
    if count < 2:
        return Gain(gain, -math.inf, math.inf, count)
    without = both.sum(0) - both
    first, second = score(without).unbind(1)
    if math.isfinite(gain) and (second - first).isnan().any():  # one group has all that is scored
        return Gain(gain, -math.inf, math.inf, 1)
    off = second - first - gain
    error = math.sqrt((count - 1) / count * float((off**2).sum()))
    coins = int((both[:, 0] != both[:, 1]).any(1).sum())
    if error < TINY * abs(gain) and coins < SIGNS:  # as coins fall alike
        return Gain(gain, -math.inf, math.inf, coins)
    # Pooled pixels and objects weigh as many as there are, not as images.
    effective = min(_effective(sizes), _effective(both[:, 0].amax(1).numpy()))
    reach = float(stats.t.ppf(0.975, max(effective - 1, 0.5))) * error
    return Gain(gain, gain - reach, gain + reach, count)


def _effective(weights: np.ndarray) -> float:
    """Kish's number of equal groups that tell as much as groups of these weights."""
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total else 1.0
