"""Tiles of a georeferenced raster and its mask, on one grid: read part by part, and written."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.files import writing
from imaging.raster_masks import PartMask
from imaging.rasters import Grid, open_raster, read_image
from imaging.sources import Box, window_starts


class Tile(NamedTuple):
    """A part of a raster with its mask.

    Attributes:
        box: on the grid of tiles.
        image: (h, w, C) in the raster's own type.
        mask: (h, w, C), values as stored.
    """

    box: Box
    image: np.ndarray
    mask: np.ndarray


class Source(NamedTuple):
    """What tiles are cut of.

    Attributes:
        raster: a rasterio dataset.
        grid: where the pixels of tiles lie.
        mask: on that grid.
        bands: channels that tiles hold; all if empty.
        side: of a tile, pixels.
    """

    raster: Any
    grid: Grid
    mask: PartMask
    bands: Sequence[int]
    side: int

    def boxes(self, step: int) -> list[Box]:
        """The parts that are tiles, row by row, `step` pixels apart; the last of a row is whole."""
        high, wide = (min(self.side, whole) for whole in self.grid.size)
        return [
            Box(top, left, high, wide)
            for top in window_starts(self.grid.size[0], high, step)
            for left in window_starts(self.grid.size[1], wide, step)
        ]

    def tiles(self, boxes: Iterable[Box]) -> Iterator[Tile]:
        """Tiles of `side` pixels; those of a small raster are padded by 0."""
        for box in boxes:
            edges = ((0, self.side - box.height), (0, self.side - box.width), (0, 0))
            image = read_image(self.raster, self.grid, box, self.bands)
            yield Tile(box, np.pad(image, edges), np.pad(self.mask.read(box), edges))

    def write(self, tile: Tile, image: Path, mask: Path) -> None:
        """Writes a tile and its mask as deflated TIFFs in their place on the map."""
        write_tile(image, tile.image, self.grid, tile.box)
        write_tile(mask, tile.mask, self.grid, tile.box, self.mask.colours)


def lies_apart(path: Path, raster: Any) -> bool:
    """Whether a tile is not of a raster, by its place; False where one of them has none."""
    if not path.is_file():
        return False
    with open_raster(path) as tile:
        if tile.crs is None or raster.crs is None:
            return False
        mine, whole = tile.bounds, raster.bounds
        beside = mine.left >= whole.right or mine.right <= whole.left
        below = mine.bottom >= whole.top or mine.top <= whole.bottom
        return bool(tile.crs != raster.crs or beside or below)


def is_empty(image: np.ndarray, nodata: float | None) -> bool:
    """Whether a tile shows nothing: all black, all white, or all without data."""
    ends: list[Any] = [0, np.iinfo(image.dtype).max if image.dtype.kind in "ui" else 1]
    ends += [] if nodata is None else [nodata]
    return any(bool((image == end).all()) for end in ends) or bool((image != image).all())


def write_tile(path: Path, pixels: np.ndarray, grid: Grid, box: Box, colours: Any = None) -> None:
    """Writes (h, w, C) as a deflated TIFF in its place on the map.

    It comes to be in memory: on a full disk GDAL cuts a file off and says nothing.
    """
    from rasterio.io import MemoryFile

    place = grid.transform * grid.transform.translation(box.left, box.top)
    height, width, count = pixels.shape
    profile: dict[str, Any] = {"driver": "GTiff", "compress": "deflate", "dtype": pixels.dtype}
    profile |= {"height": height, "width": width, "count": count}
    profile |= {"crs": grid.crs, "transform": place} if grid.crs else {}
    profile |= {"photometric": "rgb"} if count in (3, 4) and not colours else {}
    with MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(np.moveaxis(pixels, -1, 0))
            if colours:
                file.write_colormap(1, colours)
        with writing(path, flush=False) as part:
            part.write_bytes(memory.getbuffer())
