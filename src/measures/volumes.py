"""Scores of volumes: two masks (D, H, W) of one class, of which one has voxels."""

import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from torch import Tensor

from measures.shapes import ShapeMetric

Volume = NDArray[np.bool_]
# Area of the surface through a cell of eight voxels, by how many of them are in the mask and joined
# by edges: triangles between the middles of the cell's edges.
ONE, TWO, THREE = 3**0.5 / 8, 0.5**0.5, 0.5 + 3 * 3**0.5 / 8
SQUARE, STAR, PATH = 1.0, 6 * ONE, 0.5**0.5 + 0.75**0.5


def volume_dice(mask: Volume, truth: Volume) -> float:
    """2 |A and B| / (|A| + |B|) of voxels, 0-1."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def hausdorff_score(mask: Volume, truth: Volume) -> float:
    """1 less the Hausdorff distance in a volume scaled to the unit cube, over its diagonal; 0-1.

    A voxel's coordinates are its indices over the volume's shape. 0 where one mask is empty.

    Source: https://www.kaggle.com/competitions/uw-madison-gi-tract-image-segmentation/overview/evaluation
    """
    if not mask.any() or not truth.any():
        return 0.0
    step = 1 / np.array(mask.shape)
    box = _box_around(mask | truth)
    mask, truth = mask[box], truth[box]
    there = distance_transform_edt(~truth, sampling=step)[mask].max()
    back = distance_transform_edt(~mask, sampling=step)[truth].max()
    return float(1 - max(there, back) / 3**0.5)


def surface_dice_3d(mask: Volume, truth: Volume, *, tolerance: float) -> float:
    """Share of both surfaces' area that is within a tolerance of the other surface, 0-1.

    A surface runs between the centres of eight voxels; its elements lie there, with the area of
    the published table for cubic voxels. 0 where one mask is empty.

    Args:
        mask: (D, H, W).
        truth: likewise.
        tolerance: in voxels; a distance equal to it is within.

    Source: Nikolov et al. 2018; https://github.com/google-deepmind/surface-distance
    """
    if not mask.any() or not truth.any():
        return 0.0
    box = _box_around(mask | truth)
    found, real = _surface_areas(mask[box]), _surface_areas(truth[box])
    near = found[distance_transform_edt(real == 0) <= tolerance].sum()
    near += real[distance_transform_edt(found == 0) <= tolerance].sum()
    return float(near / (found.sum() + real.sum()))


def surface_table() -> NDArray[np.float64]:
    """(256,) area within a cell, by which of its eight voxels are in the mask: 1, 2, 4 ... 128.

    Voxels joined by edges of the cell have a piece of surface of their own; the outside of more
    than four is what counts there.
    """
    areas = np.zeros(256)
    for code in range(1, 255):
        bits = code if code.bit_count() <= 4 else 255 - code
        cell = (bits >> np.arange(8) & 1).reshape(2, 2, 2)
        parts, count = label(cell)
        areas[code] = sum(_piece_area(parts == part) for part in range(1, count + 1))
    return areas


def _piece_area(piece: Volume) -> float:
    """Area around one to four joined corners of a cube."""
    size = int(piece.sum())
    if size < 4:
        return (ONE, TWO, THREE)[size - 1]
    joined = np.sum([piece & np.flip(piece, axis) for axis in range(3)], axis=0)
    if joined.sum() == 8:
        return SQUARE
    return STAR if joined.max() == 3 else PATH


AREAS = surface_table()


def _surface_areas(mask: Volume) -> NDArray[np.float64]:
    """(D + 1, H + 1, W + 1) area between each eight neighbours, in faces of a voxel."""
    padded = np.pad(mask, 1).astype(np.int64)
    ends = [(slice(None, -1), slice(1, None))] * 3
    corners = itertools.product(*ends)
    return AREAS[sum(padded[corner] << bit for bit, corner in enumerate(corners))]


def _box_around(mask: Volume) -> tuple[slice, ...]:
    """The smallest box with all of a mask that is not empty."""
    box = []
    for axis in range(mask.ndim):
        inside = np.flatnonzero(mask.any(tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


class VolumeMetric(ShapeMetric):
    """Mean over pairs of volume and class of a measure of two masks (D, H, W).

    A batch is all slices of one volume, in their order; `GatheredVolumes` makes such batches. The
    volume's values stand at its first slice, so that values of slices add up.

    Args: as ShapeMetric; pairs that are empty twice are left out.
    """

    def __init__(self, *args: Any, empty: float = torch.nan, **kwargs: Any) -> None:
        super().__init__(*args, empty=empty, **kwargs)

    def image_values(self, mask: Tensor, target: Tensor) -> Tensor:
        """(D, 2) float64 of one volume: the sum of its classes' scores and their number, then 0.

        Args:
            mask: (D, H, W) or (D, K, H, W) of `metrics.decide`.
            target: the truth, shaped likewise.
        """
        found, real = (self._planes(ids, target).swapaxes(0, 1) for ids in (mask, target))
        scores = torch.tensor([self._score(*pair) for pair in zip(found, real, strict=True)])
        values = torch.zeros(len(mask), 2, dtype=torch.double)
        values[0, 0], values[0, 1] = scores.nansum(), (~scores.isnan()).sum()
        return values
