"""Outlines in the cells of TRAIN_CSV: WKT, GeoJSON, or JSON lists of points."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from competition.drawings import read_nested
from competition.drawn import Drawn
from competition.outline_masks import OutlineMasks
from competition.polygon_files import FAULTS, entries_of
from competition.spec import Competition
from competition.tables import Columns, image_id
from core.errors import UserError, raise_all
from core.gates import json_value
from imaging.polygons import is_wkt, read_geojson, read_wkt

if TYPE_CHECKING:
    import pandas as pd


def read_outline_cells(
    table: "pd.DataFrame", columns: Columns, competition: Competition
) -> OutlineMasks:
    """The masks of a table with outlines: a row an image, an image and class, or an object.

    Raises:
        UserError: no column of outlines; lists cells that are none, and labels without a class.
    """
    name = competition.train_csv.name
    if columns.rle is None:
        raise UserError(f"no masks: no column of polygons in {name}: set RLE_COLUMN")
    classes = table[columns.cls] if columns.cls else [None] * len(table)
    drawn: dict[str, Drawn] = {}
    problems = []
    for at, (img, label, cell) in enumerate(
        zip(table[columns.id].map(image_id), classes, table[columns.rle], strict=True)
    ):
        shapes = drawn.setdefault(img, Drawn(img, None, [])).shapes
        try:
            outline = read_cell(cell)
        except FAULTS as error:
            problems.append(f"line {at + 2}: {img}: {error}")
            continue
        if outline is not None:
            shapes.append((label, outline))
    raise_all(problems, f"{name}: {len(problems)} cells of {columns.rle} are no polygons:")
    entries = entries_of(list(drawn.items()), competition)
    return OutlineMasks(entries, competition, by_area=False, name=name)


def read_cell(cell: str) -> Any:
    """The outline of a cell, None of an empty one.

    Raises:
        ValueError: it is none.
    """
    if not cell.strip():
        return None
    if is_wkt(cell):
        return read_wkt(cell)
    value = json_value(cell)
    if isinstance(value, Mapping):
        return read_geojson(value) if "type" in value else value
    return read_nested(value) if value else None
