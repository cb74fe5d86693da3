"""Axes of arrays and stacks: AXES, or what a file's own tags and shape leave no doubt about."""

import re
from typing import NamedTuple

import numpy as np

from core.errors import UserError

# Of the other axes: a last or first axis no longer than this share of them holds channels.
CHANNEL_SHARE = 0.5
LETTERS = {"H", "W", "C"}
TOKEN = re.compile(r"[HWC]|-?\d+")


class Axes(NamedTuple):
    """AXES as it is written: `H,W,4`, or `image:C,H,W`.

    Attributes:
        array: name of the array in a file of several; "" where there is one.
        names: H, W, C or the index that is taken, one an axis; () leaves it to the file.
    """

    array: str = ""
    names: tuple[str, ...] = ()


def parse_axes(text: str, knob: str = "AXES") -> Axes:
    """The parts of AXES, or of MASK_AXES.

    Raises:
        UserError: without H and W once each, or with other words than H, W, C and whole numbers.
    """
    array, colon, rest = text.rpartition(":")
    names = tuple(name.strip() for name in rest.split(",") if name.strip())
    letters = [name for name in names if name in LETTERS]
    known = all(TOKEN.fullmatch(name) for name in names)
    once = len(letters) == len(set(letters)) and {"H", "W"} <= set(letters)
    if (names and not (known and once)) or (bool(text) and not (names or colon)):
        raise UserError(
            f"{knob}: got {text!r}, need a name an axis, H and W, C for channels, a number for one "
            "index of it: C,H,W or H,W,4; before a colon the name of an array: image:H,W,C"
        )
    return Axes(array.strip(), names)


def resolve_axes(
    shape: tuple[int, ...],
    own: str,
    asked: tuple[str, ...],
    name: str,
    knob: str = "AXES",
) -> tuple[str, ...]:
    """H, W, C or an index for each axis of a file's array.

    Args:
        shape: of the array.
        own: what the file itself says: HW, HWC, NHW of pages; "" where it does not.
        asked: AXES, or MASK_AXES.
        name: of the file.
        knob: which of them, for messages.

    Raises:
        UserError: AXES does not fit the shape, or it is needed.
    """
    if asked:
        _check_fit(shape, asked, name, knob)
        return asked
    if own.startswith("N"):
        pages, size = shape[0], shape[1:3]
        raise UserError(
            f"{name}: holds {pages} pages of {size}, need one picture: set {knob}=0,H,W to take "
            "the first, C,H,W where pages are channels; or save each page as a file of its own"
        )
    names = tuple(own) or _guess(shape)
    if not names:
        raise UserError(
            f"{name}: holds {shape}, which axes are height, width and channels is not known: set "
            f"{knob}, as C,H,W or H,W,4 (index 4 of the last axis)"
        )
    return names


def _check_fit(shape: tuple[int, ...], asked: tuple[str, ...], name: str, knob: str) -> None:
    told = f"{name}: holds {shape}, {knob}={','.join(asked)}"
    if len(shape) != len(asked):
        raise UserError(f"{told} names {len(asked)} axes: need one name an axis")
    for side, axis in zip(shape, asked, strict=True):
        if axis not in LETTERS and not -side <= int(axis) < side:
            raise UserError(f"{told}: need an index below {side} there, counted from 0")


def _guess(shape: tuple[int, ...]) -> tuple[str, ...]:
    """Axes of (H, W) and, beside axes of one, of one that is much shorter than the others."""
    if len(shape) == 2:
        return ("H", "W")
    long = [at for at, side in enumerate(shape) if side > 1]
    if len(long) == 2:
        names = iter("HW")
    elif len(long) == 3:
        first, middle, last = (shape[at] for at in long)
        if last <= CHANNEL_SHARE * min(first, middle):
            names = iter("HWC")
        elif first <= CHANNEL_SHARE * min(middle, last):
            names = iter("CHW")
        else:
            return ()
    else:
        return ()
    return tuple(next(names) if at in long else "0" for at in range(len(shape)))


def size_of(shape: tuple[int, ...], names: tuple[str, ...]) -> tuple[int, int]:
    """(H, W) of an array."""
    return shape[names.index("H")], shape[names.index("W")]


def order_axes(array: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """(H, W) or (H, W, C) of an array."""
    array = array[tuple(slice(None) if axis in LETTERS else int(axis) for axis in names)]
    left = [axis for axis in names if axis in LETTERS]
    return array.transpose([left.index(axis) for axis in "HWC" if axis in left])
