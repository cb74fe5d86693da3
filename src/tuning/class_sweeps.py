"""What is kept of a multiclass image to try many weights and smallest parts of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from imaging.mask_files import IGNORE
from measures.pixels import count
from postprocessing.rules import Rules, next_likeliest, weigh

# Steps of a factor 1.19; two classes may be weighed 16 to 1 against each other.
WEIGHTS = tuple(round(2 ** (at / 4), 3) for at in range(-8, 9))
PLAIN = len(WEIGHTS) // 2
SPAN = WEIGHTS[-1] / WEIGHTS[0]


@dataclass(frozen=True)
class Contested:
    """One image: counts of the pixels no weights can change, and a sample of the others.

    Attributes:
        settled: int64 (K, 3) true positive, false positive and false negative pixels.
        levels: uint8 (K, P) of the sampled pixels.
        truth: int64 (P,) ids.
        scale: pixels that each sampled one stands for.
        areas: int64 (K,) true pixels of each class.
    """

    settled: torch.Tensor
    levels: np.ndarray
    truth: np.ndarray
    scale: float
    areas: np.ndarray


def contest(levels: np.ndarray, truth: np.ndarray, *, limit: int, seed: int) -> Contested:
    """The statistics of one image that weights of its classes are chosen by.

    Args:
        levels: uint8 (K, H, W), 0...255.
        truth: uint8 (H, W) ids, 255 ignored.
        limit: pixels to keep at most.
        seed: of the sample.
    """
    classes = len(levels)
    ids = levels.argmax(0)
    top = np.take_along_axis(levels, ids[None], 0)[0]
    others = levels.copy()
    np.put_along_axis(others, ids[None], 0, 0)
    known = truth != IGNORE
    is_open = known & (others.max(0) * SPAN >= top)
    rest = torch.from_numpy(np.where(is_open, IGNORE, truth))
    settled = count(torch.from_numpy(ids)[None], rest[None], task="multiclass", classes=classes)
    places = np.flatnonzero(is_open)
    kept = places
    if len(places) > limit:
        kept = np.sort(np.random.default_rng(seed).choice(places, limit, replace=False))
    return Contested(
        settled[0],
        levels.reshape(classes, -1)[:, kept],
        truth.ravel()[kept].astype(np.int64),
        len(places) / max(len(kept), 1),
        np.bincount(truth[known], minlength=classes),
    )


def part_moves(
    rules: Rules, probs: torch.Tensor, truth: np.ndarray, grids: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, np.ndarray]:
    """Counts of an image, and what falls to another class as the smallest part grows.

    Args:
        rules: their weights decide; parts are what is swept.
        probs: (K, H, W), 0-1.
        truth: uint8 (H, W) ids, 255 ignored.
        grids: for each class smallest parts to try, ascending, in pixels.

    Returns:
        int64 (K, 3) true positive, false positive, false negative pixels without any change, and
        int64 (M, 5) moves: class, first place in its grid where they move, true class, class they
        fall to, number of pixels.
    """
    weighted = weigh(rules.each, probs)
    winners = weighted.max(0).indices
    target = torch.from_numpy(truth)
    counts = count(winners[None], target[None], task="multiclass", classes=len(probs))[0]
    ids = winners.to(torch.uint8).numpy()
    moves = [np.zeros((0, 5), np.int64)]
    for k, areas in enumerate(grids):
        mine = ids == k
        if not mine.any():
            continue
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mine.view(np.uint8), connectivity=8)
        sizes = stats[:, cv2.CC_STAT_AREA]
        first = np.searchsorted(areas, sizes, side="right")
        first[0] = len(areas)
        where = (first[labels] < len(areas)) & (truth != IGNORE)
        if where.any():
            columns = (first[labels[where]], truth[where], next_likeliest(weighted, where))
            rows, pixels = np.unique(np.stack(columns, 1), axis=0, return_counts=True)
            moves.append(np.column_stack([np.full(len(rows), k), rows, pixels]).astype(np.int64))
    return counts, np.concatenate(moves)
