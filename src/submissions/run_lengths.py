"""Answers of run lengths: a row an image, a row a class, a row an object."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from competition.run_layout import run_layout
from competition.spec import Competition
from imaging.mask_files import mask_to_instances
from imaging.rle import (
    Order,
    RunError,
    Size,
    count_outline,
    is_digits,
    is_empty_rle,
    rle_decode,
    rle_encode,
    rle_runs,
)
from submissions.answer_format import AnswerFormat, CellError, CellFinding, Prediction, Sampled
from submissions.plan import Plan

# The wrong order shreds a mask: its outline is several times as long.
SHREDDED = 0.6
# Fewer runs tell nothing of the order.
TELLING_RUNS = 8
UNKNOWN: Size = (1 << 31, 1 << 31)


@dataclass(frozen=True)
class ImageRows(AnswerFormat):
    """One row an image: the run lengths of its one class.

    Attributes:
        order: in which pixels are numbered.
        base: number of the first pixel.
        relative: a start counts from the end of the run before.
    """

    order: Order = "column"
    base: int = 1
    relative: bool = False

    untold: ClassVar[str] = (
        "no mask in an image that is wider or higher than the other way: its shape cannot tell "
        "row from column order"
    )

    @classmethod
    def build(cls, competition: Competition, *, task: str, classes: int) -> Self:
        """The format of a competition."""
        layout = run_layout(competition)._asdict()
        return cls(task=task, classes=classes, empty=competition.rle_empty, **layout)

    @classmethod
    def plan_problem(cls, plan: Plan) -> str:
        """Several rows an image in the sample."""
        if len(plan.rows) == len(plan.images):
            return ""
        return (
            f"the sample has {len(plan.rows)} rows for {len(plan.images)} images: set "
            "SUBMISSION_ROWS to class or instance"
        )

    def write(self, prediction: Prediction) -> list[str]:
        """The run lengths of the foreground."""
        return [self._encode(self.planes(prediction.mask)[0])]

    def planes(self, mask: np.ndarray) -> list[np.ndarray]:
        """{0, 1} (H, W) of each class beside the background; of all for rows of classes."""
        if self.task != "multiclass":
            return list(mask)
        first = 0 if self.takes_classes else 1
        return [(mask == k).astype(np.uint8) for k in range(first, self.classes)]

    def read(self, cell: str, size: Size) -> np.ndarray:
        """The mask of run lengths."""
        return self._decode(cell, size, self.order)

    def is_empty(self, cell: str) -> bool:
        """The competition's token, or no run."""
        return cell == self.empty or is_empty_rle(cell)

    def inspect(self, cell: str, size: Size | None) -> CellFinding:
        """Its runs; doubts about runs that touch and about odd spelling.

        Raises:
            CellError: broken or outside of the image.
        """
        try:
            starts, lengths = rle_runs(
                cell, size or UNKNOWN, base=self.base, relative=self.relative, name=""
            )
        except RunError as error:
            raise CellError(error.rule, error.what) from None
        doubts = []
        if len(starts) > 1 and (starts[1:] == starts[:-1] + lengths[:-1]).any():
            doubts.append(
                "runs touch, decoded and encoded again they are fewer: encode the mask, not its "
                "parts"
            )
        elif not self.relative and not _is_plain(cell, starts + self.base, lengths):
            doubts.append("two spaces, a plus or leading zeros: write 'start length start ...'")
        telling = size is not None and size[0] != size[1] and len(starts) >= TELLING_RUNS
        return CellFinding(starts, lengths, doubts, telling)

    def check_sample(self, sample: Sequence[Sampled]) -> tuple[str, str] | None:
        """Masks that are whole in the other pixel order and shredded in this one."""
        other: Order = "row" if self.order == "column" else "column"
        votes = sum(
            self._outline(cell, size, other) < SHREDDED * self._outline(cell, size, self.order)
            for _, cell, size in sample
        )
        if 2 * votes <= len(sample):
            return None
        return "pixel order", (
            f"line {sample[0].line} and others: {votes} of {len(sample)} masks are whole when "
            f"pixels are numbered by {other} and shredded by {self.order}: the file is in {other} "
            f"order; encode by {self.order}, or set RLE_ORDER={other}"
        )

    def _outline(self, cell: str, size: Size, order: Order) -> int:
        """Pixel edges between mask and background."""
        return count_outline(self._decode(cell, size, order))

    def _decode(self, cell: str, size: Size, order: Order) -> np.ndarray:
        return rle_decode(cell, size, order=order, base=self.base, relative=self.relative)

    def _encode(self, plane: np.ndarray) -> str:
        return rle_encode(
            plane, order=self.order, base=self.base, relative=self.relative, empty=self.empty
        )


class ClassRows(ImageRows):
    """A row for each class of an image."""

    takes_classes: ClassVar[bool] = True

    @classmethod
    def plan_problem(cls, plan: Plan) -> str:
        """No class column in the sample."""
        return "" if plan.class_of else "the sample has no class column: set CLASS_COLUMN"

    def write(self, prediction: Prediction) -> list[str]:
        """The run lengths of each class."""
        return [self._encode(plane) for plane in self.planes(prediction.mask)]

    def blank(self) -> list[str]:
        """One a class."""
        return [self.empty] * self.classes

    def place(self, rows: list[int], cells: list[str], plan: Plan) -> list[tuple[int, str]]:
        """A row gets the cell of its class."""
        return [(row, cells[plan.class_of[plan.classes[row]]]) for row in rows]


class InstanceRows(ImageRows):
    """A row for each object of an image; one with the empty token where there is none."""

    takes_objects: ClassVar[bool] = True

    @classmethod
    def plan_problem(cls, plan: Plan) -> str:
        """Any sample will do: it tells the images only."""
        return ""

    def write(self, prediction: Prediction) -> list[str]:
        """The run lengths of each object."""
        labels = prediction.objects
        if labels is None:
            labels = mask_to_instances(self.planes(prediction.mask)[0])
        numbers = range(1, int(labels.max()) + 1)
        return [self._encode((labels == k).astype(np.uint8)) for k in numbers] or self.blank()

    def row_groups(self, plan: Plan) -> Iterable[list[int]]:
        """All rows of an image, where its first is."""
        return plan.rows_of.values()

    def place(self, rows: list[int], cells: list[str], plan: Plan) -> list[tuple[int, str]]:
        """As many rows as objects, all like the image's first."""
        return [(rows[0], cell) for cell in cells]


def _is_plain(text: str, starts: np.ndarray, lengths: np.ndarray) -> bool:
    """Whether text is what `rle_encode` writes for these runs, by counting digits."""
    if not is_digits(text):
        return False
    powers = 10 ** np.arange(1, 19)
    digits = np.searchsorted(powers, np.concatenate([starts, lengths]), side="right") + 1
    return len(text) == int(digits.sum()) + 2 * len(starts) - 1
