"""Strata of images: values of a column, or how much of an image is foreground."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from competition.groups import column_of

if TYPE_CHECKING:
    from competition.spec import Competition
    from competition.training_images import TrainingImages

MANY_VALUES = 20
PROBED = 16


def find_strata(data: "TrainingImages", column: str, competition: "Competition") -> np.ndarray:
    """Stratum codes of the images, int64 (N,): a column's values, else bins of foreground share.

    A column of many different numbers is cut into five equally full bins.
    """
    import pandas as pd

    from competition.splits import BINS, area_bins

    if not column:
        return area_bins(foreground(data, competition))
    values = column_of(data.table, column, "STRATIFY_COLUMN")
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().all() and values.nunique() > MANY_VALUES:
        ranks = numbers.rank(method="dense").to_numpy()
        return np.asarray(pd.qcut(ranks, BINS, labels=False, duplicates="drop"), np.int64)
    return pd.factorize(values, sort=True)[0]


def foreground(data: "TrainingImages", competition: "Competition") -> np.ndarray:
    """Foreground share of each image, float64 (N,): from run lengths, else from decoded masks."""
    from concurrent.futures import ThreadPoolExecutor

    from competition.masks import build_masks
    from imaging.images import image_size

    table, root = data.table, competition.input
    if data.areas is not None:
        shares = cheap_shares(data, competition)
        if shares is not None:
            return shares
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        sizes = list(
            pool.map(lambda image: image_size(root / image, competition.axes), table["image"])
        )
        if data.areas is not None:
            return data.areas / np.array([height * width for height, width in sizes])
        source = build_masks(competition)

        def share(row: Any, size: tuple[int, int]) -> float:
            pixels = source.read(row, size)
            inside = (pixels > 0) & (pixels < 255)
            return float(inside.any(axis=0).mean() if pixels.ndim == 3 else inside.mean())

        return np.array(list(pool.map(share, table.to_dict("records"), sizes)), np.float64)


def cheap_shares(data: "TrainingImages", competition: "Competition") -> np.ndarray | None:
    """Foreground shares from run lengths when a few images, evenly picked, are of one size."""
    from imaging.images import image_size

    if data.areas is None:
        return None
    step = max(1, len(data.table) // PROBED)
    paths = [competition.input / image for image in data.table["image"][::step]]
    sizes = {image_size(path, competition.axes) for path in paths}
    if len(sizes) > 1:
        return None
    height, width = sizes.pop()
    return data.areas / (height * width)
