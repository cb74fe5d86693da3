"""The training images of a competition, one row each: where image and mask lie, what is known."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from competition.listings import find_mask_names, find_train_images, find_train_names
from competition.mask_source import MaskSource
from competition.masks import build_masks, mask_format
from competition.patterns import Found, same_name
from competition.places import names_in, place_files, prefix_of
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
from core.gates import check_ids, is_whole_number
from imaging.rle import is_empty_rle, rle_areas

# Files and folders of INPUT that an error lists.
NAMED = 8
# Digits of a number in an id that are tried.
MOST_DIGITS = 13


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
    """Images of TRAIN_CSV, or of the folder TRAIN_PATH when nobody named a table and none is there.

    Raises:
        UserError: no images, ids that repeat, images or masks that are missing (all of them).
    """
    if not (competition.train_csv.exists() or competition.table_chosen):
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
    table, dropped = _drop_absent(table, competition, masks)
    if dropped:
        raw, ids = raw[ids.isin(table["img"])], ids[ids.isin(table["img"])]
    named = raw[columns.id].groupby(ids, sort=False).first()
    absent = _absent_images(table, competition) if masks.several_rows else []
    if absent:
        added = pd.DataFrame({"img": absent}).reindex(columns=table.columns, fill_value="")
        table = pd.concat([table, added], ignore_index=True)
    notes = _attach(table, competition, masks, raw_ids=named)
    if absent:
        notes.append(f"{len(absent)} images are in no row: their masks are empty (ABSENT)")
    notes += dropped
    areas = None
    if columns.rle and not (holds_outlines(raw[columns.rle]) or holds_files(raw[columns.rle])):
        texts = raw[columns.rle]
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
        raise UserError(
            f"no training images: neither {competition.train_csv} nor the folder {folder} "
            f"exists. {_what_there_is(competition.input)}"
        )
    masks = build_masks(competition)
    table = pd.DataFrame({"img": sorted(find_train_names(competition))})
    check_ids(table["img"], "ids of training images: call the files otherwise:")
    table, dropped = _drop_absent(table, competition, masks)
    notes = [f"no table {competition.train_csv}: took the images of {folder}", *dropped]
    notes += _attach(table, competition, masks)
    return TrainingImages(_join(table, competition), None, None, notes)


def _what_there_is(root: Path) -> str:
    """What INPUT holds instead of what was looked for, and what to do about it."""
    found = sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in (root.iterdir() if root.is_dir() else ())
        if not path.name.startswith(".")
    )
    if not found:
        return f"Put the competition's data into {root}, or make a toy one: python src/demo_data.py"
    named = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" * (len(found) > NAMED))
    return (
        f"{root} holds {named}: {command('look')} writes the flags for it into recipes/, or set "
        "TRAIN_PATH, MASK_PATH and TRAIN_CSV"
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


def _attach(
    table: pd.DataFrame,
    competition: Competition,
    masks: MaskSource,
    *,
    raw_ids: pd.Series | None = None,
) -> list[str]:
    """Fills the columns image and mask in place; returns notes, raises for all that is missing."""
    image, problems, notes = _find_images(table, competition, raw_ids)
    mask, lacking = _find_masks(table, competition, masks)
    asks = competition.train_path if raw_ids is None else competition.train_csv
    problems += lacking
    raise_all(
        problems,
        f"{len(problems)} files that {asks.name} needs are missing: add them, drop their rows, or "
        "mend TRAIN_PATH, MASK_PATH, IMAGE_SUFFIX, MASK_SUFFIX or the patterns:"
        f"{_hint(lacking, table, competition)}",
    )
    for at, (column, paths) in enumerate((("image", image), ("mask", mask)), start=1):
        if column in table:
            table.pop(column)
        table.insert(at, column, paths)
    return notes


def _find_images(
    table: pd.DataFrame, competition: Competition, raw_ids: pd.Series | None
) -> tuple[list[str], list[str], list[str]]:
    """The column image, what is missing of it, and notes."""
    root, folder = competition.input, competition.train_path
    if "image" in table and (raw_ids is None or not _same(table["image"], raw_ids)):
        image = place_files(table["image"], (root, folder), root)
        return image, _missing(table["image"], image, "image", folder), []
    if raw_ids is not None and not competition.image_pattern and _are_paths(raw_ids, table):
        image = place_files(raw_ids, (root, folder), root)
        if all(image):
            return image, [], []
    images = find_train_images(competition)
    prefix = prefix_of(folder, root)
    image = [prefix + images[img].path if img in images else "" for img in table["img"]]
    _add_parts(table, images)
    spare = len(images.keys() - set(table["img"]))
    notes = [f"{spare} images of {folder.name} are in no row: left out"] if spare else []
    wanted = [_with_zeros(img, images) for img in table["img"]]
    return image, _missing(wanted, image, "image", folder), notes


def _same_number(img: str, known: Callable[[str], bool]) -> tuple[str, str]:
    """The id of the same number with more or fewer zeros that is known, and what mends it; "".

    Args:
        img: an id that is not.
        known: whether an id is.
    """
    if not is_whole_number(img):
        return "", ""
    others = (img.lstrip("0").zfill(digits) for digits in range(1, MOST_DIGITS))
    other = next(filter(known, others), "")
    template = "{id:d}" if len(other) > len(img) else f"{{id:0{len(img)}}}"
    return other, f"ID_TEMPLATE={template}"


def _with_zeros(img: str, images: Mapping[str, Found]) -> str:
    """An id, with a word on the file of the same number where it has none."""
    other, template = ("", "") if img in images else _same_number(img, images.__contains__)
    if not other:
        return img
    path = images[other].path
    pattern = f"IMAGE_PATTERN={{id}}{Path(path).suffix}"
    return f"{img} ({path} is there: set {pattern} {template})"


def _add_parts(table: pd.DataFrame, images: Mapping[str, Found]) -> None:
    """Adds the parts of IMAGE_PATTERN as columns, where it has several and the table none so."""
    names = next(iter(images.values())).parts
    for name in names if len(names) > 1 else ():
        if name not in table:
            table[name] = [images[i].parts[name] if i in images else "" for i in table["img"]]


def _find_masks(
    table: pd.DataFrame, competition: Competition, masks: MaskSource
) -> tuple[list[str], list[str]]:
    """The column mask, and what is missing of it."""
    root, folder = competition.input, competition.mask_path
    unlisted = [img for img in table["img"] if not masks.lists(img)]
    if unlisted:
        return [""] * len(table), [_unlisted_word(img, folder, masks) for img in unlisted]
    if "mask" in table and masks.named:
        mask = place_files(table["mask"], (root, folder), root)
        return mask, _missing(table["mask"], mask, "mask", folder)
    nothing, wanted = [""] * len(table), [masks.expected(img) for img in table["img"]]
    if not any(wanted):
        return nothing, []
    there = _mask_files(competition, table["img"], wanted, named=masks.named)
    prefix = prefix_of(folder, root)
    found = [prefix + there[img] if img in there else "" for img in table["img"]]
    if competition.absent == "empty" and masks.named and any(found):
        return found, []
    asked = table["img"] if competition.mask_pattern and masks.named else wanted
    return found if masks.named else nothing, _missing(asked, found, "mask", folder)


def _unlisted_word(img: str, folder: Path, masks: MaskSource) -> str:
    other, template = _same_number(img, masks.lists)
    mend = "set ABSENT=empty if its mask is empty"
    if other:
        mend = f"{other} is: set {template}, and IMAGE_PATTERN, for instance {{id}}.jpg"
    return f"{img}: not in {folder.name}; {mend}"


def _mask_files(
    competition: Competition, ids: Iterable[str], wanted: Sequence[str], *, named: bool
) -> dict[str, str]:
    """Paths of the masks there are from MASK_PATH, by id."""
    if competition.mask_pattern and named:
        return find_mask_names(competition)
    spelled = {same_name(name): name for name in names_in(competition.mask_path)}
    pairs = zip(ids, map(same_name, wanted), strict=True)
    return {img: spelled[name] for img, name in pairs if name in spelled}


def _drop_absent(
    table: pd.DataFrame, competition: Competition, masks: MaskSource
) -> tuple[pd.DataFrame, list[str]]:
    """The table without images that have no mask, and a note, when ABSENT says so."""
    if competition.absent != "drop":
        return table, []
    has_mask = table["img"].map(masks.lists)
    wanted = [masks.expected(img) for img in table["img"]]
    if "mask" in table and masks.named:
        has_mask &= table["mask"].str.strip() != ""
    elif any(wanted):
        has_mask &= table["img"].isin(
            _mask_files(competition, table["img"], wanted, named=masks.named)
        )
    if not has_mask.any():
        return table, []  # which is told
    lost = int((~has_mask).sum())
    notes = [f"{lost} images have no mask: left out (ABSENT)"] if lost else []
    return table[has_mask].reset_index(drop=True), notes


def _hint(lacking: Sequence[str], table: pd.DataFrame, competition: Competition) -> str:
    """A word on MASK_SUFFIX when no mask at all was found."""
    folder, suffix = competition.mask_path, competition.mask_suffix
    if len(lacking) < len(table) or not folder.is_dir() or competition.mask_pattern:
        return ""
    return f" (no mask ends in {suffix!r}; {folder.name} holds {sorted(names_in(folder))[:3]})"


def _same(one: pd.Series, other: pd.Series) -> bool:
    """Whether the column `image` is the id column and holds bare names, not paths."""
    return list(one) == list(other) and not one.str.contains("/").any()


def _are_paths(raw_ids: pd.Series, table: pd.DataFrame) -> bool:
    """Whether the ids of all images are written as paths, with their folders."""
    return len(raw_ids) == len(table) and bool(raw_ids.str.contains("/").all())


def _check_folders(raw: pd.Series, ids: pd.Series, name: str) -> None:
    """Makes sure that paths in a column of ids that differ in their folder are no one image.

    Raises:
        UserError: lists those that are.
    """
    folders = raw.str.replace("\\", "/").str.strip().str.rpartition("/")[0]
    counts = folders.groupby(ids, sort=False).nunique()
    problems = [
        f"{img}: {', '.join(raw[ids == img].unique()[:2])}" for img in counts[counts > 1].index
    ]
    raise_all(
        problems,
        f"{name}: files of several folders have one id. Join what tells them apart in ID_COLUMN, "
        "{folder}_{file}, or call the files otherwise:",
    )


def _missing(wanted: Iterable[str], found: Sequence[str], what: str, folder: Path) -> list[str]:
    pairs = zip(wanted, found, strict=True)
    return [f"{name or '(empty cell)'}: no {what} in {folder}" for name, path in pairs if not path]
