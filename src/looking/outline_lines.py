"""Annotation files as knobs: polygons of a file an image, or of all images, with their labels."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from competition.drawn import Drawn
from competition.outline_units import GRID
from competition.patterns import EXCLUDE
from competition.polygon_files import load_document, read_drawn
from competition.tables import image_id
from core.errors import UserError
from core.gates import is_whole_number
from core.quantities import counted
from looking.label_names import names_of_labels
from looking.lines import MOST_CLASSES, Line
from looking.listing import HALF, Listed
from looking.schemes import Scheme, schemes_of
from looking.survey import SLIPS, Survey

# Annotation files read to learn whether a set of them holds outlines.
TRIED = 8
# Names of what no outline covers.
BACKGROUND = {"background", "bg", "void"}
DECIMAL = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def find_drawn(survey: Survey, ways: Sequence[Scheme]) -> tuple[Scheme, Scheme | None, str]:
    """(the images, the set of a file an image, the file of all images) with outlines of the images.

    Args:
        survey: of the folder.
        ways: readings of the training images' names, the likeliest first.
    """
    for train in ways:
        if drawn := _find_files(survey, train):
            return train, drawn, ""
    train = ways[0]
    singles = [
        path
        for files in survey.drawings
        if len(files.files) < TRIED
        for path in files.files.values()
    ]
    for path in sorted(singles):
        named = {image_id(one.image) for one in _drawn_of(survey.root / path)}
        if len(named & train.paths.keys()) >= HALF * min(len(train.paths), len(named) or 1):
            return train, None, path
    return train, None, ""


def _find_files(survey: Survey, train: Scheme) -> Scheme | None:
    """The set of a file an image that holds outlines, best called as the images are."""
    for files in sorted(survey.drawings, key=lambda one: one.tail.rfind(".") > 0):
        for scheme in schemes_of(files, survey.drawings):
            common = scheme.paths.keys() & train.paths.keys()
            if len(common) >= HALF * min(len(train.paths), len(scheme.paths)) and _hold_outlines(
                survey.root / scheme.paths[img] for img in sorted(common)[:TRIED]
            ):
                return scheme
    return None


def _hold_outlines(paths: Iterable[Path]) -> bool:
    return any(one.shapes for path in paths for one in _drawn_of(path))


@lru_cache(maxsize=1)  # the file of all images is asked for again, and may be large
def _drawn_of(path: Path) -> Sequence[Drawn]:
    """What is drawn in a file; nothing where it is none of outlines."""
    try:
        return read_drawn(path, load_document(path), "")
    except UserError:
        return []


def outline_lines(survey: Survey, train: Scheme, drawn: Scheme | None, path: str) -> Iterator[Line]:
    """Knobs of the annotation files that `find_drawn` found."""
    root = survey.root
    files = list(drawn.paths.values()) if drawn else [path]
    found = [one for name in files for one in _drawn_of(root / name)]
    told = f"{sum(len(one.shapes) for one in found)} outlines in "
    told += drawn.files.told() if drawn else path
    yield Line("MASK_PATH", (drawn.files.root or ".") if drawn else path, told)
    yield Line("MASK_FORMAT", "polygons", "")
    if drawn is not None and drawn.plain:
        yield Line("MASK_SUFFIX", drawn.pattern.removeprefix("{id}").partition(EXCLUDE)[0], "")
    elif drawn is not None:
        yield Line("MASK_PATTERN", drawn.pattern, "")
    known = drawn.paths.keys() if drawn else {image_id(one.image) for one in found}
    empty = "though others' files are empty" if any(not one.shapes for one in found) else ""
    yield from absent_line(len(train.paths), len(known & train.paths.keys()), unlabelled=empty)
    yield from label_lines([label for one in found for label, _ in one.shapes], survey)


def units_line(cells: Iterable[str], meta: Listed | None) -> Iterator[Line]:
    """OUTLINE_UNITS where coordinates cannot be pixels.

    Args:
        cells: of a table, the outlines of an image or object each.
        meta: the second table of the images.
    """
    if meta is not None and {*GRID} <= {*meta.table}:
        told = f"{' and '.join(GRID)} in {meta.name} say where an image ends"
        yield Line("OUTLINE_UNITS", "grid", told)
        return
    filled = (numbers for cell in cells if (numbers := DECIMAL.findall(cell)))
    values = [float(text) for numbers in islice(filled, TRIED) for text in numbers]
    if values and min(values) >= 0 and max(values) <= 1:
        yield Line("OUTLINE_UNITS", "share", "all coordinates are from 0 to 1")


def absent_line(images: int, masks: int, *, unlabelled: str = "") -> Iterator[Line]:
    """ABSENT where more images have no mask than could by mistake.

    Args:
        images, masks: how many there are.
        unlabelled: why an image without a mask is none without foreground; "" where it may be.
    """
    if images - masks <= SLIPS * images:
        return
    told = f"{counted(images - masks, 'image', 'has', 'have')} no mask"
    if unlabelled:
        yield Line("ABSENT", "drop", f"{told}, {unlabelled}: they are not labelled")
    else:
        yield Line("ABSENT", "empty", f"{told}: nothing is on them")


def label_lines(labels: Sequence[Any], survey: Survey) -> Iterator[Line]:
    """TASK and classes of the labels of outlines; None is no label."""
    known = sorted({str(label) for label in labels if label is not None})
    if len(known) < 2:
        yield Line(
            "TASK", "binary", f"one label: {known[0]}" if known else "outlines bear no label"
        )
        return
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    told = f"labels of outlines: {shown}"
    if len(known) >= MOST_CLASSES:
        yield from named_class_lines(known, told)
        return
    numbers = list(map(int, known)) if all(map(is_whole_number, known)) else [-1]
    if min(numbers) >= 0 and max(numbers) < MOST_CLASSES:
        place, names = names_of_labels(survey, max(numbers) + 1)
        if names and "background" not in names[1:] and len(names) < MOST_CLASSES:
            yield Line("TASK", "multiclass", f"{told}; 0 is what none covers")
            yield from _named_lines(place, names)
            return
    if min(numbers) > 0 and max(numbers) < MOST_CLASSES:
        yield Line("TASK", "multiclass", f"{told}; 0 is what none covers")
        yield Line("CLASSES", str(max(numbers) + 1), "")
        return
    if min(numbers) == 0 and max(numbers) + 1 < MOST_CLASSES:
        yield Line("TASK", "multiclass", f"{told}; 0 is what none covers")
        yield Line("CLASSES", str(max(numbers) + 2), "label 0 is of outlines, too: class 1")
        yield Line("MASK_VALUES", str({number: number + 1 for number in sorted(numbers)}), "")
        return
    yield from named_class_lines(known, told)


def named_class_lines(names: Sequence[str], told: str) -> Iterator[Line]:
    """Knobs of outlines that bear these names, from class 1 on; `told` says where."""
    if len(names) >= MOST_CLASSES:
        many = f"{len(names)} are more than a network has classes: all are one foreground"
        yield Line("TASK", "binary", f"{told}; {many}")
        return
    yield Line("TASK", "multiclass", f"{told}; 0 is what none covers")
    yield Line("CLASSES", str(len(names) + 1), "")
    numbered = any(map(is_whole_number, names))
    if numbered or any("," in name for name in names):
        yield Line("MASK_VALUES", str({name: at for at, name in enumerate(names, 1)}), "")
    if not numbered:
        plain = [name.replace(",", " ") for name in names]
        yield Line("CLASS_NAMES", ",".join(["background", *plain]), "")


def _named_lines(place: str, names: Sequence[str]) -> Iterator[Line]:
    """Classes of numbered labels whose names a file has, the background's among them or not."""
    if names[0].strip("_").lower() in BACKGROUND:
        yield Line("CLASSES", str(len(names)), f"{place} names them, 0 as {names[0]}")
        yield Line("CLASS_NAMES", ",".join(names), "")
        return
    yield Line("CLASSES", str(len(names) + 1), f"{place} names label 0 {names[0]}: class 1")
    yield Line("MASK_VALUES", str({number: number + 1 for number in range(len(names))}), "")
    yield Line("CLASS_NAMES", ",".join(["background", *names]), "")
