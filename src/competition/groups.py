"""Groups of images, by a column of the table or by a part of the id."""

import re
from typing import TYPE_CHECKING

from core.errors import UserError, nearest, raise_all

if TYPE_CHECKING:
    import pandas as pd

# The pattern that config.py ships; any other was chosen by somebody.
SHIPPED_PATTERN = r"(.+?(?=[-_]+(?:day|slice|frame|view|tile|crop)[-_]?\d)|.+(?=_\d+$))"


def column_of(table: "pd.DataFrame", name: str, knob: str) -> "pd.Series":
    """A column of the training table.

    Raises:
        UserError: there is none of that name.
    """
    if name in table:
        return table[name]
    known = [str(c) for c in table.columns]
    raise UserError(
        f"{knob}: no column {name!r} that is the same in all rows of an image."
        f"{nearest(name, known)} There are: {', '.join(known)}"
    )


def compile_bracket(pattern: str, knob: str) -> re.Pattern[str]:
    """A pattern whose one bracket is what an id is known by.

    Raises:
        UserError: no regular expression, or another number of brackets.
    """
    try:
        rule = re.compile(pattern)
    except re.error as error:
        raise UserError(f"{knob} {pattern!r} is no regular expression: {error}") from None
    if rule.groups != 1:
        raise UserError(
            f"{knob} {pattern!r} has {rule.groups} capturing groups, need one, around the part of "
            "the id that is wanted; (?:...) groups without capturing"
        )
    return rule


def find_groups(table: "pd.DataFrame", column: str, pattern: str, notes: list[str]) -> "pd.Series":
    """Group of each image as text: a column, else the pattern's first bracket, else the id.

    Raises:
        UserError: no such column, empty cells in it, or a pattern without exactly one bracket.
    """
    import pandas as pd

    if column or "group" in table:
        groups = column_of(table, column or "group", "GROUP_COLUMN")
        empty = table["img"][groups.str.strip() == ""]
        raise_all(list(empty), f"GROUP_COLUMN {column or 'group'} is empty for these images:")
        return groups
    rule = compile_bracket(pattern, "GROUP_PATTERN")
    matches = [rule.match(img) for img in table["img"]]
    alone = sum(match is None or match[1] is None for match in matches)
    if alone == len(matches):
        notes.append(f"GROUP_PATTERN {pattern!r} fits no id: each image is its own group")
    elif alone:
        notes.append(f"{alone} ids do not fit GROUP_PATTERN {pattern!r}: each is its own group")
    named = zip(table["img"], matches, strict=True)
    found = [m[1] if m and m[1] is not None else img for img, m in named]
    if pattern == SHIPPED_PATTERN and len(set(found)) == 1 < len(found):
        notes.append(f"all ids begin with {found[0]!r}, which is no group: each image is its own")
        found = list(table["img"])
    return pd.Series(found, index=table.index, dtype=object)
