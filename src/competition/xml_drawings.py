"""Polygons of XML files: CVAT for images, Aperio ImageScope, ASAP."""

import math
from collections.abc import Callable
from xml.etree.ElementTree import Element

from competition.drawn import (
    Drawn,
    box_ring,
    ellipse_ring,
    no_area,
    one_ring,
    size_of,
    turned_ring,
)
from core.gates import decimal_number, whole_number
from imaging.polygons import Polygons, Ring, read_ring


def read_xml(root: Element) -> list[Drawn]:
    """The drawings of a document of a known kind.

    Raises:
        ValueError: another kind, or shapes without an area.
    """
    for is_kind, read in XML_DRAWINGS.values():
        if is_kind(root):
            return read(root)
    known = ", ".join(XML_DRAWINGS)
    raise ValueError(f"need the XML of {known}, got <{root.tag}>: export it so, or as COCO")


def is_cvat(root: Element) -> bool:
    """Whether it is CVAT for images."""
    return root.find("image") is not None


def read_cvat(root: Element) -> list[Drawn]:
    """CVAT for images: polygons, boxes and ellipses by their z-order."""
    return [
        Drawn(
            image.attrib["name"],
            size_of(image.attrib, "height", "width"),
            [
                (shape.attrib["label"], _cvat_shape(shape))
                for shape in sorted(image, key=lambda one: whole_number(one.get("z_order", 0)))
                if shape.tag != "tag"
            ],
        )
        for image in root.iter("image")
    ]


def _cvat_shape(shape: Element) -> Polygons:
    if shape.tag == "polygon":
        return one_ring(read_ring([xy.split(",") for xy in shape.attrib["points"].split(";")]))
    turn = math.radians(decimal_number(shape.get("rotation", "0")))
    if shape.tag == "box":
        left, top, right, bottom = _numbers_of(shape, "xtl", "ytl", "xbr", "ybr")
        ring = box_ring(left, top, right - left, bottom - top)
        return one_ring(turned_ring(ring, ring.mean(0), turn))
    if shape.tag == "ellipse":
        x, y, across, down = _numbers_of(shape, "cx", "cy", "rx", "ry")
        return one_ring(ellipse_ring(x, y, across, down, turn))
    raise no_area(shape.tag)


def _numbers_of(shape: Element, *names: str) -> list[float]:
    return [decimal_number(shape.attrib[name]) for name in names]


def is_aperio(root: Element) -> bool:
    """Whether it is Aperio ImageScope's, with regions or without any."""
    return root.tag == "Annotations" or root.find(".//Region") is not None


def read_aperio(root: Element) -> list[Drawn]:
    """Aperio ImageScope: regions of layers (MoNuSeg, MoNuSAC); negative ones are holes."""
    shapes = []
    for layer in root.iter("Annotation"):
        rings = [
            (one.get("NegativeROA") == "1", _ring(one, "Vertex")) for one in layer.iter("Region")
        ]
        holes = [ring for negative, ring in rings if negative and len(ring)]
        for negative, ring in rings:
            if not negative and len(ring):
                inner = [hole for hole in holes if _holds(ring, hole)]
                shapes.append((_layer_label(layer), Polygons(((ring, *inner),))))
    return [Drawn("", None, shapes)]


def _layer_label(layer: Element) -> str:
    """The value of a layer's description, the name of its first attribute, or its own name."""
    attribute = layer.find("Attributes/Attribute")
    if attribute is None:
        return layer.get("Name", "")
    name, value = attribute.get("Name", ""), attribute.get("Value", "")
    return value if name == "Description" else name


def is_asap(root: Element) -> bool:
    """Whether it is ASAP's, with shapes or without any."""
    return root.tag == "ASAP_Annotations" or root.find(".//Coordinate") is not None


def read_asap(root: Element) -> list[Drawn]:
    """ASAP: polygons and rectangles with the group as label (CAMELYON)."""
    shapes = []
    for shape in root.iter("Annotation"):
        if shape.get("Type") not in ("Polygon", "Spline", "Rectangle"):
            raise no_area(str(shape.get("Type")))
        shapes.append((shape.get("PartOfGroup", ""), one_ring(_ring(shape, "Coordinate"))))
    return [Drawn("", None, shapes)]


def _ring(shape: Element, point: str) -> Ring:
    return read_ring([(one.attrib["X"], one.attrib["Y"]) for one in shape.iter(point)])


def _holds(outer: Ring, inner: Ring) -> bool:
    """Whether a ring's box holds the other's."""
    low, high = inner.min(0), inner.max(0)
    return bool((outer.min(0) <= low).all() and (high <= outer.max(0)).all())


Reader = Callable[[Element], list[Drawn]]
# Whether a document is of a kind, and how it is read; the first that fits counts.
XML_DRAWINGS: dict[str, tuple[Callable[[Element], bool], Reader]] = {
    "CVAT for images": (is_cvat, read_cvat),
    "Aperio ImageScope": (is_aperio, read_aperio),
    "ASAP": (is_asap, read_asap),
}
