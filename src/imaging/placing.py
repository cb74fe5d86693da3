"""Whether an image and its mask say that they lie in one place: NIfTI's affine, GeoTIFF's tags."""

import itertools
from pathlib import Path

import numpy as np

from imaging.containers import nifti_header
from imaging.georeference import read_georeference
from imaging.sources import own_file
from streaming.files import open_file

# Pixels, or voxels, that two grids of one place may be apart: GeoTIFF has two words for a corner.
APART = 0.75
# Pixels of a picture's sides that are compared: shifts, turns and scales show in as many.
SIDE = 10


def distance_apart(image: Path, mask: Path) -> float:
    """Pixels between corners that should be one, the most; 0 where one file does not tell."""
    try:
        places = [_place_of(own_file(path)) for path in (image, mask)]
    except Exception:  # of other and broken files, which are told where they are read
        return 0.0
    (affine, shape), (other, other_shape) = places
    if affine is None or other is None or shape != other_shape:
        return 0.0
    step = np.linalg.norm(affine[:, :-1], axis=0).min()
    gap = np.abs(_corners(affine, shape) - _corners(other, shape)).max()
    return float(gap / step) if step > 0 and np.isfinite(gap) else 0.0


def _corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(2^D, D) where the corners of a grid of so many pixels lie in its space."""
    ends = np.array(list(itertools.product(*((0, side - 1) for side in shape))))
    return np.asarray(ends @ affine[:, :-1].T + affine[:, -1])


def _place_of(path: Path) -> tuple[np.ndarray | None, tuple[int, ...]]:
    """(D, D + 1) from pixel indices to map or scanner, and pixels an axis; None: it does not tell.

    Raises:
        Exception: any of gzip's and nibabel's, of a broken file.
    """
    with open_file(path) as stream:
        try:
            header = nifti_header(stream, path.name)
        except ValueError:  # another kind of file
            header = None
    if header is not None:
        told = header["sform_code"] or header["qform_code"]
        return header.get_best_affine()[:3] if told else None, tuple(header.get_data_shape()[:3])
    place = read_georeference(path)
    if place is None:
        return None, ()
    (left, top), (across, down) = place
    return np.array([[across, 0, left], [0, down, top]]), (SIDE, SIDE)
