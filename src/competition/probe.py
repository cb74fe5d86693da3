"""A look at a few training files of each kind, before folds are made of names alone."""

import math
from collections.abc import Mapping, Sequence
from os.path import splitext
from pathlib import Path
from typing import Any

import numpy as np

from competition.mask_source import MaskSource, Row
from core.errors import UserError, raise_all
from core.quantities import counted
from imaging.images import PixelRules, image_size, read_image, read_values
from imaging.placing import APART, distance_apart
from imaging.rle import Size
from imaging.sources import MARK
from imaging.tiff import declared_nodata

# Files a suffix whose size is looked at, and pairs of a suffix and size that are decoded.
LOOKED_AT, DECODED = 32, 2


def probe_pairs(
    rows: Sequence[Row], root: Path, *, masks: MaskSource, pixels: Mapping[str, Any]
) -> list[str]:
    """Reads a few images and masks of each kind: suffixes of image and mask, size of the image.

    Args:
        rows: of the training table.
        root: folder that their paths start from.
        masks: where the masks come from.
        pixels: arguments of `read_image`.

    Returns:
        Notes when the images use little of the range of their type, or name a value that means
        no data while NODATA names none.

    Raises:
        UserError: lists all that cannot be read.
    """
    problems: list[str] = []
    decoded: list[Path] = []
    seen: dict[tuple[str, Size], int] = {}
    sampled = _sample(rows)
    for row in sampled:
        try:
            size = image_size(root / row["image"], pixels["axes"])
            kind = (_suffixes(row), size)
            seen[kind] = seen.get(kind, 0) + 1
            if seen[kind] <= DECODED:
                read_image(root / row["image"], **pixels)
                decoded.append(root / row["image"])
                masks.read(row, size)
        except UserError as error:
            problems.append(str(error))
    raise_all(problems, f"{len(problems)} of {len(sampled)} training pairs looked at are no good:")
    rules = PixelRules(**pixels)
    notes = _place_notes(sampled, root)
    notes += _nodata_notes(decoded) if rules.nodata is None else []
    return notes if rules.value_range else [*notes, *_range_notes(decoded, rules)]


def _place_notes(rows: Sequence[Row], root: Path) -> list[str]:
    """A note when image and mask files say that they lie in other places of map or scanner."""
    names = dict.fromkeys((_file_of(row["image"]), _file_of(row["mask"])) for row in rows)
    pairs = [pair for pair in names if pair[1]]
    apart = {pair: distance_apart(*(root / name for name in pair)) for pair in pairs}
    told = [pair for pair, pixels in apart.items() if pixels > APART]
    if not told:
        return []
    (image, mask), most = told[0], max(apart.values())
    return [
        f"{len(told)} of {counted(len(pairs), 'pair')} looked at lie apart by their own headers, "
        f"up to {most:.0f} pixels, such as {image} and {mask}: images and masks may be flipped or "
        "shifted to each other, and no stage moves them: src/look.py shows some of both"
    ]


def _file_of(name: str) -> str:
    """The file of a path, without the slice or band of it."""
    return MARK.sub("", name)


def _nodata_notes(paths: Sequence[Path]) -> list[str]:
    """A note when files name a value that means no data."""
    named = {path: declared_nodata(path) for path in paths}
    # NaN means no data as it is.
    told = [value for value in named.values() if value is not None and math.isfinite(value)]
    if not told:
        return []
    values = sorted(set(told))
    return [
        f"{len(told)} of {len(paths)} images looked at say that "
        f"{', '.join(map(repr, values))} means no data: set NODATA={values[0]!r}, and "
        "IGNORE_NODATA=true to train on and score no such pixel"
    ]


def _range_notes(paths: Sequence[Path], rules: PixelRules) -> list[str]:
    """A note when no value of the files reaches a quarter of what their type holds."""
    found = [read_values(path, rules) for path in paths]
    if not found:
        return []
    most, kind = max(float(pixels.max()) for pixels in found), max(pixels.dtype for pixels in found)
    if not most or most * 4 > np.iinfo(kind).max:
        return []
    return [
        f"{counted(len(paths), 'image')} looked at reach{'es' * (len(paths) == 1)} {most:.0f} of "
        f"{np.iinfo(kind).max}: a network sees "
        f"them almost black; set VALUE_RANGE=0,{most:.0f}, or what their sensor's bits say"
    ]


def _sample(rows: Sequence[Row]) -> list[Row]:
    """Rows evenly picked from those of each suffix."""
    by_suffix: dict[str, list[Row]] = {}
    for row in rows:
        by_suffix.setdefault(_suffixes(row), []).append(row)
    return [row for kind in by_suffix.values() for row in kind[:: -(-len(kind) // LOOKED_AT)]]


def _suffixes(row: Row) -> str:
    names = (_file_of(row[column]) for column in ("image", "mask"))
    return " ".join(splitext(name)[1].lower() for name in names)
