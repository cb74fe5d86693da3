"""Polygons of plain text: WKT, and the lines of YOLO."""

import re

import numpy as np

from competition.drawn import Drawn, no_area
from core.gates import whole_number
from imaging.polygons import Polygons, checked_ring, is_wkt, read_wkt

# Shares of an image that a corner may be beyond it, and is none in pixels.
FARTHEST = 2
# A class, and numbers: a box has four, an outline three pairs or more.
NUMBER = r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
YOLO_HEAD = re.compile(rf"\s*\d+[ \t]+{NUMBER}", re.ASCII)
YOLO = re.compile(rf"\s*\d+(?:[ \t]+{NUMBER}){{4,}}\s*", re.ASCII)


def is_text(text: str) -> bool:
    """Whether it is WKT, or lines of YOLO; an empty file has none."""
    lines = (line for line in text.splitlines() if line.strip())
    return is_wkt(text) or all(map(YOLO.fullmatch, lines))


def is_prose(text: str) -> bool:
    """Whether no line of a text begins as WKT or YOLO does: a list of classes, a README."""
    return not is_wkt(text) and not any(map(YOLO_HEAD.match, text.splitlines()))


def read_text(text: str) -> list[Drawn]:
    """The drawings of one image.

    Raises:
        ValueError: WKT that is cut off, boxes, or numbers without partners.
    """
    if is_wkt(text):
        return [Drawn("", None, [(None, read_wkt(text))])]
    return [Drawn("", None, [_yolo_shape(line) for line in text.splitlines() if line.strip()])]


def _yolo_shape(line: str) -> tuple[int, Polygons]:
    """Class and outline, x and y as shares of width and height."""
    cls, *numbers = line.split()
    if len(numbers) == 4:
        raise no_area("box")
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers behind a class, need pairs of x and y")
    ring = np.array(numbers, np.float64).reshape(-1, 2)
    if np.abs(ring).max() > FARTHEST:
        raise ValueError(
            f"a corner at {np.abs(ring).max():g}, need shares of width and height, 0 to 1"
        )
    return whole_number(cls), Polygons(((checked_ring(100 * ring),),), "percent")
