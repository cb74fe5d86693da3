"""Polygons with holes: as text, and drawn into a mask."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.gates import decimal_number, json_value
from imaging.rle import Size

# (N, 2) of x and y.
Ring = NDArray[np.float64]
# No image and no map reaches so far, in pixels or metres.
FAR = 1e9
# Crossings of outlines with rows that are held at once.
AT_ONCE = 1 << 21
WKT_HEAD = r"\s*(?:SRID=\d+;\s*)?(MULTI)?POLYGON\s*(?:(?:ZM?|M)\s*)?"
WKT = re.compile(WKT_HEAD + r"(EMPTY|\(.*\))\s*", re.IGNORECASE | re.DOTALL)
WKT_BEGINNING = re.compile(WKT_HEAD + r"(EMPTY|\()", re.IGNORECASE)
WKT_POINT = re.compile(r"([^\s(),]+)\s+([^\s(),]+)[^(),]*")


class Polygons(NamedTuple):
    """One object, or all of a class.

    Attributes:
        parts: polygons that add up; the rings of each are its outline and its holes.
        unit: of x, to the right, and y, down from the upper left corner of the first pixel:
            "pixel"; "percent" of width and height; "map" where they may be those of a map instead.
    """

    parts: tuple[tuple[Ring, ...], ...]
    unit: str = "pixel"

    def scaled(self, factor: Sequence[float], offset: Sequence[float] = (0, 0)) -> "Polygons":
        """In pixels: what is over an offset in x and y, times a factor in each."""
        rings = (tuple((ring - offset) * factor for ring in part) for part in self.parts)
        return Polygons(tuple(rings))


def fill_polygons(polygons: Polygons, size: Size) -> NDArray[np.bool_]:
    """bool (H, W): pixels whose centre is in a part, in an odd number of its rings.

    Points may lie outside of the image.

    Args:
        polygons: in pixels.
        size: (H, W).
    """
    mask = np.zeros(size, bool)
    for part in polygons.parts:
        points = np.concatenate([np.empty((0, 2)), *part])
        if not len(points):
            continue
        low, high = points.min(0), points.max(0)
        left, top = np.floor(low).clip(0, size[::-1]).astype(int).tolist()
        right, bottom = np.ceil(high).clip(0, size[::-1]).astype(int).tolist()
        window = mask[top:bottom, left:right]
        window |= _fill_rings([ring - (left, top) for ring in part], window.shape)
    return mask


def _fill_rings(rings: Sequence[Ring], size: Sequence[int]) -> NDArray[np.bool_]:
    height, width = size
    # A crossing of a row's centre line turns all pixels from there on inside out.
    turns = np.zeros((height, width + 1), np.uint8)
    for ring in rings:
        x, y = ring[:, 0], ring[:, 1] - 0.5
        next_x, next_y = np.roll(x, -1), np.roll(y, -1)
        first = np.ceil(np.minimum(y, next_y)).clip(0, height).astype(np.int64)
        counts = np.ceil(np.maximum(y, next_y)).clip(0, height).astype(np.int64) - first
        ends = np.cumsum(counts)
        cuts = np.searchsorted(ends, np.arange(AT_ONCE, ends[-1:].sum(), AT_ONCE))
        for edges in np.split(np.arange(len(ring)), cuts):
            edge = np.repeat(edges, counts[edges])
            passed = (ends - counts)[edge] - (ends - counts)[edges[:1]].sum()
            row = np.arange(len(edge)) - passed + first[edge]
            share = (row - y[edge]) / (next_y - y)[edge]
            crossing = x[edge] + share * (next_x - x)[edge]
            column = np.ceil(crossing - 0.5).clip(0, width).astype(np.int64)
            np.bitwise_xor.at(turns, (row, column), 1)
    return np.bitwise_xor.accumulate(turns, axis=1)[:, :width].astype(bool)


def is_wkt(text: str) -> bool:
    """Whether a text begins like a polygon of well-known text."""
    return WKT_BEGINNING.match(text) is not None


def read_wkt(text: str) -> Polygons:
    """A POLYGON or MULTIPOLYGON of well-known text; without parts of EMPTY.

    Raises:
        ValueError: it is neither, or is cut off.
    """
    match = WKT.fullmatch(text)
    if match is None:
        raise ValueError(f"need POLYGON or MULTIPOLYGON of WKT, got {text[:40]!r}")
    multi, body = match.groups()
    if body.upper() == "EMPTY":
        return Polygons((), "map")
    lists = WKT_POINT.sub(r"[\1,\2]", body).replace("(", "[").replace(")", "]")
    polygons = json_value(lists)
    return Polygons(_read_parts(polygons if multi else [polygons]), "map")


def read_geojson(geometry: Mapping[str, Any] | None) -> Polygons:
    """A Polygon, a MultiPolygon or a collection of them; without parts of no geometry.

    Raises:
        ValueError: another geometry.
    """
    if not geometry:
        return Polygons((), "map")
    kind = geometry.get("type")
    if kind == "GeometryCollection":
        inner = [read_geojson(one).parts for one in geometry["geometries"]]
        return Polygons(tuple(part for parts in inner for part in parts), "map")
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(f"need Polygon or MultiPolygon of GeoJSON, got {kind!r}")
    coordinates = geometry["coordinates"]
    return Polygons(_read_parts([coordinates] if kind == "Polygon" else coordinates), "map")


def read_ring(points: Any) -> Ring:
    """(N, 2) of points [[x, y], ...] or [{x, y}, ...], or of numbers [x, y, x, y, ...].

    Further axes are left out.

    Raises:
        ValueError: numbers without partners, or what is no number.
    """
    if len(points) and isinstance(points[0], Mapping):
        points = [(point["x"], point["y"]) for point in points]
    ring = np.asarray(points)
    if ring.dtype.kind == "U":
        ring = np.array([decimal_number(word.strip()) for word in ring.flat]).reshape(ring.shape)
    if ring.ndim == 1:
        ring = ring.reshape(-1, 2)
    if ring.ndim != 2 or (ring.size and ring.shape[1] < 2):
        raise ValueError(f"need points [[x, y], ...], got an array of {ring.shape}")
    return checked_ring(ring[:, :2])


def checked_ring(ring: np.ndarray) -> Ring:
    """The corners of a ring as float64 (N, 2).

    Raises:
        ValueError: corners that are no numbers, or are beyond every image and map.
    """
    corners = ring.astype(np.float64) if ring.dtype.kind in "iuf" else np.array(np.nan)
    if not (np.abs(corners) < FAR).all():
        raise ValueError(f"need finite numbers as corners, got {str(ring.tolist())[:80]}")
    return corners


def _read_parts(polygons: Sequence[Any]) -> tuple[tuple[Ring, ...], ...]:
    return tuple(tuple(read_ring(ring) for ring in rings) for rings in polygons)
