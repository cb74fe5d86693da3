"""Where the files are and how images are read, as knobs."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from core.errors import UserError
from core.quantities import counted
from imaging.images import PixelRules, read_values
from looking.layout import Layout
from looking.lines import Line
from looking.listing import Listed
from looking.schemes import Scheme, join_parts
from looking.stacks import axes_line
from looking.words import TRAIN, words_in

# Images whose values are looked at, evenly picked.
LOOKED_AT = 48
# Ends of a value range as percentiles of all values looked at.
LOW, HIGH = 0.5, 99.5
# Integer values that reach less of their type than one in so many need a range of their own.
UNUSED = 4


def place_lines(layout: Layout) -> Iterator[Line]:
    """TRAIN_PATH, TEST_PATH, patterns and tables."""
    train, test = layout.train, layout.test
    told = f"{counted(len(train.paths), 'image')} {train.files.told()}"
    yield Line("TRAIN_PATH", train.files.root or ".", told)
    yield from _name_lines(train, test, layout)
    if test is not None:
        yield Line(
            "TEST_PATH",
            test.files.root or ".",
            f"{counted(len(test.paths), 'image')} {test.files.told()}",
        )
    elif layout.sample:
        yield Line("TEST_PATH", "test", "no test images: they come with the rerun, it is said")
    yield from _table_lines(layout)


def _name_lines(train: Scheme, test: Scheme | None, layout: Layout) -> Iterator[Line]:
    """IMAGE_SUFFIX where files are called by their ids, else patterns."""
    like = test is None or test.pattern == train.pattern
    if train.plain and like and not _needs_pattern(train):
        suffix = train.pattern.removeprefix("{id}")
        beside = [
            one
            for one in layout.survey.sets
            if one is not train.files and one.folders == train.files.folders
        ]
        if suffix != train.files.suffix or beside:
            yield Line("IMAGE_SUFFIX", suffix, "other files lie beside them, or end otherwise")
        return
    if train.plain and not _needs_pattern(train) and test is not None and test.plain:
        ends = {one.pattern.removeprefix("{id}") for one in (train, test)}
        if all(end.startswith(".") for end in ends):
            return  # every picture format counts
    # Without a template an id is made of all parts.
    parts = [re.findall(r"\{(\w+)\}", one.pattern) for one in (train, test) if one is not None]
    usual = join_parts(parts[0]) == train.template and len(parts[-1]) <= len(parts[0])
    template = "" if usual else train.template
    yield Line("IMAGE_PATTERN", train.pattern, "the part in braces is the id")
    if test is not None and test.pattern != train.pattern:
        yield Line("TEST_PATTERN", test.pattern, "")
    if template:
        yield Line("ID_TEMPLATE", template, "ids as the tables, or the masks, have them")
    if train.kinds:
        told = f"files of {len(train.kinds)} bands are one image: leave out what is of no use"
        yield Line("BANDS", ",".join(train.kinds), told)


def _needs_pattern(scheme: Scheme) -> bool:
    return not scheme.plain or " !" in scheme.pattern


def _table_lines(layout: Layout) -> Iterator[Line]:
    listed = layout.listed
    if listed is not None and not _is_second(listed, layout):
        rows = (
            f"{counted(len(listed.table), 'row')} for "
            f"{counted(len(listed.ids[listed.columns.id]), 'id')}"
        )
        yield Line("TRAIN_CSV", listed.name, rows)
        column, _ = listed.best_column(layout.train.paths)
        if column != listed.columns.id:
            yield Line("ID_COLUMN", column, "this column holds the images' names")
    elif listed is not None:
        yield Line("META_CSV", listed.name, "several rows an image: its columns join by id")
    if (listed is None or _is_second(listed, layout)) and any(
        words_in(name) & TRAIN for name in layout.survey.tables
    ):
        yield Line("TRAIN_CSV", "", "no table with a row an image: the folder is listed")
    if layout.meta is not None and listed is not layout.meta and layout.listed is listed:
        known = [str(name) for name in layout.meta.table][:8]
        if listed is None or not _is_second(listed, layout):
            yield Line("META_CSV", layout.meta.name, f"its columns join by id: {', '.join(known)}")
    if layout.sample:
        yield Line("TEST_CSV", layout.sample, _sample_told(layout))


def _is_second(listed: Listed, layout: Layout) -> bool:
    """Whether a table without masks has several rows an image, or names more than the images."""
    if listed.columns.rle is not None:
        return False
    column, _ = listed.best_column(layout.train.paths)
    from competition.tables import image_id

    ids = listed.table[column].map(image_id)
    return bool(ids.duplicated().any()) or not set(ids) <= layout.train.paths.keys()


def _sample_told(layout: Layout) -> str:
    if layout.sampled is None:
        return "a header alone: its rows come with the rerun"
    columns = ", ".join(str(name) for name in layout.sampled.table)
    return f"{counted(len(layout.sampled.table), 'row')} of {columns}"


def image_lines(root: Path, train: Scheme) -> Iterator[Line]:
    """AXES, CHANNELS, IMAGE_BITS and VALUE_RANGE, of a sample of images."""
    paths, axes = list(train.paths.values()), ""
    if "/{page}" not in train.pattern:
        for line in axes_line(root / paths[0]):
            axes = line.value
            yield line

    def look(path: str) -> np.ndarray | None:
        try:
            return read_values(root / path, PixelRules(bands=train.kinds, axes=axes))
        except UserError:
            return None

    chosen = paths[:: -(-len(paths) // LOOKED_AT) or 1]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = [pixels for pixels in pool.map(look, chosen) if pixels is not None]
    if not found:
        return
    bands = Counter(1 if one.ndim == 2 else one.shape[2] for one in found).most_common(1)[0][0]
    if bands not in (1, 3):
        yield Line("CHANNELS", str(bands), f"images have {counted(bands, 'band')}")
        half = ",".join(["0.5"] * bands)
        yield Line("MODEL_MEAN", half, "no encoder knows such bands: values are centred")
        yield Line("MODEL_STD", ",".join(["0.25"] * bands), "")
    yield from _range_lines(found)


def _range_lines(found: Sequence[np.ndarray]) -> Iterator[Line]:
    kind = Counter(one.dtype.name for one in found).most_common(1)[0][0]
    if kind == "uint8":
        return
    values = np.concatenate(
        [one[np.isfinite(one)][::17] for one in found if one.dtype.name == kind]
    )
    low, high = (float(np.percentile(values, share)) for share in (LOW, HIGH))
    if kind == "uint16" and int(values.max()) * UNUSED > np.iinfo(np.uint16).max:
        yield Line("IMAGE_BITS", "16", f"16-bit values up to {values.max()}: none is lost so")
        return
    if kind == "uint16":
        low, high = 0.0, float(values.max())
    told = f"{kind} values from {values.min():.6g} to {values.max():.6g}"
    yield Line("VALUE_RANGE", f"{low:.6g},{high:.6g}", f"{told}: these become black and white")
    yield Line("IMAGE_BITS", "16", "")
