"""COCO's compressed counts as a cell of a submission."""

import numpy as np

from imaging import coco_counts
from imaging.rle import Size
from submissions.answer_format import CellError

UNKNOWN: Size = (1 << 31, 1 << 31)
# Starts from 0 and lengths.
Runs = tuple[np.ndarray, np.ndarray]


def read_cell(text: str) -> np.ndarray:
    """int64 (N,): pixels of background and foreground in turn.

    Raises:
        CellError: as `imaging.coco_counts.read_counts`.
    """
    try:
        return coco_counts.read_counts(text)
    except ValueError as error:
        raise CellError("syntax", f"{short(text)}: {error}") from None


def runs_of(counts: np.ndarray, size: Size) -> Runs:
    """Starts from 0 and lengths of the foreground of COCO's counts.

    Raises:
        CellError: they count other pixels than (H, W) has.
    """
    total = int(counts.sum())
    if size != UNKNOWN and total != size[0] * size[1]:
        what = f"counts {total} pixels, the answer has {size[0] * size[1]} {size}"
        raise CellError("size", f"{what}: encode the mask at that size, or set ANSWER_SIZE")
    return coco_counts.counted_runs(counts)


def short(text: str) -> str:
    """A cell as a message shows it."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
