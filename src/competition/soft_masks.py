"""Masks that say how likely each pixel is foreground: of raters, and of probabilities."""

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from competition.file_masks import FileMasks, InstanceFolderMasks
from competition.mask_source import MaskSource, Row
from competition.rle_masks import RleMasks
from core.errors import UserError
from imaging.files import read_complete
from imaging.images import PixelRules, image_size, read_values
from imaging.mask_files import IGNORE
from imaging.mask_pixels import decode_mask
from imaging.palettes import read_palette
from imaging.rle import Size
from imaging.soft_labels import is_foreground, levels_of
from imaging.sources import own_file, window_of, without_window

if TYPE_CHECKING:
    import pandas as pd


class SharedMasks(MaskSource):
    """A mask source of shares: `read` gives their truth, `likelihood` the shares themselves.

    Attributes:
        cut_grey: of 0 to 255, from which a share is foreground; None: more than one half.
    """

    cut_grey: int | None = None

    def shares(self, row: Row, size: Size) -> np.ndarray:
        """float (H, W), for multilabel (K, H, W), of 0 to 1; nan where a pixel is ignored.

        Raises:
            UserError: as `read`.
        """
        raise NotImplementedError

    def read(self, row: Row, size: Size) -> np.ndarray:
        """As of every source: what most raters marked, or what is likelier than not.

        Raises:
            UserError: it is missing, broken, or of another size.
        """
        shares = self.shares(row, size)
        inside = is_foreground(np.nan_to_num(shares), self.cut_grey).view(np.uint8)
        return np.where(np.isnan(shares), np.uint8(IGNORE), inside)

    def likelihood(self, row: Row, size: Size) -> np.ndarray:
        """The shares as levels."""
        return levels_of(self.shares(row, size), self.cut_grey)


class ProbabilityMasks(SharedMasks, FileMasks):
    """One file an image: floats of 0 to 1, or grey whose white is 1; 0 and 1 alone are just that.

    Multilabel takes a picture or array of K channels.
    """

    def shares(self, row: Row, size: Size) -> np.ndarray:
        rules = self.rules
        if not row.get("mask"):
            return FileMasks.read(self, row, size).astype(np.float32)
        name = own_file(row["mask"]).name
        channels = 4 if rules.task == "multilabel" and rules.classes == 4 else 3
        values = read_values(self.root / row["mask"], PixelRules(channels, axes=rules.axes))
        planes = values.reshape(*values.shape[:2], -1)
        self._check_size(row, planes.shape[:2], size)
        shares = _as_shares(planes, rules.ignore, name)
        if rules.task != "multilabel":
            if not np.array_equal(shares, shares[..., :1].repeat(shares.shape[2], 2), True):
                raise UserError(f"{name}: the mask is coloured, need grey: export it so")
            return shares[..., 0]
        if shares.shape[2] != rules.classes:
            raise UserError(
                f"{name}: the mask has {shares.shape[2]} channels, CLASSES is {rules.classes}: "
                "need a channel a class"
            )
        return np.moveaxis(shares, 2, 0)


def _as_shares(values: np.ndarray, ignore: int | None, name: str) -> np.ndarray:
    """float32 of 0 to 1 of a file's values, nan where they are `ignore`."""
    known = values if ignore is None else np.where(values == ignore, values.dtype.type(0), values)
    high, low = known.max(initial=0), known.min(initial=0)
    white = 1
    if values.dtype in (np.uint8, np.uint16) and high > 1:
        white = np.iinfo(values.dtype).max
    if not (low >= 0 and high <= white):
        raise UserError(
            f"{name}: values from {low} to {high} are no probabilities: need floats from 0 to 1, "
            "or grey of 8 or 16 bits"
        )
    shares = known.astype(np.float32) / white
    return shares if ignore is None else np.where(values == ignore, np.float32(np.nan), shares)


class RaterMasks(SharedMasks, FileMasks):
    """One .npy file an image with a mask of each rater, (H, W, R) or (R, H, W)."""

    def shares(self, row: Row, size: Size) -> np.ndarray:
        if not row.get("mask"):
            return FileMasks.read(self, row, size).astype(np.float32)
        path, box = own_file(self.root / row["mask"]), window_of(row["mask"])
        axes = self.rules.axes
        raters = decode_mask(read_complete(path), path.name, read_palette, axes=axes)
        raters = raters.reshape([n for n in raters.shape if n > 1] or [1])
        whole = image_size(self.root / without_window(row["image"])) if box else size
        if raters.shape[:2] == whole:
            raters = np.moveaxis(np.atleast_3d(raters), 2, 0)
        raters = raters[(..., *box.slices)] if box else raters
        self._check_size(row, raters.shape[-2:], size)
        return (raters != 0).mean(0)


class RaterFiles(SharedMasks, InstanceFolderMasks):
    """Several mask files an image, one of each rater."""

    has_objects = False

    def shares(self, row: Row, size: Size) -> np.ndarray:
        files = self.files(row)
        total = np.zeros(size, np.float32)
        for file in files:
            total += self._read_one(file, row["img"], size)
        return total / max(len(files), 1)

    def objects(self, row: Row, size: Size) -> None:
        """None: the files are raters."""


class RaterRows(SharedMasks, RleMasks):
    """Run-length rows of which each is what a rater marked in an image, or in a class of it.

    An empty cell is a rater who marked nothing.
    """

    def __init__(self, table: "pd.DataFrame", **rules: Any):
        super().__init__(table, **rules)
        self.has_objects = False
        classes = table["class"].astype(int) if "class" in table else [0] * len(table)
        self.raters = Counter(zip(table["img"].astype(str), classes, strict=True))

    def shares(self, row: Row, size: Size) -> np.ndarray:
        img, rows = row["img"], self._rows_of(row["img"])
        total = np.zeros((self.classes, *size), np.float32)
        for at, one in enumerate(rows):
            total[one.cls] += self._paint(img, rows[at : at + 1], [1], size, np.uint8)
        for k in range(self.classes):
            total[k] /= max(self.raters[img, k], 1)
        return total if self.task == "multilabel" else total[0]

    def objects(self, row: Row, size: Size) -> None:
        """None: the rows are raters."""
