"""Tables as files: what is a CSV, in which letters, and what else lies there under that name."""

import functools
import itertools
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from core.errors import UserError, nearest
from core.quantities import counted
from imaging.readers import image_suffixes

if TYPE_CHECKING:
    import pandas as pd

AUTO = "auto"
SEPARATORS = (",", ";", "\t")
# Lines that say whether a table has a header.
LOOKED_AT = 50
# What the first file in a workbook's zip is called.
EXCEL = b"[Content_Types].xml"
# How files begin that are no tables, and what to do with them.
NO_TABLES = {
    (
        b"{",
        b"[",
    ): "is JSON, not a CSV table: a COCO file goes to MASK_PATH; else write a table of it "
    "with pandas: pd.read_json(path).to_csv(...), lines=True for one object a line",
    (b"\x93NUMPY",): "is an array of NumPy, not a CSV table: mask arrays are files of MASK_PATH",
    (b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"): (
        "is compressed: unpack it"
    ),
    (b"\xd0\xcf\x11\xe0",): "is an Excel workbook, not a CSV table: save its sheet as CSV",
    (b"PAR1",): "is Parquet, not a CSV table: pd.read_parquet(path).to_csv(...)",
}


def read_table(
    path: str | Path, id_column: str = AUTO, *, header_alone: bool = False
) -> "pd.DataFrame":
    """A competition's CSV, every cell as text ("" where empty), rows in the file's order.

    Commas, semicolons and tabs separate; an unnamed column of row numbers is dropped. Ids are
    left as they are written: `image_id` shortens them.

    Args:
        path: of the file.
        id_column: name of the column with ids; auto = the first.
        header_alone: a table without rows will do.

    Raises:
        UserError: no such file, no rows, no column `id_column`, rows without an id.
    """
    path = Path(path)
    # Callers get a table of their own that shares its cells.
    table = _parse_table(path, id_column, file_stamp(path))
    if not len(table) and not header_alone:
        raise UserError(
            f"{path}: has a header but no rows. Need the ids: if the competition fills it in its "
            "kernels only, write one with a row for each image of the folder"
        )
    return table.copy(deep=False)


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, None where there is none: what was read of it holds as long."""
    try:
        state = path.stat()
    except OSError:
        return None
    if not S_ISREG(state.st_mode):  # TRAIN_CSV that is empty is the folder INPUT
        return None
    return state.st_size, state.st_mtime_ns


# A competition's table may hold 100 MB, and every fold of every stage asks for it.
@functools.lru_cache(maxsize=4)
def _parse_table(path: Path, id_column: str, stamp: object) -> "pd.DataFrame":
    table = _join_ids(_read_cells(path), id_column)
    unnamed = table.columns[0].startswith("Unnamed:") and len(table.columns) > 1
    if unnamed and table.iloc[:, 0].str.fullmatch(r"\s*\d+\s*").all():
        table = table.iloc[:, 1:]
    name = named_column(table, id_column, "ID_COLUMN", path.name) or str(table.columns[0])
    empty = (table[name].str.strip() == "").to_numpy().nonzero()[0]
    if len(empty):
        places = ", ".join(str(at + 2) for at in empty[:10])
        raise UserError(
            f"{path}: {counted(len(empty), 'row', 'has', 'have')} no {name} (lines {places}): drop "
            "them"
        )
    return table


def column_names(path: Path) -> list[str]:
    """Names of a CSV's columns, without its rows.

    Raises:
        UserError: no such file, or no table.
    """
    return [str(name) for name in _read_cells(path, rows=0).columns]


def _read_cells(path: Path, *, rows: int | None = None) -> "pd.DataFrame":
    """The cells of a CSV as text, of all rows or of some."""
    import pandas as pd

    try:
        encoding = _encoding_of(path)
        separator, names = _layout(_first_lines(path, encoding))
        with warnings.catch_warnings():
            # Cells beyond the header would be lost with a warning.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=separator,
                names=names,
                dtype=str,
                keep_default_na=False,
                encoding=encoding,
                index_col=False,
                nrows=rows,
                compression=None,  # by its content, not by its name
            )
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(_no_table(path)) from None
    except (
        pd.errors.EmptyDataError,
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        UnicodeDecodeError,
    ) as error:
        raise UserError(
            f"{path}: not a CSV table ({error}): need a header, and rows of as many cells, with "
            "commas, semicolons or tabs between them"
        ) from None


def table_form(path: Path) -> tuple[str, bool]:
    """(what separates the cells of a table, whether it has a header)."""
    separator, names = _layout(_first_lines(path, _encoding_of(path)))
    return separator, names is None


def _first_lines(path: Path, encoding: str) -> list[str]:
    with path.open(encoding=encoding, errors="replace") as stream:
        return [line.strip("\r\n ") for line in itertools.islice(stream, LOOKED_AT)]


def _layout(lines: Sequence[str]) -> tuple[str, list[str] | None]:
    """The separator of a table's first lines, and names of its columns where it has no header.

    A list without header begins with a file, a path, or what reads like the ids below it: digits
    stand where theirs do.
    """
    first, *rest = lines or [""]
    # A separator inside quotes is rare in a header; whichever comes most often wins.
    separator = max(SEPARATORS, key=first.count)
    if not first.count(separator) and all(map(_is_file, first.split())):
        separator = r"\s+"
    cells = [cell.strip() for cell in re.split(separator, first)]
    below = [re.split(separator, line)[0] for line in rest if line]
    alike = sum(_shape(line) == _shape(cells[0]) for line in below)
    is_id = any(map(str.isdigit, cells[0])) and 2 * alike > len(below)
    if not (_is_file(cells[0]) or is_id):
        return separator, None
    paths = all(map(_is_file, cells)) and (len(cells) > 1 or "/" in first)
    names = ("image", "mask") if paths else ("img",)
    return separator, [*names, *(f"column {at + 1}" for at in range(len(names), len(cells)))]


def _is_file(cell: str) -> bool:
    return len(cell) > 4 and cell.lower().endswith(image_suffixes())


def _shape(text: str) -> str:
    """A text with every run of digits as one 0, and of letters as one a."""
    return re.sub(r"[A-Za-z]+", "a", re.sub(r"\d+", "0", text.strip()))


def _join_ids(table: "pd.DataFrame", template: str) -> "pd.DataFrame":
    """With the ids that ID_COLUMN joins from several columns, `{case}_{day}`, in one before them.

    Raises:
        UserError: it names a column that the table lacks, beside one that it has.
    """
    names = re.findall(r"\{(.+?)\}", template)
    missing = [name for name in names if name not in table]
    if not names or len(missing) == len(names):
        return table
    if missing:
        named_column(table, missing[0], "ID_COLUMN", "the table")
    rows = table[names].to_dict("records")
    table.insert(0, template, [template.format_map(row) for row in rows])
    return table


def _encoding_of(path: Path) -> str:
    """UTF-8, UTF-16 by its mark, or Windows' Latin letters where it is neither.

    Raises:
        UserError: the beginning of the file is that of another format.
    """
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"PK") and EXCEL in start:
        raise UserError(f"{path}: is an Excel workbook, not a CSV table: save its sheet as CSV")
    for marks, what in NO_TABLES.items():
        if start.startswith(marks):
            raise UserError(f"{path}: {what}")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        with path.open(encoding="utf-8", newline="") as text:
            while text.read(1 << 20):  # all of it: the first letter that tells may come late
                pass
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _no_table(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{path}: no such file, and no folder {folder}: pass --input <folder of the data>"
    if path.is_dir():
        return f"{path}: is a folder, need a CSV: move it away, or set TRAIN_CSV or TEST_CSV"
    tables = sorted(name for name in os.listdir(folder) if name.endswith(".csv"))
    there = f"the folder holds {', '.join(tables[:8])}" if tables else "the folder holds no CSV"
    return f"{path}: no such file.{nearest(path.name, tables)} {there}: set TRAIN_CSV or TEST_CSV"


def named_column(table: "pd.DataFrame", column: str, knob: str, name: str) -> str | None:
    """The column a knob names, None for auto or empty.

    Raises:
        UserError: the table does not have it.
    """
    if column in (AUTO, ""):
        return None
    if column in table.columns:
        return column
    if "{" in column:
        return None  # ids that another table joins
    known = [str(c) for c in table.columns]
    raise UserError(
        f"{name}: no column {column!r}.{nearest(column, known)} It has: {', '.join(known)}. "
        f"Set {knob} to one of them"
    )
