"""OUTLINE_UNITS: what the coordinates of outlines in tables are, beside pixels and maps.

A row of your own, in a recipe's .py: `UNITS["mine"] = lambda row, size: (x, y)`, pixels a unit to
the right and down, of an image of this (H, W) and its row of META_CSV.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from competition.table_files import AUTO
from core.errors import UserError
from core.gates import decimal_number
from core.rows import pick
from imaging.rle import Size

if TYPE_CHECKING:
    from competition.spec import Competition

Row = Mapping[str, str]
Units = Callable[[Row, Size], tuple[float, float]]


def _shares(row: Row, size: Size) -> tuple[float, float]:
    return size[1], size[0]


def _grid(row: Row, size: Size) -> tuple[float, float]:
    """DSTL 2016's: Xmax and Ymin, which is negative, are where an image ends."""
    height, width = size
    x, y = (decimal_number(row[name]) for name in GRID)
    return width * width / (width + 1) / x, height * height / (height + 1) / y


# Columns of META_CSV that a grid's units need.
GRID = ("Xmax", "Ymin")
# The values of OUTLINE_UNITS beside auto.
UNITS: dict[str, Units] = {
    "pixel": lambda row, size: (1.0, 1.0),
    "share": _shares,
    "grid": _grid,
}


def pixels_a_unit(name: str, row: Row, size: Size, img: str) -> tuple[float, float] | None:
    """Pixels to the right and down that one unit of an image's outlines is; None of auto.

    Raises:
        UserError: an unknown name, or a row of META_CSV without what it needs.
    """
    if name == AUTO:
        return None
    units = pick(UNITS, name, "OUTLINE_UNITS")
    try:
        x, y = map(decimal_number, units(row, size))
        if not (x and y):
            raise ValueError("a unit of 0 pixels")
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise UserError(
            f"{img}: OUTLINE_UNITS={name}, {type(error).__name__}: {error}: need its columns "
            "in META_CSV"
        ) from None
    return x, y


def image_rows(competition: "Competition", images: list[str]) -> dict[str, dict[str, str]]:
    """The rows of META_CSV of images, where OUTLINE_UNITS may ask for them.

    Raises:
        UserError: no such table, or images that it does not name.
    """
    if competition.outline_units == AUTO or not (competition.meta_csv and images):
        return {}
    import pandas as pd

    from competition.second_table import join_second

    table = join_second(pd.DataFrame({"img": images}), competition.input / competition.meta_csv)
    rows = table.astype(str).to_dict("records")
    return {row["img"]: {str(name): row[name] for name in row} for row in rows}
