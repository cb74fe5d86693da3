"""Labelbox's exports, an image a line."""

from collections.abc import Mapping
from typing import Any

from competition.drawn import Drawn, no_area, one_ring, size_of
from imaging.polygons import read_ring


def is_labelbox(data: Any) -> bool:
    """Whether it is a row of Labelbox's export, or a list of them."""
    rows = data if isinstance(data, list) else [data]
    return bool(rows) and all(
        isinstance(one, Mapping) and {"data_row", "projects"} <= one.keys() for one in rows
    )


def read_labelbox(data: Any, label: str) -> list[Drawn]:
    """Labelbox: polygons, of each label of each project as those of an annotator."""
    drawn = []
    for row in data if isinstance(data, list) else [data]:
        name = str(row["data_row"].get("external_id") or row["data_row"]["id"])
        size = size_of(row.get("media_attributes") or {}, "height", "width")
        labels = [one for project in row["projects"].values() for one in project["labels"]]
        for one in labels:
            objects = one["annotations"]["objects"]
            drawn.append(Drawn(name, size, [(o["name"], _outline(o)) for o in objects]))
    return drawn


def _outline(item: Mapping[str, Any]) -> Any:
    if "polygon" not in item:
        raise no_area(str(item.get("annotation_kind", "without a polygon")))
    return one_ring(read_ring(item["polygon"]))
