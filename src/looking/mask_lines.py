"""How masks are written, as knobs: of mask files, of run lengths in a table, of a COCO file."""

import re
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from competition.run_cells import holds_run_values
from competition.tables import holds_outlines, joined_classes
from core.gates import is_whole_number, json_value
from core.quantities import counted
from looking.census import take_census
from looking.coco_parts import coco_places, named_images
from looking.layout import Layout
from looking.legend import find_legend
from looking.lines import MOST_CLASSES, Line
from looking.listing import Listed
from looking.outline_lines import (
    absent_line,
    named_class_lines,
    outline_lines,
    units_line,
)
from looking.sequences import SEQUENCE
from looking.survey import SLIPS
from looking.value_lines import file_lines, index_lines, share_lines

PART = re.compile(r"\{(?!class\}|page\})\w+\}")
# A class by its number, alone or with those of its attributes behind it.
NUMBERED = re.compile(r"\d+(_\d+)*")


def mask_lines(layout: Layout) -> Iterator[Line]:
    """TASK, CLASSES and all that tells how masks are read, with the evidence."""
    if layout.masks is not None and not _table_is_fuller(layout):
        yield from _place_lines(layout)
        if layout.masks.kinds:
            yield from _class_file_lines(layout.masks.kinds)
            yield from _unmasked_lines(layout, "")
            return
        if layout.masks.pieces:
            yield from _piece_lines(layout)
            return
        paths = [layout.survey.root / path for path in layout.masks.paths.values()]
        census = take_census(paths)
        legend = find_legend(layout.survey, set(census.usual())) if census.coloured else ("", {})
        asked = _asked_classes(layout.sampled)
        lines = [] if legend[0] or not census.coloured else list(index_lines(paths, asked))
        lines = lines or list(file_lines(census, asked, legend))
        lines = lines if census.read else list(share_lines(paths))
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
        yield from outline_lines(layout.survey, layout.train, layout.drawn, layout.drawing)


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


def _piece_lines(layout: Layout) -> Iterator[Line]:
    """Knobs of several mask files an image, which are counted."""
    assert layout.masks is not None
    more = len(layout.masks.clashes)
    yield Line("MASK_FORMAT", "instances", f"{more} further files are counted: an object each")
    yield Line("TASK", "binary", "all files of an image together are its mask")
    yield from _unmasked_lines(layout, "")


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
    if masks.plain and masks.pattern == "{id}.*":
        yield Line("MASK_PATTERN", masks.pattern, "files of several formats")
    elif masks.plain:
        yield Line("MASK_SUFFIX", masks.pattern.removeprefix("{id}"), "")
    else:
        # Without ID_TEMPLATE all parts make the id.
        loose = PART.sub(lambda part: part[0] if part[0] in masks.template else "*", masks.pattern)
        yield Line("MASK_PATTERN", loose if layout.train.plain else masks.pattern, "")
    if layout.valid is not None:
        valid = layout.valid
        why = f"{valid.files.told()} says where there is data"
        why += ": test images have it, too" if layout.test else ", the same of all images"
        yield Line("VALID_PATH", valid.files.root, why)
        yield Line("VALID_SUFFIX", valid.pattern.removeprefix("{id}"), "")


def _unmasked_lines(layout: Layout, unlabelled: str) -> Iterator[Line]:
    assert layout.masks is not None
    images = layout.train.paths.keys()
    common = layout.masks.paths.keys() & images
    if odd := _called_otherwise(layout, images - common):
        unlabelled = f"though {odd} has the name of one (call all masks alike)"
    yield from absent_line(len(images), len(common), unlabelled=unlabelled)


def _called_otherwise(layout: Layout, bare: AbstractSet[str]) -> str:
    """A file among the masks that is called as an image without one; "" where there is none."""
    assert layout.masks is not None
    own = layout.masks.files
    for files in layout.survey.sets:
        beside = files.folders == own.folders and files not in (own, layout.train.files)
        for key, path in files.files.items() if beside and len(bare) else ():
            if key[-1] in bare:
                return path
    return ""


def _asked_classes(sampled: Listed | None) -> set[int]:
    """Class numbers that the sample asks for; empty where it asks by other words or for none."""
    if sampled is None or sampled.columns.cls is None:
        return set()
    cells = set(sampled.table[sampled.columns.cls].str.strip())
    return {int(cell) for cell in cells} if all(map(is_whole_number, cells)) else set()


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
        yield Line("CLASS_NAMES", ",".join(text.replace(",", " ") for text in texts), "")


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
            str(one.get("name", one["id"]))
            for one in content.get("categories", [])
            if one["id"] in used
        ]
    outlines = f"{counted(counts[0], 'outline')} of {counted(counts[1], 'image')}"
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        yield Line("TASK", "binary", f"{outlines}, one category: {', '.join(names)}")
        return
    yield from named_class_lines(names, f"{outlines}, {len(names)} categories")
