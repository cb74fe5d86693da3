"""Columns of run lengths in other spellings than plain text: read once, and plain from then on."""

import re
from typing import TYPE_CHECKING

from core.errors import UserError, raise_all
from imaging.run_values import COCO_KINDS, RunValue, is_run_value, read_run_values

if TYPE_CHECKING:
    import pandas as pd

# A list of lists, or a dictionary.
NESTED = re.compile(r"\s*(\{|[\[(]\s*[\[({])")
# The column of the size that COCO's counts tell, "height width"; there where they are such.
SIZE_COLUMN = "size of run lengths"


def holds_run_values(cells: "pd.Series", *, named: bool = False) -> bool:
    """Whether filled cells are run lengths as JSON's or Python's values.

    Pairs of numbers may be points, and four numbers a box: run lengths follow each other, and are
    not all of two runs.

    Args:
        cells: of a column.
        named: it is called like run lengths, so that a list of numbers is that.
    """
    filled = cells[cells != ""].head(20)
    if not len(filled) or not all(map(is_run_value, filled)):
        return False
    if named and not any(map(NESTED.match, filled)):
        return True
    try:
        masks = [mask for text in filled for mask in read_run_values(text)]
    except ValueError:
        return False
    boxes = all(mask.kind == "list" and len(mask.numbers) == 4 for mask in masks)
    return not boxes and all(mask.is_sorted for mask in masks)


def spell_plainly(table: "pd.DataFrame", column: str, name: str) -> "pd.DataFrame":
    """The table with a row a mask, `start length start length` in the column.

    Of COCO's counts SIZE_COLUMN is added.

    Raises:
        UserError: cells that are no such values (all of them), or some that are COCO's and others.
    """
    import pandas as pd

    masks: list[list[RunValue]] = []
    problems = []
    for at, text in enumerate(table[column]):
        try:
            masks.append(read_run_values(text) if text else [])
        except ValueError as error:
            problems.append(f"line {at + 2}: {error}")
    raise_all(problems, f"{name}: {len(problems)} cells of {column!r} are no run lengths:")
    masks = [of_cell or [RunValue("list", [])] for of_cell in masks]
    rows = [at for at, of_cell in enumerate(masks) for _ in of_cell]
    found = [mask for of_cell in masks for mask in of_cell]
    table = table.iloc[rows].reset_index(drop=True)
    table[column] = pd.Series([mask.text for mask in found], dtype=object)
    counted = {mask.kind in COCO_KINDS for mask in found if mask.numbers or mask.size}
    if len(counted) > 1:
        raise UserError(
            f"{name}: column {column!r} holds COCO's counts and run lengths of another kind: "
            "write all cells alike"
        )
    if True in counted:
        sizes = ["{} {}".format(*mask.size) if mask.size else "" for mask in found]
        table[SIZE_COLUMN] = pd.Series(sizes, dtype=object)
    return table
