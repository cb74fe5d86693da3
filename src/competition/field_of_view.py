"""A second mask file an image that says where there is data: outside of it nothing counts."""

from pathlib import Path

import numpy as np

from competition.mask_source import MaskSource, Row
from core.errors import UserError
from imaging.mask_files import IGNORE, MaskRules, read_mask_file
from imaging.rle import Size


class FieldOfView(MaskSource):
    """Any mask source with pixels outside of a field of view ignored.

    Args:
        source: where the masks come from.
        folder: of the files that say where there is data, 0 where there is none.
        suffix: what follows an image's id in the name of its file.
    """

    ignores = True

    def __init__(self, source: MaskSource, folder: Path, suffix: str):
        self.source, self.folder, self.suffix = source, folder, suffix
        self.has_objects, self.several_rows = source.has_objects, source.several_rows
        self.named, self.soft_cut = source.named, source.soft_cut
        self.rules = MaskRules("binary")

    def read(self, row: Row, size: Size) -> np.ndarray:
        """As the source's, 255 outside of the field of view.

        Raises:
            UserError: as the source's, or the file is missing, broken or of another size.
        """
        mask, inside = self.source.read(row, size), self._read_inside(row, size)
        return np.where(inside, mask, np.uint8(IGNORE))

    def likelihood(self, row: Row, size: Size) -> np.ndarray:
        """As `read`, of the source's likelihood."""
        inside = self._read_inside(row, size)
        return np.where(inside, self.source.likelihood(row, size), np.uint8(IGNORE))

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """As the source's, without pixels outside of the field of view."""
        labels = self.source.objects(row, size)
        return None if labels is None else labels * self._read_inside(row, size)

    def files(self, row: Row) -> list[Path]:
        """The source's and its own."""
        return [*self.source.files(row), self._file(row)]

    def expected(self, img: str) -> str:
        """As the source's."""
        return self.source.expected(img)

    def lists(self, img: str) -> bool:
        """As the source's."""
        return self.source.lists(img)

    def _file(self, row: Row) -> Path:
        return self.folder / f"{row['img']}{self.suffix}"

    def _read_inside(self, row: Row, size: Size) -> np.ndarray:
        inside = read_mask_file(self._file(row), self.rules) != 0
        if inside.shape != size:
            raise UserError(
                f"{self._file(row).name}: field of view is {inside.shape}, image is {size}. They "
                "must match: set VALID_PATH and VALID_SUFFIX"
            )
        return inside
