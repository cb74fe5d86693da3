"""Soft labels as bytes: 0 to 254 of 254 that a pixel is foreground, 255 where it is ignored."""

import math
from typing import Any

import numpy as np

from imaging.mask_files import IGNORE

SURE = 254
# Foreground is what is likelier than not.
HALF = SURE // 2


def cut_of(threshold: int | None) -> int:
    """The highest level of background: of one half, or below a grey level of 0 to 255."""
    return HALF if threshold is None else math.ceil(threshold * SURE / 255) - 1


def is_foreground(shares: np.ndarray, threshold: int | None) -> np.ndarray:
    """bool: more than one half of 0 to 1, or as much as a grey level of 0 to 255 is."""
    return shares > 0.5 if threshold is None else shares * 255 >= threshold


def levels_of(shares: np.ndarray, threshold: int | None) -> np.ndarray:
    """uint8 levels of shares 0 to 1, 255 where they are nan; rounding moves none over the cut."""
    cut, known = cut_of(threshold), np.nan_to_num(shares)
    levels = np.rint(known * SURE)
    inside = is_foreground(known, threshold)
    levels = np.where(inside, np.maximum(levels, cut + 1), np.minimum(levels, cut))
    return np.where(np.isnan(shares), IGNORE, levels).astype(np.uint8)


def truth_of(levels: np.ndarray, cut: int) -> np.ndarray:
    """uint8 of {0, 1}, and 255 where ignored."""
    return np.where(levels == IGNORE, np.uint8(IGNORE), (levels.astype(int) > cut).view(np.uint8))


def target_of(levels: Any) -> Any:
    """float32 tensor of shares 0 to 1, 255 where ignored, of one of levels."""
    return (levels.float() / SURE).masked_fill(levels == IGNORE, float(IGNORE))
