"""Groups of images, by a column of the table or by a part of the id."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from competition.patterns import same_name
from core.errors import UserError, nearest, raise_all
from core.quantities import counted

if TYPE_CHECKING:
    import pandas as pd

# GROUP_PATTERN where nobody chose one: the group is what stands before a numbered part, a place on
# a slide or a date, else before two last numbers (slide12_3_4) or one (car_07).
AUTO = "auto"
AUTO_RULE = re.compile(
    r"(.+?(?=[-_]+(?:(?:day|visit|week|scan|slice|frame|view|tile|crop|patch)[-_]?\d"
    r"|x[-_]?\d+[-_]+y[-_]?\d|r(?:ow)?[-_]?\d+[-_]+c(?:ol)?[-_]?\d"
    r"|(?:19|20)\d\d[-_]?[01]\d[-_]?[0-3]\d(?!\d)))"
    r"|(?=.*[a-z]).*\d(?=_\d+_\d+$)|.+(?=[-_]\d+$))",
    re.IGNORECASE,
)
# Before a number.
ZEROS = re.compile(r"(?<![0-9])0+(?=[0-9])")
# Share of the ids above which what they begin with is the name of the data, and no group.
NAME = 0.9


def column_of(table: "pd.DataFrame", name: str, knob: str) -> "pd.Series":
    """A column of the training table, without blanks around its cells.

    Raises:
        UserError: there is none of that name.
    """
    if name in table:
        return table[name].map(lambda cell: same_name(cell.strip()))
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

    The pattern may be AUTO; what nearly all ids begin with is no group then.

    Raises:
        UserError: no such column, empty cells in it, or a pattern without exactly one bracket.
    """
    import pandas as pd

    if column or "group" in table:
        groups = column_of(table, column or "group", "GROUP_COLUMN")
        empty = table["img"][groups == ""]
        raise_all(list(empty), f"GROUP_COLUMN {column or 'group'} is empty for these images:")
        notes += _alike_notes(groups, column or "group")
        return groups
    names = table["img"].tolist()
    found = bracket_of(names, pattern)
    alone = found.count(None)
    if alone == len(found):
        notes.append(f"GROUP_PATTERN {pattern!r} fits no id: each image is its own group")
    elif alone:
        notes.append(
            f"{counted(alone, 'id', 'does', 'do')} not fit GROUP_PATTERN {pattern!r}: each is its "
            "own group"
        )
    most, count = Counter(found).most_common(1)[0] if found else (None, 0)
    if pattern == AUTO and most is not None and 1 < count > NAME * len(found):
        told = "all" if count == len(found) else f"{count} of {len(found)}"
        notes.append(
            f"{told} ids begin with {most!r}, which is no group: each image is its own; of slices "
            "or frames --split blocks keeps most neighbours together"
        )
        found = [None if group == most else group for group in found]
    named = [name if group is None else group for name, group in zip(names, found, strict=True)]
    return pd.Series(named, index=table.index, dtype=object)


def _alike_notes(groups: "pd.Series", name: str) -> list[str]:
    """A note on groups that differ in capitals or in zeros alone: P7, p7, P007."""
    spelled: dict[str, list[str]] = {}
    for group in groups.unique():
        spelled.setdefault(ZEROS.sub("", group).casefold(), []).append(group)
    alike = [" and ".join(several) for several in spelled.values() if len(several) > 1]
    if not alike:
        return []
    return [
        f"{name}: {', '.join(alike[:3])}{', ...' * (len(alike) > 3)} are groups of their own: "
        "write them alike where they are one, else it lies on both sides of a fold"
    ]


def bracket_of(names: Sequence[str], pattern: str) -> list[str | None]:
    """The first bracket of a pattern, or of AUTO, in each name; None where it does not fit.

    Raises:
        UserError: a pattern without exactly one bracket.
    """
    rule = AUTO_RULE if pattern == AUTO else compile_bracket(pattern, "GROUP_PATTERN")
    return [match[1] if match else None for match in map(rule.match, names)]
