"""Georeferenced rasters and vectors on one grid, read part by part; needs rasterio."""

import importlib
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import UserError
from core.gates import whole_number
from imaging.geometry import Size
from imaging.sources import Box

# A scale nearer to 1 than this is none.
SAME_SCALE = 0.01
# Pixels by which two grids may be apart and count as one.
SAME_GRID = 0.01

logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # what is wrong raises
warnings.filterwarnings("ignore", "Dataset has no geotransform")  # nor need it have one


class Grid(NamedTuple):
    """Where the pixels of tiles lie.

    Attributes:
        size: (H, W).
        transform: affine, from (column, row) to the map, or to pixels of the raster.
        crs: of the map; None: the raster says none.
    """

    size: Size
    transform: Any
    crs: Any


def need(name: str, what: str) -> Any:
    """An optional package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise UserError(f"{what} need the package {package}: pip install {package}") from None


def open_raster(path: Path) -> Any:
    """A rasterio dataset.

    Raises:
        UserError: no rasterio, no such file, or no raster.
    """
    rasterio = need("rasterio", "rasters")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise UserError(f"{path.name}: cannot be read as a raster ({error})") from None


def scaled_grid(raster: Any, scale: float) -> Grid:
    """The grid of a raster with its sides times `scale`."""
    height, width = (max(1, round(side * scale)) for side in raster.shape)
    steps = (raster.width / width, raster.height / height)
    return Grid((height, width), raster.transform * raster.transform.scale(*steps), raster.crs)


def scale_to(raster: Any, resolution: float) -> float:
    """The scale of sides at which a pixel is `resolution` map units; 1 within a hundredth.

    Raises:
        UserError: the raster says no resolution.
    """
    if raster.crs is None:
        raise UserError(f"{Path(raster.name).name}: has no CRS, so no --resolution: --patch-scale")
    scale = abs(raster.transform.a) / resolution
    return 1.0 if abs(scale - 1) <= SAME_SCALE else scale


def has_colours(raster: Any) -> bool:
    """Whether a raster's numbers stand for colours of a table."""
    return raster.count == 1 and raster.colorinterp[0].name == "palette"


def colour_table(colours: Mapping[int, Sequence[int]]) -> np.ndarray:
    """uint8 (256, 3) of a table of colours, as rasterio has it."""
    table = np.zeros((256, 3), np.uint8)
    for number, colour in colours.items():
        table[number] = colour[:3]
    return table


def band_count(raster: Any) -> int:
    """Channels of a raster as it looks: three where its numbers stand for colours."""
    return 3 if has_colours(raster) else raster.count


def read_image(raster: Any, grid: Grid, box: Box, bands: Sequence[int] = ()) -> np.ndarray:
    """(h, w, C) of a part of a scaled grid as it looks: RGB where numbers stand for colours.

    Args:
        raster, grid, box: as of `read_part`.
        bands: channels in their order, from 1; all if empty.
    """
    if has_colours(raster):
        numbers = read_part(raster, grid, box, nearest=True)[..., 0]
        pixels = colour_table(raster.colormap(1))[numbers]
        return pixels[..., [band - 1 for band in bands]] if bands else pixels
    return read_part(raster, grid, box, bands=bands, nearest=False)


def read_part(
    raster: Any, grid: Grid, box: Box, *, bands: Sequence[int] = (), nearest: bool
) -> np.ndarray:
    """(h, w, C) of a part of a scaled grid, in the raster's own type.

    Means of the pixels that become one, bilinear where they are spread; `nearest` for classes.
    """
    from rasterio.enums import Resampling
    from rasterio.windows import Window

    down, right = raster.height / grid.size[0], raster.width / grid.size[1]
    window = Window(box.left * right, box.top * down, box.width * right, box.height * down)
    smooth = Resampling.average if down > 1 else Resampling.bilinear
    pixels = raster.read(
        list(bands) or None,
        window=window,
        out_shape=(len(bands) or raster.count, box.height, box.width),
        resampling=Resampling.nearest if nearest else smooth,
    )
    return np.moveaxis(pixels, 0, -1)


def align(mask: Any, image: Any) -> tuple[Any, bool]:
    """A mask raster on an image's grid, by the nearest pixel, and whether it was on another.

    Raises:
        UserError: the grids differ, and one of them says not where it lies.
    """
    same_size = mask.shape == image.shape
    placed = mask.crs is not None and image.crs is not None
    if same_size and (not placed or _same_grid(mask, image)):
        return mask, False
    names = Path(mask.name).name, Path(image.name).name
    if not placed:
        lacks = names[0] if mask.crs is None else names[1]
        raise UserError(
            f"{names[0]}: mask is {mask.shape}, image {names[1]} is {image.shape}, and {lacks} has "
            "no CRS: need the same size, or a georeference in both to lay one on the other"
        )
    from rasterio.enums import Resampling
    from rasterio.vrt import WarpedVRT

    return WarpedVRT(
        mask,
        crs=image.crs,
        transform=image.transform,
        width=image.width,
        height=image.height,
        resampling=Resampling.nearest,
    ), True


def _same_grid(one: Any, other: Any) -> bool:
    far = SAME_GRID * abs(one.transform.a)
    corners = [(0, 0), (one.width, one.height)]
    apart = [np.subtract(one.transform * c, other.transform * c) for c in corners]
    return one.crs == other.crs and bool(np.abs(apart).max() <= far)


class Shapes:
    """Polygons of a vector file on the map of a raster.

    Args:
        path: a shapefile, GeoJSON, GeoPackage or what else OGR reads.
        grid: whose CRS they are brought to.
        attribute: column of whole numbers that polygons are burnt with; "": 1.
        where: SQL condition on columns, such as `kind = 'roof'`.

    Raises:
        UserError: packages are missing, it cannot be read, or one of both says no CRS.
    """

    def __init__(self, path: Path, grid: Grid, *, attribute: str = "", where: str = ""):
        ogr, shapely = need("pyogrio", "vector masks"), need("shapely", "vector masks")
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        columns = [attribute] if attribute else []
        try:
            meta, _, stored, fields = ogr.raw.read(path, columns=columns, where=where or None)
        except (ValueError, ogr.errors.DataSourceError, ogr.errors.DataLayerError) as error:
            raise UserError(f"{path.name}: cannot be read as polygons ({error})") from None
        if grid.crs is None or meta["crs"] is None:
            lacks = f"{path.name} has" if meta["crs"] is None else "the image has"
            raise UserError(f"{path.name}: {lacks} no CRS: need one in both to burn polygons")
        values = _whole_numbers(fields, attribute, len(stored), path.name, ogr)
        shapes = _to_map(shapely.from_wkb(stored), meta["crs"], grid.crs)
        known = [(shape, value) for shape, value in zip(shapes, values, strict=True) if shape]
        self.shapes, self.values = [s for s, _ in known], [value for _, value in known]
        self.tree, self.grid = shapely.STRtree(self.shapes), grid

    def burn(self, box: Box) -> np.ndarray:
        """uint8 (h, w): the value of the last polygon over each pixel's centre, else 0."""
        from rasterio.features import rasterize
        from rasterio.transform import array_bounds
        from shapely.geometry import box as rectangle

        size = (box.height, box.width)
        place = self.grid.transform * self.grid.transform.translation(box.left, box.top)
        found = sorted(self.tree.query(rectangle(*array_bounds(*size, place))).tolist())
        if not found:
            return np.zeros(size, np.uint8)
        pairs = [(self.shapes[at], self.values[at]) for at in found]
        return rasterize(pairs, out_shape=size, transform=place, dtype=np.uint8)


def _whole_numbers(
    fields: Sequence[Any], attribute: str, count: int, name: str, ogr: Any
) -> list[int]:
    if not attribute:
        return [1] * count
    if not fields:
        raise UserError(f"{name}: has no column {attribute!r}")
    try:
        values = [whole_number(value) for value in np.asarray(fields[0]).tolist()]
    except ValueError:
        values = [-1]
    if any(not 0 <= value <= 255 for value in values):
        raise UserError(f"{name}: column {attribute!r} must hold whole numbers, 0 to 255")
    return values


def _to_map(shapes: Sequence[Any], source: str, target: Any) -> list[Any]:
    from rasterio.crs import CRS
    from rasterio.warp import transform_geom
    from shapely.geometry import mapping, shape

    if CRS.from_user_input(source) == target:
        return list(shapes)
    return [one and shape(transform_geom(source, target, mapping(one))) for one in shapes]
