"""Series of slices: what folds.py says of images that hold their neighbours, too."""

from collections.abc import Sequence

import numpy as np

from imaging.sources import series_of


def series_notes(images: Sequence[str], folds: np.ndarray, stack: Sequence[int]) -> list[str]:
    """What STACK does at the ends of series, and whether folds cut through them; [] without it.

    Args:
        images: paths of the training table.
        folds: of each image, int64 (N,).
        stack: steps to the slices that an image holds.
    """
    if not stack:
        return []
    homes: dict[str, set[int]] = {}
    for image, fold in zip(images, folds.tolist(), strict=True):
        homes.setdefault(series_of(image), set()).add(fold)
    steps = ",".join(map(str, stack))
    notes = [f"STACK={steps} in {len(homes)} series; beyond their ends the last slice is repeated"]
    torn = sum(len(found) > 1 for found in homes.values())
    if torn:
        notes.append(
            f"{torn} series {'lies' if torn == 1 else 'lie'} in several folds: an image's "
            "neighbours are trained on when it is "
            "scored. Set GROUP_COLUMN to the part of IMAGE_PATTERN that names the series"
        )
    return notes
