"""Cells of run lengths as values of JSON or Python: a list, a list of pairs, COCO's dictionary."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from competition.spec import Competition
from imaging.coco_counts import compress_counts, count_pixels
from imaging.rle import Order, Size, mask_runs, write_runs
from imaging.run_values import COCO_KINDS, Kind, RunValue, is_json, is_run_value, read_run_values
from submissions.answer_format import CellError, CellFinding, Frame, Item
from submissions.coco_counts import UNKNOWN, Runs, short
from submissions.plan import Plan
from submissions.run_lengths import RunLengths, RunsFormat
from submissions.sample import trained_cells


@dataclass(frozen=True)
class RunList(RunLengths):
    """`[start, length, start, length]`: a JSON list, one mask a cell."""

    kinds: ClassVar[tuple[Kind, ...]] = ("list",)
    usual_empty: ClassVar[str] = "[]"
    looks: ClassVar[str] = "[1, 5, 20, 3]"

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """One such value; of pairs, which may be points, runs that follow each other."""
        one = cls.read_value(cell)
        return one is not None and (one.kind != "pairs" or one.is_sorted)

    @classmethod
    def read_value(cls, cell: str) -> RunValue | None:
        """The one mask of a cell; None of another spelling, or of several masks."""
        one = _read(cell) if is_json(cell) else None
        return one if one is not None and one.kind in cls.kinds else None

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The value of the one mask."""
        starts, lengths = items[0].runs or mask_runs(items[0].mask, order=self.order)
        return self._spell(starts, lengths, frame.size)

    def _spell(self, starts: np.ndarray, lengths: np.ndarray, size: Size) -> str:
        return json.dumps(self._numbers(starts, lengths))

    def _numbers(self, starts: np.ndarray, lengths: np.ndarray) -> list[int]:
        text = write_runs(starts, lengths, base=self.base, relative=self.relative)
        return [int(number) for number in text.split()]

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of the one mask."""
        one = self.read_value(cell)
        if one is None:
            raise CellError("syntax", f"{short(cell)}: need one mask as {self.looks}")
        if one.size not in (None, size) and size != UNKNOWN:
            what = f"counts of {one.size}, the answer has {size}"
            raise CellError("size", f"{what}: encode the mask at that size, or set ANSWER_SIZE")
        return super().runs(one.text, size)

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """As of all runs; blanks are of no interest.

        Raises:
            CellError: broken or outside of the image.
        """
        return RunsFormat.inspect(self, cell, size)


@dataclass(frozen=True)
class RunPairs(RunList):
    """`[[start, length], [start, length]]`: a JSON list of pairs, one mask a cell."""

    kinds: ClassVar[tuple[Kind, ...]] = ("pairs",)
    looks: ClassVar[str] = "[[1, 5], [20, 3]]"

    def _spell(self, starts: np.ndarray, lengths: np.ndarray, size: Size) -> str:
        numbers = self._numbers(starts, lengths)
        return json.dumps([*map(list, zip(numbers[::2], numbers[1::2], strict=True))])


@dataclass(frozen=True)
class CountsDictionary(RunList):
    """`{"size": [height, width], "counts": ...}`: COCO's own run lengths, one mask a cell.

    Attributes:
        spelling: of the counts: "counts", a list; "text", compressed; "bytes", that of Python.
        python: with the quotes of Python's repr, not of JSON.
        all_told: an empty mask is a dictionary, too.
    """

    spelling: Kind = "text"
    python: bool = False
    all_told: bool = False

    kinds: ClassVar[tuple[Kind, ...]] = COCO_KINDS
    usual_empty: ClassVar[str] = ""
    looks: ClassVar[str] = '{"size": [2, 3], "counts": "132"}'

    @classmethod
    def read_value(cls, cell: str) -> RunValue | None:
        """As of lists, with Python's quotes, too."""
        one = _read(cell)
        return one if one is not None and one.kind in cls.kinds else None

    @classmethod
    def build(
        cls, competition: Competition, plan: Plan, *, empty: str, cells: Sequence[str]
    ) -> Self:
        """The spelling of the sample, else of TRAIN_CSV."""
        shown = [cell for cell in (cells or trained_cells(competition)) if cls.fits(cell, None)]
        first = cls.read_value(shown[0]) if shown else None
        return cls(
            empty=empty,
            labels=plan.labels,
            spelling=first.kind if first else "text",
            python=bool(shown) and not is_json(shown[0]),
            all_told=cls.spells_empty(cells),
        )

    @classmethod
    def spells_empty(cls, cells: Sequence[str]) -> bool:
        """Whether one of the cells counts background alone."""
        return any(
            one is not None and one.size and not one.numbers for one in map(cls.read_value, cells)
        )

    def write_empty(self, frame: Frame) -> str:
        """The cell of no foreground, a dictionary where the sample has such."""
        none = np.empty(0, np.int64)
        return self._spell(none, none, frame.size) if self.all_told else self.empty

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of the one mask.

        Raises:
            CellError: as of lists, or its counts are spelled in another way than the sample's.
        """
        found, one = super().runs(cell, size), self.read_value(cell)
        if one is not None and (one.kind, is_json(cell)) != (self.spelling, not self.python):
            need = self._spell(*found[0], size if size != UNKNOWN else (one.size or size))
            raise CellError("syntax", f"{short(cell)}: need it as the sample has it, {short(need)}")
        return found

    def _order_knob(self, other: Order) -> str:
        return ""

    def _spell(self, starts: np.ndarray, lengths: np.ndarray, size: Size) -> str:
        counts: Any = count_pixels(starts, lengths, size)
        if self.spelling != "counts":
            counts = compress_counts(counts, size)
        if self.spelling == "bytes":
            counts = counts.encode("ascii")
        value = {"size": list(size), "counts": counts}
        return repr(value) if self.python else json.dumps(value)


def _read(cell: str) -> RunValue | None:
    """The one mask of a cell, None where it holds none or several."""
    if not is_run_value(cell):
        return None
    try:
        masks = read_run_values(cell)
    except ValueError:
        return None
    return masks[0] if len(masks) == 1 else None
