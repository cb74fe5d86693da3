"""The mask of a large raster, part by part: a raster on its grid, or polygons burnt on it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.errors import UserError
from imaging.mask_files import IGNORE, MaskRules, mask_of_pixels
from imaging.palettes import palette_reader
from imaging.rasters import (
    Grid,
    Shapes,
    align,
    colour_table,
    has_colours,
    open_raster,
    read_part,
)
from imaging.sources import Box


class PartMask(NamedTuple):
    """What reads the mask of a part of a grid.

    Attributes:
        name: of the file, for messages.
        read: the mask (h, w, C) of a box, as it is stored, or class ids (h, w, 1).
        colours: the table of colours of its numbers, as rasterio has it; None where it has none.
        note: on how it was laid on the image; "" where it lay there.
    """

    name: str
    read: Callable[[Box], np.ndarray]
    colours: Any = None
    note: str = ""


def open_mask(path: Path, raster: Any, grid: Grid, *, attribute: str, where: str) -> PartMask:
    """The mask of a raster: a raster, or polygons.

    Args:
        path: of the mask.
        raster, grid: the image, and the grid of its tiles.
        attribute, where: of polygons, see `imaging.rasters.Shapes`.

    Raises:
        UserError: it cannot be read, or laid on the image.
    """
    try:
        stored = open_raster(path)
    except UserError as no_raster:  # polygons, then
        try:
            shapes = Shapes(path, grid, attribute=attribute, where=where)
        except UserError as error:
            if not path.is_file():
                raise
            raise UserError(f"{error}; {no_raster}") from None
        return PartMask(path.name, lambda box: shapes.burn(box)[..., None])
    if attribute or where:
        raise UserError(f"{path.name}: a raster, and --attribute and --where are of polygons")
    mask, moved = align(stored, raster)
    note = f"{path.name} lies on another grid than {Path(raster.name).name}: resampled to it "
    return PartMask(
        path.name,
        lambda box: read_part(mask, grid, box, nearest=True),
        stored.colormap(1) if has_colours(stored) else None,
        note + "by the nearest pixel" if moved else "",
    )


def with_ids(mask: PartMask, values: Mapping[Any, int]) -> PartMask:
    """A mask whose values or colours are class ids.

    Args:
        mask: as it is stored.
        values: as MASK_VALUES has them.

    Raises:
        UserError: values that are no numbers or colours, or classes that are none.
    """
    for value, cls in values.items():
        colour = isinstance(value, tuple) and [type(one) for one in value] == [int] * 3
        if not (colour or value is None or type(value) is int) or type(cls) is not int:
            raise UserError(
                f"--raster-values: got {value!r}: {cls!r}, need a number, a colour (r, g, b) or "
                "None, and its class"
            )
    classes = 1 + max([1, *(one for one in values.values() if one != IGNORE)])
    rules = MaskRules("multiclass", classes=classes, values=values)
    return PartMask(mask.name, lambda box: class_ids(mask, mask.read(box), rules)[..., None])


def class_ids(mask: PartMask, pixels: np.ndarray, rules: MaskRules) -> np.ndarray:
    """Class ids (h, w), 255 ignored, of a part (h, w, C) of a mask as it is stored.

    Raises:
        UserError: values that the rules do not declare.
    """
    if mask.colours is not None:
        pixels = palette_reader(rules.values)(pixels[..., 0], colour_table(mask.colours))
    elif pixels.shape[2] not in (1, 3, 4):
        raise UserError(f"{mask.name}: has {pixels.shape[2]} channels, MASK_VALUES need 1, 3 or 4")
    return mask_of_pixels(pixels, rules, mask.name)
