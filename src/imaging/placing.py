"""Whether an image and its mask say that they lie in one place: NIfTI's affine, GeoTIFF's tags."""

import itertools
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.errors import UserError
from imaging.containers import nifti_header
from imaging.georeference import read_georeference
from imaging.sources import own_file
from streaming.files import open_file

# Pixels, or voxels, that two grids of one place may be apart: GeoTIFF has two words for a corner.
APART = 0.75


class Place(NamedTuple):
    """A grid in its space: (D, D + 1) from pixel indices, the last column is the origin."""

    affine: np.ndarray

    def corners(self, shape: tuple[int, ...]) -> np.ndarray:
        """(2^D, D) of a grid of so many pixels along each axis."""
        ends = np.array(list(itertools.product(*((0, side - 1) for side in shape))))
        return np.asarray(ends @ self.affine[:, :-1].T + self.affine[:, -1])


def distance_apart(image: Path, mask: Path) -> float:
    """Pixels between corners that should be one, the most; 0 where one file does not tell."""
    try:
        first, second = (_place_of(own_file(path)) for path in (image, mask))
    except (UserError, OSError, ValueError):  # told where they are read
        return 0.0
    if first is None or second is None or first[1] != second[1]:
        return 0.0
    place, shape = first
    step = np.linalg.norm(place.affine[:, :-1], axis=0).min()
    gap = np.abs(place.corners(shape) - second[0].corners(shape)).max()
    return float(gap / step) if step > 0 and np.isfinite(gap) else 0.0


def _place_of(path: Path) -> tuple[Place, tuple[int, ...]] | None:
    """A file's grid, and pixels along each axis; None where it does not say where it lies."""
    with open_file(path) as stream:
        try:
            header = nifti_header(stream, path.name)
        except (ValueError, OSError, EOFError):
            header = None
    if header is not None:
        if not header["sform_code"] and not header["qform_code"]:
            return None
        return Place(header.get_best_affine()[:3]), tuple(header.get_data_shape()[:3])
    told = read_georeference(path)
    if told is None:
        return None
    (left, top), (across, down) = told
    # Unit steps: corners at the first pixel and the tenth tell shifts, turns and scales.
    return Place(np.array([[across, 0, left], [0, down, top]])), (10, 10)
