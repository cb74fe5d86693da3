"""Cells of WKT: outlines along the edges of pixels, with holes, valid and simplified."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from competition.outline_units import image_rows, pixels_a_unit
from competition.spec import Competition
from competition.table_files import AUTO
from core.errors import UserError
from imaging.polygons import fill_polygons, read_wkt
from imaging.rle import Size, mask_runs
from submissions.answer_format import AnswerFormat, CellError, CellFinding, Frame, Item
from submissions.plan import Plan

POLYGONS = re.compile(r"\s*(MULTI)?POLYGON\s*(Z\s*)?\(\(.*\)\)\s*", re.IGNORECASE | re.DOTALL)
EMPTY = re.compile(r"\s*(MULTI)?POLYGON\s+EMPTY\s*|GEOMETRYCOLLECTION\s+EMPTY", re.IGNORECASE)
# Points may lie so far outside of the image, in pixels: it is rounding.
SLACK = 1.0
# Digits behind the point, in pixels.
DIGITS = 3


@dataclass(frozen=True)
class Wkt(AnswerFormat):
    """POLYGON or MULTIPOLYGON, x to the right and y down from the upper left corner.

    Attributes:
        tolerance: pixels by which an outline may be moved to save points; below 0.5 no pixel
            changes sides.
        multi: whether one outline is a MULTIPOLYGON, too.
        units, images: OUTLINE_UNITS, and each image's row of META_CSV for it.
        factor: pixels to the right and down that one unit is.

    Source: DSTL Satellite Imagery Feature Detection, which refuses invalid outlines.
    """

    tolerance: float = 0.4
    multi: bool = True
    units: str = AUTO
    images: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    factor: tuple[float, float] = (1.0, 1.0)

    known_by_cells: ClassVar[bool] = True
    usual_empty: ClassVar[str] = "POLYGON EMPTY"

    @classmethod
    def build(
        cls, competition: Competition, plan: Plan, *, empty: str, cells: Sequence[str]
    ) -> Self:
        """The format; the kind of outline is that of the sample."""
        shown = [*cells, empty]
        multi = any(cell.strip().upper().startswith("MULTI") for cell in shown)
        return cls(
            empty,
            plan.labels,
            tolerance=competition.wkt_tolerance,
            multi=multi,
            units=competition.outline_units,
            images=image_rows(competition, plan.images),
        )

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """A polygon, or several."""
        return POLYGONS.fullmatch(cell) is not None

    @classmethod
    def owns(cls, cell: str) -> bool:
        """An outline called EMPTY."""
        return EMPTY.fullmatch(cell) is not None

    def is_empty(self, cell: str) -> bool:
        """As any cell, or an outline called EMPTY."""
        return super().is_empty(cell) or self.owns(cell)

    def at(self, img: str, size: Size | None) -> Self:
        """With the image's own units."""
        if size is None:
            return self
        factor = pixels_a_unit(self.units, self.images.get(img, {}), size, img)
        return replace(self, factor=factor) if factor else self

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The outline of the one mask."""
        shapely = _shapely()
        x, y = self.at(frame.img, frame.size).factor
        outline = mask_outline(items[0].mask).simplify(self.tolerance, preserve_topology=True)
        if not outline.is_valid:
            outline = shapely.make_valid(outline)
        if self.multi and outline.geom_type == "Polygon":
            outline = shapely.MultiPolygon([outline])
        if (x, y) == (1, 1):
            return shapely.to_wkt(outline, rounding_precision=DIGITS)
        outline = shapely.transform(outline, lambda points: points / (x, y))
        # As exact as in pixels, whatever a unit is.
        digits = DIGITS + max(0, math.ceil(math.log10(max(abs(x), abs(y)))))
        return shapely.to_wkt(outline, rounding_precision=digits)

    def read(self, cell: str, size: Size) -> list[Item]:
        """The pixels whose centres the outline holds."""
        self._parse(cell, size)
        outline = read_wkt(cell).scaled(self.factor)
        return [Item(fill_polygons(outline, size).view(np.uint8))]

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """Its area; nothing is painted.

        Raises:
            CellError: no outline, an invalid one, or one outside of the image.
        """
        return CellFinding(round(self._parse(cell, size).area))

    def _parse(self, cell: str, size: Size | None) -> Any:
        shapely = _shapely()
        try:
            found = shapely.from_wkt(cell)
        except shapely.errors.GEOSException as error:
            raise CellError("syntax", f"no WKT: {error}") from None
        if found.geom_type not in ("Polygon", "MultiPolygon"):
            need = "need POLYGON or MULTIPOLYGON"
            raise CellError("syntax", f"is a {found.geom_type}, {need}")
        if not found.is_valid:
            why = shapely.is_valid_reason(found)
            raise CellError("syntax", f"an invalid outline ({why}): shapely.make_valid mends it")
        found = shapely.transform(found, lambda points: points * self.factor)
        left, top, right, bottom = found.bounds
        if size and (
            min(left, top) < -SLACK or right > size[1] + SLACK or bottom > size[0] + SLACK
        ):
            raise CellError(
                "bounds",
                f"reaches from x, y {left:g}, {top:g} to {right:g}, {bottom:g}, the answer has "
                f"(H, W) {size}: x and y are swapped, or it is of another size",
            )
        return found


def mask_outline(mask: np.ndarray) -> Any:
    """The shapely outline of a {0, 1} mask (H, W) along the edges of its pixels; always valid."""
    shapely = _shapely()
    starts, lengths = mask_runs(mask, order="row")
    rows, columns = np.divmod(starts, mask.shape[1])
    # A run in row order goes on in the next row: it is cut there.
    boxes = [
        shapely.box(*box)
        for row, column, length in zip(
            rows.tolist(), columns.tolist(), lengths.tolist(), strict=True
        )
        for box in _row_boxes(row, column, length, mask.shape[1])
    ]
    return shapely.union_all(boxes).simplify(0)


def _row_boxes(row: int, column: int, length: int, width: int) -> list[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of a run's part in each row."""
    boxes = []
    while length > 0:
        part = min(length, width - column)
        boxes.append((column, row, column + part, row + 1))
        row, column, length = row + 1, 0, length - part
    return boxes


def _shapely() -> Any:
    """The library of outlines; few competitions need it.

    Raises:
        UserError: it is not installed.
    """
    try:
        import shapely
    except ImportError:
        raise UserError(
            "SUBMISSION=wkt needs shapely, which is not installed: pip install shapely"
        ) from None
    return shapely
