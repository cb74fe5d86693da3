"""Masks that networks made of unlabelled images, as more training rows for a student."""

from pathlib import Path

import cv2
import numpy as np

from competition.masks import MaskSource
from core.errors import UserError
from imaging.rle import Size

# No image of a competition is called so: a row's img tells whose mask it is.
MARK = "pseudo:"


class PseudoMasks:
    """A mask source for real rows and pseudo-labelled ones.

    Args:
        source: of the real rows.
        task: "binary", "multiclass" or "multilabel".
        classes: K.
    """

    def __init__(self, source: MaskSource, *, task: str, classes: int):
        self.source, self.task, self.classes = source, task, classes

    def read(self, img: str, path: str | Path | None, size: Size) -> np.ndarray:
        """The mask array; of a pseudo-labelled row the file at `path`.

        Raises:
            UserError: it is missing or of another size.
        """
        if not img.startswith(MARK):
            return self.source.read(img, path, size)
        grey = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        planes = self.classes if self.task == "multilabel" else 1
        if grey is None or grey.shape != (planes * size[0], size[1]):
            raise UserError(f"{path}: no mask of {size}: run src/pseudo_label.py again")
        if self.task == "multiclass":
            return grey
        mask = grey.reshape(planes, *size) // 255
        return mask if self.task == "multilabel" else mask[0]

    def instances(self, img: str, path: str | Path | None, size: Size) -> np.ndarray | None:
        """As the real source's; None for pseudo-labelled rows."""
        return None if img.startswith(MARK) else self.source.instances(img, path, size)

    def areas(self) -> dict[str, int] | None:
        """None: only decoding tells."""
        return None
