"""The contract of a mask format: what a mask source says of an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imaging.rle import Size
from imaging.soft_labels import SURE

# A row of train_folds.csv: img, image, mask and more.
Row = Mapping[str, Any]


class MaskSource:
    """Where masks come from; holds plain values, knows its own root, and can be pickled.

    A format needs `read`; the rest has an answer for formats that hold one mask an image.

    Attributes:
        has_objects: whether the masks tell objects apart.
        several_rows: whether several rows of TRAIN_CSV may tell the mask of one image.
        named: whether a row's column `mask` is the path that `read` opens.
        ignores: whether masks may hold 255 beside 0 and 1, for pixels that count for nothing.
        soft_cut: where networks learn `likelihood`, its highest level that is background; None:
            they learn what `read` gives.
        notes: what folds.py should tell of them, a line each.
    """

    has_objects: bool = False
    several_rows: bool = False
    named: bool = False
    ignores: bool = False
    soft_cut: int | None = None
    notes: Sequence[str] = ()

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask of an image of this (H, W): uint8 (H, W), for multilabel (K, H, W).

        Raises:
            UserError: it is missing, broken, of another size, or holds undeclared values.
        """
        raise NotImplementedError

    def likelihood(self, row: Row, size: Size) -> np.ndarray:
        """uint8 as `read`: 0 to 254 of 254 that a pixel is foreground, 255 where it is ignored.

        Raises:
            UserError: as `read`.
        """
        mask = self.read(row, size)
        return np.where(mask == 1, np.uint8(SURE), mask)

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """int32 (H, W) with objects 1 to n, or None when the source does not tell them apart."""
        return None

    def files(self, row: Row) -> list[Path]:
        """Files that `read` opens: what was made of them is stale when one changes.

        Raises:
            UserError: some of them are missing.
        """
        return []

    def lists(self, img: str) -> bool:
        """Whether the masks' own table or file knows an image; False is told before any is read."""
        return True

    def expected(self, img: str) -> str:
        """The file or folder of MASK_PATH that an image needs; "" where it needs none."""
        return ""
