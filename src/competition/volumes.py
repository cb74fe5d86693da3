"""Volumes whose slices are the images, for metrics that score them whole."""

from typing import TYPE_CHECKING

from competition.groups import column_of, compile_bracket
from core.errors import raise_all

if TYPE_CHECKING:
    import pandas as pd


def find_volumes(table: "pd.DataFrame", column: str, pattern: str) -> "pd.Series | None":
    """Volume of each image: a column, else the pattern's first bracket; None without either.

    Raises:
        UserError: no such column, a pattern without one bracket, or images that it does not fit.
    """
    import pandas as pd

    if column:
        return column_of(table, column, "VOLUME_COLUMN")
    if not pattern:
        return None
    volumes = [volume_of(img, pattern) for img in table["img"]]
    lost = [img for img, volume in zip(table["img"], volumes, strict=True) if not volume]
    raise_all(
        lost, f"VOLUME_PATTERN {pattern!r} does not fit these images from their first letter on:"
    )
    return pd.Series(volumes, index=table.index, dtype=object)


def volume_of(img: str, pattern: str) -> str:
    """The first bracket of a pattern that fits an id, "" where it does not.

    Raises:
        UserError: the pattern is no regular expression with one bracket.
    """
    match = compile_bracket(pattern, "VOLUME_PATTERN").match(img)
    return match[1] or "" if match else ""


def check_volumes(table: "pd.DataFrame") -> None:
    """Makes sure that no volume is torn: a part of it is scored as a volume of its own.

    Args:
        table: with columns volume, group, kfold.

    Raises:
        UserError: lists the volumes in several folds or groups.
    """
    problems = []
    for what in ("kfold", "group"):
        counts = table.groupby("volume", sort=False)[what].nunique()
        problems += [f"{volume}: in {n} {what}s" for volume, n in counts[counts > 1].items()]
    raise_all(
        problems,
        "volumes are torn apart. Keep each in one fold and group: SPLIT=group with GROUP_COLUMN or "
        "GROUP_PATTERN of volumes, or of what holds them:",
    )
