"""Rows of a data set as they lie there: nothing missing stops the look."""

from typing import Any

from looking.layout import Layout


def training_rows(layout: Layout) -> list[dict[str, Any]]:
    """img, image, mask of every training image; no mask is "": missing, or in a table."""
    masks = layout.masks.paths if layout.masks is not None else {}
    return [
        {"img": img, "image": path, "mask": masks.get(img, "")}
        for img, path in layout.train.paths.items()
    ]


def test_rows(layout: Layout) -> list[dict[str, Any]]:
    """img and image of every test image."""
    test = layout.test
    return [{"img": img, "image": path} for img, path in test.paths.items()] if test else []
