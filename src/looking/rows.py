"""Rows of a data set as they lie there: nothing missing stops the look."""

from typing import Any

from looking.layout import Layout
from looking.listing import constant_columns


def training_rows(layout: Layout) -> list[dict[str, Any]]:
    """img, image, mask of every training image; no mask is "": missing, or in a table.

    The second table's columns, which masks may need, are there, too.
    """
    masks = layout.masks.paths if layout.masks is not None else {}
    more: dict[str, Any] = {}
    if layout.meta is not None:
        table = constant_columns(layout.meta, layout.train.paths)
        more = {row["img"]: row for row in table.to_dict("records")}
    return [
        {**more.get(img, {}), "img": img, "image": path, "mask": masks.get(img, "")}
        for img, path in layout.train.paths.items()
    ]


def test_rows(layout: Layout) -> list[dict[str, Any]]:
    """img and image of every test image."""
    test = layout.test
    return [{"img": img, "image": path} for img, path in test.paths.items()] if test else []
