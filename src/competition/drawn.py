"""What was drawn on an image, and the shapes that drawing programs know, as polygons."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from competition.tables import image_id
from core.errors import raise_all
from core.gates import whole_number
from imaging.polygons import Polygons, Ring, checked_ring
from imaging.rle import Size

# What a label may be called.
LABEL_KEYS = ("label", "class", "class_name", "category", "type", "name", "classification")
# Of an ellipse.
CORNERS = 64


class Drawn(NamedTuple):
    """What one annotator drew on an image.

    Attributes:
        image: the image's file name or id; "" where the drawing's own file is named so.
        size: (H, W) that the program saw, if it is told.
        shapes: label and outline (Polygons, or run lengths as COCO writes them), the top one last.
    """

    image: str
    size: Size | None
    shapes: list[tuple[Any, Any]]


def check_folders(names: Iterable[str], path: Path) -> None:
    """Makes sure that images of a file that differ in their folder are no one image by their id.

    Raises:
        UserError: lists those that are.
    """
    known: dict[str, str] = {}
    problems = []
    for name in dict.fromkeys(names):
        plain = name.strip().replace("\\", "/")
        other = known.setdefault(image_id(plain), plain)
        if other.rpartition("/")[0] != plain.rpartition("/")[0]:
            problems.append(f"{image_id(plain)}: {other} and {plain}")
    raise_all(
        problems,
        f"{path}: images of several folders have one id, their outlines would be mixed. Leave out "
        "those that are not in TRAIN_PATH, or call the files otherwise, there and here:",
    )


def one_ring(ring: Ring) -> Polygons:
    """An object of one outline (N, 2), in pixels.

    Raises:
        ValueError: corners that are no finite numbers.
    """
    return Polygons(((checked_ring(np.asarray(ring)),),))


def box_ring(left: float, top: float, width: float, height: float) -> Ring:
    """Corners of a rectangle."""
    return np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) * (width, height) + (left, top)


def ellipse_ring(x: float, y: float, width: float, height: float, turn: float = 0) -> Ring:
    """Corners of an ellipse of these radii, turned by radians."""
    angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    around = np.column_stack([width * np.cos(angles), height * np.sin(angles)])
    return turned_ring(around + (x, y), (x, y), turn)


def turned_ring(ring: Ring, pivot: Ring | tuple[float, float], turn: float) -> Ring:
    """A ring turned around a point by radians, clockwise as the image shows it."""
    cos, sin = math.cos(turn), math.sin(turn)
    return (ring - pivot) @ np.array([[cos, sin], [-sin, cos]]) + pivot


def size_of(data: Mapping[str, Any], height: str, width: str) -> Size | None:
    """(H, W) under these names, None where one is missing.

    Raises:
        ValueError: what is no whole number.
    """
    tall, wide = data.get(height), data.get(width)
    return None if tall is None or wide is None else (whole_number(tall), whole_number(wide))


def first_of(data: Mapping[str, Any], keys: Iterable[str]) -> Any:
    """The first value there is under one of these names, else None."""
    return next((data[key] for key in keys if data.get(key) is not None), None)


def label_of(data: Mapping[str, Any], label: str, keys: Sequence[str] = LABEL_KEYS) -> Any:
    """The label by its name, else by a name that labels have, else the only value there is."""
    if label:
        return data.get(label)
    lower = {str(key).lower(): value for key, value in data.items()}
    found = first_of(lower, (*keys, "classtitle"))
    if found is None and len(data) == 1:
        found = next(iter(data.values()))
    if isinstance(found, Mapping):  # QuPath
        found = found.get("name")
    return found


def no_area(kind: str) -> ValueError:
    """The error of a shape that has no polygon."""
    return ValueError(f"a shape {kind!r}: need polygons; draw them, or export the masks as PNG")
