"""Scores of volumes: two masks (D, H, W) of one class, of which one has voxels."""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, label
from skimage.measure import marching_cubes, mesh_surface_area
from torch import Tensor

from measures.shapes import ShapeMetric

Volume = NDArray[np.bool_]


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


def surface_dice_3d(
    mask: Volume, truth: Volume, *, tolerance: float, spacing: Sequence[float] = (1, 1, 1)
) -> float:
    """Share of both surfaces' area that is within a tolerance of the other surface, 0-1.

    A surface runs between the centres of eight voxels; its elements lie there, with the areas of
    `surface_table`. 0 where one mask is empty.

    Args:
        mask: (D, H, W).
        truth: likewise.
        tolerance: in the unit of `spacing`; a distance equal to it is within.
        spacing: a voxel's depth, height and width.

    Source: Nikolov et al. 2018; https://github.com/google-deepmind/surface-distance
    """
    if not mask.any() or not truth.any():
        return 0.0
    box, areas = _box_around(mask | truth), surface_table(tuple(spacing))
    found, real = (_surface_areas(one[box], areas) for one in (mask, truth))
    near = found[distance_transform_edt(real == 0, sampling=spacing) <= tolerance].sum()
    near += real[distance_transform_edt(found == 0, sampling=spacing) <= tolerance].sum()
    return float(near / (found.sum() + real.sum()))


@functools.lru_cache
def surface_table(spacing: tuple[float, ...] = (1, 1, 1)) -> NDArray[np.float64]:
    """(256,) area within a cell, by which of its eight voxels are in the mask: 1, 2, 4 ... 128.

    Voxels joined by edges of the cell have a piece of surface of their own; the outside of more
    than four is what counts there.
    """
    areas = np.zeros(256)
    for code in range(1, 255):
        bits = code if code.bit_count() <= 4 else 255 - code
        parts, count = label((bits >> np.arange(8) & 1).reshape(2, 2, 2))
        for part in range(1, count + 1):
            piece = (parts == part).astype(float)
            points, triangles, *_ = marching_cubes(piece, 0.5, spacing=spacing, method="lorensen")
            areas[code] += mesh_surface_area(points, triangles)
    return areas


def _surface_areas(mask: Volume, areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """(D + 1, H + 1, W + 1) area between each eight neighbours."""
    padded = np.pad(mask, 1).astype(np.int64)
    ends = [(slice(None, -1), slice(1, None))] * 3
    corners = itertools.product(*ends)
    return areas[sum(padded[corner] << bit for bit, corner in enumerate(corners))]


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
        pairs = zip(found, real, strict=True)
        scores = torch.tensor([self._score(*pair) for pair in pairs], dtype=torch.double)
        values = torch.zeros(len(mask), 2, dtype=torch.double)
        values[0, 0], values[0, 1] = scores.nansum(), (~scores.isnan()).sum()
        return values
