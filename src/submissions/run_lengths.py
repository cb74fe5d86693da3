"""Cells of run lengths, plain and as JSON lists; what all masks as runs have in common."""

import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from competition.run_layout import run_layout
from competition.spec import Competition
from core.gates import json_value
from imaging.rle import (
    Order,
    RunError,
    Size,
    count_outline,
    is_digits,
    paint_runs,
    rle_encode,
    rle_runs,
    write_runs,
)
from submissions.answer_format import (
    AnswerFormat,
    CellError,
    CellFinding,
    Frame,
    Item,
    Sampled,
)
from submissions.coco_counts import UNKNOWN, Runs, short
from submissions.plan import Plan

# The wrong order shreds a mask: its outline is several times as long.
SHREDDED = 0.6
# Fewer runs tell nothing of the order.
TELLING_RUNS = 8
# At the wrong size it is cut in parts, which shreds less.
CUT = 0.8
# Sizes that answers are wrongly written at: shares of the image's sides, and squares.
SHARES, SQUARES = (0.5, 0.25), (256, 512, 1024)
PLAIN = re.compile(r"\s*\d+\s+\d+(\s+\d+\s+\d+)*\s*")
LISTS = re.compile(r"\s*\[[\d,\s]*\](\s*;\s*\[[\d,\s]*\])*\s*")


class RunsFormat(AnswerFormat):
    """Masks as runs of pixels, whatever the spelling.

    A wrong pixel order or size shows in shredded masks.
    """

    order: Order = "column"
    known_by_cells: ClassVar[bool] = True
    untold: ClassVar[str] = (
        "no mask of many runs in an image that is wider or higher than the other way: its shape "
        "cannot tell row from column order"
    )

    @abstractmethod
    def runs(self, cell: str, size: Size) -> list[Runs]:
        """Starts from 0 and lengths of each mask of a cell.

        Raises:
            UserError: it is broken, or ends outside of (H, W).
        """

    def read(self, cell: str, size: Size) -> list[Item]:
        """The masks of the runs."""
        return [Item(self._paint(runs, size, self.order)) for runs in self.runs(cell, size)]

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """Its runs, and doubts about runs that touch.

        Raises:
            CellError: broken or outside of the image.
        """
        found = self.runs(cell, size or UNKNOWN)
        pixels = sum(int(lengths.sum()) for _, lengths in found)
        touch = any((s[1:] == s[:-1] + n[:-1]).any() for s, n in found)
        doubts = []
        if touch:
            doubts.append(
                "runs touch, decoded and encoded again they are fewer: encode the mask, not its "
                "parts"
            )
        telling = size is not None and sum(len(starts) for starts, _ in found) >= TELLING_RUNS
        if not self.joins and len(found) == 1:
            return CellFinding(pixels, *found[0], doubts, telling)
        return CellFinding(pixels, doubts=doubts, telling=telling)

    def check_sample(self, sample: Sequence[Sampled]) -> tuple[str, str] | None:
        """Masks that are whole in the other pixel order, or at another size, and shredded here."""
        oblong = [one for one in sample if one.size[0] != one.size[1]]
        other: Order = "row" if self.order == "column" else "column"
        votes = sum(self._is_whole(one, one.size, other, SHREDDED) for one in oblong)
        if 2 * votes > len(oblong):
            return "pixel order", (
                f"{oblong[0].where} and others: {votes} of {len(oblong)} masks are whole when "
                f"pixels are numbered by {other} and shredded by {self.order}: the file is in "
                f"{other} order; encode by {self.order}{self._order_knob(other)}"
            )
        for told, sizes in _other_sizes(sample):
            votes = sum(
                self._is_whole(one, size, self.order, CUT)
                for one, size in zip(sample, sizes, strict=True)
            )
            if 2 * votes > len(sample):
                return "size", (
                    f"{sample[0].where} and others: {votes} of {len(sample)} masks are whole at "
                    f"{told} and shredded at {sample[0].size}: encode them at the size that the "
                    "competition wants, or set ANSWER_SIZE"
                )
        return None

    def _order_knob(self, other: Order) -> str:
        return ""

    def _is_whole(self, one: Sampled, size: Size, order: Order, share: float) -> bool:
        """Whether another size or order makes the outlines of a cell's masks so much shorter."""
        if size == one.size and order == self.order:
            return False
        if size[0] * size[1] > one.size[0] * one.size[1]:
            return False  # runs beyond the image tell of those; noise may look whole there
        masks = self.runs(one.cell, one.size)
        if any(len(s) and s[-1] + n[-1] > size[0] * size[1] for s, n in masks):
            return False
        here = sum(count_outline(self._paint(runs, one.size, self.order)) for runs in masks)
        there = sum(count_outline(self._paint(runs, size, order)) for runs in masks)
        return there < share * here

    @staticmethod
    def _paint(runs: Runs, size: Size, order: Order) -> np.ndarray:
        starts, lengths = runs
        return paint_runs(starts, lengths, np.ones(len(starts), np.uint8), size=size, order=order)


def _other_sizes(sample: Sequence[Sampled]) -> list[tuple[str, list[Size]]]:
    """Sizes that answers are wrongly written at, each in words and for all cells of a sample."""
    found: list[tuple[str, list[Size]]] = [
        (f"{share:g} of the sides", [_scaled(one.size, share) for one in sample])
        for share in SHARES
    ]
    return [*found, *((f"{side} x {side}", [(side, side)] * len(sample)) for side in SQUARES)]


def _scaled(size: Size, share: float) -> Size:
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


@dataclass(frozen=True)
class RunLengths(RunsFormat):
    """`start length start length`: one mask a cell.

    Attributes:
        order: in which pixels are numbered.
        base: number of the first pixel.
        relative: a start counts from the end of the run before.
    """

    order: Order = "column"
    base: int = 1
    relative: bool = False

    overlaps: ClassVar[bool] = False

    @classmethod
    def build(
        cls, competition: Competition, plan: Plan, *, empty: str, cells: Sequence[str]
    ) -> Self:
        """The format with the layout of the knobs, or of TRAIN_CSV."""
        return cls(empty=empty, labels=plan.labels, **run_layout(competition)._asdict())

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """Pairs of whole numbers."""
        return PLAIN.fullmatch(cell) is not None

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The run lengths of the one mask."""
        if items[0].runs is None:
            return self._encode(items[0].mask)
        return write_runs(*items[0].runs, base=self.base, relative=self.relative)

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of the one mask."""
        try:
            return [rle_runs(cell, size, base=self.base, relative=self.relative, name="")]
        except RunError as error:
            raise CellError(error.rule, error.what) from None

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """As of all runs, and doubts about odd spelling.

        Raises:
            CellError: broken or outside of the image.
        """
        found = super().inspect(cell, size)
        starts, lengths = found.starts, found.lengths
        if found.doubts or self.relative or _is_plain(cell, starts + self.base, lengths):
            return found
        doubt = "two spaces, a plus or leading zeros: write 'start length start ...'"
        return found._replace(doubts=[doubt])

    def _order_knob(self, other: Order) -> str:
        return f", or set RLE_ORDER={other}"

    def _encode(self, mask: np.ndarray) -> str:
        return rle_encode(mask, order=self.order, base=self.base, relative=self.relative)


@dataclass(frozen=True)
class RunLists(RunLengths):
    """`[start, length, ...];[start, length, ...]`: a JSON list an object, joined by semicolons.

    Source: Recod.ai/LUC Scientific Image Forgery Detection, where `authentic` is no object.
    """

    joins: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """Lists of whole numbers in brackets."""
        return LISTS.fullmatch(cell) is not None

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """A list an item."""
        texts = [self._encode(item.mask) for item in items]
        return ";".join(json.dumps([int(n) for n in text.split()]) for text in texts)

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of each list."""
        if not self.fits(cell, size):
            raise CellError(
                "syntax",
                f"{short(cell)}: need JSON lists joined by semicolons, [1, 5, 20, 3];[40, 2]",
            )
        try:
            lists = [json_value(part) for part in cell.split(";")]
        except ValueError as error:
            raise CellError("syntax", f"{short(cell)}: a list that is no JSON ({error})") from None
        if [] in lists:
            raise CellError("syntax", "an empty list: leave it out")
        texts = [" ".join(map(str, numbers)) for numbers in lists]
        return [runs for text in texts for runs in super(RunLists, self).runs(text, size)]

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """As of all runs; blanks are of no interest.

        Raises:
            CellError: broken or outside of the image.
        """
        return RunsFormat.inspect(self, cell, size)


def _is_plain(text: str, starts: np.ndarray, lengths: np.ndarray) -> bool:
    """Whether text is what `rle_encode` writes for these runs, by counting digits."""
    if not is_digits(text):
        return False
    powers = 10 ** np.arange(1, 19)
    digits = np.searchsorted(powers, np.concatenate([starts, lengths]), side="right") + 1
    return len(text) == int(digits.sum()) + 2 * len(starts) - 1
