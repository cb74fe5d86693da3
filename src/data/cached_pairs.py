"""Decoded pairs in one block of bytes: where each lies, and how it is read back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.specs import DataSpec
from imaging.geometry import Size

# Images and masks start at multiples of this, so that 16-bit pixels are where processors want them.
ALIGN = 64
# Columns of the index, one row a pair.
START, MASK_START, HEIGHT, WIDTH, NATIVE_HEIGHT, NATIVE_WIDTH = range(6)


class PairCache:
    """Fitted images and masks by id; `read` costs a copy from memory at most.

    Args:
        spec: of the pairs.
        form: of their masks.
        names: ids in the order of the index.
        index: int64 (N, 6), see `plan`.
        store: the file, or a shared uint8 tensor that holds the same bytes.
    """

    def __init__(
        self, spec: DataSpec, form: "MaskForm", names: Sequence[str], index: np.ndarray, store: Any
    ):
        self.spec, self.form, self.index, self.store = spec, form, index, store
        self.rows = {name: at for at, name in enumerate(names)}
        self._bytes: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapping: a worker process opens the file itself."""
        return {**self.__dict__, "_bytes": None}

    def __contains__(self, img: str) -> bool:
        return img in self.rows

    def read(self, img: str) -> tuple[np.ndarray, np.ndarray, Size]:
        """Image (H, W, C), mask (H, W) or (H, W, K), the image's own (H, W), as PairReader gives.

        The image, and a mask of ids, cannot be written to: they are the cache itself.
        """
        if self._bytes is None:
            self._bytes = _open_bytes(self.store)
        row = self.index[self.rows[img]].tolist()
        size = (row[HEIGHT], row[WIDTH])
        start, mask_start = row[START], row[MASK_START]
        kind = np.dtype(f"u{self.spec.bits // 8}")
        image_end = start + size[0] * size[1] * self.spec.channels * kind.itemsize
        image = self._bytes[start:image_end].view(kind).reshape(*size, self.spec.channels)
        stored = self._bytes[mask_start : mask_start + self.form.bytes_of(size)]
        return image, self.form.restore(stored, size), (row[NATIVE_HEIGHT], row[NATIVE_WIDTH])


@dataclass(frozen=True)
class MaskForm:
    """How masks are kept: (H, W, *more) of a type; those of {0, 1} with eight pixels a byte."""

    dtype: str
    more: tuple[int, ...]
    packed: bool

    def bytes_of(self, size: Size) -> int:
        """Bytes of a mask of (H, W) when it is stored."""
        count = math.prod((*size, *self.more))
        return -(-count // 8) if self.packed else count * np.dtype(self.dtype).itemsize

    def store(self, mask: np.ndarray) -> np.ndarray:
        """uint8 (N,) of a mask."""
        return np.packbits(mask) if self.packed else mask.reshape(-1).view(np.uint8)

    def restore(self, stored: np.ndarray, size: Size) -> np.ndarray:
        """The mask of `store`."""
        shape = (*size, *self.more)
        if self.packed:
            return np.unpackbits(stored, count=math.prod(shape)).reshape(shape)
        return stored.view(self.dtype).reshape(shape)


def plan(native: Sequence[Size], spec: DataSpec, form: MaskForm) -> tuple[np.ndarray, int]:
    """Index int64 (N, 6) of pairs of these native sizes, and the bytes of all of them.

    Columns: where image and mask start, fitted height and width, native height and width.
    """
    index = np.zeros((len(native), 6), np.int64)
    at = 0
    for row, size in zip(index, native, strict=True):
        stored = size if spec.resize_mode == "crop" else spec.size
        image = _aligned(stored[0] * stored[1] * spec.channels * spec.bits // 8)
        row[:] = (at, at + image, *stored, *size)
        at += image + _aligned(form.bytes_of(stored))
    return index, at


def _aligned(count: int) -> int:
    return -(-count // ALIGN) * ALIGN


def _open_bytes(store: Any) -> np.ndarray:
    if isinstance(store, Path):
        return np.asarray(np.memmap(store, np.uint8, "r"))
    data = store.numpy()
    data.flags.writeable = False
    return data
