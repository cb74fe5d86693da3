"""Choosing by folds: a plateau on some folds, judged on the fold that had no say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.ndimage import minimum_filter, uniform_filter
from torch import Tensor

BLOCKS, RUNS = 5, 10
# Below this a difference between two cells of a grid is rounding, not a better score.
TINY = 1e-9


@dataclass(frozen=True)
class Plateau:
    """A cell of a grid of scores.

    Attributes:
        cell: its index on each axis.
        score: its own score.
        flatness: how much is lost at worst one step away on any numeric axis; small is safe.
    """

    cell: tuple[int, ...]
    score: float
    flatness: float


def choose_plateau(scores: np.ndarray, switches: int = 0) -> Plateau:
    """The middle of the best plateau of a grid of scores, not its highest needle.

    Scores are averaged with their neighbours first; of equal cells the one nearest to the middle
    of all equal ones is taken.

    Args:
        scores: an axis a parameter; the last `switches` axes are on/off and have no neighbours;
            nan, where nothing is there to score, counts as 0.
        switches: number of such axes.
    """
    scores = np.nan_to_num(scores)
    widths = [3] * (scores.ndim - switches) + [1] * switches
    smooth = uniform_filter(scores, widths, mode="nearest")
    equal = np.argwhere(smooth >= smooth.max() - TINY)
    # Off comes before on: a switch that changes nothing stays off.
    settings = equal[:, scores.ndim - switches :]
    first = min(settings.tolist())
    equal = equal[(settings == first).all(1)]
    middle = np.abs(equal - np.median(equal, axis=0)).sum(1).argmin()
    cell = tuple(int(at) for at in equal[middle])
    worst = minimum_filter(scores, widths, mode="nearest")[cell]
    return Plateau(cell, float(scores[cell]), float(scores[cell] - worst))


def groups_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The group of each row; an image without one is its own.

    Where all images are of one group (one video) there would be nothing to judge by: RUNS runs of
    neighbours by name stand for groups. That is weaker, as the ends of runs are alike.
    """
    groups = [str(row.get("group") or row["img"]) for row in rows]
    if len(set(groups)) > 1:
        return groups
    rank = np.argsort(np.argsort([row["img"] for row in rows], kind="stable"))
    runs = rank * min(RUNS, len(rows)) // len(rows)
    return [f"{group} {run}" for group, run in zip(groups, runs.tolist(), strict=True)]


def fold_blocks(folds: Sequence[int], groups: Sequence[str]) -> np.ndarray:
    """(N,) block numbers 0…n-1: the folds, or blocks of whole groups where there is one fold."""
    known, blocks = np.unique(np.asarray(folds), return_inverse=True)
    if len(known) > 1:
        return blocks
    names, number = np.unique(np.asarray(groups), return_inverse=True)
    order = np.random.default_rng(0).permutation(len(names))
    return order[number] % min(BLOCKS, len(names))


def sum_blocks(values: Tensor, blocks: np.ndarray) -> Tensor:
    """(B, ...) sums of values (N, ...) over the images of each block."""
    sums = torch.zeros(int(blocks.max()) + 1, *values.shape[1:], dtype=torch.double)
    return sums.index_add_(0, torch.from_numpy(blocks), values.double())


def choose_nested(
    sums: Tensor, score: Callable[[Tensor], Tensor], switches: int = 0
) -> tuple[Plateau, list[Plateau]]:
    """The plateau of all blocks, and for each block that of the others.

    Args:
        sums: (B, *grid, V), of `sum_blocks`.
        score: sums (..., V) to scores (...).
        switches: see `choose_plateau`.
    """
    total = sums.sum(0)
    everywhere = choose_plateau(score(total).numpy(), switches)
    without = [choose_plateau(score(total - mine).numpy(), switches) for mine in sums]
    return everywhere, without if len(sums) > 1 else [everywhere]
