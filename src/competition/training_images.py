"""The training images of a competition, one row each: where image and mask lie, what is known."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from competition.tables import (
    Columns,
    find_names,
    image_id,
    mask_format,
    read_table,
    table_columns,
    table_rows,
)
from core.errors import UserError, raise_all
from imaging.rle import is_empty_rle, rle_areas


class TrainingImages(NamedTuple):
    """What folds are made from.

    Attributes:
        table: one row an image: img, image, mask (posix, relative to INPUT), the CSV's own
            columns that are the same in all rows of an image.
        areas: foreground pixels, int64 (N,), or None when only decoding tells.
        classes: rows with a class, as img and class; None without a class column.
        notes: what the user should know, a line each.
    """

    table: pd.DataFrame
    areas: np.ndarray | None
    classes: pd.DataFrame | None
    notes: list[str]


def collect_images(config: Any) -> TrainingImages:
    """Images of TRAIN_CSV, or of the folder TRAIN_PATH when there is no such file.

    Args:
        config: the module of `load_config`, or anything with its names.

    Raises:
        UserError: no images, ids that repeat, images or masks that are missing (all of them).
    """
    if not config.TRAIN_CSV.is_file():
        return _from_folder(config)
    raw = read_table(config.TRAIN_CSV, config.ID_COLUMN)
    columns = table_columns(
        raw,
        id_column=config.ID_COLUMN,
        rle_column=config.RLE_COLUMN,
        class_column=config.CLASS_COLUMN,
        name=config.TRAIN_CSV.name,
    )
    kind = "image"
    if "mask" not in raw or columns.rle == "mask":
        kind = mask_format(config.MASK_FORMAT, config.MASK_PATH, columns.rle is not None)
    ids = raw[columns.id].map(image_id)
    classes = raw[columns.cls] if columns.cls else None
    rows = table_rows(ids, classes)
    if rows != "image" and kind != "rle":
        _refuse_duplicates(ids, config.TRAIN_CSV.name, kind)
    table = one_row_an_image(raw, ids, columns, keep_class=rows == "image")
    notes = _attach(table, config, kind, raw_ids=raw[columns.id].groupby(ids, sort=False).first())
    areas = None
    if columns.rle:
        texts = raw[columns.rle]
        if columns.cls and config.TASK == "multiclass":
            # Class 0 is background there, as in RleMasks.areas.
            texts = texts.where(raw[columns.cls].str.strip() != str(config.CLASS_BASE), "")
        areas = sum_areas(ids, texts)
    return TrainingImages(table, areas, _class_rows(raw, ids, columns), notes)


def _from_folder(config: Any) -> TrainingImages:
    if not config.TRAIN_PATH.is_dir():
        raise UserError(
            f"no training images: neither {config.TRAIN_CSV} nor the folder {config.TRAIN_PATH} "
            "exists. Put the competition's data there, set INPUT, TRAIN_CSV and TRAIN_PATH, or "
            "make a toy one: python src/demo_data.py"
        )
    kind = mask_format(config.MASK_FORMAT, config.MASK_PATH, has_rle=False)
    images = find_names(config.TRAIN_PATH, config.IMAGE_SUFFIX)
    table = pd.DataFrame({"img": sorted(images)})
    notes = [f"no table {config.TRAIN_CSV}: took the images of {config.TRAIN_PATH}"]
    return TrainingImages(table, None, None, notes + _attach(table, config, kind))


def _refuse_duplicates(ids: pd.Series, name: str, kind: str) -> None:
    counts = ids.value_counts(sort=False)
    problems = [f"{img}: {n} rows" for img, n in counts[counts > 1].items()]
    raise_all(
        problems,
        f"{name}: ids must be unique when masks are files (MASK_FORMAT is {kind}). Keep one row "
        "each, or set MASK_FORMAT=rle if the rows are instances or classes:",
    )


def one_row_an_image(
    raw: pd.DataFrame, ids: pd.Series, columns: Columns, *, keep_class: bool
) -> pd.DataFrame:
    """img and the columns whose cells agree within every image, in order of appearance.

    Run lengths never survive; the class does when a row is an image.
    """
    dropped = {columns.id, columns.rle, "img"} | (set() if keep_class else {columns.cls})
    codes, names = pd.factorize(ids)
    first = np.full(len(names), len(ids), np.int64)
    np.minimum.at(first, codes, np.arange(len(ids)))
    kept = {"img": np.asarray(names, dtype=object)}
    for column in raw.columns:
        if column in dropped and column not in ("image", "mask"):
            continue
        if column == columns.rle:
            continue
        cells = raw[column].to_numpy(dtype=object)
        if (cells[first][codes] == cells).all():
            kept[str(column)] = cells[first]
    return pd.DataFrame(kept)


def _class_rows(raw: pd.DataFrame, ids: pd.Series, columns: Columns) -> pd.DataFrame | None:
    if columns.cls is None:
        return None
    found = pd.DataFrame({"img": ids, "class": raw[columns.cls]})
    if columns.rle is not None:
        found = found[[not is_empty_rle(text) for text in raw[columns.rle]]]
    return found.drop_duplicates()


def sum_areas(ids: pd.Series, texts: Iterable[str]) -> np.ndarray:
    """Foreground pixels of each image, int64 (N,), in order of first appearance."""
    codes, names = pd.factorize(ids)
    areas = np.zeros(len(names), np.int64)
    np.add.at(areas, codes, rle_areas(list(texts), list(ids)))
    return areas


def _attach(
    table: pd.DataFrame, config: Any, kind: str, *, raw_ids: "pd.Series | None" = None
) -> list[str]:
    """Fills the columns image and mask in place; raises for all that is missing."""
    problems: list[str] = []
    root = config.INPUT
    notes: list[str] = []
    if "image" in table and (raw_ids is None or not _same(table["image"], raw_ids)):
        image = honour(table["image"], (root, config.TRAIN_PATH), root)
        problems += _missing(table["image"], image, "image", config.TRAIN_PATH)
    else:
        images = find_names(config.TRAIN_PATH, config.IMAGE_SUFFIX)
        prefix = _prefix(config.TRAIN_PATH, root)
        image = [prefix + images[img] if img in images else "" for img in table["img"]]
        problems += _missing(table["img"], image, "image", config.TRAIN_PATH)
        spare = len(images.keys() - set(table["img"]))
        if spare:
            notes.append(f"{spare} images of {config.TRAIN_PATH.name} are in no row: left out")
    mask, lacking = _masks(table, config, kind)
    problems += lacking
    name = config.TRAIN_CSV.name
    raise_all(
        problems,
        f"{len(problems)} files that {name if raw_ids is not None else config.TRAIN_PATH.name} "
        "needs are missing: add them, drop their rows, or mend TRAIN_PATH, MASK_PATH, "
        f"IMAGE_SUFFIX, MASK_SUFFIX:{_hint(lacking, table, config)}",
    )
    for at, (column, paths) in enumerate((("image", image), ("mask", mask)), start=1):
        if column in table:
            table.pop(column)
        table.insert(at, column, paths)
    return notes


def _masks(table: pd.DataFrame, config: Any, kind: str) -> tuple[list[str], list[str]]:
    """The column mask and what is missing of it."""
    root = config.INPUT
    if "mask" in table:
        mask = honour(table["mask"], (root, config.MASK_PATH), root)
        return mask, _missing(table["mask"], mask, "mask", config.MASK_PATH)
    if kind == "rle":
        return [""] * len(table), []
    there = _names_in(config.MASK_PATH)
    suffix = config.MASK_SUFFIX if kind == "image" else ""
    wanted = table["img"] + suffix
    prefix = _prefix(config.MASK_PATH, root)
    found = [prefix + name if name in there else "" for name in wanted]
    lacking = _missing(wanted, found, "mask", config.MASK_PATH)
    return (found if kind == "image" else [""] * len(table)), lacking


def _hint(lacking: Sequence[str], table: pd.DataFrame, config: Any) -> str:
    """A word on MASK_SUFFIX when no mask at all was found."""
    if len(lacking) < len(table) or not config.MASK_PATH.is_dir():
        return ""
    there = sorted(_names_in(config.MASK_PATH))[:3]
    return f" (no mask ends in {config.MASK_SUFFIX!r}; {config.MASK_PATH.name} holds {there})"


def _same(one: pd.Series, other: pd.Series) -> bool:
    """Whether the column `image` is the id column and holds bare names, not paths."""
    return list(one) == list(other) and not one.str.contains("/").any()


def _missing(wanted: Iterable[str], found: Sequence[str], what: str, folder: Path) -> list[str]:
    pairs = zip(wanted, found, strict=True)
    return [f"{name or '(empty cell)'}: no {what} in {folder}" for name, path in pairs if not path]


def honour(paths: Iterable[str], folders: Sequence[Path], root: Path) -> list[str]:
    """Given paths as they stand under `root` ("" when missing), tried from each folder in turn.

    One listing a folder answers for all its files: network disks make 100,000 stats slow.
    """
    listings: dict[str, set[str]] = {}
    bases = [(str(folder), _prefix(folder, root)) for folder in dict.fromkeys(folders)]

    def exists(path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in listings:
            listings[folder] = _names_in(Path(folder))
        return name in listings[folder]

    def place(path: str) -> str:
        path = path.strip().replace("\\", "/").removeprefix("./")
        if path.startswith("/"):
            return _relative(Path(path), root) if exists(path) else ""
        for base, prefix in bases:
            if path and exists(f"{base}/{path}"):
                return prefix + path
        return ""

    return [place(path) for path in paths]


def _names_in(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except OSError:
        return set()


def _relative(path: Path, root: Path) -> str:
    """Posix path from the root; absolute outside of it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _prefix(folder: Path, root: Path) -> str:
    """What stands before a name of the folder in a path from the root."""
    relative = _relative(folder, root)
    return "" if relative == "." else f"{relative}/"
