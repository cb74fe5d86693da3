"""How masks are written, as knobs: of mask files, of run lengths in a table, of a COCO file."""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from competition.run_cells import holds_run_values
from competition.tables import holds_outlines, joined_classes
from core.gates import is_whole_number, json_value
from looking.census import HARD, MANY, Census, take_census
from looking.coco_parts import coco_places, named_images
from looking.layout import Layout
from looking.lines import MOST_CLASSES, Line
from looking.listing import Listed
from looking.outline_lines import absent_line, outline_lines, units_line
from looking.sequences import SEQUENCE
from looking.survey import SLIPS

VOID = 255
PART = re.compile(r"\{(?!class\}|page\})\w+\}")
# The share of files with two values that says that all are meant so.
MOST = 0.8
# Of values above 0, the share that is one part where values number objects.
ONE_PART = 0.9
# A class by its number, alone or with those of its attributes behind it.
NUMBERED = re.compile(r"\d+(_\d+)*")
# Of the colours of all files, the share that no other file has where each object got its own.
ALL_NEW = 0.9
# Counts of objects that images differ in where colours number them.
SEVERAL = 3
# Numbers of classes end before it: beyond are levels of grey.
LEVELS = 64


def mask_lines(layout: Layout) -> Iterator[Line]:
    """TASK, CLASSES and all that tells how masks are read, with the evidence."""
    if layout.masks is not None and not _table_is_fuller(layout):
        yield from _place_lines(layout)
        if layout.masks.kinds:
            yield from _class_file_lines(layout.masks.kinds)
            yield from _unmasked_lines(layout, "")
            return
        paths = [layout.survey.root / path for path in layout.masks.paths.values()]
        census = take_census(paths)
        lines = list(file_lines(census, _asked_classes(layout.sampled)))
        yield from lines
        maps = any(line.value == "multiclass" for line in lines)
        why = "and the others' masks tell the class of every pixel" if maps else ""
        if f"{{{SEQUENCE}}}" in layout.train.pattern:
            why = "and they are frames between those that have one"
        yield from _unmasked_lines(layout, "though empty masks are files" if census.empty else why)
    elif layout.object_files:
        yield from _object_file_lines(layout)
    elif layout.coco:
        root = layout.survey.root
        yield from coco_places(layout.coco, layout.survey.coco)
        yield from coco_lines([root / name for name in layout.coco])
        known = named_images(root, layout.coco) & layout.train.paths.keys()
        why = "and COCO files list those without objects, too"
        yield from absent_line(len(layout.train.paths), len(known), unlabelled=why)
    elif layout.listed is not None and layout.listed.columns.rle:
        yield from table_lines(layout.listed, layout)
    elif layout.instances:
        yield Line("MASK_PATH", layout.instances, "a folder an image, a file an object")
        yield Line("MASK_FORMAT", "instances", "")
        yield Line("TASK", "binary", "an object a file: one foreground")
    elif layout.drawn or layout.drawing:
        root, train = layout.survey.root, layout.train
        yield from outline_lines(root, train, layout.drawn, layout.drawing)


def _object_file_lines(layout: Layout) -> Iterator[Line]:
    """Knobs of a table with a mask file an object."""
    assert layout.listed is not None
    columns, table = layout.listed.columns, layout.listed.table
    told = f"{len(table)} mask files, an object each, are named in column {columns.rle!r}"
    yield Line("MASK_PATH", layout.object_files, told)
    yield Line("RLE_COLUMN", str(columns.rle), "")
    named = layout.listed.best_column(layout.train.paths)[1]
    yield from absent_line(len(layout.train.paths), named)
    if columns.cls is None:
        yield Line("TASK", "binary", "no column of classes")
    else:
        yield from _table_class_lines(sorted(set(table[columns.cls])), columns.cls)


def _class_file_lines(names: Sequence[str]) -> Iterator[Line]:
    """Knobs of a mask file a class."""
    yield Line("MASK_FORMAT", "classes", "")
    yield Line("TASK", "multilabel", f"a file a class: {', '.join(names)}, which may share pixels")
    yield Line("CLASSES", str(len(names)), "")
    yield Line("CLASS_NAMES", ",".join(names), "")


def _table_is_fuller(layout: Layout) -> bool:
    """Whether a table of run lengths names more images than there are mask files."""
    assert layout.masks is not None
    listed, images = layout.listed, layout.train.paths.keys()
    if listed is None or listed.columns.rle is None:
        return False
    return len(listed.ids[listed.columns.id] & images) > len(layout.masks.paths.keys() & images)


def _place_lines(layout: Layout) -> Iterator[Line]:
    masks = layout.masks
    assert masks is not None
    common = len(masks.paths.keys() & layout.train.paths.keys())
    told = f"{common} of {len(layout.train.paths)} images have a mask {masks.files.told()}"
    yield Line("MASK_PATH", masks.files.root or ".", told)
    if masks.plain:
        yield Line("MASK_SUFFIX", masks.pattern.removeprefix("{id}"), "")
    else:
        # Without ID_TEMPLATE all parts make the id.
        loose = PART.sub(lambda part: part[0] if part[0] in masks.template else "*", masks.pattern)
        yield Line("MASK_PATTERN", loose if layout.train.plain else masks.pattern, "")
    if layout.valid is not None:
        valid = layout.valid
        why = f"{valid.files.told()} says where there is data: test images have it, too"
        yield Line("VALID_PATH", valid.files.root, why)
        yield Line("VALID_SUFFIX", valid.pattern.removeprefix("{id}"), "")


def _unmasked_lines(layout: Layout, unlabelled: str) -> Iterator[Line]:
    assert layout.masks is not None
    images = layout.train.paths.keys()
    common = len(layout.masks.paths.keys() & images)
    yield from absent_line(len(images), common, unlabelled=unlabelled)


def _asked_classes(sampled: Listed | None) -> set[int]:
    """Class numbers that the sample asks for; empty where it asks by other words or for none."""
    if sampled is None or sampled.columns.cls is None:
        return set()
    cells = set(sampled.table[sampled.columns.cls].str.strip())
    return {int(cell) for cell in cells} if all(map(is_whole_number, cells)) else set()


def file_lines(census: Census, asked: set[int]) -> Iterator[Line]:
    """Knobs of mask files of these values; `asked` are the classes of the sample."""
    if not census.read:
        return  # the scan tells why
    values = census.usual()
    shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    seen = f"values of {census.read} mask files: {shown}"
    if census.planes:
        yield from _plane_lines(census)
    elif census.layers or _number_objects(census, values):
        share = f"{len(census.layers)} of {census.read} mask files"
        layers = f"{share} hold several layers: each an object"
        parts = f"{seen}; a value, one connected part, an object"
        yield Line("TASK", "binary", layers if census.layers else parts)
        yield Line("MASK_FORMAT", "labels", "")
    elif census.coloured:
        yield from _colour_lines(values, seen)
    elif census.pairs >= MOST * census.read and not _is_trimap(values, census):
        yield Line("TASK", "binary", f"{census.pairs} of {census.read} mask files hold two values")
    elif {*values} in ({-1, 0, 1}, {-1, 0, VOID}):
        yield Line("TASK", "binary", f"{seen}; what is below 0 is no class: ignored")
        yield Line("IGNORE_INDEX", "-1", "")
    elif _is_trimap(values, census):
        yield Line("TASK", "binary", f"{seen}; {VOID} beside 0 and 1 is no class: ignored")
        yield Line("IGNORE_INDEX", str(VOID), "")
    elif len(values) > MANY or 2 * census.lossy > census.read:
        yield Line("TASK", "binary", f"{seen}: soft edges between nothing and foreground")
        if np.median(census.hard or [0]) > HARD and 2 * census.lossy <= census.read:
            yield Line("MASK_THRESHOLD", str(max(1, (max(census.most) + 1) // 2)), "")
    else:
        yield from _class_lines(values, asked, seen)


def _plane_lines(census: Census) -> Iterator[Line]:
    """Knobs of arrays of a layer a class, (H, W, K)."""
    told = f"{census.read} mask files of {census.planes} layers, a class each"
    yield Line("TASK", "multilabel", f"{told}, which may share pixels")
    yield Line("CLASSES", str(census.planes), "")
    if census.numbered:
        yield Line("MASK_THRESHOLD", "1", "values of a layer number objects of its class")


def _is_trimap(values: Sequence[Any], census: Census) -> bool:
    """Whether 255 stands beside 0 and 1 in many files: for what is not known."""
    return set(values) == {0, 1, VOID} and census.files[VOID] > (1 - MOST) * census.read


def _number_objects(census: Census, values: Sequence[Any]) -> bool:
    """Whether values, or colours, number objects: each one part, of very many or of the first n."""
    if len(census.single) < 3 or np.mean(census.single) < ONE_PART:
        return False
    if census.coloured:
        return _colours_of_objects(census.palettes)
    if len(values) > MANY:
        return True
    counts = [census.files[value] for value in values if value]
    fewer = counts == sorted(counts, reverse=True) and counts[-1] < counts[0]
    return bool(fewer and all(census.running) and len(set(census.most)) > 1)


def _colours_of_objects(palettes: Sequence[set[Any]]) -> bool:
    """Whether colours are dealt in one order, fewer to images of fewer objects, or are all new.

    Classes of one part each may look so where an image lacks one: counts must differ more.
    """
    by_size = sorted(palettes, key=len)
    numbers = set().union(*palettes)
    dealt = len(set(map(len, palettes))) >= SEVERAL and all(
        few <= more for few, more in pairwise(by_size)
    )
    return dealt or len(numbers) > ALL_NEW * sum(map(len, palettes))


def _colour_lines(values: Sequence[Any], seen: str) -> Iterator[Line]:
    """Colours are numbered in their order, black first."""
    order = {colour: at for at, colour in enumerate(sorted(values))}
    if len(values) <= 2 and (0, 0, 0) in order:
        yield Line("TASK", "binary", f"{seen}: one colour on black")
        return
    yield Line("TASK", "multiclass", f"{seen}; colours are numbered from the darkest red on")
    yield Line("CLASSES", str(len(order)), "")
    yield Line("MASK_VALUES", str(order), "")


def _class_lines(values: Sequence[int], asked: set[int], seen: str) -> Iterator[Line]:
    """Class ids; what the sample does not ask for, 255, and what is below 0 is ignored."""
    levels = any(LEVELS <= v < VOID for v in values)
    ignored = [v for v in values if v < 0 or (v == VOID == max(values) and not levels)]
    if asked and not ignored and asked < set(values) and max(values) > max(asked):
        ignored = [max(values)]
        seen += f"; the sample asks for {min(asked)} to {max(asked)}, so {ignored[0]} is void"
    classes = [value for value in values if value not in ignored]
    top = classes[-1] if classes else 0
    yield Line("TASK", "multiclass", seen)
    if len(classes) >= 2 and len(classes) < top + 1 and top > len(asked):
        yield Line("CLASSES", str(len(classes)), f"{top + 1 - len(classes)} numbers are not used")
        yield Line("MASK_VALUES", str({value: at for at, value in enumerate(classes)}), "")
    else:
        yield Line("CLASSES", str(max(top + 1, 2)), "")
    if ignored:
        yield Line("IGNORE_INDEX", str(ignored[0]), "")


def table_lines(listed: Listed, layout: Layout) -> Iterator[Line]:
    """Knobs of run lengths in a table."""
    columns = listed.columns
    cells = listed.table[columns.rle].str.strip()
    outlines = holds_outlines(cells) and not holds_run_values(cells)
    kind, what = ("polygons", "outlines") if outlines else ("rle", "run lengths")
    yield Line("MASK_FORMAT", kind, f"{what} in {listed.name}, column {columns.rle!r}")
    if outlines:
        yield from units_line(cells, layout.meta)
    images = layout.train.paths.keys()
    bare = images - listed.ids[columns.id]
    if len(bare) > max(3, SLIPS * len(images)) and not (cells == "").any():
        told = f"{len(bare)} images have no row, and no cell is empty: they are"
        yield Line("ABSENT", "empty", f"{told} images without foreground")
    sampled = layout.sampled
    asks = sampled is None or sampled.columns.cls is not None or _joined(sampled)
    classes = listed.table[columns.cls].str.strip() if columns.cls else None
    joined = joined_classes(listed.table[columns.id])
    texts = joined if classes is None else list(classes)
    if texts is None or not asks:
        yield Line("TASK", "binary", "one mask an image: the tables name no class to tell apart")
    else:
        yield from _table_class_lines(sorted(set(texts)), columns.cls or "the id")


def _joined(listed: Listed) -> bool:
    return joined_classes(listed.table[listed.columns.id]) is not None


def _table_class_lines(texts: Sequence[str], column: str) -> Iterator[Line]:
    shown = ", ".join(texts[:12]) + (", ..." if len(texts) > 12 else "")
    told = f"classes in {column!r}: {shown}"
    if all(map(NUMBERED.fullmatch, texts)) and not all(map(is_whole_number, texts)):
        yield Line("CLASS_PATTERN", r"(\d+)", "what follows a class's number, 3_12_45, is left out")
        texts = sorted({text.partition("_")[0] for text in texts})
    numbers = all(map(is_whole_number, texts))
    count = int(max(texts, key=int)) - min(map(int, texts)) + 1 if numbers else len(texts)
    if count == 1 or count > MOST_CLASSES:
        yield Line("TASK", "binary", f"{told}: all rows are one foreground")
        return
    yield Line("TASK", "multilabel", f"{told}; rows of two classes may share pixels")
    yield Line("CLASSES", str(count), "")
    if numbers:
        yield Line("CLASS_BASE", str(min(map(int, texts))), "")
    else:
        yield Line("CLASS_NAMES", ",".join(texts), "")


def coco_lines(paths: Sequence[Path]) -> Iterator[Line]:
    """Knobs of COCO files: their categories that have an outline."""
    names: list[str] = []
    counts = [0, 0]
    for path in paths:
        content = json_value(path.read_text(encoding="utf-8-sig"))
        counts[0] += len(content["annotations"])
        counts[1] += len(content["images"])
        used = {one.get("category_id") for one in content["annotations"] if one.get("segmentation")}
        names += [
            str(one.get("name", one["id"])).replace(",", " ")
            for one in content.get("categories", [])
            if one["id"] in used
        ]
    outlines = f"{counts[0]} outlines of {counts[1]} images"
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        yield Line("TASK", "binary", f"{outlines}, one category: {', '.join(names)}")
        return
    yield Line("TASK", "multiclass", f"{outlines}, {len(names)} categories; 0 is what none covers")
    yield Line("CLASSES", str(len(names) + 1), "")
    yield Line("CLASS_NAMES", ",".join(["background", *names]), "")
