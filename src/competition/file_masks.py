"""Masks in files: one an image, or a folder of one an object."""

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from competition.mask_source import MaskSource, Row
from core.errors import UserError
from imaging.mask_files import IGNORE, MaskRules, read_label_file, read_mask_file
from imaging.readers import is_image
from imaging.rle import Size
from imaging.sources import own_file
from streaming.files import matching_files


class FileMasks(MaskSource):
    """One mask file an image.

    Args:
        rules: how values become classes.
        root: folder that relative paths start from; absolute paths stay as they are.
        suffix: what follows an image's id in the name of its mask.
        table: name of the CSV that lists the images, for messages.
        absent_is_empty: an image without a file has an empty mask.
    """

    named = True

    def __init__(
        self,
        rules: MaskRules,
        root: str | Path,
        *,
        suffix: str = "",
        table: str = "train_masks.csv",
        absent_is_empty: bool = False,
    ):
        self.rules, self.root, self.suffix, self.table = rules, Path(root), suffix, table
        self.absent_is_empty = absent_is_empty
        self.ignores = rules.ignore is not None or IGNORE in (rules.values or {}).values()

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask of the file at the row's `mask`, relative to the root.

        Raises:
            UserError: no path, an unreadable file, undeclared values, or another size than the
                image's.
        """
        if not row.get("mask"):
            self._check_absent(row["img"])
            planes = self.rules.classes if self.rules.task == "multilabel" else 0
            return np.zeros((planes, *size) if planes else size, np.uint8)
        mask = read_mask_file(self.root / row["mask"], self.rules)
        self._check_size(row, mask.shape[-2:], size)
        return mask

    def files(self, row: Row) -> list[Path]:
        """The one file."""
        return [own_file(self.root / row["mask"])] if row.get("mask") else []

    def expected(self, img: str) -> str:
        """The id and the suffix."""
        return img + self.suffix

    def _check_absent(self, img: str) -> None:
        if not self.absent_is_empty:
            raise UserError(
                f"{img}: has no mask file: add it or drop {img} from {self.table}; if its mask is "
                "empty, set ABSENT=empty"
            )

    def _check_size(self, row: Row, mask: Sequence[int], image: Size) -> None:
        _check_size(Path(row["mask"]).name, mask, image, f"{row['img']} from {self.table}")


class LabelMasks(FileMasks):
    """One file an image that numbers its objects: 0 is background, each other value or colour one.

    A .npy file may also hold a layer an object, (N, H, W).
    """

    has_objects = True

    def read(self, row: Row, size: Size) -> np.ndarray:
        """uint8 (H, W) of {0, 1}: where any object is.

        Raises:
            UserError: as `FileMasks.read`, or the file is lossy.
        """
        return (self._labels(row, size) != 0).any(0).view(np.uint8)

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """int32 (H, W): objects from 1 on in the order of their numbers; of layers the first wins.

        Raises:
            UserError: as `read`.
        """
        layers = self._labels(row, size)
        if len(layers) > 1:
            # A layer may number several objects, of one class.
            most = int(layers.max(initial=0))
            base = np.arange(len(layers), dtype=np.int64)[:, None, None] * most
            numbers = (base + layers) * (layers != 0)
            layers = numbers.max(0, initial=0, where=np.cumsum(layers != 0, 0) == 1)[None]
        values, at = np.unique(layers[0], return_inverse=True)
        first = 0 if 0 in values else 1
        return (at.reshape(size) + first).astype(np.int32)

    def _labels(self, row: Row, size: Size) -> np.ndarray:
        """(N, H, W): one layer of object numbers, or a layer an object."""
        if not row.get("mask"):
            self._check_absent(row["img"])
            return np.zeros((1, *size), np.uint8)
        layers = read_label_file(self.root / row["mask"], self.rules.axes)
        if layers.shape[-2:] != size and layers.shape[:2] == size:
            layers = np.moveaxis(layers, 2, 0)
        self._check_size(row, layers.shape[-2:], size)
        return layers


class InstanceFolderMasks(MaskSource):
    """Several binary masks an image, one file an object.

    Args:
        root: folder that the files lie in.
        names: of each image's files; None: those of DSB2018's layout, {img}/masks/*.
        threshold: as in MaskRules.
        absent_is_empty: an image without files has no objects; only with `names`.
    """

    has_objects = True

    def __init__(
        self,
        root: str | Path,
        names: Mapping[str, Sequence[str]] | None = None,
        *,
        threshold: int | None = None,
        absent_is_empty: bool = False,
    ):
        self.root, self.names, self.absent_is_empty = Path(root), names, absent_is_empty
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
            UserError: no folder of the image, or nothing but other files in it.
        """
        if self.names is not None:
            return [self.root / name for name in self.names.get(row["img"], ())]
        folder = self.root / row["img"] / "masks"
        there = [Path(name) for name in matching_files(f"{glob.escape(str(folder))}/*")]
        files = sorted(file for file in there if is_image(file.name))
        if there and not files:
            raise UserError(f"{folder}: holds no picture of an object, img is {row['img']}")
        if not files and not folder.is_dir():
            raise UserError(f"{folder}: no such folder of instance masks, img is {row['img']}")
        return files

    def lists(self, img: str) -> bool:
        """Whether it has files, or needs none."""
        return self.names is None or img in self.names or self.absent_is_empty

    def expected(self, img: str) -> str:
        """The folder of the image's files."""
        return img if self.names is None else ""

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
