"""Which two submissions to leave in: the best, and one that fails elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from scoring.gains import Gain, paired_gain
from scoring.objective import WholeScore


@dataclass(frozen=True)
class Candidate:
    """A run that could be the second final submission.

    Attributes:
        name: of the run.
        score: out of fold.
        behind: its difference to the best run, below zero where it is worse.
        alike: correlation, -1 to 1, of its images' scores with the best run's.
    """

    name: str
    score: float
    behind: Gain
    alike: float

    @property
    def equal(self) -> bool:
        """Whether the best run is not better beyond noise."""
        return self.behind.high >= 0

    def __str__(self) -> str:
        word = "equal within noise" if self.equal else "worse beyond noise"
        return (
            f"{self.name} {self.score:.4f}, {self.behind} against the best: {word}; its image "
            f"scores correlate {self.alike:.2f} with the best's"
        )


def advise(
    values: Mapping[str, Tensor], whole: WholeScore, groups: np.ndarray
) -> tuple[str, list[Candidate]]:
    """The best run, and the others as second, the advised one first.

    Those that are equal within noise come first, least alike to the best before others; those that
    are worse follow by their score: a run that fails everywhere is unlike the best, too.

    Args:
        values: (N, V) of the same images, by run.
        whole: the metric.
        groups: (N,) of images that are no independent evidence.
    """
    scores = {name: float(whole.score(one.sum(0))) for name, one in values.items()}
    best = max(scores, key=lambda name: scores[name])
    others = [
        Candidate(
            name,
            scores[name],
            paired_gain(values[best], one, whole.score, groups=groups),
            _correlation(whole.score(values[best]), whole.score(one)),
        )
        for name, one in values.items()
        if name != best
    ]
    return best, sorted(
        others, key=lambda one: (not one.equal, one.alike if one.equal else -one.score)
    )


def _correlation(first: Tensor, second: Tensor) -> float:
    pairs = np.stack([first.numpy(), second.numpy()])
    pairs = pairs[:, ~np.isnan(pairs).any(0)]
    if pairs.shape[1] < 2 or (pairs.std(1) == 0).any():
        return 1.0
    return float(np.corrcoef(pairs)[0, 1])
