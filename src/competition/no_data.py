"""Pixels of an image that hold no data, where they count for nothing."""

from pathlib import Path

import numpy as np

from competition.mask_source import MaskSource, Row
from imaging.images import PixelRules, read_values
from imaging.mask_files import IGNORE
from imaging.rle import Size
from imaging.sources import stored_files
from imaging.values import lacks_data


class DataOnly(MaskSource):
    """Any mask source with the pixels ignored where all of an image's channels lack data.

    Args:
        source: where the masks come from.
        root: folder that images' paths start from.
        rules: how images are read.
    """

    ignores = True

    def __init__(self, source: MaskSource, root: Path, rules: PixelRules):
        self.source, self.root, self.rules = source, root, rules
        self.has_objects, self.several_rows = source.has_objects, source.several_rows
        self.named, self.soft_cut = source.named, source.soft_cut

    def read(self, row: Row, size: Size) -> np.ndarray:
        """As the source's, 255 where the image holds no data.

        Raises:
            UserError: as the source's, or the image cannot be read.
        """
        return np.where(self._lacks(row), np.uint8(IGNORE), self.source.read(row, size))

    def likelihood(self, row: Row, size: Size) -> np.ndarray:
        """As `read`, of the source's likelihood."""
        return np.where(self._lacks(row), np.uint8(IGNORE), self.source.likelihood(row, size))

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """As the source's, without pixels that hold no data."""
        labels = self.source.objects(row, size)
        return None if labels is None else labels * ~self._lacks(row)

    def files(self, row: Row) -> list[Path]:
        """The source's and the image's."""
        return [*self.source.files(row), *stored_files(self.root / row["image"])]

    def expected(self, img: str) -> str:
        """As the source's."""
        return self.source.expected(img)

    def lists(self, img: str) -> bool:
        """As the source's."""
        return self.source.lists(img)

    def _lacks(self, row: Row) -> np.ndarray:
        """bool (H, W): no channel holds data."""
        values = read_values(self.root / row["image"], self.rules)
        lacking = lacks_data(values, self.rules.nodata)
        return np.asarray(lacking.all(2)) if lacking.ndim == 3 else lacking
