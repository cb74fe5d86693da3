"""The contract of an answer's format: what a row of SUBMISSIONS can do."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import numpy as np

from competition.spec import Competition
from core.errors import UserError
from imaging.rle import Size
from submissions.plan import Plan


class Prediction(NamedTuple):
    """What is known of an image when its cells are written.

    Attributes:
        img: its id.
        mask: multiclass (H, W) ids, else (K, H, W) of {0, 1}.
        objects: int32 (H, W), 1 to n, where objects were split; None: the mask's connected parts.
    """

    img: str
    mask: np.ndarray
    objects: np.ndarray | None = None


class CellFinding(NamedTuple):
    """What the linter learns of one cell.

    Attributes:
        starts, lengths: int64 (N,), the foreground as runs of pixels from 0, in one order for all
            cells of a format.
        doubts: warnings about how it is written.
        telling: whether its shape can show that the format is not the competition's.
    """

    starts: np.ndarray
    lengths: np.ndarray
    doubts: Sequence[str] = ()
    telling: bool = False


class CellError(UserError):
    """A cell that cannot be read: the rule it breaks, and what is said of it."""

    def __init__(self, rule: str, what: str):
        super().__init__(what)
        self.rule, self.what = rule, what


class Sampled(NamedTuple):
    """A telling cell, kept for `check_sample`."""

    line: int
    cell: str
    size: Size


@dataclass(frozen=True)
class AnswerFormat(ABC):
    """How an image's mask becomes rows of the answer, and is read from them again.

    A format of one row an image needs `write`, `read` and `inspect`.

    Attributes:
        task, classes: of the networks.
        empty: the cell of an empty mask.
    """

    task: str = "binary"
    classes: int = 1
    empty: str = ""

    # Whether rows tell classes apart.
    takes_classes: ClassVar[bool] = False
    # Whether an image has as many rows as objects.
    takes_objects: ClassVar[bool] = False
    # What is said when no cell is telling.
    untold: ClassVar[str] = ""

    @classmethod
    def build(cls, competition: Competition, *, task: str, classes: int) -> Self:
        """The format of a competition."""
        return cls(task=task, classes=classes, empty=competition.rle_empty)

    @classmethod
    def plan_problem(cls, plan: Plan) -> str:
        """Why the sample submission cannot be of this format, and what to do; "" if it can."""
        return ""

    @abstractmethod
    def write(self, prediction: Prediction) -> list[str]:
        """The cells of an image; those of `blank` where it has no foreground."""

    def blank(self) -> list[str]:
        """The cells of an image without any foreground."""
        return [self.empty]

    @abstractmethod
    def read(self, cell: str, size: Size) -> np.ndarray:
        """uint8 (H, W) of {0, 1}: the mask of a cell that `is_empty` does not hold of.

        Raises:
            UserError: it is broken.
        """

    def is_empty(self, cell: str) -> bool:
        """Whether a cell says that there is no foreground."""
        return cell == self.empty

    @abstractmethod
    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """What the linter learns of a cell; size is None when the image is not here.

        Raises:
            CellError: it is broken.
        """

    def check_sample(self, sample: Sequence[Sampled]) -> tuple[str, str] | None:
        """An error, (rule, text), that shows in several telling cells together."""
        return None

    def row_groups(self, plan: Plan) -> Iterable[list[int]]:
        """Rows of the sample that are written together."""
        return ([at] for at in range(len(plan.rows)))

    def place(self, rows: list[int], cells: list[str], plan: Plan) -> list[tuple[int, str]]:
        """(row of the sample, cell) for each row to write, of a group and its image's cells."""
        return list(zip(rows, cells, strict=True))
