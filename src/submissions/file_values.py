"""Values in mask files of an answer: of classes, of what counts for nothing."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from competition.listings import find_mask_names
from competition.masks import mask_format
from competition.spec import Competition
from core.errors import UserError
from imaging.images import PixelRules, read_values
from imaging.mask_files import IGNORE
from imaging.mask_pixels import decode_mask
from imaging.palettes import palette_reader
from imaging.readers import is_image
from imaging.sources import own_file, page_of

LOOKED_AT = 8

Values = tuple[int, ...] | tuple[tuple[int, int, int], ...]


def file_values(competition: Competition, kind: str) -> Values:
    """The value of each class in a file, the background's first; none for numbers of objects.

    Raises:
        UserError: MASK_VALUES has no value for a class.
    """
    count = 2 if competition.task == "binary" else competition.classes
    if kind == "objects":
        return ()
    if kind == "255":
        if count > 2:
            raise UserError(f"ANSWER_VALUES=255 is for two classes, there are {count}: ids")
        return (0, 255)
    return (
        _declared(competition.mask_values or {}, count) if kind == "values" else tuple(range(count))
    )


def _declared(values: Mapping[Any, int], count: int) -> Values:
    """MASK_VALUES the other way round: the first value of each class."""
    first: dict[int, Any] = {}
    for value, cls in values.items():
        if value is not None:
            first.setdefault(cls, value)
    missing = [k for k in range(count) if k not in first]
    if missing:
        raise UserError(
            f"ANSWER_VALUES=values: MASK_VALUES has no value for class {missing[0]}: add it, or "
            "set ANSWER_VALUES=ids"
        )
    return tuple(first[k] for k in range(count))


def void_values(competition: Competition, values: Values) -> Values | None:
    """Values of pixels that are neither trained on nor scored, where they are none of a class."""
    ignored = (IGNORE, competition.ignore_index)
    declared = competition.mask_values or {}
    if declared.get(None) in ignored:
        return None
    named = [value for value, cls in declared.items() if cls in ignored]
    found = [value for value in (*named, *ignored) if value is not None]
    return tuple(value for value in dict.fromkeys(found) if value not in values)


def usual_values(competition: Competition) -> Literal["ids", "255", "values", "objects"]:
    """As the training masks have it: declared values, numbers of objects, 0 and 255, or ids."""
    declared = competition.mask_values or {}
    if any(not isinstance(value, str) for value in declared) and not _are_labels(competition):
        return "values"  # labels of polygons are none
    try:
        form = mask_format(competition)
    except UserError:
        form = ""  # a kernel may lack the training masks
    if form == "labels":
        return "objects"
    if form != "image" or competition.task != "binary":
        return "ids"
    return "255" if _holds_255(competition) else "ids"


def _holds_255(competition: Competition) -> bool:
    """Whether some training mask has a value above 1 that is not the ignored one."""
    folder = competition.mask_path
    names = (
        find_mask_names(competition).values()
        if competition.mask_pattern
        else sorted(path.name for path in folder.iterdir() if is_image(path.name))
    )
    for name in list(names)[:LOOKED_AT]:
        if competition.soft_labels:
            pixels = read_values(folder / name, PixelRules(3, axes=competition.mask_axes))
        else:
            data = own_file(folder / name).read_bytes()
            pixels = decode_mask(data, name, palette_reader(None), page=page_of(name))
        found = set(np.unique(pixels).tolist()) - {competition.ignore_index}
        if found and max(found) > 1:
            return True
    return False


def _are_labels(competition: Competition) -> bool:
    """Whether MASK_VALUES are of labels of outlines: no file holds these."""
    try:
        return mask_format(competition) in ("polygons", "coco")
    except UserError:
        return False  # a kernel may lack the training masks
