"""The competition's own tables and listings: ids, columns, where images and masks are."""

import functools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from competition.groups import compile_bracket
from competition.patterns import same_name
from competition.run_cells import holds_run_values, spell_plainly
from competition.table_files import AUTO, column_names, file_stamp, named_column, read_table
from core.errors import UserError, raise_all
from imaging.polygons import is_wkt
from imaging.readers import image_suffixes, is_image, without_suffix
from imaging.rle import is_empty_rle, rle_area

if TYPE_CHECKING:
    import pandas as pd

    from competition.spec import Competition

Rows = Literal["image", "class", "instance"]
# Not overlength.
RLE_NAME = re.compile(r"rle(?![a-z])|(?<![a-z])rle|encoded|pixels", re.IGNORECASE)
CLASS_NAME = re.compile(r"class|label", re.IGNORECASE)
# Of a column of nothing but classes, that are no ids.
CLASS_ALONE = re.compile(r"(class|label|category)(_?(id|name))?", re.IGNORECASE)
# Of columns of a sample that hold masks, whatever they are spelled as, and how sure they are.
MASK_NAME = re.compile(
    r"mask|segment|polygon|outline|wkt|geometry|predict|annotation", re.IGNORECASE
)
CONFIDENCE_NAME = re.compile(r"confidence|score|conf", re.IGNORECASE)
# Of a column that numbers an image's objects.
COUNTER_NAME = re.compile(
    r"(building|object|instance|polygon|nucleus|cell)_?(id|no|number|index)", re.IGNORECASE
)
RLE_TEXT = re.compile(r"\s*\d+\s+\d+(\s+\d+\s+\d+)*\s*")
# A cell of a large mask may hold 100 KB; its beginning tells as much.
PEEK = 60
# Numbers that tell where a box is.
BOX = 4
# A cell that so many rows share is a token, no mask.
TOKEN_ROWS = 3


# The column of classes that were joined to ids.
JOINED_CLASS = "class of id"


class Columns(NamedTuple):
    """Names of a table's columns; None for one it does not have.

    Attributes:
        rle: of masks, as run lengths or outlines.
    """

    id: str
    rle: str | None
    cls: str | None


class SampleColumns(NamedTuple):
    """Names of a sample submission's columns; it has one for masks."""

    id: str
    rle: str
    cls: str | None


def image_id(name: str) -> str:
    """A name without folder and image suffix: 'a/b/x.jpg' is 'x', 'v1.2' stays 'v1.2'.

    A class joined to a file name is no part of it: 'x.jpg_3' is 'x', too.
    """
    base = same_name(name.strip().replace("\\", "/").rpartition("/")[2])
    if joined := split_joined(base):
        base = joined[1]
    return without_suffix(base)


def split_joined(name: str) -> re.Match[str] | None:
    """The name of a file and the class behind it, of x.jpg_3; None of any other name."""
    return _joined_rule(image_suffixes()).fullmatch(name)


@functools.cache
def _joined_rule(suffixes: tuple[str, ...]) -> re.Pattern[str]:
    ends = "|".join(map(re.escape, suffixes))
    return re.compile(rf"(.+(?:{ends}))_([^/.]+)", re.IGNORECASE)


def table_columns(
    table: "pd.DataFrame",
    *,
    id_column: str = AUTO,
    rle_column: str = AUTO,
    class_column: str = AUTO,
    name: str = "the table",
) -> Columns:
    """Which column is which in a training table.

    auto: the id is the first that is not called class; run lengths are in the last column named
    like rle, encoded or pixels whose filled cells read like run lengths, else in the last whose
    cells do, or are outlines; the class is in a column named like class or label.

    Raises:
        UserError: a named column is missing, or several are called like run lengths and hold them.
    """
    first = named_column(table, id_column, "ID_COLUMN", name) or _first_id(table)
    others = [str(c) for c in table.columns if c != first]
    rle = named_column(table, rle_column, "RLE_COLUMN", name)
    if rle is None:
        named = [c for c in others if RLE_NAME.search(c) and not _is_other(table[c])]
        filled = [c for c in others if _looks_like_rle(table[c]) or holds_outlines(table[c])]
        both = [c for c in filled if c in named] or _most_like_masks(table, filled)
        if len(both) > 1:
            raise UserError(
                f"{name}: the columns {', '.join(both)} hold masks: set RLE_COLUMN to one of them; "
                "columns of a class each become rows of an image and class by pandas.melt"
            )
        rle = next(reversed(both or named), None)
    cls = named_column(table, class_column, "CLASS_COLUMN", name)
    if cls is None:
        cls = next((c for c in others if c != rle and CLASS_NAME.search(c)), None)
    return Columns(first, rle, cls)


def _most_like_masks(table: "pd.DataFrame", names: Sequence[str]) -> list[str]:
    """Those called like masks, else all that hold more than the four numbers of a box."""
    called = [name for name in names if MASK_NAME.search(name)]
    longer = [name for name in names if (table[name].head(50).str.count(r"\S+") > BOX).any()]
    return called or longer or list(names[-1:])


def _first_id(table: "pd.DataFrame") -> str:
    names = [str(name) for name in table.columns]
    return next((name for name in names if not CLASS_ALONE.fullmatch(name)), names[0])


def sample_columns(
    table: "pd.DataFrame",
    *,
    id_column: str = AUTO,
    rle_column: str = AUTO,
    class_column: str = AUTO,
    name: str = "sample_submission.csv",
) -> SampleColumns:
    """Which column is which in a sample submission.

    Its last holds masks unless a name says else: of masks, or of classes, numbers and confidences.

    Raises:
        UserError: a named column is missing, or there is one column only.
    """
    found = table_columns(
        table, id_column=id_column, rle_column=rle_column, class_column=class_column, name=name
    )
    others = [str(c) for c in table.columns if c != found.id]
    if not others:
        raise UserError(
            f"{name}: has one column, {found.id!r}, need ids and masks: set TEST_CSV to the sample "
            "submission"
        )
    rle = found.rle or _last_mask([c for c in others if c != found.cls] or others)
    cls = None if found.cls == rle else found.cls
    if cls is None and len(others) == 2 and table[found.id].duplicated().any():
        cls = next((c for c in others if c != rle and not COUNTER_NAME.fullmatch(c)), None)
    return SampleColumns(found.id, rle, cls)


def _last_mask(names: Sequence[str]) -> str:
    """The last that is called like masks, else the last that is not called like anything else."""
    called = [name for name in names if MASK_NAME.search(name) and not CONFIDENCE_NAME.search(name)]
    other = (COUNTER_NAME.fullmatch, CONFIDENCE_NAME.search)
    rest = [name for name in names if not any(rule(name) for rule in other)]
    return (called or rest or names)[-1]


def train_table(competition: "Competition") -> "tuple[pd.DataFrame, Columns]":
    """TRAIN_CSV, and which of its columns is which; a cell that stands for an empty mask is "".

    Ids that hold a class too, as x.jpg_3, are taken apart: the class is a column of its own.

    Raises:
        UserError: as `read_table` and `table_columns`.
    """
    table, columns = _train_table(competition, file_stamp(competition.train_csv))
    return table.copy(deep=False), columns


@functools.lru_cache(maxsize=4)
def _train_table(competition: "Competition", stamp: object) -> "tuple[pd.DataFrame, Columns]":
    table = read_table(competition.train_csv, competition.id_column)
    columns = table_columns(
        table,
        id_column=competition.id_column,
        rle_column=competition.rle_column,
        class_column=competition.class_column,
        name=competition.train_csv.name,
    )
    if columns.rle:
        cells = table[columns.rle].str.strip()
        table[columns.rle] = cells.where(~cells.isin(empty_tokens(cells)), "")
        table = _spell_runs(table, columns.rle, competition)
    classes = joined_classes(table[columns.id])
    if columns.cls is None and classes is not None:
        table[JOINED_CLASS] = classes
        columns = columns._replace(cls=JOINED_CLASS)
    if columns.cls and competition.class_pattern:
        table[columns.cls] = _bracket_of(table[columns.cls], competition.class_pattern)
    return table, columns


def _spell_runs(table: "pd.DataFrame", column: str, competition: "Competition") -> "pd.DataFrame":
    """The table with run lengths as plain text, where they are values of JSON or Python."""
    named = bool(RLE_NAME.search(column)) or competition.mask_format == "rle"
    if competition.mask_format not in (AUTO, "rle"):
        return table
    if not holds_run_values(table[column], named=named):
        return table
    return spell_plainly(table, column, competition.train_csv.name)


def _bracket_of(cells: "pd.Series", pattern: str) -> "list[str]":
    """What CLASS_PATTERN finds in each cell of a class.

    Raises:
        UserError: no pattern with one bracket; lists cells that it does not fit.
    """
    rule = compile_bracket(pattern, "CLASS_PATTERN")
    matches = [rule.match(cell) for cell in cells]
    odd = [cell for cell, match in zip(cells, matches, strict=True) if cell and not match]
    raise_all(
        [repr(cell) for cell in dict.fromkeys(odd)],
        f"CLASS_PATTERN {pattern!r} does not fit these cells from their first letter on:",
    )
    return [(match[1] or "") if match else "" for match in matches]


def empty_tokens(cells: "pd.Series") -> list[str]:
    """Cells that stand for an empty mask: known ones, and what three rows share and is no mask.

    That is a word without digits (authentic), or one run of one or two pixels (1 1).
    """
    counts = cells.value_counts()

    def is_token(cell: str) -> bool:
        if is_empty_rle(cell):
            return True
        if counts[cell] < TOKEN_ROWS or len(cell) > PEEK:
            return False
        if not any(letter.isdigit() for letter in cell):
            return True
        return (
            len(cell.split()) == 2 and RLE_TEXT.fullmatch(cell) is not None and rle_area(cell) < 3
        )

    return [str(cell) for cell in counts.index if is_token(cell)]


def joined_classes(ids: "pd.Series") -> "list[str] | None":
    """The class in each id of the form x.jpg_3 or x.jpg_Fish; None when an id is not so."""
    matches = [split_joined(text.strip()) for text in ids]
    return [match[2] for match in matches if match] if all(matches) else None


def read_sample_table(competition: "Competition") -> "pd.DataFrame":
    """The sample submission; it may be a header alone.

    Raises:
        UserError: as `read_table`.
    """
    # A submission's id is one column, as it stands.
    joined = "{" in competition.id_column
    column = AUTO if joined or _is_of_training(competition) else competition.id_column
    return read_table(competition.test_csv, column, header_alone=True)


def _is_of_training(competition: "Competition") -> bool:
    """Whether ID_COLUMN is a column of TRAIN_CSV, and none of the sample."""
    column, train = competition.id_column, competition.train_csv
    if column == AUTO or not train.is_file():
        return False
    return column not in column_names(competition.test_csv) and column in column_names(train)


def class_number(text: Any, names: Sequence[str]) -> int | None:
    """The place of a text among CLASS_NAMES, where a comma of it is a blank; None of none."""
    for name in (text, text.replace(",", " ")) if isinstance(text, str) else ():
        if name in names:
            return names.index(name)
    return None


def class_ids(cells: "pd.Series", competition: "Competition") -> "pd.Series":
    """Class ids from 0 of the cells of a class column: numbers from CLASS_BASE, or CLASS_NAMES.

    What is neither stays text: who takes it names it in an error.
    """
    import pandas as pd

    numbers = pd.to_numeric(cells, errors="coerce") - competition.class_base
    if numbers.isna().any() and competition.class_names:
        numbers = cells.map(lambda cell: class_number(cell, competition.class_names))
    return numbers.astype(object).where(numbers.notna(), cells)


def _is_other(cells: "pd.Series") -> bool:
    """Whether cells are single numbers, as in width_pixels: neither run lengths nor tokens."""
    filled = cells[~cells.map(is_empty_rle)]
    return len(filled) > 0 and bool(filled.str.fullmatch(r"\s*[\d.]+\s*").all())


def _looks_like_rle(cells: "pd.Series") -> bool:
    if holds_run_values(cells):
        return True
    filled = cells[cells != ""].head(20)
    texts = [text if len(text) <= PEEK else text[:PEEK].rpartition(" ")[0] for text in filled]
    pairs = [t if len(t.split()) % 2 == 0 else t.rpartition(" ")[0] for t in texts]
    return any(pairs) and all(
        RLE_TEXT.fullmatch(pair) or is_empty_rle(text)
        for pair, text in zip(pairs, texts, strict=True)
    )


def holds_outlines(cells: "pd.Series") -> bool:
    """Whether filled cells are polygons: WKT, or JSON of points or of a geometry."""
    filled = cells[cells != ""].head(20)
    return len(filled) > 0 and all(
        is_wkt(text[:PEEK]) or re.match(r"\s*(\[\s*[][{]|\{\s*\")", text) for text in filled
    )


def holds_files(cells: "pd.Series") -> bool:
    """Whether filled cells are names of mask files."""
    filled = cells[cells != ""].head(20)
    return len(filled) > 0 and all(map(is_image, filled))


def table_rows(ids: Iterable[str], classes: Iterable[str] | None = None) -> Rows:
    """What a row of a table stands for: an image, an image and class, or an instance."""
    ids = list(ids)
    if len(set(ids)) == len(ids):
        return "image"
    if classes is not None and len(set(zip(ids, classes, strict=True))) == len(ids):
        return "class"
    return "instance"
