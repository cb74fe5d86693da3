"""What a palette picture means: its colours, unless its indices are known to be ids."""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

# Indices (H, W) and colours (256, 3) of a palette picture to (H, W) or (H, W, 3).
PaletteReader = Callable[[np.ndarray, np.ndarray], np.ndarray]


def palette_reader(values: Mapping[Any, int] | None) -> PaletteReader:
    """How to read palettes for MASK_VALUES: numbers mean indices, colours mean colours."""
    if any(isinstance(value, (tuple, list)) for value in values or {}):
        return _read_colours
    return _read_indices if values else read_palette


def read_palette(indices: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Grey values of a grey palette, indices of Pascal VOC's palette, else colours.

    Whoever writes a palette numbers its colours in any order: PIL's black-and-white GIF has white
    first, and one of white only has nothing but index 0.
    """
    used = _used(indices)
    if not _is_grey(colours[used]) and np.array_equal(colours[used], voc_colours()[used]):
        return indices
    return _grey_or(indices, colours, _read_colours)


def voc_colours() -> np.ndarray:
    """Pascal VOC's palette, (256, 3) uint8: an index's lowest bits are its colours' highest.

    Source: VOCdevkit, VOClabelcolormap.m.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for bit in range(8):
        colours[:, bit % 3] |= (ids >> bit & 1) << (7 - bit // 3)
    return colours.astype(np.uint8)


def _read_colours(indices: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return colours[indices]


def _read_indices(indices: np.ndarray, colours: np.ndarray) -> np.ndarray:
    return _grey_or(indices, colours, lambda ids, _: ids)


def _grey_or(indices: np.ndarray, colours: np.ndarray, otherwise: PaletteReader) -> np.ndarray:
    if _is_grey(colours[_used(indices)]):
        return cv2.LUT(indices, np.ascontiguousarray(colours[:, 0]))
    return otherwise(indices, colours)


def _used(indices: np.ndarray) -> np.ndarray:
    """The indices uint8 that there are; np.unique takes ten times as long."""
    return np.flatnonzero(cv2.calcHist([indices], [0], None, [256], [0, 256]))


def _is_grey(colours: np.ndarray) -> bool:
    return bool((colours == colours[:, :1]).all())
