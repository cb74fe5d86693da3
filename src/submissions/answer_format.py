"""The contract of an answer's format: what a row of SUBMISSIONS can do."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np

from competition.spec import Competition
from core.errors import UserError
from imaging.rle import Size, is_empty_rle
from submissions.answer_files import AnswerFile
from submissions.csv_file import CsvFile
from submissions.plan import Plan

NO_RUNS = np.empty(0, np.int64)


class Item(NamedTuple):
    """One thing that an answer says of an image.

    Attributes:
        mask: uint8 (H, W) of {0, 1}, at the answer's size.
        cls: index of its class.
        confidence: mean probability inside the mask, 0-1.
        runs: starts from 0 and lengths of the mask, int64, in the format's order of pixels, where
            it is too large to be kept as pixels.
    """

    mask: np.ndarray
    cls: int = 0
    confidence: float = 1.0
    runs: tuple[np.ndarray, np.ndarray] | None = None


class Frame(NamedTuple):
    """What items lie in.

    Attributes:
        size: (H, W) of the answer.
        source: the test image's file.
        img: its id.
    """

    size: Size
    source: Path | None = None
    img: str = ""


class CellFinding(NamedTuple):
    """What the linter learns of one cell.

    Attributes:
        pixels: of its foreground.
        starts, lengths: int64 (N,), the foreground as runs of pixels from 0, in one order for all
            cells of a format; none where the format does not keep masks apart.
        doubts: warnings about how it is written.
        telling: whether its shape can show that the format is not the competition's.
    """

    pixels: int
    starts: np.ndarray = NO_RUNS
    lengths: np.ndarray = NO_RUNS
    doubts: Sequence[str] = ()
    telling: bool = False


class CellError(UserError):
    """A cell that cannot be read: the rule it breaks, and what is said of it."""

    def __init__(self, rule: str, what: str):
        super().__init__(what)
        self.rule, self.what = rule, what


class Sampled(NamedTuple):
    """A telling cell, kept for `check_sample`."""

    where: str
    cell: str
    size: Size


@dataclass(frozen=True)
class AnswerFormat(ABC):
    """How masks are spelled in a cell of the answer, and read from it again.

    A format of one's own needs `write` and `read`; SUBMISSION asks for it.

    Attributes:
        empty: the cell of an image, or a class of it, without any foreground.
        labels: the text of each class.
    """

    empty: str = ""
    labels: tuple[str, ...] = ("0",)

    # Where cells are written.
    file: ClassVar[type[AnswerFile]] = CsvFile
    # Whether `fits` tells it from others by the cells of a sample.
    known_by_cells: ClassVar[bool] = False
    # Whether a cell tells several objects apart.
    joins: ClassVar[bool] = False
    # Whether a cell says of which class a mask is.
    names_classes: ClassVar[bool] = False
    # Whether a cell says how sure it is.
    tells_confidence: ClassVar[bool] = False
    # Whether masks of an image may share pixels.
    overlaps: ClassVar[bool] = True
    # Whether an image without foreground is written like any other.
    writes_empty: ClassVar[bool] = False
    # The cell of an empty mask where neither the sample nor TRAIN_CSV shows one.
    usual_empty: ClassVar[str] = ""
    # What is said when no cell is telling.
    untold: ClassVar[str] = ""

    @property
    def takes_objects(self) -> bool:
        """Whether it is given object by object what stands in one cell."""
        return self.joins

    @property
    def fills(self) -> bool:
        """Whether it gives every pixel a class, the background's too."""
        return False

    @classmethod
    def build(
        cls, competition: Competition, plan: Plan, *, empty: str, cells: Sequence[str]
    ) -> Self:
        """The format of a competition.

        Args:
            competition: its knobs.
            plan: of the sample, with the text of each class.
            empty: the cell of an empty mask.
            cells: of the sample that hold a mask.
        """
        return cls(empty=empty, labels=plan.labels)

    @classmethod
    def fits(cls, cell: str, size: Size | None) -> bool:
        """Whether a filled cell of the sample is spelled so, for an image of this (H, W)."""
        return False

    @classmethod
    def owns(cls, cell: str) -> bool:
        """Whether a cell without any mask is spelled as in this format alone."""
        return False

    def knobs(self) -> list[str]:
        """Flags for what was recognised in the training files, for a kernel without them."""
        return []

    def at(self, img: str, size: Size | None) -> Self:
        """The format for an image, where it is not the same for all."""
        return self

    @abstractmethod
    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The cell of one or more items; several only where `joins`."""

    @classmethod
    def spells_empty(cls, cells: Sequence[str]) -> bool:
        """Whether cells show that an empty mask is spelled like any other, by its size."""
        return False

    def write_empty(self, frame: Frame) -> str:
        """The cell of an image, or a class of it, without any foreground."""
        return self.empty

    @abstractmethod
    def read(self, cell: str, size: Size) -> list[Item]:
        """The items of a cell that `is_empty` does not hold of.

        Raises:
            UserError: it is broken, a CellError where the rule has a name.
        """

    def read_truth(self, cell: str, size: Size) -> tuple[list[Item], np.ndarray | None]:
        """As `read`, and where the truth counts for nothing, bool (H, W); None: nowhere.

        Raises:
            UserError: as `read`.
        """
        return self.read(cell, size), None

    def is_empty(self, cell: str) -> bool:
        """Whether a cell says that there is no foreground, rightly spelled or not."""
        return cell == self.empty or is_empty_rle(cell)

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """What the linter learns of a cell; size is None when the image is not here.

        Raises:
            UserError: it is broken.
        """
        if size is None:
            return CellFinding(0)
        masks = [item.mask for item in self.read(cell, size)]
        return CellFinding(int(np.count_nonzero(np.any(masks, axis=0))) if masks else 0)

    def check_sample(self, sample: Sequence[Sampled]) -> tuple[str, str] | None:
        """An error, (rule, text), that shows in several telling cells together."""
        return None
