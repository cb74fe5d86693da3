"""Which table is which: of the training images, the sample submission, a second table."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from competition.second_table import one_row_an_image
from competition.table_files import read_table
from competition.tables import Columns, image_id, table_columns
from core.errors import UserError
from core.gates import LONGEST_ID
from looking.words import TEST, TRAIN, words_in

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = {"sample", "submission", "submit"}
# Of names without a break: samplesubmit, samplesubmission.
JOINED = ("samplesub", "submission")
# A table is of a set when it names so much of it, or the set so much of the table.
HALF = 0.5


@dataclass(frozen=True)
class Listed:
    """A table that could be read.

    Attributes:
        name: posix path from the survey's root.
        table: its cells as text.
        columns: which is which by their names.
        ids: image ids by column.
    """

    name: str
    table: "pd.DataFrame"
    columns: Columns
    ids: dict[str, set[str]]

    def best_column(self, images: Collection[str]) -> tuple[str, int]:
        """The column that names most of the images, and how many."""
        wanted = set(images)
        counts = {column: len(ids & wanted) for column, ids in self.ids.items()}
        column = max(counts, key=lambda name: counts[name], default="")
        return column, counts.get(column, 0)

    def names(self, images: Collection[str]) -> bool:
        """Whether it is a table of these images, or of a good part of them."""
        column, count = self.best_column(images)
        return count > 0 and count >= HALF * min(len(images), len(self.ids[column]))

    @property
    def is_sample(self) -> bool:
        """Whether its name is that of a sample submission."""
        words = words_in(self.name)
        return bool(words & SAMPLE) or any(mark in word for word in words for mark in JOINED)


def read_tables(root: Path, names: Collection[str]) -> tuple[list[Listed], dict[str, str]]:
    """The tables that can be read, and why the others cannot, by name."""
    found, broken = [], {}
    for name in names:
        try:
            table = read_table(root / name).rename(columns=lambda column: str(column))
            columns = table_columns(table, name=name)
        except UserError as error:
            broken[name] = str(error)
            continue
        ids = {str(c): set(table[c].map(image_id)) for c in table if _may_be_ids(table[c])}
        found.append(Listed(name, table, columns, ids))
    return found, broken


def _may_be_ids(cells: "pd.Series") -> bool:
    """Whether cells are short enough to name a file: run lengths are not."""
    return bool(cells.head(50).str.len().max() <= LONGEST_ID) and not cells.head(50).eq("").all()


def rank_training(tables: Collection[Listed], images: Collection[str]) -> list[Listed]:
    """Tables of the training images, the likeliest first: with run lengths, and called train."""
    known = [one for one in tables if not one.is_sample and one.names(images)]
    known = [one for one in known if not words_in(one.name) & TEST or words_in(one.name) & TRAIN]

    def rank(one: Listed) -> tuple[bool, bool, bool, int]:
        words = words_in(one.name)
        first = one.ids[one.columns.id] & set(images)
        return (one.columns.rle is None, not first, not words & TRAIN, len(one.name))

    return sorted(known, key=rank)


def name_objects(
    tables: Sequence[Listed], images: Collection[str], files: Collection[str]
) -> list[Listed]:
    """The tables that name a mask file an object, its column told as that of run lengths.

    Args:
        tables: of the training images.
        images: their ids.
        files: names of mask files.
    """
    found = []
    for one in tables:
        column, _ = one.best_column(images)
        for name in one.table:
            cells = one.table[name].str.rpartition("/")[2]
            if str(name) != column and cells.isin(files).mean() > HALF:
                columns = one.columns._replace(rle=str(name))
                found.append(replace(one, columns=columns))
    return found


def choose_volumes(tables: Sequence[Listed], stacks: Collection[str]) -> Listed | None:
    """The table whose first column names all stacks, with more columns that say of what each is."""
    for one in tables:
        first = next(iter(one.table))
        named = set(stacks) <= one.ids.get(str(first), set())
        if named and not one.is_sample and not one.columns.rle and len(one.table.columns) > 1:
            return one
    return None


def constant_columns(listed: Listed, images: Collection[str]) -> "pd.DataFrame":
    """One row an image: img, and the columns whose cells agree within every image.

    Of a table with a row a stack each of its pages, vol1_07, has the row of vol1.
    """
    key, count = listed.best_column(images)
    stacks = {img: img.rpartition("_")[0] for img in images}
    by_stack, stacked = listed.best_column(stacks.values())
    if count or not stacked:
        return _constant_rows(listed, key, images)
    rows = _constant_rows(listed, by_stack, stacks.values()).set_index("img")
    pages = [img for img, stack in stacks.items() if stack in rows.index]
    table = rows.loc[[stacks[img] for img in pages]].reset_index(drop=True)
    table.insert(0, "img", pages)
    return table


def _constant_rows(listed: Listed, key: str, images: Collection[str]) -> "pd.DataFrame":
    ids = listed.table[key].map(image_id)
    kept = ids.isin(set(images))
    columns = Columns(key, listed.columns.rle, None)
    table = one_row_an_image(listed.table[kept], ids[kept], columns)
    return table.rename(columns=lambda name: str(name).strip())
