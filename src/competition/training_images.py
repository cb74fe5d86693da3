"""The training images of a competition, one row each: where image and mask lie, what is known."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from competition.contents import contents_line
from competition.listings import find_train_names
from competition.masks import build_masks, mask_format
from competition.row_files import attach_files, drop_absent
from competition.second_table import join_second, one_row_an_image
from competition.spec import Competition
from competition.tables import (
    Columns,
    holds_files,
    holds_outlines,
    image_id,
    table_rows,
    train_table,
)
from core.advice import command
from core.errors import UserError, raise_all
from core.gates import check_ids
from core.quantities import counted
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

    def keep(self, kept: np.ndarray, note: str) -> "TrainingImages":
        """Some of the images, bool (N,), and a note on it."""
        table, classes = self.table[kept].reset_index(drop=True), self.classes
        return TrainingImages(
            table,
            areas=None if self.areas is None else self.areas[kept],
            classes=None if classes is None else classes[classes["img"].isin(table["img"])],
            notes=[*self.notes, note],
        )


def collect_images(competition: Competition) -> TrainingImages:
    """Images of TRAIN_CSV, or of the folder TRAIN_PATH when it is empty, or none is there or named.

    Raises:
        UserError: no images, ids that repeat, images or masks that are missing (all of them).
    """
    empty = competition.train_csv == competition.input
    if empty or not (competition.train_csv.exists() or competition.table_chosen):
        return _from_folder(competition)
    raw, columns = train_table(competition)
    ids = raw[columns.id].map(image_id)
    _check_folders(raw[columns.id], ids, competition.train_csv.name)
    masks = build_masks(competition)
    classes = raw[columns.cls] if columns.cls else None
    rows = table_rows(ids, classes)
    if rows != "image" and not masks.several_rows:
        _refuse_duplicates(ids, competition.train_csv.name, mask_format(competition))
    table = one_row_an_image(raw, ids, columns, keep_class=rows == "image")
    table, dropped = drop_absent(table, competition, masks)
    if dropped:
        raw, ids = raw[ids.isin(table["img"])], ids[ids.isin(table["img"])]
    named = raw[columns.id].groupby(ids, sort=False).first()
    absent = _absent_images(table, competition) if masks.several_rows else []
    if absent:
        added = pd.DataFrame({"img": absent}).reindex(columns=table.columns, fill_value="")
        table = pd.concat([table, added], ignore_index=True)
    notes = attach_files(table, competition, masks, raw_ids=named, dropped=dropped)
    if absent:
        notes.append(
            f"{counted(len(absent), 'image', 'is', 'are')} in no row: "
            f"{'its mask is' if len(absent) == 1 else 'their masks are'} empty (ABSENT)"
        )
    areas = None
    cells = None if competition.mask_format == "raters" or not columns.rle else raw[columns.rle]
    if cells is not None and not (holds_outlines(cells) or holds_files(cells)):
        texts = cells
        if columns.cls and competition.task == "multiclass":
            # Class 0 is the background there.
            texts = texts.where(raw[columns.cls].str.strip() != str(competition.class_base), "")
        areas = np.append(sum_areas(ids, texts), np.zeros(len(absent), np.int64))
    check_ids(table["img"], "ids of training images: call the files otherwise:")
    table = _join(table, competition)
    return TrainingImages(table, areas, _class_rows(raw, ids, columns), notes)


def _absent_images(table: pd.DataFrame, competition: Competition) -> list[str]:
    """Images of TRAIN_PATH that no row names, sorted, when ABSENT says that they are empty."""
    if competition.absent != "empty":
        return []
    return sorted(find_train_names(competition).keys() - set(table["img"]))


def _join(table: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """With the columns of META_CSV, where one is named."""
    path = competition.input / competition.meta_csv
    return join_second(table, path) if competition.meta_csv else table


def _from_folder(competition: Competition) -> TrainingImages:
    folder = competition.train_path
    if not folder.is_dir():
        otherwise = (
            f"{command('look')} writes the flags for it into recipes/, or set TRAIN_PATH, "
            "MASK_PATH and TRAIN_CSV"
        )
        there = contents_line(competition.input, otherwise, [competition.train_csv, folder])
        raise UserError(
            f"no training images: neither {competition.train_csv} nor the folder {folder} "
            f"exists. {there}"
        )
    masks = build_masks(competition)
    table = pd.DataFrame({"img": sorted(find_train_names(competition))})
    check_ids(table["img"], "ids of training images: call the files otherwise:")
    table, dropped = drop_absent(table, competition, masks)
    table_path = competition.train_csv
    named = "TRAIN_CSV is empty" if table_path == competition.input else f"no table {table_path}"
    notes = [f"{named}: took the images of {folder}"]
    notes += attach_files(table, competition, masks, dropped=dropped)
    return TrainingImages(_join(table, competition), None, None, notes)


def _check_folders(raw: pd.Series, ids: pd.Series, name: str) -> None:
    """Makes sure that paths in a column of ids that differ in their folder are no one image.

    Raises:
        UserError: lists those that are.
    """
    folders = raw.str.replace("\\", "/").str.strip().str.rpartition("/")[0]
    counts = folders.groupby(ids, sort=False).nunique()
    twice = ids.isin(counts.index[counts > 1])
    paths = raw[twice].groupby(ids[twice], sort=False).unique()
    problems = [f"{img}: {', '.join(several[:2])}" for img, several in paths.items()]
    raise_all(
        problems,
        f"{name}: files of several folders have one id. Join what tells them apart in ID_COLUMN, "
        "{folder}_{file}, or call the files otherwise:",
    )


def _refuse_duplicates(ids: pd.Series, name: str, kind: str) -> None:
    counts = ids.value_counts(sort=False)
    problems = [f"{img}: {n} rows" for img, n in counts[counts > 1].items()]
    raise_all(
        problems,
        f"{name}: ids must be unique when masks are files (MASK_FORMAT is {kind}). Keep one row "
        "each, or set MASK_FORMAT=rle if the rows are instances or classes:",
    )


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
