"""The competition's own tables and listings: ids, columns, where images and masks are."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from core.errors import UserError, nearest
from imaging.images import IMAGE_SUFFIXES, list_images
from imaging.rle import is_empty_rle

if TYPE_CHECKING:
    import pandas as pd

    from competition.masks import MaskSource

Rows = Literal["image", "class", "instance"]
AUTO = "auto"
RLE_NAME = re.compile(r"rle|encoded|pixels", re.IGNORECASE)
CLASS_NAME = re.compile(r"class|label", re.IGNORECASE)
RLE_TEXT = re.compile(r"\s*\d+\s+\d+(\s+\d+\s+\d+)*\s*")
# A cell of a large mask may hold 100 KB; its beginning tells as much.
PEEK = 60
SEPARATORS = (",", ";", "\t")


class Columns(NamedTuple):
    """Names of a table's columns; None for one it does not have."""

    id: str
    rle: str | None
    cls: str | None


def image_id(name: str) -> str:
    """A name without folder and image suffix: 'a/b/x.jpg' is 'x', 'v1.2' stays 'v1.2'."""
    base = name.strip().replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = base.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else base


def read_table(path: str | Path, id_column: str = AUTO) -> "pd.DataFrame":
    """A competition's CSV, every cell as text ("" where empty), rows in the file's order.

    Commas, semicolons and tabs separate; an unnamed column of row numbers is dropped. Ids are
    left as they are written: `image_id` shortens them.

    Raises:
        UserError: no such file, no rows, no column `id_column`, rows without an id.
    """
    import pandas as pd

    path = Path(path)
    try:
        # A separator inside quotes is rare in a header; whichever comes most often wins.
        with path.open(encoding="utf-8-sig", errors="replace") as stream:
            header = stream.readline()
        separator = max(SEPARATORS, key=header.count)
        table = pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig",
            index_col=False,
        )  # fmt: skip
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError(_no_table(path)) from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV table ({error}): download it again") from None
    if table.columns[0].startswith("Unnamed:") and len(table.columns) > 1:
        table = table.iloc[:, 1:]
    if not len(table):
        raise UserError(f"{path}: has a header but no rows: download it again")
    name = _named(table, id_column, "ID_COLUMN", path.name) or str(table.columns[0])
    empty = (table[name].str.strip() == "").to_numpy().nonzero()[0]
    if len(empty):
        lines = ", ".join(str(at + 2) for at in empty[:10])
        raise UserError(f"{path}: {len(empty)} rows have no {name} (lines {lines}): drop them")
    return table


def _no_table(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{path}: no such file, and no folder {folder}: pass --input <folder of the data>"
    tables = sorted(name for name in os.listdir(folder) if name.endswith(".csv"))
    there = f"the folder holds {', '.join(tables[:8])}" if tables else "the folder holds no CSV"
    return f"{path}: no such file.{nearest(path.name, tables)} {there}: set TRAIN_CSV or TEST_CSV"


def _named(table: "pd.DataFrame", column: str, knob: str, name: str) -> str | None:
    """The column a knob names, None for auto or empty.

    Raises:
        UserError: the table does not have it.
    """
    if column in (AUTO, ""):
        return None
    if column in table.columns:
        return column
    known = [str(c) for c in table.columns]
    raise UserError(
        f"{name}: no column {column!r}.{nearest(column, known)} It has: {', '.join(known)}. "
        f"Set {knob} to one of them"
    )


def table_columns(
    table: "pd.DataFrame",
    *,
    id_column: str = AUTO,
    rle_column: str = AUTO,
    class_column: str = AUTO,
    name: str = "the table",
) -> Columns:
    """Which column is which in a training table.

    auto: the id is the first; run lengths are in a column named like rle, encoded or pixels, else
    in the last if its cells read like run lengths; the class is in a column named like class or
    label.

    Raises:
        UserError: a named column is missing.
    """
    first = _named(table, id_column, "ID_COLUMN", name) or str(table.columns[0])
    others = [str(c) for c in table.columns if c != first]
    rle = _named(table, rle_column, "RLE_COLUMN", name)
    if rle is None:
        rle = next((c for c in reversed(others) if RLE_NAME.search(c)), None)
    if rle is None and others and _looks_like_rle(table[others[-1]]):
        rle = others[-1]
    cls = _named(table, class_column, "CLASS_COLUMN", name)
    if cls is None:
        cls = next((c for c in others if c != rle and CLASS_NAME.search(c)), None)
    return Columns(first, rle, cls)


def sample_columns(
    table: "pd.DataFrame",
    *,
    id_column: str = AUTO,
    rle_column: str = AUTO,
    class_column: str = AUTO,
    name: str = "sample_submission.csv",
) -> Columns:
    """Which column is which in a sample submission: its last holds masks unless a name says else.

    Raises:
        UserError: a named column is missing, or there is one column only.
    """
    found = table_columns(
        table, id_column=id_column, rle_column=rle_column, class_column=class_column, name=name
    )
    others = [str(c) for c in table.columns if c != found.id]
    if not others:
        raise UserError(
            f"{name}: has one column, {found.id!r}, need ids and masks: download it again"
        )
    rle = found.rle or next((c for c in reversed(others) if c != found.cls), others[-1])
    cls = None if found.cls == rle else found.cls
    if cls is None and len(others) == 2 and table[found.id].duplicated().any():
        cls = next(c for c in others if c != rle)
    return Columns(found.id, rle, cls)


def read_sample(config: Any) -> "tuple[pd.DataFrame, Columns]":
    """The sample submission, and which of its columns is which.

    Raises:
        UserError: as `read_table` and `sample_columns`.
    """
    table = read_table(config.TEST_CSV, config.ID_COLUMN)
    columns = sample_columns(
        table,
        id_column=config.ID_COLUMN,
        rle_column=config.RLE_COLUMN,
        class_column=config.CLASS_COLUMN,
        name=config.TEST_CSV.name,
    )
    return table, columns


def _looks_like_rle(cells: "pd.Series") -> bool:
    filled = cells[cells != ""].head(20)
    texts = [text if len(text) <= PEEK else text[:PEEK].rpartition(" ")[0] for text in filled]
    pairs = [t if len(t.split()) % 2 == 0 else t.rpartition(" ")[0] for t in texts]
    return any(pairs) and all(
        RLE_TEXT.fullmatch(pair) or is_empty_rle(text)
        for pair, text in zip(pairs, texts, strict=True)
    )


def table_rows(ids: Iterable[str], classes: Iterable[str] | None = None) -> Rows:
    """What a row of a table stands for: an image, an image and class, or an instance."""
    ids = list(ids)
    if len(set(ids)) == len(ids):
        return "image"
    if classes is not None and len(set(zip(ids, classes, strict=True))) == len(ids):
        return "class"
    return "instance"


def find_images(folder: Path, suffix: str = AUTO) -> dict[str, Path]:
    """The images of a folder by id, as `find_names`."""
    return {img: folder / name for img, name in find_names(folder, suffix).items()}


def find_names(folder: Path, suffix: str = AUTO) -> dict[str, str]:
    """File names of a folder's images by id; with a suffix only names that end so, cut there.

    Raises:
        UserError: no such folder, two files of one id, or no image in it.
    """
    found = list_images(folder)
    if suffix != AUTO:
        found = {n[: -len(suffix)]: n for n in found.values() if n.endswith(suffix)}
    if not found:
        ends = ", ".join(IMAGE_SUFFIXES) if suffix == AUTO else suffix
        raise UserError(f"{folder}: no image in it ({ends}): set TRAIN_PATH or IMAGE_SUFFIX")
    return found


def mask_format(chosen: str, mask_path: Path, has_rle: bool) -> str:
    """image, rle or instances: auto takes files when their folder exists, else run lengths.

    Raises:
        UserError: auto, and neither is there; or rle, and the table has no run lengths.
    """
    if chosen == AUTO and mask_path.is_dir():
        return "image"
    if chosen in (AUTO, "rle") and not has_rle:
        raise UserError(
            f"no masks: {'no folder ' + str(mask_path) + ' and ' if chosen == AUTO else ''}"
            "no column of run lengths in TRAIN_CSV: set MASK_PATH, or RLE_COLUMN"
        )
    return "rle" if chosen == AUTO else chosen


def mask_source(config: Any) -> "MaskSource":
    """Where the training masks of a configuration come from; picklable.

    Args:
        config: the module of `load_config`, or anything with its names.

    Raises:
        UserError: no masks, a broken table, or INSTANCES=border and objects that have no names.
    """
    source = _mask_source(config)
    if config.INSTANCES == "border" and not getattr(source, "has_instances", False):
        raise UserError(
            f"INSTANCES=border: the masks do not tell objects apart (MASK_FORMAT="
            f"{config.MASK_FORMAT}). Need a row an object in TRAIN_CSV, or MASK_FORMAT=instances; "
            "else set INSTANCES=components"
        )
    return source


def _mask_source(config: Any) -> "MaskSource":
    from competition.masks import FileMasks, InstanceFolderMasks, MaskRules

    table_name = config.TRAIN_CSV.name
    # Only a table that is needed is read: Carvana's holds 50 MB.
    if config.MASK_FORMAT == "rle" or (
        config.MASK_FORMAT == AUTO and not config.MASK_PATH.is_dir()
    ):
        return _rle_source(config)
    if config.MASK_FORMAT == "instances":
        return InstanceFolderMasks(config.MASK_PATH, threshold=config.MASK_THRESHOLD)
    rules = MaskRules(
        config.TASK,
        classes=config.CLASSES,
        values=config.MASK_VALUES,
        threshold=config.MASK_THRESHOLD,
        ignore=config.IGNORE_INDEX,
    )
    return FileMasks(rules, config.INPUT, table=table_name)


def _rle_source(config: Any) -> "MaskSource":
    import pandas as pd

    from competition.masks import RleMasks

    table = read_table(config.TRAIN_CSV, config.ID_COLUMN)
    columns = table_columns(
        table,
        id_column=config.ID_COLUMN,
        rle_column=config.RLE_COLUMN,
        class_column=config.CLASS_COLUMN,
        name=config.TRAIN_CSV.name,
    )
    mask_format("rle", config.MASK_PATH, columns.rle is not None)
    rows = {"img": table[columns.id].map(image_id), "rle": table[columns.rle]}
    if columns.cls and config.TASK != "binary":
        numbers = pd.to_numeric(table[columns.cls], errors="coerce") - config.CLASS_BASE
        if numbers.isna().any() and config.CLASS_NAMES:
            numbers = table[columns.cls].map({n: i for i, n in enumerate(config.CLASS_NAMES)})
        # What is no number stays text: the source names it in its error.
        rows["class"] = numbers.astype(object).where(numbers.notna(), table[columns.cls])
    return RleMasks(
        pd.DataFrame(rows),
        task=config.TASK,
        classes=config.CLASSES,
        order=config.RLE_ORDER,
        base=config.RLE_BASE,
        overlap="first",  # DSB2018's nuclei share a pixel or two in five of its images
        name=config.TRAIN_CSV.name,
    )
