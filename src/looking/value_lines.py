"""What values of mask files mean, as knobs: two values, classes, objects, colours, soft edges."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from imaging.images import PixelRules, read_values
from looking.census import HARD, MANY, Census, palette_indices
from looking.lines import Line

VOID = 255
EMPTY = Line("", "", "")
# The share of files with two values that says that all are meant so.
MOST = 0.8
# Of values above 0, the share that is one part where values number objects.
ONE_PART = 0.9
# Of the colours of all files, the share that no other file has where each object got its own.
ALL_NEW = 0.9
# Counts of objects that images differ in where colours number them.
SEVERAL = 3
# Files of several values that tell whether each is one part.
FEW = 3
# Numbers of classes end before it: beyond are levels of grey.
LEVELS = 64


def file_lines(
    census: Census, asked: set[int], legend: tuple[str, Mapping[str, Any]] = ("", {})
) -> Iterator[Line]:
    """Knobs of mask files of these values.

    Args:
        census: of the files.
        asked: classes of the sample.
        legend: a file that says which colours are which class, and these by name.
    """
    if not census.read:
        return  # the scan tells why
    values = census.usual()
    shown = ", ".join(map(str, values[:12])) + (", ..." if len(values) > 12 else "")
    seen = f"values of {census.read} mask files: {shown}"
    if census.planes:
        yield from _plane_lines(census)
    elif len(levels := census.levels) > 2 or any(len({*colour}) > 1 for colour in levels):
        yield from _lossy_lines(levels, *legend)
    elif census.layers or _number_objects(census, values):
        share = f"{len(census.layers)} of {census.read} mask files"
        layers = f"{share} hold several layers: each an object"
        parts = f"{seen}; a value, one connected part, an object"
        yield Line("TASK", "binary", layers if census.layers else parts)
        yield Line("MASK_FORMAT", "labels", "")
    elif census.coloured:
        yield from _colour_lines(values, seen, *legend)
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
        if 2 * census.lossy > census.read and max(census.most, default=0) < LEVELS:
            told = "JPEG files tell no numbers apart: all above 0 is foreground"
            yield Line("MASK_THRESHOLD", "1", told)
        elif np.median(census.hard or [0]) > HARD and 2 * census.lossy <= census.read:
            yield Line("MASK_THRESHOLD", str(max(1, (max(census.most) + 1) // 2)), "")
        elif len(levels) == 2 and abs(sum(colour[0] for colour in levels) - VOID) > LEVELS:
            low, high = (colour[0] for colour in levels)
            yield Line("MASK_THRESHOLD", str((low + high + 1) // 2), f"areas: {low} and {high}")
    else:
        if len(census.single) >= FEW and np.mean(census.single) >= ONE_PART:
            seen += "; each is one part in every file: where they number objects, set TASK=binary"
            seen += " and MASK_FORMAT=labels"
        yield from _class_lines(values, asked, seen)


def index_lines(paths: Sequence[Path], asked: set[int]) -> Iterator[Line]:
    """Knobs of pictures of one palette whose indices are classes; nothing of any others."""
    numbers = palette_indices(paths)
    if len(numbers) < 3 or numbers[-1] - (numbers[-1] == VOID) * VOID >= MANY:
        return
    seen = f"indices of the palette that all files have: {', '.join(map(str, numbers))}"
    knobs = {line.knob: line for line in _class_lines(numbers, asked, seen)}
    kept = [number for number in numbers if str(number) != knobs.get("IGNORE_INDEX", EMPTY).value]
    usual = Line("MASK_VALUES", str({number: number for number in kept}), "")
    yield from {"MASK_VALUES": usual, **knobs}.values()


def share_lines(paths: Sequence[Path]) -> Iterator[Line]:
    """Knobs of files of floats between 0 and 1; nothing where they are no such."""
    try:
        found = [read_values(path, PixelRules()) for path in paths[:SEVERAL]]
    except UserError:
        return  # the scan tells why
    if found and all(one.dtype.kind == "f" and 0 <= one.min() <= one.max() <= 1 for one in found):
        yield Line("TASK", "binary", f"{found[0].dtype} from 0 to 1: shares of foreground")
        yield Line("SOFT_LABELS", "true", "masks of 0 and 1 are these cut at 0.5")


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
    if len(census.single) < FEW or np.mean(census.single) < ONE_PART:
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


def _colour_lines(
    values: Sequence[Any], seen: str, name: str, legend: Mapping[str, Any]
) -> Iterator[Line]:
    """Colours are numbered as a legend has them, else in their order, black first."""
    order = {colour: at for at, colour in enumerate(legend.values() or sorted(values))}
    if len(order) <= 2 and (0, 0, 0) in order:
        yield Line("TASK", "binary", f"{seen}: one colour on black")
        return
    how = f"numbered as in {name}" if legend else "numbered from the darkest red on"
    yield Line("TASK", "multiclass", f"{seen}; colours are {how}")
    yield Line("CLASSES", str(len(order)), "")
    yield Line("MASK_VALUES", str(order), "")
    if legend:
        yield Line("CLASS_NAMES", ",".join(legend), "")


def _lossy_lines(levels: Sequence[Any], name: str, legend: Mapping[str, Any]) -> Iterator[Line]:
    """Colours, or levels of grey, of JPEG files, of which the nearest counts."""
    grey = all(len({*colour}) == 1 for colour in levels)
    shown = [colour[0] if grey else colour for colour in levels]
    seen = f"JPEG files: each pixel counts as the nearest of {', '.join(map(str, shown))}"
    for line in _colour_lines(shown, seen, name, legend):
        yield line
        if line.value == "binary":
            yield Line("MASK_VALUES", str({colour: at for at, colour in enumerate(shown)}), "")


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
