"""Counts of one image for many choices at once: histograms and sorted parts instead of loops."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from measures.overlaps import Overlaps, overlap_objects
from postprocessing.rules import Rule, apply_rule, fill_holes, label_levels

THRESHOLDS = tuple(round(0.05 + 0.025 * at, 3) for at in range(37))
# Of the second head; the first is no gate.
GATES = (0.0, *THRESHOLDS)
# Finding objects costs a labelling a threshold: a coarser grid.
OBJECT_THRESHOLDS = tuple(round(0.3 + 0.05 * at, 3) for at in range(13))
# A flood costs three times a labelling.
SPLIT_THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8)
SEED_THRESHOLDS = (0.35, 0.5, 0.65, 0.8, 0.9)


def area_grid(areas: np.ndarray) -> list[int]:
    """Areas to try, in pixels: 0, then from 4 in steps of a factor 1.41 to the median area."""
    filled = areas[areas > 0]
    top = float(np.median(filled)) if len(filled) else 0
    steps = 4 * 2 ** (np.arange(64) / 2)
    return [0, *(round(area) for area in steps[steps <= top].tolist())]


def sweep_thresholds(
    levels: np.ndarray, truth: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    """int64 (T, 2): pixels above each threshold, and those of them that are truly foreground.

    Args:
        levels: uint8 (H, W), 0...255.
        truth: uint8 (H, W) of {0, 1}.
        thresholds: 0-1.
    """
    return counts_above(level_counts(levels, truth), thresholds)


def level_counts(levels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """int64 (256, 2): pixels at each level, and those of them that are truly foreground.

    Args:
        levels: uint8 (H, W).
        truth: uint8 (H, W) of {0, 1}.
    """
    every = cv2.calcHist([levels], [0], None, [256], [0, 256]).ravel()
    true = cv2.calcHist([levels], [0], truth, [256], [0, 256]).ravel()
    # calcHist counts in float32, exact up to 2^24 pixels a level.
    return np.stack([every, true], 1).astype(np.int64)


def counts_above(counts: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """int64 (T, 2): `level_counts` summed over the levels above each threshold."""
    above = np.vstack([counts[::-1].cumsum(0)[::-1], np.zeros((1, 2), np.int64)])
    return above[[int(255 * threshold) + 1 for threshold in thresholds]]


def sweep_parts(
    levels: np.ndarray, truth: np.ndarray, rule: Rule, areas: Sequence[int]
) -> np.ndarray:
    """int64 (A, 2, 2, 2): pixels, and true ones, for each minimum area, filled, largest only.

    Args:
        levels: uint8 (H, W), 0...255.
        truth: uint8 (H, W) of {0, 1}.
        rule: its threshold and gate; parts are what is swept.
        areas: ascending, in pixels.
    """
    plain = apply_rule(levels, Rule(rule.threshold, rule.high, rule.gate_area))
    counts = np.zeros((len(areas), 2, 2, 2), np.int64)
    if not plain.any():
        return counts
    for filled, mask in enumerate((plain, fill_holes(plain))):
        if filled and np.array_equal(mask, plain):
            counts[:, 1] = counts[:, 0]
            break
        _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        size = stats[1:, cv2.CC_STAT_AREA].astype(np.int64)
        hits = np.bincount(labels[truth > 0], minlength=len(size) + 1)[1:]
        first = int(size.argmax())
        for at, area in enumerate(areas):
            keep = size >= area
            counts[at, filled, 0] = size[keep].sum(), hits[keep].sum()
            if keep[first]:
                counts[at, filled, 1] = size[first], hits[first]
    return counts


def object_values(
    levels: np.ndarray,
    truth: np.ndarray,
    rule: Rule,
    areas: Sequence[int],
    values: Callable[[Overlaps], Sequence[float]],
) -> np.ndarray:
    """float (A, 2, V): values of the objects for each minimum area, plain and with holes filled.

    Args:
        levels: uint8 (1, H, W), or (2, H, W) with a border, 0...255.
        truth: int32 (H, W) labels of the true objects.
        rule: its threshold and, with `split`, its seeds.
        areas: ascending, in pixels.
        values: of the overlaps of an image's objects.
    """
    plain = apply_rule(levels[0], Rule(rule.threshold))
    sides: list[list[Sequence[float]]] = []
    for filled in (False, True):
        if filled and np.array_equal(fill_holes(plain), plain):
            sides.append(sides[0])
            break
        labels = label_levels(levels, replace(rule, min_area=0, fill_holes=filled))
        objects = overlap_objects(labels, truth)
        sides.append([values(objects.keep(objects.pred_area >= area)) for area in areas])
    return np.stack([np.array(side, float) for side in sides], 1)
