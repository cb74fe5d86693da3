"""Numbered ids in sequence, such as slices and frames: who is next to whom, and folds of blocks."""

import re
import statistics
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from competition.splits import need_enough

# The last number of an id.
NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)
# A sequence has so many ids, and so large a share of its steps is one and the same.
LEAST, REGULAR = 8, 0.8


def _place(name: str) -> tuple[str, str, int]:
    """(what stands before the last number, what stands after it, the number); -1: there is none."""
    match = NUMBERED.fullmatch(name)
    return (match[1], match[3], int(match[2])) if match else (name, "", -1)


def neighbours(names: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index pairs of ids that follow each other in a sequence: slice_03 and slice_04."""
    rows: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for at, name in enumerate(names):
        before, after, number = _place(name)
        if number >= 0:
            rows.setdefault((before, after), []).append((number, at))
    for row in rows.values():
        row.sort()
        steps = [b - a for (a, _), (b, _) in pairwise(row)]  # numbers may be of any length
        typical = statistics.median_low(steps) if steps else 0
        if len(row) >= LEAST and steps.count(typical) >= REGULAR * len(steps):
            yield from ((i, j) for (a, i), (b, j) in pairwise(row) if b - a == typical)


def split_blocks(names: Sequence[str], n_folds: int) -> np.ndarray:
    """Fold of each image, int64 (N,): blocks of ids that follow each other, of equal size."""
    need_enough(len(names), n_folds, "image")
    order = sorted(range(len(names)), key=lambda at: _place(names[at]))
    folds = np.empty(len(names), np.int64)
    for fold, block in enumerate(np.array_split(np.array(order), n_folds)):
        folds[block] = fold
    return folds
