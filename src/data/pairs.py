"""Image and mask of a row as the augmentation takes them: fitted to the network's size."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from competition.mask_source import MaskSource
from core.errors import UserError
from data.specs import DataSpec, Row
from imaging.geometry import Size, fit_image, fit_mask
from imaging.images import read_image
from imaging.mask_files import IGNORE
from imaging.objects import IGNORED, mask_objects
from imaging.sources import image_files


class PairReader:
    """Reads rows of train_folds.csv from their files.

    Args:
        root: folder that relative paths start from.
        spec: size, channels, task.
        masks: where masks come from; None: pairs have none.
    """

    def __init__(self, root: Path, *, spec: DataSpec, masks: MaskSource | None):
        self.root, self.spec, self.masks = root, spec, masks

    def read(self, row: Row) -> tuple[np.ndarray, Any, Size]:
        """Image (H, W, C), mask (H, W) or (H, W, K) or None, the image's own (H, W)."""
        spec = self.spec
        image = read_image(self.root / row["image"], **spec.pixels)
        native = (image.shape[0], image.shape[1])
        mask = None if self.masks is None else self._read_mask(self.masks, row, native)
        return fit_image(image, spec.size, spec.resize_mode), mask, native

    def files(self, row: Row) -> list[Path]:
        """The files that `read` opens; without those that are missing, which it tells."""
        paths = image_files(self.root / row["image"], self.spec.bands, self.spec.stack)
        with contextlib.suppress(UserError):
            paths += [] if self.masks is None else self.masks.files(row)
        return paths

    def read_labels(self, row: Row, native: Size) -> np.ndarray:
        """int32 (H, W) with the true objects, see `mask_objects`."""
        assert self.masks is not None
        labels, spec = self.masks.objects(row, native), self.spec
        if labels is not None and spec.task != "multiclass":
            return labels
        mask = self.masks.read(row, native)
        return mask_objects(mask, labels, task=spec.task, classes=spec.classes)

    def _read_mask(self, masks: MaskSource, row: Row, native: Size) -> np.ndarray:
        """The mask as (H, W) ids, or (H, W, K) so that it moves like an image.

        Soft labels are levels, see imaging/soft_labels.py.
        With a border it is uint16 (H, W, 1) with a number an object, which moves as ids do, IGNORED
        where a pixel is.
        """
        if self.spec.border:
            labels = self.read_labels(row, native).astype(np.uint16)
            if masks.ignores:
                labels[masks.read(row, native) == IGNORE] = IGNORED
            return fit_mask(labels[..., None], self.spec.size, self.spec.resize_mode)
        mask = (masks.read if masks.soft_cut is None else masks.likelihood)(row, native)
        fill = IGNORE if self.spec.task == "multiclass" else 0
        if self.spec.task == "binary":
            mask = mask[..., None]
        elif self.spec.task == "multilabel":
            mask = np.ascontiguousarray(mask.transpose(1, 2, 0))
        return fit_mask(mask, self.spec.size, self.spec.resize_mode, fill=fill)
