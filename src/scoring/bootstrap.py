"""Is a difference more than the luck of these images? A paired bootstrap says."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROUNDS = 2000
CHUNK = 100


@dataclass(frozen=True)
class Gain:
    """A difference of two scores and the interval that it would lie in with other images.

    Attributes:
        gain: score of the second minus score of the first.
        low, high: 95 % interval.
    """

    gain: float
    low: float
    high: float

    @property
    def real(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    def __str__(self) -> str:
        return f"{self.gain:+.4f} (95 % {self.low:+.4f} to {self.high:+.4f})"


def paired_gain(
    before: Tensor,
    after: Tensor,
    score: Callable[[Tensor], Tensor],
    *,
    groups: np.ndarray | None = None,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> Gain:
    """The gain of `after` over `before`, with the interval of drawing the same images for both.

    Args:
        before: (N, V) values of images that add up (see `Objective`).
        after: likewise, row by row of the same images.
        score: sums (..., V) to scores (...).
        groups: (N,) labels; images of one group (views of one car) are drawn together, as they
            are no independent evidence. None: each image by itself.
        rounds: number of draws.
        seed: of the draws.
    """
    numbers = (
        np.arange(len(before)) if groups is None else np.unique(groups, return_inverse=True)[1]
    )
    index = torch.from_numpy(numbers)
    units = int(numbers.max()) + 1
    both = torch.zeros(units, 2, before.shape[1], dtype=torch.double)
    both.index_add_(0, index, torch.stack([before, after], 1).double())
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(0, rounds, CHUNK):
        weights = torch.from_numpy(rng.multinomial(units, [1 / units] * units, CHUNK)).double()
        first, second = score(torch.tensordot(weights, both, 1)).unbind(1)
        drawn.append(second - first)
    first, second = score(both.sum(0))
    low, high = np.quantile(torch.cat(drawn).numpy(), [0.025, 0.975])
    return Gain(float(second - first), float(low), float(high))
