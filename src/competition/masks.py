"""Where the masks of a competition come from: files, run-length rows, folders of instances.

Every source has `read(img, path, size)`, `instances(img, path, size)` and `areas()`, holds plain
values only, and can be pickled to worker processes.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from competition.rle_masks import RleMasks
from core.errors import UserError
from imaging.mask_files import IGNORE, MaskRules, mask_to_instances, read_mask_file
from imaging.rle import Size, rle_area, rle_decode, rle_encode

__all__ = [
    "IGNORE",
    "FileMasks",
    "InstanceFolderMasks",
    "MaskRules",
    "MaskSource",
    "RleMasks",
    "mask_to_instances",
    "read_mask_file",
    "rle_area",
    "rle_decode",
    "rle_encode",
]


class MaskSource(Protocol):
    """What the three sources share; size is the image's (H, W)."""

    def read(self, img: str, path: str | Path | None, size: Size) -> np.ndarray:
        """The mask array: uint8 (H, W), for multilabel (K, H, W)."""

    def instances(self, img: str, path: str | Path | None, size: Size) -> np.ndarray | None:
        """int32 (H, W) with objects 1 to n, or None when the source does not tell them apart."""

    def areas(self) -> dict[str, int] | None:
        """Foreground pixels by img, or None when they would cost a decode."""


class FileMasks:
    """One mask file an image.

    Args:
        rules: how values become classes.
        root: folder that relative paths start from; absolute paths stay as they are.
        table: name of the CSV that lists the images, for messages.
    """

    def __init__(self, rules: MaskRules, root: str | Path, *, table: str = "train_masks.csv"):
        self.rules, self.root, self.table = rules, Path(root), table

    def read(self, img: str, path: str | Path | None, size: Size) -> np.ndarray:
        """The mask of the file at `path`, relative to the root.

        Raises:
            UserError: no path, an unreadable file, undeclared values, or another size than the
                image's.
        """
        if _no_path(path):
            raise UserError(f"{img}: has no mask file: add it or drop {img} from {self.table}")
        mask = read_mask_file(self.root / str(path), self.rules)
        _check_size(Path(str(path)).name, mask.shape[-2:], size, f"{img} from {self.table}")
        return mask

    def instances(self, img: str, path: str | Path | None, size: Size) -> np.ndarray | None:
        """None: a file holds classes."""
        return None

    def areas(self) -> dict[str, int] | None:
        """None: only decoding tells."""
        return None


class InstanceFolderMasks:
    """A folder of binary masks an image, one file an instance: DSB2018's original layout.

    Args:
        root: folder that the pattern starts from.
        pattern: where the files of an image lie, with `{img}` for its id.
        threshold: as in MaskRules.
    """

    has_instances = True

    def __init__(
        self,
        root: str | Path,
        pattern: str = "{img}/masks/*.png",
        *,
        threshold: int | None = None,
    ):
        self.root, self.pattern = Path(root), pattern
        self.rules = MaskRules("binary", threshold=threshold)

    def read(self, img: str, path: str | Path | None, size: Size) -> np.ndarray:
        """uint8 (H, W) of {0, 1}: the union of the image's files; `path` is not looked at.

        Raises:
            UserError: no folder of the image, a broken file, or another size than the image's.
        """
        mask = np.zeros(size, np.uint8)
        for file in self.files(img):
            mask |= self._read_one(file, img, size)
        return mask

    def instances(self, img: str, path: str | Path | None, size: Size) -> np.ndarray | None:
        """int32 (H, W): files numbered from 1 in the order of their names.

        Raises:
            UserError: as `read`, or two instances overlap.
        """
        labels = np.zeros(size, np.int32)
        files = self.files(img)
        for at, file in enumerate(files):
            inside = self._read_one(file, img, size) != 0
            taken = labels[inside]
            if taken.any():
                first = files[int(taken[taken > 0].min()) - 1]
                raise UserError(
                    f"{img}: instances {first.name} and {file.name} overlap: cut or "
                    "drop one of them"
                )
            labels[inside] = at + 1
        return labels

    def areas(self) -> dict[str, int] | None:
        """None: only decoding tells."""
        return None

    def files(self, img: str) -> list[Path]:
        """The mask files of an image, sorted.

        Raises:
            UserError: no folder of the image.
        """
        pattern = self.pattern.replace("{img}", glob.escape(img))
        files = sorted(self.root.glob(pattern))
        folder = self.root / self.pattern.replace("{img}", img)
        if not files and not folder.parent.is_dir():
            raise UserError(f"{folder.parent}: no such folder of instance masks, img is {img}")
        return files

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


def _no_path(path: str | Path | None) -> bool:
    return path is None or path != path or str(path) == ""
