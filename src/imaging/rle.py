"""Run-length text: the `start length start length` columns of a competition's CSV."""

import math
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np

from core.errors import UserError

Order = Literal["column", "row"]
Size = tuple[int, int]

# Texts read at once by `rle_areas`.
TOGETHER = 1000
# Beyond the pixels of any image: sums of such numbers stay within int64.
BEYOND = 1 << 40
EMPTY_TEXTS = frozenset({"", "-1", "-", "[]", "nan", "none", "<na>"})
# One run of no pixels.
NO_PIXELS = re.compile(r"\s*[0-9]{1,13}\s+0\s*")
NUMBER = re.compile(r"[+-]?0*[0-9]{1,13}")


class Layout(NamedTuple):
    """How pixels are numbered.

    Attributes:
        order: down the columns, or along the rows.
        base: the number of the first pixel, 0 or 1.
        relative: a start counts from the end of the run before, not from the first pixel.
    """

    order: Order
    base: int
    relative: bool


class RunError(UserError):
    """A run-length text that is no mask.

    Attributes:
        rule: syntax, length, base, bounds or sorted.
        what: the message without the name that opens it.
    """

    def __init__(self, name: str, rule: str, what: str):
        super().__init__(f"{name}: {what}")
        self.rule, self.what = rule, what


def rle_encode(
    mask: np.ndarray,
    *,
    order: Order = "column",
    base: int = 1,
    relative: bool = False,
    empty: str = "",
) -> str:
    """The runs of a mask as text `start length start length ...`, sorted by start.

    Args:
        mask: (H, W), bool or integers; every non-zero pixel is foreground.
        order: pixels are numbered down the columns ("column", most Kaggle competitions) or along
            the rows ("row", Carvana).
        base: the number of the first pixel, 1 or 0.
        relative: starts after the first count from the end of the run before.
        empty: the text of a mask without foreground.

    Raises:
        UserError: not two axes, or floats (probabilities have to be thresholded first).
    """
    starts, lengths = mask_runs(mask, order=order)
    return write_runs(starts, lengths, base=base, relative=relative) if len(starts) else empty


def write_runs(
    starts: np.ndarray, lengths: np.ndarray, *, base: int = 1, relative: bool = False
) -> str:
    """The text of runs, at least one: starts from 0 and lengths, int64, sorted by start."""
    numbers = np.empty(2 * len(starts), dtype=np.int64)
    numbers[0::2] = starts + base
    numbers[1::2] = lengths
    if relative:
        numbers[2::2] = starts[1:] - (starts + lengths)[:-1]
    # One format call is 1.8 times faster than joining str() of each number.
    return (("%d " * len(numbers)) % tuple(numbers.tolist()))[:-1]


def mask_runs(mask: np.ndarray, *, order: Order = "column") -> tuple[np.ndarray, np.ndarray]:
    """Starts (from 0) and lengths of a mask's runs, int64, sorted by start.

    Raises:
        UserError: as `rle_encode`.
    """
    if mask.ndim != 2 or mask.dtype.kind not in "bui":
        raise UserError(
            f"run-length text needs one mask (H, W) of bool or integers, got {mask.dtype} "
            f"{mask.shape}: encode one class at a time, after the threshold"
        )
    flat = _flatten((mask != 0).view(np.uint8), order)
    if not flat.size:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0] * int(flat[0]), edges, [flat.size] * int(flat[-1])))
    edges = edges.astype(np.int64, copy=False)
    return edges[0::2], edges[1::2] - edges[0::2]


def rle_decode(
    text: object,
    size: Size,
    *,
    order: Order = "column",
    base: int = 1,
    relative: bool = False,
    name: str = "run-length",
) -> np.ndarray:
    """The mask of a run-length text: uint8 (H, W) of {0, 1}.

    `""`, `"-1"`, `"-"`, `"[]"`, `"1 0"`, `"nan"`, None and a float nan are empty masks.

    Raises:
        RunError: tokens that are no numbers, an odd count, runs unsorted, overlapping or out of
            the image; says which run, and what is likely wrong. `name` opens the message.
    """
    starts, lengths = rle_runs(text, size, base=base, relative=relative, name=name)
    return paint_runs(starts, lengths, np.ones(len(starts), np.uint8), size=size, order=order)


def rle_area(text: object, *, name: str = "run-length") -> int:
    """Foreground pixels of a run-length text, without decoding it.

    Raises:
        RunError: tokens that are no numbers, or an odd count.
    """
    return int(_numbers(text, name)[1::2].sum())


def rle_areas(texts: Sequence[object], names: Sequence[str]) -> np.ndarray:
    """`rle_area` of many texts, int64 (N,), each named for messages.

    Raises:
        RunError: as `rle_area`.
    """
    parts = [
        _areas_together(texts[at : at + TOGETHER], names[at : at + TOGETHER])
        for at in range(0, len(texts), TOGETHER)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def _areas_together(texts: Sequence[object], names: Sequence[str]) -> np.ndarray:
    """Reads all texts as one; one by one when any of them is odd in whatever way."""
    areas = np.zeros(len(texts), np.int64)
    filled = [at for at, text in enumerate(texts) if not is_empty_rle(text)]
    joined = " ".join(str(texts[at]) for at in filled)
    counts = np.array([str(texts[at]).count(" ") + 1 for at in filled], np.int64)
    numbers = _read_numbers(joined)
    odd = (counts % 2).any() or _beyond(numbers)
    if not filled or len(numbers) != counts.sum() or odd:
        return np.array(
            [rle_area(text, name=img) for text, img in zip(texts, names, strict=True)], np.int64
        )
    areas[filled] = np.add.reduceat(numbers[1::2], (np.cumsum(counts) - counts) // 2)
    return areas


def rle_runs(
    text: object,
    size: Size,
    *,
    base: int = 1,
    relative: bool = False,
    name: str = "run-length",
) -> tuple[np.ndarray, np.ndarray]:
    """Checked starts (from 0) and lengths of a text's runs, int64.

    Raises:
        RunError: as `rle_decode`.
    """
    numbers = _numbers(text, name)
    starts, lengths = numbers[0::2] - base, numbers[1::2]
    if not len(starts):
        return starts, lengths
    if relative:
        starts = np.cumsum(numbers[0::2]) + np.cumsum(lengths) - lengths - base
    ends = starts + lengths
    pixels = size[0] * size[1]
    bad = (starts < 0) | (lengths <= 0) | (ends > pixels)
    bad[1:] |= starts[1:] < ends[:-1]
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise RunError(name, *_fault(starts, lengths, at, size, base, relative=relative))
    return starts, lengths


def paint_runs(
    starts: np.ndarray, lengths: np.ndarray, values: np.ndarray, *, size: Size, order: Order
) -> np.ndarray:
    """(H, W) in the dtype of `values`: each run holds its value, the rest 0; later runs win."""
    flat = np.zeros(size[0] * size[1], dtype=values.dtype)
    # Runs are long: a slice a run beats np.repeat, which walks every pixel.
    for start, end, value in zip(
        starts.tolist(), (starts + lengths).tolist(), values.tolist(), strict=True
    ):
        flat[start:end] = value
    if order == "row":
        return flat.reshape(size)
    return _transpose(flat.reshape(size[1], size[0]))


def count_outline(mask: np.ndarray) -> int:
    """Pixel edges between mask and background: many times more when a mask is shredded."""
    edges = (mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1])
    return sum(map(np.count_nonzero, edges))


def is_empty_rle(text: object) -> bool:
    """Whether a CSV cell stands for a mask without foreground."""
    if isinstance(text, str):
        return text.strip().lower() in EMPTY_TEXTS or NO_PIXELS.fullmatch(text) is not None
    if isinstance(text, (int, float, np.number)):
        return math.isnan(text) or text == -1
    return text is None or str(text).lower() in EMPTY_TEXTS


def _numbers(text: object, name: str) -> np.ndarray:
    if is_empty_rle(text):
        return np.empty(0, np.int64)
    if not isinstance(text, str):
        need = f"got {text!r}, need text like '12 3 40 5': read the column as str"
        raise RunError(name, "syntax", need)
    numbers = _read_numbers(text)
    # Two spaces make another count; what fromstring cannot hold it cuts to the largest int64.
    if len(numbers) != text.count(" ") + 1 or _beyond(numbers):
        numbers = np.array([_number(token, at, name) for at, token in enumerate(text.split())])
    if len(numbers) % 2:
        need = "need pairs 'start length': the text is cut off or in another format"
        raise RunError(name, "syntax", f"has {len(numbers)} numbers, {need}")
    return numbers


def is_digits(text: str) -> bool:
    """Whether a text holds ASCII digits and spaces alone."""
    return text.isascii() and text.replace(" ", "").isdigit()


def _read_numbers(text: str) -> np.ndarray:
    """Numbers of a text of digits and spaces, else none: fromstring reads "1 -" as 1 and 0."""
    plain = text if is_digits(text) else ""
    return np.fromstring(plain, dtype=np.int64, sep=" ")


def _beyond(numbers: np.ndarray) -> bool:
    return bool(numbers.max(initial=0) > BEYOND)


def _number(token: str, at: int, name: str) -> int:
    if NUMBER.fullmatch(token) and abs(int(token)) <= BEYOND:
        return int(token)
    what = (
        f"token {at + 1} (run {at // 2 + 1}) is {token[:40]!r}, need whole numbers "
        "'start length start length': the text is cut off or in another format"
    )
    raise RunError(name, "syntax", what)


def _fault(
    starts: np.ndarray, lengths: np.ndarray, at: int, size: Size, base: int, *, relative: bool
) -> tuple[str, str]:
    """The rule that run `at` breaks, and what is said of it."""
    start, length = int(starts[at]), int(lengths[at])
    run = f"run {at + 1} of {len(starts)} (start {start + base}, length {length})"
    pixels = size[0] * size[1]
    if length <= 0:
        cut = "the text is cut off or in another format"
        return "length", f"{run} has no positive length: {cut}"
    if start < 0:
        other = 0 if base else 1
        return "base", f"{run} starts before the first pixel, {base}: set RLE_BASE={other}"
    if relative and start + length > pixels:
        return "bounds", (
            f"{run}, counted from the end of the run before, ends after the last pixel of {size}: "
            "set RLE_RELATIVE=false if starts number pixels, or the text belongs to another image"
        )
    if start + length > pixels:
        return "bounds", (
            f"{run} ends after the last pixel of {size}, {pixels - 1 + base}: "
            "the image's size or RLE_BASE is wrong, or the text belongs to another image"
        )
    before = int(starts[at - 1]) + base
    said = f"{run} begins inside or before run {at} (start {before}, length {int(lengths[at - 1])})"
    if relative:
        return (
            "sorted",
            f"{said}: a gap is negative: set RLE_RELATIVE=false if starts number pixels",
        )
    if (lengths > 0).all() and int((starts + base).sum() + lengths.sum()) <= pixels:
        remedy = "as gaps from the end of the run before they fit the image: set RLE_RELATIVE=true"
    else:
        remedy = "runs must be sorted and apart: sort or merge them"
    return "sorted", f"{said}: {remedy}"


def _flatten(mask: np.ndarray, order: Order) -> np.ndarray:
    return (mask if order == "row" else _transpose(mask)).reshape(-1)


def _transpose(mask: np.ndarray) -> np.ndarray:
    # Ten times faster than a NumPy copy of mask.T, but refuses images without pixels, and of bools.
    if mask.dtype == bool:
        return _transpose(mask.view(np.uint8)).view(bool)
    return cv2.transpose(mask) if mask.size else np.ascontiguousarray(mask.T)
