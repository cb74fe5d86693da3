"""Label Studio's tasks, whole or JSON-MIN."""

import math
import re
from collections.abc import Mapping
from itertools import chain
from typing import Any
from urllib.parse import unquote

import numpy as np

from competition.bitmaps import read_brush
from competition.drawn import Drawn, box_ring, ellipse_ring, size_of, turned_ring
from imaging.polygons import Polygons, Ring, checked_ring, read_ring

# Label Studio puts eight digits before the name of an uploaded file.
UPLOADS = "/data/upload/"
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


def is_label_studio(data: Any) -> bool:
    """Whether it is a list of Label Studio's tasks, whole or JSON-MIN."""
    return (
        isinstance(data, list)
        and all(isinstance(one, Mapping) for one in data)
        and bool(told := [one for one in data if not _is_bare(one)])
        and all(_studio_results(one) is not None for one in told)
    )


def read_label_studio(data: Any, label: str) -> list[Drawn]:
    """Label Studio: polygons, rectangles and ellipses, an annotator each entry."""
    drawn = []
    for task in data:
        image = task.get("image") or next(iter(task.get("data", {}).values()), "")
        name = _file_name(str(image))
        for results in [[]] if _is_bare(task) else _studio_results(task) or []:
            sizes = {size_of(one, "original_height", "original_width") for one in results}
            shapes = [shape for one in results if (shape := _studio_shape(one))]
            drawn.append(Drawn(name, sizes.pop() if len(sizes) == 1 else None, shapes))
    return drawn


def _file_name(address: str) -> str:
    """The path of an image in its address: of local files it stands behind `?d=`, quoted.

    The folder of uploads is a project's.
    """
    path, _, local = address.partition("?d=")
    folder, slash, base = (unquote(local) or path.partition("?")[0]).rpartition("/")
    return f"{'' if folder.startswith(UPLOADS) else folder + slash}{UPLOADED.sub('', base)}"


def _studio_results(task: Mapping[str, Any]) -> list[list[Mapping[str, Any]]] | None:
    """The results of each annotator, None where it is no task."""
    annotators = task.get("annotations", task.get("completions"))
    if isinstance(annotators, list) and all("result" in one for one in annotators):
        return [one["result"] for one in annotators if not one.get("was_cancelled")]
    regions = [v for v in task.values() if isinstance(v, list) and v and isinstance(v[0], Mapping)]
    drawn = [one for one in regions if "original_width" in one[0]]  # a list a tool
    if "image" in task and drawn:
        return [[{"value": one, **one} for one in chain.from_iterable(drawn)]]
    return None


def _is_bare(task: Mapping[str, Any]) -> bool:
    """Whether it is an image of JSON-MIN on which an annotator drew nothing."""
    return {"image", "annotation_id"} <= task.keys() and not any(
        isinstance(value, list) for value in task.values()
    )


def _studio_shape(result: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Label and outline of a result; None where it is no shape of its own."""
    value = result.get("value", {})
    labels = next((v for k, v in value.items() if k.endswith("labels")), None)
    label = labels[0] if labels else None
    if "rle" in value:
        size = size_of(result, "original_height", "original_width")
        if size is None:
            raise ValueError("a brush, and no size of its image")
        return label, read_brush(value["rle"], size)
    if "points" in value:
        ring = read_ring(value["points"])
    elif "radiusX" in value:
        centre = value["x"], value["y"]
        ring = ellipse_ring(*centre, value["radiusX"], value["radiusY"])
        ring = _turned(ring, centre, result, value)
    elif "width" in value and "x" in value:
        corner = value["x"], value["y"]
        ring = box_ring(*corner, value["width"], value["height"])
        ring = _turned(ring, corner, result, value)
    else:
        return None
    return label, Polygons(((checked_ring(ring),),), "percent")


def _turned(
    ring: Ring, pivot: tuple[float, float], result: Mapping[str, Any], value: Mapping[str, Any]
) -> Ring:
    """A ring in percent, turned clockwise by its rotation as the image shows it."""
    if not value.get("rotation"):
        return ring
    scale = np.array([result["original_width"], result["original_height"]])
    return (
        turned_ring(ring * scale, np.array(pivot) * scale, math.radians(value["rotation"])) / scale
    )
