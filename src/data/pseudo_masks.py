"""Masks that networks made of unlabelled images, as more training rows for a student."""

from pathlib import Path

import cv2
import numpy as np

from competition.mask_source import MaskSource, Row
from core.errors import UserError
from imaging.rle import Size

# No image of a competition is called so: a row's img tells whose mask it is.
MARK = "pseudo:"


class PseudoMasks(MaskSource):
    """A mask source for real rows and pseudo-labelled ones.

    Args:
        source: of the real rows.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
    """

    def __init__(self, source: MaskSource, *, task: str, classes: int):
        self.source, self.task, self.classes = source, task, classes
        self.has_objects, self.ignores = source.has_objects, source.ignores
        self.soft_cut = source.soft_cut

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask array; of a pseudo-labelled row its file.

        Raises:
            UserError: it is missing or of another size.
        """
        if not row["img"].startswith(MARK):
            return self.source.read(row, size)
        path = Path(row["mask"])
        grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        planes = self.classes if self.task == "multilabel" else 1
        if grey is None or grey.shape != (planes * size[0], size[1]):
            raise UserError(f"{path}: no mask of {size}: run src/pseudo_label.py again")
        if self.task == "multiclass":
            return grey
        mask = grey.reshape(planes, *size) // 255
        return mask if self.task == "multilabel" else mask[0]

    def likelihood(self, row: Row, size: Size) -> np.ndarray:
        """As the real source's; a pseudo-labelled pixel is sure."""
        if row["img"].startswith(MARK):
            return super().likelihood(row, size)
        return self.source.likelihood(row, size)

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """As the real source's; None for pseudo-labelled rows."""
        return None if row["img"].startswith(MARK) else self.source.objects(row, size)

    def files(self, row: Row) -> list[Path]:
        """As the real source's; of a pseudo-labelled row its file."""
        pseudo = row["img"].startswith(MARK)
        return [Path(row["mask"])] if pseudo else self.source.files(row)
