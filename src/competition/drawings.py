"""What drawing programs export: polygons and their labels, told apart by the content of a file."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from competition.bitmaps import read_bitmap
from competition.drawn import (
    LABEL_KEYS,
    Drawn,
    box_ring,
    ellipse_ring,
    first_of,
    label_of,
    no_area,
    one_ring,
    size_of,
)
from competition.label_studio import is_label_studio, read_label_studio
from competition.labelbox import is_labelbox, read_labelbox
from imaging.polygons import Polygons, Ring, read_geojson, read_ring, read_wkt
from imaging.rle import Size

# What records call an image, a label and an outline; beside a bitmap points may be empty.
IMAGE_KEYS = ("id", "image_name", "image_id", "image", "img", "file_name", "filename", "name")
LIST_KEYS = ("annotations", "objects", "polygons", "shapes", "labels")
OUTLINE_KEYS = (
    *("coordinates", "polygon", "complex_polygon", "bitmap", "points", "segmentation", "geometry"),
)


def is_geojson(data: Any) -> bool:
    """Whether it is a feature, a collection, a geometry, or a list of features."""
    first = data[0] if isinstance(data, list) and data else data
    kind = first.get("type") if isinstance(first, Mapping) else None
    return kind in ("FeatureCollection", "Feature", "Polygon", "MultiPolygon", "GeometryCollection")


def read_features(data: Any, label: str) -> list[Drawn]:
    """GeoJSON: the drawings of each image that features name in a property, else of one.

    Args:
        data: the JSON document.
        label: the property with the class; "" takes one called like class or label.
    """
    if isinstance(data, Mapping):
        data = data.get("features", [data])
    found: dict[str, Drawn] = {}
    for feature in data:
        properties = feature.get("properties") or {}
        lower = {str(key).lower(): value for key, value in properties.items()}
        image = str(first_of(lower, ("imageid", *IMAGE_KEYS[1:-1])) or "")
        shapes = found.setdefault(image, Drawn(image, None, [])).shapes
        outline = read_geojson(feature.get("geometry", feature if "type" in feature else None))
        if outline.parts:
            shapes.append((label_of(properties, label), outline))
    return list(found.values()) or [Drawn("", None, [])]


def is_labelme(data: Any) -> bool:
    """Whether it is a file of LabelMe, of one image."""
    return isinstance(data, Mapping) and "shapes" in data and "imagePath" in data


def read_labelme(data: Any, label: str) -> list[Drawn]:
    """LabelMe: polygons, rectangles and circles; shapes of one group are one object."""
    shapes: dict[Any, tuple[Any, Polygons]] = {}
    for at, shape in enumerate(data["shapes"]):
        outline = one_ring(_labelme_ring(shape.get("shape_type") or "polygon", shape["points"]))
        group = shape.get("group_id")
        key = ("alone", at) if group is None else (shape["label"], group)
        before = shapes[key][1].parts if key in shapes else ()
        shapes[key] = shape["label"], Polygons(before + outline.parts)
    size = size_of(data, "imageHeight", "imageWidth")
    return [Drawn(data["imagePath"], size, list(shapes.values()))]


def _labelme_ring(kind: str, points: Any) -> Ring:
    ring = read_ring(points)
    if kind == "polygon":
        return ring
    if kind == "rectangle":
        return box_ring(*ring[0], *(ring[1] - ring[0]))
    if kind == "circle":
        (x, y), edge = ring.tolist()
        radius = math.dist((x, y), edge)
        return ellipse_ring(x, y, radius, radius)
    raise no_area(kind)


def is_via(data: Any) -> bool:
    """Whether it is a project or an export of VGG's Image Annotator."""
    if not isinstance(data, Mapping) or not data:
        return False
    entries = data.get("_via_img_metadata", data).values()
    return all(
        isinstance(one, Mapping) and {"filename", "regions"} <= one.keys() for one in entries
    )


def read_via(data: Any, label: str) -> list[Drawn]:
    """VGG Image Annotator, versions 1 and 2: polygons, rectangles, circles and ellipses."""
    drawn = []
    for entry in data.get("_via_img_metadata", data).values():
        regions = entry["regions"]
        regions = [*regions.values()] if isinstance(regions, Mapping) else regions
        shapes = [
            (label_of(one.get("region_attributes") or {}, label), _via_shape(one))
            for one in regions
        ]
        drawn.append(Drawn(entry["filename"], None, shapes))
    return drawn


def _via_shape(region: Mapping[str, Any]) -> Polygons:
    shape = region["shape_attributes"]
    kind = shape["name"]
    if kind in ("polygon", "polyline"):
        return one_ring(np.column_stack([shape["all_points_x"], shape["all_points_y"]]))
    if kind == "rect":
        return one_ring(box_ring(shape["x"], shape["y"], shape["width"], shape["height"]))
    if kind in ("circle", "ellipse"):
        radii = (shape["r"], shape["r"]) if kind == "circle" else (shape["rx"], shape["ry"])
        return one_ring(ellipse_ring(shape["cx"], shape["cy"], *radii, shape.get("theta", 0)))
    raise no_area(kind)


def is_records(data: Any) -> bool:
    """Whether it is a list of records, each with an image and a list of its objects."""
    return (
        isinstance(data, list)
        and bool(data)
        and all(isinstance(one, Mapping) and _list_of(one) is not None for one in data)
    )


def read_records(data: Any, label: str) -> list[Drawn]:
    """Records of any names: image, objects, of each a label and an outline (HuBMAP 2023)."""
    return [drawn for record in data for drawn in read_record(record, label)]


def is_image_records(data: Any) -> bool:
    """Whether such records stand under images; COCO's images have no objects (Solafune)."""
    return isinstance(data, Mapping) and is_records(data.get("images"))


def read_image_records(data: Any, label: str) -> list[Drawn]:
    """Records under images: see `read_records`."""
    return read_records(data["images"], label)


def is_record(data: Any) -> bool:
    """Whether it is a record of one image with its objects (Cityscapes, Supervisely, Darwin)."""
    return isinstance(data, Mapping) and _list_of(data) is not None


def read_record(data: Any, label: str) -> list[Drawn]:
    """One record: see `read_records`."""
    objects = [one for one in _list_of(data) or [] if not one.get("deleted")]
    size = size_of(data, "imgHeight", "imgWidth") or size_of(data, "height", "width")
    if isinstance(data.get("size"), Mapping):
        size = size_of(data["size"], "height", "width")
    image = first_of(data, (*IMAGE_KEYS, "item")) or ""
    if isinstance(image, Mapping):  # a COCO image, as in SA-1B; Darwin's item
        size = size_of((image.get("slots") or [image])[0], "height", "width")
        image = first_of(image, IMAGE_KEYS[::-1]) or ""
    shapes = [(label_of(one, label, LABEL_KEYS), _record_shape(one, size)) for one in objects]
    return [Drawn(str(image), size, shapes)]


def _record_shape(record: Mapping[str, Any], size: Size | None) -> Any:
    """An object's outline of any name; of a mapping Darwin's paths, GeoJSON or run lengths."""
    value = first_of(record, OUTLINE_KEYS)
    if isinstance(value, Mapping):
        value = first_of(value, ("paths", "path")) or value
    if isinstance(value, Mapping) and "exterior" in value:
        return _supervisely_shape(value, record.get("geometryType", "polygon"))
    if isinstance(value, Mapping) and "type" in value:
        return read_geojson(value)
    if isinstance(value, Mapping) and "origin" in value:
        return read_bitmap(value, size)
    if isinstance(value, Mapping) and "counts" in value:
        return value
    if value is None or isinstance(value, Mapping):
        raise ValueError(f"an object without any of {', '.join(OUTLINE_KEYS)}: {str(record)[:80]}")
    return read_nested(value)


def _supervisely_shape(points: Mapping[str, Any], kind: str) -> Polygons:
    """A polygon, or a rectangle of two corners.

    Raises:
        ValueError: a point, a line, or another shape without an area.
    """
    rings = [read_ring(ring) for ring in (points["exterior"], *points.get("interior", []))]
    if kind == "rectangle":
        return one_ring(box_ring(*rings[0][0], *(rings[0][1] - rings[0][0])))
    if kind != "polygon":
        raise no_area(kind)
    return Polygons((tuple(rings),))


def is_nested(data: Any) -> bool:
    """Whether it is a list of nothing but lists of numbers: polygons of one image."""
    return isinstance(data, list) and all(isinstance(one, list) for one in data)


def read_lists(data: Any, label: str) -> list[Drawn]:
    """A list of polygons, each an object (HuBMAP 2022), or one polygon's points."""
    polygons = [data] if _depth(data) == 2 and len(data[0]) == 2 else data
    return [Drawn("", None, [(None, read_nested(one)) for one in polygons])]


def read_nested(value: Any) -> Polygons:
    """Polygons of lists, told apart by their depth.

    Points [[x, y], ...]; rings of points, the first around holes; polygons of rings; or lists of
    numbers [[x, y, x, y, ...], ...], which add up.

    Raises:
        ValueError: what is no list of numbers.
    """
    depth = _depth(value)
    if depth == 2 and len(value[0]) > 3:
        return Polygons(tuple((read_ring(ring),) for ring in value))
    if depth <= 2:
        return one_ring(read_ring(value))
    polygons = [value] if depth == 3 else value
    return Polygons(tuple(tuple(read_ring(ring) for ring in rings) for rings in polygons))


def _depth(value: Any) -> int:
    """How many lists stand around the first number, or the first {x, y}, which is a point."""
    depth = 0
    while isinstance(value, list) and value:
        depth, value = depth + 1, value[0]
    return depth + isinstance(value, Mapping)


def is_xbd(data: Any) -> bool:
    """Whether it is a file of xBD: features of one image in pixels, and on the map."""
    features = data.get("features") if isinstance(data, Mapping) else None
    return isinstance(features, Mapping) and "xy" in features


def read_xbd(data: Any, label: str) -> list[Drawn]:
    """xBD: WKT in pixels; the label is a property, CLASS_COLUMN=subtype."""
    shapes = [
        (label_of(one.get("properties") or {}, label), read_wkt(one["wkt"])._replace(unit="pixel"))
        for one in data["features"]["xy"]
    ]
    meta = data.get("metadata") or {}
    return [Drawn(meta.get("img_name") or "", size_of(meta, "height", "width"), shapes)]


Reader = Callable[[Any, str], list[Drawn]]
# Whether a JSON document is of a kind, and how it is read; the first that fits counts.
DRAWINGS: dict[str, tuple[Callable[[Any], bool], Reader]] = {
    "GeoJSON": (is_geojson, read_features),
    "LabelMe": (is_labelme, read_labelme),
    "VIA": (is_via, read_via),
    "Label Studio": (is_label_studio, read_label_studio),
    "Labelbox": (is_labelbox, read_labelbox),
    "a record of objects": (is_record, read_record),
    "records of objects": (is_records, read_records),
    "records of images": (is_image_records, read_image_records),
    "xBD": (is_xbd, read_xbd),
    "lists of points": (is_nested, read_lists),
}


def _list_of(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The objects of a record, None where it has no list of them."""
    lists = [record[key] for key in LIST_KEYS if isinstance(record.get(key), list)]
    fits = [one for one in lists if all(isinstance(item, Mapping) for item in one)]
    return fits[0] if fits else None
