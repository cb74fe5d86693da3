"""COCO's counts of pixels, background and foreground in turn: plain, or compressed as text."""

from collections.abc import Sequence

import numpy as np

# Letters of one number, five bits each: numbers below 2 ** 39, whose sums int64 holds.
PLACES = 8


def write_counts(mask: np.ndarray) -> str:
    """COCO's compressed counts of a {0, 1} mask (H, W)."""
    from pycocotools import mask as coco

    return coco.encode(np.asfortranarray(mask))["counts"].decode("ascii")


def read_counts(text: str) -> np.ndarray:
    """int64 (N,): pixels of background and foreground in turn, of COCO's compressed counts.

    pycocotools trusts what it decodes, to reading beyond the text: here nothing is trusted.

    Raises:
        ValueError: letters beyond ASCII 48...111, a number that is cut off, too large, or below 0.
    """
    codes = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("no COCO counts, or cut off")
    ends = np.flatnonzero(codes & 32 == 0)
    first = np.concatenate([[0], ends[:-1] + 1])
    places = np.arange(len(codes)) - np.repeat(first, ends - first + 1)
    if places.max() >= PLACES:
        raise ValueError("no COCO counts: a number too large")
    values = np.add.reduceat((codes & 31) << (5 * places), first)
    values -= ((codes[ends] & 16) != 0).astype(np.int64) << (5 * (places[ends] + 1))
    # From the fourth number on each is told as the difference from the last but one.
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    if values.min() < 0:
        raise ValueError("no COCO counts: a number below 0")
    return values


def plain_counts(counts: Sequence[int]) -> np.ndarray:
    """int64 (N,) of counts as a list.

    Raises:
        ValueError: what is no whole number, 0 or more, or is too large.
    """
    if not set(map(type, counts)) <= {int} or not min(counts, default=0) >= 0:
        raise ValueError("counts that are no whole numbers, 0 or more")
    if max(counts, default=0) >= 1 << (5 * PLACES):
        raise ValueError("a count too large")
    return np.array(counts, np.int64)


def counted_runs(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts from 0 and lengths of the foreground of counts."""
    lengths = counts[1::2]
    starts = np.cumsum(counts)[1::2] - lengths
    return starts[lengths > 0], lengths[lengths > 0]


def count_pixels(starts: np.ndarray, lengths: np.ndarray, size: Sequence[int]) -> list[int]:
    """Counts of runs, starts from 0, in a mask of (H, W)."""
    ends = np.append(0, starts + lengths)
    gaps = np.append(starts, size[0] * size[1]) - ends
    counts = np.empty(2 * len(starts) + 1, np.int64)
    counts[0::2], counts[1::2] = gaps, lengths
    return counts[: len(counts) - (len(starts) > 0 and not gaps[-1])].tolist()


def compress_counts(counts: Sequence[int], size: Sequence[int]) -> str:
    """COCO's compressed text of counts."""
    from pycocotools import mask as coco

    plain = {"size": list(size), "counts": list(counts)}
    return coco.frPyObjects(plain, *size)["counts"].decode("ascii")
