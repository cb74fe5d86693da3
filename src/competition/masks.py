"""Mask formats: MASKS, a builder a format, and the one that a competition has."""

import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from competition.field_of_view import FieldOfView
from competition.file_masks import FileMasks, InstanceFolderMasks, LabelMasks
from competition.listings import find_object_names
from competition.mask_file_lists import CLASS_PART, read_class_files, read_object_files
from competition.mask_source import MaskSource
from competition.no_data import DataOnly
from competition.patterns import EXCLUDE
from competition.polygon_files import (
    ANNOTATION_SUFFIXES,
    annotation_files,
    coco_files,
    read_coco_masks,
    read_outlines,
    stamp_of,
)
from competition.polygon_table import read_outline_cells
from competition.rle_masks import RleMasks
from competition.run_cells import SIZE_COLUMN
from competition.run_layout import run_layout
from competition.soft_masks import (
    ProbabilityMasks,
    RaterFiles,
    RaterMasks,
    RaterRows,
    SharedMasks,
)
from competition.spec import Competition
from competition.table_files import AUTO, file_stamp
from competition.tables import (
    class_ids,
    holds_files,
    holds_outlines,
    image_id,
    train_table,
)
from core.errors import UserError
from core.rows import pick
from imaging.mask_files import MaskRules
from imaging.soft_labels import cut_of


def build_masks(competition: Competition) -> MaskSource:
    """The source of a competition's training masks; picklable.

    Raises:
        UserError: no masks, a broken table, or INSTANCES=border and objects that have no names.
    """
    name = mask_format(competition)
    source = pick(MASKS, name, "MASK_FORMAT")(competition)
    if competition.soft_labels:
        source = _soften(source, competition)
    if competition.valid_suffix:
        source = FieldOfView(source, competition.valid_path, competition.valid_suffix)
    if competition.ignore_nodata:
        source = DataOnly(source, competition.input, competition.pixels)
    if competition.instances == "border" and not source.has_objects:
        raise UserError(
            f"INSTANCES=border: the masks do not tell objects apart (MASK_FORMAT={name}). Need a "
            "row an object in TRAIN_CSV, or MASK_FORMAT=instances; else set INSTANCES=components"
        )
    return source


def mask_format(competition: Competition) -> str:
    """The row of MASKS: auto takes files when their folder exists, else what TRAIN_CSV holds.

    Raises:
        UserError: auto, and there is neither.
    """
    if competition.mask_format != AUTO:
        return competition.mask_format
    if competition.mask_path.suffix.lower() in ANNOTATION_SUFFIXES:
        return "polygons"
    if CLASS_PART in competition.mask_pattern:
        return "classes"
    if _names_files(competition):
        return "objects"
    if competition.mask_path.is_dir():
        return "polygons" if _holds_annotations(competition) else "image"
    if competition.train_csv.is_file():
        table, columns = train_table(competition)
        if "mask" in table and columns.rle != "mask":
            return "image"
        if columns.rle and competition.masks_chosen:
            raise UserError(
                f"MASK_PATH: no folder or annotation file {competition.mask_path}; leave it away "
                f"for the masks of {competition.train_csv.name}, column {columns.rle}"
            )
        if columns.rle:
            return "polygons" if holds_outlines(table[columns.rle]) else "rle"
    if competition.mask_path.is_file():
        raise UserError(
            f"MASK_PATH: {competition.mask_path} is no file of annotations "
            f"({', '.join(ANNOTATION_SUFFIXES)}): convert it, a shapefile, KML or GeoPackage by "
            "geopandas.read_file(path).to_file('masks.geojson'); or set MASK_FORMAT"
        )
    raise UserError(
        f"no masks: no folder {competition.mask_path} and no column of run lengths in TRAIN_CSV: "
        "set MASK_PATH, or RLE_COLUMN"
    )


def _names_files(competition: Competition) -> bool:
    """Whether RLE_COLUMN is of mask files."""
    if competition.rle_column == AUTO or not competition.train_csv.is_file():
        return False
    table, columns = train_table(competition)
    return holds_files(table[columns.rle])


def _holds_annotations(competition: Competition) -> bool:
    """Whether MASK_PATTERN names annotation files, or MASK_PATH's first files are such."""
    if competition.mask_pattern:
        name = competition.mask_pattern.partition(EXCLUDE)[0].strip().lower()
        if Path(name).suffix:
            return name.endswith(ANNOTATION_SUFFIXES)
    with os.scandir(competition.mask_path) as entries:
        names = (entry.name for entry in entries if entry.name[0] != "." and entry.is_file())
        first = list(itertools.islice(names, 8))
    return bool(first) and all(name.lower().endswith(ANNOTATION_SUFFIXES) for name in first)


def _soften(source: MaskSource, competition: Competition) -> MaskSource:
    """The source with its shares as what networks learn.

    Raises:
        UserError: it has none, or the task or other knobs have no room for them.
    """
    problem = ""
    if not isinstance(source, SharedMasks):
        problem = (
            f"masks of MASK_FORMAT={mask_format(competition)} are 0 or 1: need image or raters"
        )
    elif competition.task == "multiclass":
        problem = "TASK=multiclass has one class a pixel: need binary or multilabel"
    elif competition.instances == "border":
        problem = "INSTANCES=border needs objects: set INSTANCES=components"
    elif competition.mask_values is not None:
        problem = "MASK_VALUES are of classes: leave them away"
    if problem or not isinstance(source, SharedMasks):
        raise UserError(f"SOFT_LABELS=true, but {problem}; or set SOFT_LABELS=false")
    source.soft_cut = cut_of(source.cut_grey)
    return source


def _build_plain(competition: Competition) -> MaskSource:
    if not competition.soft_labels:
        return _build_files(competition)
    source = _build_files(competition, kind=ProbabilityMasks)
    assert isinstance(source, ProbabilityMasks)
    source.cut_grey = competition.mask_threshold
    return source


def _build_raters(competition: Competition) -> MaskSource:
    """Raters' files, arrays of all raters, or where there is neither rows of TRAIN_CSV."""
    if competition.mask_pattern:
        names = find_object_names(competition)
        if any(len(files) > 1 for files in names.values()):
            return _build_folders(competition, kind=RaterFiles)
    if competition.mask_pattern or competition.mask_path.is_dir():
        return _build_binary_files(competition, kind=RaterMasks)
    if competition.task == "multiclass":
        raise UserError(
            "MASK_FORMAT=raters: TASK=multiclass has one class a pixel: need binary or multilabel"
        )
    return _build_run_lengths(competition)


def _build_files(competition: Competition, *, kind: type[FileMasks] = FileMasks) -> MaskSource:
    rules = MaskRules(
        competition.task,
        classes=competition.classes,
        values=competition.mask_values,
        threshold=competition.mask_threshold,
        ignore=competition.ignore_index,
        axes=competition.mask_axes,
    )
    return kind(
        rules,
        competition.input,
        suffix=competition.mask_suffix,
        table=competition.train_csv.name,
        absent_is_empty=competition.absent == "empty",
    )


def _build_binary_files(competition: Competition, *, kind: type[FileMasks]) -> MaskSource:
    _check_binary(competition)
    return _build_files(competition, kind=kind)


def _check_binary(competition: Competition) -> None:
    if competition.task != "binary":
        raise UserError(
            f"MASK_FORMAT={competition.mask_format}: its masks have one class, TASK is "
            f"{competition.task}: set TASK=binary"
        )


def _build_folders(
    competition: Competition, *, kind: type[InstanceFolderMasks] = InstanceFolderMasks
) -> MaskSource:
    _check_binary(competition)
    return kind(
        competition.mask_path,
        find_object_names(competition) if competition.mask_pattern else None,
        threshold=competition.mask_threshold,
        absent_is_empty=competition.absent == "empty",
    )


def _build_run_lengths(competition: Competition) -> MaskSource:
    return _group_run_lengths(competition, file_stamp(competition.train_csv))


@functools.lru_cache(maxsize=4)
def _group_run_lengths(competition: Competition, stamp: object) -> MaskSource:
    import pandas as pd

    table, columns = train_table(competition)
    if columns.rle is None:
        raise UserError("no masks: no column of run lengths in TRAIN_CSV: set RLE_COLUMN")
    layout = run_layout(competition)
    rows = {"img": table[columns.id].map(image_id), "rle": table[columns.rle]}
    if columns.cls and competition.task != "binary":
        rows["class"] = class_ids(table[columns.cls], competition)
    if SIZE_COLUMN in table:
        rows["size"] = table[SIZE_COLUMN]
    kind = RaterRows if competition.mask_format == "raters" else RleMasks
    return kind(
        pd.DataFrame(rows),
        task=competition.task,
        classes=competition.classes,
        order=layout.order,
        base=layout.base,
        relative=layout.relative,
        absent_is_empty=competition.absent == "empty",
        overlap="first",  # DSB2018's nuclei share a pixel or two in five of its images
        name=competition.train_csv.name,
    )


def _build_coco(competition: Competition) -> MaskSource:
    return _read_coco(competition, stamp_of(coco_files(competition)))


@functools.lru_cache(maxsize=4)
def _read_coco(competition: Competition, stamp: object) -> MaskSource:
    return read_coco_masks(competition, coco_files(competition))


def _build_outlines(competition: Competition) -> MaskSource:
    path = competition.mask_path
    holds = path.is_file() or (path.is_dir() and _holds_annotations(competition))
    if holds or competition.masks_chosen or competition.mask_pattern:
        return _read_files(competition, stamp_of(annotation_files(competition)))
    return _read_cells(competition, file_stamp(competition.train_csv))


@functools.lru_cache(maxsize=4)
def _read_files(competition: Competition, stamp: object) -> MaskSource:
    return read_outlines(annotation_files(competition), competition)


@functools.lru_cache(maxsize=4)
def _read_cells(competition: Competition, stamp: object) -> MaskSource:
    return read_outline_cells(*train_table(competition), competition)


# The values of MASK_FORMAT beside auto.
MASKS: dict[str, Callable[[Competition], MaskSource]] = {
    "image": _build_plain,
    "labels": functools.partial(_build_binary_files, kind=LabelMasks),
    "coco": _build_coco,
    "polygons": _build_outlines,
    "raters": _build_raters,
    "rle": _build_run_lengths,
    "instances": _build_folders,
    "classes": read_class_files,
    "objects": read_object_files,
}
