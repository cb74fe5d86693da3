"""Weights of many runs: the run that helps the mean most is added, again and again."""

import math
from collections.abc import Sequence

import numpy as np

from imaging.images import image_size
from postprocessing.rules import Rule
from scoring.nested import TINY, sum_blocks
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import oof_values

# Levels of all runs together that are kept in memory while climbing.
BUDGET = 64_000_000
# Runs in a bag at most; weights are shares of it.
STEPS = 12


class ThinImages(OofImages):
    """Every `stride`-th row and column of stored predictions, kept in memory.

    Args:
        images: the whole ones.
        stride: in pixels.
    """

    def __init__(self, images: OofImages, stride: int):
        super().__init__(
            images.folder,
            images.rows,
            masks=images.masks,
            root=images.root,
            task=images.task,
            classes=images.classes,
            border=images.border,
        )
        self.stride = stride
        self._kept = images.each(self._read)

    def _read(self, at: int) -> tuple[np.ndarray, np.ndarray]:
        levels = super().levels(at)
        truth = super().truth(at, levels.shape[1:])
        step = self.stride
        return levels[:, ::step, ::step].copy(), truth[..., ::step, ::step].copy()

    def levels(self, at: int) -> np.ndarray:
        return self._kept[at][0]

    def truth(self, at: int, size: tuple[int, int]) -> np.ndarray:
        return self._kept[at][1]


def thin(runs: Sequence[OofImages], budget: int = BUDGET) -> list[OofImages]:
    """The runs with as many of all images' pixels as the budget of levels allows."""
    # Planes are stored below each other: the size of the picture is that of the levels.
    stored = (runs[0].folder / f"{row['img']}.png" for row in runs[0].rows)
    sizes = sum(math.prod(image_size(path)) for path in stored)
    stride = max(1, math.ceil(math.sqrt(sizes * len(runs) / budget)))
    return [ThinImages(run, stride) for run in runs]


def climb_bags(
    runs: Sequence[OofImages],
    rules: Sequence[Rule],
    whole: WholeScore,
    blocks: np.ndarray,
    *,
    kind: str = "probs",
) -> list[tuple[float, ...]]:
    """Weights for all blocks, then for each block those of the others; one block: the first only.

    A bag begins with the best run alone; runs are added with replacement, the best bag on the way
    is taken.

    Args:
        runs: the same images of each run.
        rules: of the decision, one a class.
        whole: the metric.
        blocks: (N,) as `fold_blocks`.
        kind: of the mean, see `mean_probs`.

    Source: Caruana et al. 2004, Ensemble Selection from Libraries of Models.
    """
    # Objects and outlines cannot be found in every second pixel.
    shown = thin(runs) if whole.kind in ("image", "dataset") else list(runs)
    count = int(blocks.max()) + 1
    climbers = 1 + count if count > 1 else 1
    bags = [(0,) * len(runs)] * climbers
    best: list[tuple[float, tuple[int, ...]]] = [(-math.inf, bag) for bag in bags]
    for _ in range(STEPS):
        longer = {bag: [_add(bag, run) for run in range(len(runs))] for bag in bags}
        tried = list(dict.fromkeys(bag for options in longer.values() for bag in options))
        values = oof_values(shown, rules, whole, weights=[_shares(bag) for bag in tried], kind=kind)
        sums = sum_blocks(values, blocks)
        for at, bag in enumerate(bags):
            among = sums.sum(0) - (sums[at - 1] if at else 0)
            scores = dict(zip(tried, whole.score(among).tolist(), strict=True))
            bags[at] = max(longer[bag], key=lambda one: scores[one])
            if scores[bags[at]] > best[at][0] + TINY:
                best[at] = scores[bags[at]], bags[at]
    return [_shares(bag) for _, bag in best]


def _add(bag: tuple[int, ...], run: int) -> tuple[int, ...]:
    return (*bag[:run], bag[run] + 1, *bag[run + 1 :])


def _shares(bag: tuple[int, ...]) -> tuple[float, ...]:
    return tuple(times / sum(bag) for times in bag)
