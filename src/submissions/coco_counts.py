"""COCO's compressed counts of pixels as text, and the runs that they stand for."""

import numpy as np

from imaging.rle import Size
from submissions.answer_format import CellError

UNKNOWN: Size = (1 << 31, 1 << 31)
# Starts from 0 and lengths.
Runs = tuple[np.ndarray, np.ndarray]


def write_counts(mask: np.ndarray) -> str:
    """COCO's compressed counts of a {0, 1} mask (H, W)."""
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask))["counts"].decode("ascii")


def read_counts(text: str) -> np.ndarray:
    """int64 (N,): pixels of background and foreground in turn, of COCO's compressed counts.

    pycocotools trusts what it decodes, to reading beyond the text: here nothing is trusted.

    Raises:
        CellError: letters beyond ASCII 48...111, a number that is cut off, or one below 0.
    """
    codes = np.frombuffer(text.encode("utf-8"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise CellError("syntax", f"{short(text)}: no COCO counts, or cut off")
    ends = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(first, ends - first + 1)
    if places.max() > 11:
        raise CellError("syntax", f"{short(text)}: no COCO counts: a number too large")
    values = np.add.reduceat((codes & 31) << (5 * places), first)
    values -= ((codes[ends] & 16) != 0).astype(np.int64) << (5 * (places[ends] + 1))
    # From the fourth number on each is told as the difference from the last but one.
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    if values.min() < 0:
        raise CellError("syntax", f"{short(text)}: no COCO counts: a number below 0")
    return values


def counted_runs(counts: np.ndarray, size: Size) -> Runs:
    """Starts from 0 and lengths of the foreground of COCO's counts.

    Raises:
        CellError: they count other pixels than (H, W) has.
    """
    total = int(counts.sum())
    if size != UNKNOWN and total != size[0] * size[1]:
        what = f"counts {total} pixels, the answer has {size[0] * size[1]} {size}"
        raise CellError("size", f"{what}: encode the mask at that size, or set ANSWER_SIZE")
    ends = np.cumsum(counts)
    lengths = counts[1::2]
    starts = ends[1::2] - lengths
    return starts[lengths > 0], lengths[lengths > 0]


def short(text: str) -> str:
    """A cell as a message shows it."""
    return repr(text if len(text) <= 40 else f"{text[:40]}...")
