"""Masks in files: one an image, or a folder of one an object."""

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from competition.mask_source import MaskSource, Row
from core.errors import UserError
from imaging.mask_files import MaskRules, read_mask_file
from imaging.rle import Size


class FileMasks(MaskSource):
    """One mask file an image.

    Args:
        rules: how values become classes.
        root: folder that relative paths start from; absolute paths stay as they are.
        suffix: what follows an image's id in the name of its mask.
        table: name of the CSV that lists the images, for messages.
    """

    named = True

    def __init__(
        self,
        rules: MaskRules,
        root: str | Path,
        *,
        suffix: str = "",
        table: str = "train_masks.csv",
    ):
        self.rules, self.root, self.suffix, self.table = rules, Path(root), suffix, table

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask of the file at the row's `mask`, relative to the root.

        Raises:
            UserError: no path, an unreadable file, undeclared values, or another size than the
                image's.
        """
        img = row["img"]
        if not row.get("mask"):
            raise UserError(f"{img}: has no mask file: add it or drop {img} from {self.table}")
        path = self.root / row["mask"]
        mask = read_mask_file(path, self.rules)
        _check_size(path.name, mask.shape[-2:], size, f"{img} from {self.table}")
        return mask

    def files(self, row: Row) -> list[Path]:
        """The one file."""
        return [self.root / row["mask"]] if row.get("mask") else []

    def expected(self, img: str) -> str:
        """The id and the suffix."""
        return img + self.suffix


class InstanceFolderMasks(MaskSource):
    """A folder of binary masks an image, one file an object: DSB2018's original layout.

    Args:
        root: folder that the pattern starts from.
        pattern: where the files of an image lie, with `{img}` for its id.
        threshold: as in MaskRules.
    """

    has_objects = True

    def __init__(
        self,
        root: str | Path,
        pattern: str = "{img}/masks/*.png",
        *,
        threshold: int | None = None,
    ):
        self.root, self.pattern = Path(root), pattern
        self.rules = MaskRules("binary", threshold=threshold)

    def read(self, row: Row, size: Size) -> np.ndarray:
        """uint8 (H, W) of {0, 1}: the union of the image's files.

        Raises:
            UserError: no folder of the image, a broken file, or another size than the image's.
        """
        mask = np.zeros(size, np.uint8)
        for file in self.files(row):
            mask |= self._read_one(file, row["img"], size)
        return mask

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """int32 (H, W): files numbered from 1 in the order of their names.

        Raises:
            UserError: as `read`, or two objects overlap.
        """
        labels = np.zeros(size, np.int32)
        files = self.files(row)
        for at, file in enumerate(files):
            inside = self._read_one(file, row["img"], size) != 0
            taken = labels[inside]
            if taken.any():
                first = files[int(taken[taken > 0].min()) - 1]
                raise UserError(
                    f"{row['img']}: instances {first.name} and {file.name} overlap: cut or "
                    "drop one of them"
                )
            labels[inside] = at + 1
        return labels

    def files(self, row: Row) -> list[Path]:
        """The mask files of an image, sorted.

        Raises:
            UserError: no folder of the image.
        """
        img = row["img"]
        pattern = self.pattern.replace("{img}", glob.escape(img))
        files = sorted(self.root.glob(pattern))
        folder = self.root / self.pattern.replace("{img}", img)
        if not files and not folder.parent.is_dir():
            raise UserError(f"{folder.parent}: no such folder of instance masks, img is {img}")
        return files

    def expected(self, img: str) -> str:
        """The folder of the image's files."""
        return img

    def _read_one(self, file: Path, img: str, size: Size) -> np.ndarray:
        mask = read_mask_file(file, self.rules)
        _check_size(file.name, mask.shape, size, img)
        return mask


def _check_size(name: str, mask: Sequence[int], image: Size, what: str) -> None:
    if tuple(mask) != tuple(image):
        raise UserError(
            f"{name}: mask is {tuple(mask)}, image is {tuple(image)}. They must match: export the "
            f"mask again or drop {what}"
        )
