"""Cells of COCO's counts: alone, or packed with a class and a confidence."""

import base64
import binascii
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from competition.spec import Competition
from core.gates import decimal_number
from imaging.coco_counts import write_counts
from imaging.rle import Size
from submissions.answer_format import CellError, Frame, Item
from submissions.coco_counts import Runs, read_cell, runs_of, short
from submissions.plan import Plan
from submissions.run_lengths import RunsFormat

# No image is smaller.
LEAST_PIXELS = 1024
# Letters that a count of any image takes at most.
LONGEST = 7
PACKED = re.compile(
    r"\s*\S+ [-+.eE\d]+ e[AJN][A-Za-z0-9+/=]+( \S+ [-+.eE\d]+ e[AJN][A-Za-z0-9+/=]+)*\s*"
)


@dataclass(frozen=True)
class Counts(RunsFormat):
    """COCO's compressed counts as pycocotools writes them, without the size: one mask a cell."""

    overlaps: ClassVar[bool] = False

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """ASCII that counts the pixels of the image; of an unknown size enough of them."""
        try:
            counts = read_cell(cell)
        except CellError:
            return False
        if size is None:
            return len(counts) > 2 and int(counts.sum()) >= LEAST_PIXELS
        return int(counts.sum()) == size[0] * size[1]

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The counts of the one mask."""
        return write_counts(items[0].mask)

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of the one mask."""
        return [runs_of(read_cell(cell), size)]


@dataclass(frozen=True)
class Packed(RunsFormat):
    """`label confidence mask` for each object; a mask is base64 of zlib of COCO's counts.

    Source: Open Images 2019's instance segmentation, HuBMAP 2023, Human Protein Atlas 2021.
    """

    joins: ClassVar[bool] = True
    names_classes: ClassVar[bool] = True
    tells_confidence: ClassVar[bool] = True

    @classmethod
    def build(
        cls, competition: Competition, plan: Plan, *, empty: str, cells: Sequence[str]
    ) -> Self:
        """The format; the one label in the sample is that of the one class."""
        shown = {label for cell in cells for label in cell.split()[::3]}
        one = len(plan.labels) == 1 and len(shown) == 1
        return cls(empty=empty, labels=tuple(shown) if one else plan.labels)

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """A label, a number and base64 of a zlib stream, in turn."""
        return PACKED.fullmatch(cell) is not None

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """Three words an item."""
        words = []
        for item in items:
            data = zlib.compress(write_counts(item.mask).encode(), zlib.Z_BEST_COMPRESSION)
            mask = base64.b64encode(data).decode()
            words += [self.labels[item.cls], f"{item.confidence:.4f}", mask]
        return " ".join(words)

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of each object."""
        return [runs for _, _, runs in self._objects(cell, size)]

    def read(self, cell: str, size: Size) -> list[Item]:
        """The objects with their classes and confidences."""
        return [
            Item(self._paint(runs, size, self.order), cls, confidence)
            for cls, confidence, runs in self._objects(cell, size)
        ]

    def _objects(self, cell: str, size: Size) -> list[tuple[int, float, Runs]]:
        words = cell.split(" ")
        if len(words) % 3 or "" in words:
            need = "need label, confidence and mask for each object, one blank between"
            raise CellError("syntax", f"{short(cell)}: {len(words)} words: {need}")
        return [
            (self._class(label), _confidence(number), runs_of(_unpack(mask, size), size))
            for label, number, mask in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]

    def _class(self, label: str) -> int:
        if label not in self.labels:
            raise CellError("class", f"label {label!r}: need one of {', '.join(self.labels[:20])}")
        return self.labels.index(label)


def _confidence(text: str) -> float:
    try:
        value = decimal_number(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise CellError("confidence", f"confidence {text!r}: need a number from 0 to 1")
    return value


def _unpack(text: str, size: Size) -> np.ndarray:
    most = LONGEST * (size[0] * size[1] + 1)  # of a run each pixel; no more of it is unpacked
    try:
        packed = zlib.decompressobj()
        counts = packed.decompress(base64.b64decode(text, validate=True), most)
        if not packed.eof:
            raise zlib.error("cut off, or longer than any mask of the image")
        return read_cell(counts.decode("ascii"))
    except (binascii.Error, zlib.error, UnicodeDecodeError) as error:
        what = f"{short(text)} is no base64 of zlib of COCO counts ({error})"
        raise CellError("syntax", what) from None
