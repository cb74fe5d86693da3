"""Masks of georeferenced images as TIFFs in the same place on their map, strip by strip."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from core.files import writing
from imaging.rle import Size
from imaging.sources import own_file
from imaging.tiff import is_tiff
from streaming.files import open_file
from submissions.mask_archive import geo_tags

TILE = 256


def is_placed(source: Path) -> bool:
    """Whether an image is a TIFF that says where it lies."""
    with open_file(own_file(source)) as stream:
        return is_tiff(stream.read(4)) and bool(geo_tags(own_file(source)))


def write_raster(path: Path, strips: Iterable[np.ndarray], size: Size, source: Path) -> None:
    """Writes a mask (H, W), uint8, that comes as strips of rows: tiles, deflated, with CRS.

    Args:
        path: of the file.
        strips: uint8 (h, W) from top to bottom.
        size: (H, W).
        source: the TIFF whose place it takes.
    """
    import tifffile

    with writing(path) as part:
        tifffile.imwrite(
            part,
            _tiles(strips),
            shape=size,
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="minisblack",
            compression="zlib",
            extratags=geo_tags(own_file(source)),
            metadata=None,
            bigtiff=size[0] * size[1] > 1 << 31,
        )


def _tiles(strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Tiles of TILE x TILE, those at the edges smaller, row by row."""
    for rows in _bands(strips):
        for left in range(0, rows.shape[1], TILE):
            yield np.ascontiguousarray(rows[:, left : left + TILE])


def _bands(strips: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same rows in strips of TILE, the last is what is left."""
    rest: np.ndarray | None = None
    for strip in strips:
        rest = strip if rest is None else np.concatenate([rest, strip])
        while len(rest) >= TILE:
            yield rest[:TILE]
            rest = rest[TILE:]
    if rest is not None and len(rest):
        yield rest
