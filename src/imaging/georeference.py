"""Where a georeferenced TIFF lies on its map, and polygons of that map in its pixels."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile

from core.errors import UserError
from imaging.polygons import Polygons
from imaging.rle import Size
from imaging.sources import own_file
from imaging.tiff import is_tiff
from streaming.files import open_file

# Polygons of less than so many pixels are in other units.
SPECK = 0.5
PIXEL_SCALE, TIEPOINT, TRANSFORMATION = 33550, 33922, 34264


class Georeference(NamedTuple):
    """Map coordinates of the first pixel's upper left corner, and map units a pixel: (x, y).

    The second step is negative where the map's y points up.
    """

    origin: tuple[float, float]
    step: tuple[float, float]


def read_georeference(path: Path) -> Georeference | None:
    """Where a TIFF lies by its GeoTIFF tags, None where it has none or is another file.

    Raises:
        UserError: the picture is turned on its map.
    """
    try:
        with open_file(own_file(path)) as stream:
            if not is_tiff(stream.read(4)):
                return None
            stream.seek(0)
            tags = tifffile.TiffFile(stream).pages.first.tags
            scale, tie, matrix = (
                tags.valueof(tag) for tag in (PIXEL_SCALE, TIEPOINT, TRANSFORMATION)
            )
    except (OSError, ValueError, tifffile.TiffFileError):
        return None  # told where the image is read
    if matrix:
        if matrix[1] or matrix[4]:
            raise UserError(f"{path.name}: is turned on its map: need rows that run west to east")
        return Georeference((matrix[3], matrix[7]), (matrix[0], matrix[5]))
    if not scale or not tie:
        return None
    step = (scale[0], -scale[1])
    return Georeference((tie[3] - tie[0] * step[0], tie[4] - tie[1] * step[1]), step)


def map_to_pixels(polygons: Polygons, image: Path, size: Size, name: str) -> Polygons:
    """Polygons in pixels, which are given in those or in the map coordinates of their image.

    Which of both, their place tells: a part of them must lie in the image.

    Raises:
        UserError: they lie outside of the image either way; `name` opens the message.
    """
    rings = [ring for part in polygons.parts for ring in part]
    if not rings:
        return polygons
    points = np.concatenate(rings)
    place = read_georeference(image)
    if place is not None:
        placed = polygons.scaled((1 / place.step[0], 1 / place.step[1]), place.origin)
        if meets((points - place.origin) / place.step, size):
            return placed
    # Degrees without a map would be specks somewhere in the image.
    if meets(points, size) and not 0 < np.ptp(points, axis=0).max() < SPECK:
        return polygons
    low, high = (tuple(ends.tolist()) for ends in (points.min(0), points.max(0)))
    where = "has no georeference" if place is None else f"lies at {place.origin} by {place.step}"
    raise UserError(
        f"{name}: polygons from (x, y) {low} to {high} are outside of the image of {size}, which "
        f"{where}: need pixels, or coordinates of the image's own map; transform them first, or "
        "write a row of MASKS into the recipe's .py"
    )


def meets(points: np.ndarray, size: Size) -> bool:
    """Whether the box around points (N, 2) in pixels shares area with an image of this (H, W)."""
    low, high = points.min(0), points.max(0)
    return bool((high > 0).all() and (low < (size[1], size[0])).all())
