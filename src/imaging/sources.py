"""Images of several files, or of a part of one: what the marks in a path say.

{band:vv} and {slice:0007} stand where a file's name holds its band, or its place in a series; the
text behind the colon is the file's own. `train/awc00_{band:vv}.tif` is the image of awc00_vv.tif
and its bands. At the end, {page:7} is a page of a stack, counted from 0, and
{window:512,0,256,256} a part of the image: top, left, height, width.
"""

import contextlib
import functools
import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import UserError
from core.gates import decimal_number
from streaming.files import matching_files

BAND, SLICE, PAGE, WINDOW = "band", "slice", "page", "window"
MARK = re.compile(r"\{(band|slice|page|window):([^{}/]*)\}")


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Of the rows and columns of an array."""
        bottom, right = self.top + self.height, self.left + self.width
        return slice(self.top, bottom), slice(self.left, right)

    def is_inside(self, size: tuple[int, int]) -> bool:
        """Whether it lies in an image of this (H, W)."""
        return self.top + self.height <= size[0] and self.left + self.width <= size[1]


def window_of(path: str | Path) -> Box | None:
    """The part of an image that a path names; None: all of it.

    Raises:
        UserError: a mark that is no window.
    """
    mark = next((match for match in MARK.finditer(str(path)) if match[1] == WINDOW), None)
    if mark is None:
        return None
    numbers = mark[2].split(",")
    if len(numbers) != 4 or not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
        raise UserError(f"{path}: need {{window:top,left,height,width}} in pixels")
    return Box(*map(int, numbers))


def page_of(path: str | Path) -> int | None:
    """The page of a stack that a path names, from 0; None: the file is no stack.

    Raises:
        UserError: a mark that is no page.
    """
    number = next((mark[2] for mark in MARK.finditer(str(path)) if mark[1] == PAGE), None)
    if number is not None and not re.fullmatch("[0-9]{1,9}", number):
        raise UserError(f"{path}: need {{page:number}}, counted from 0")
    return None if number is None else int(number)


def without_window(path: str | Path) -> Path:
    """The path of the whole image."""
    return Path(MARK.sub(lambda match: "" if match[1] == WINDOW else match[0], str(path)))


def with_window(path: str | Path, box: Box) -> Path:
    """The path of a part of an image; of a part that is named already, of a part of that."""
    outer = window_of(path) or Box(0, 0, 0, 0)
    inner = (outer.top + box.top, outer.left + box.left, box.height, box.width)
    return Path(f"{without_window(path)}{{{WINDOW}:{','.join(map(str, inner))}}}")


def window_starts(length: int, window: int, step: int) -> list[int]:
    """First pixels of windows that cover an axis; the last ends with it, and comes once."""
    return [*range(0, length - window, step), max(0, length - window)]


def has_mark(path: str | Path, part: str) -> bool:
    """Whether a path says where its band or slice stands."""
    return any(match[1] == part for match in MARK.finditer(str(path)))


def own_file(path: str | Path) -> Path:
    """The file of a path itself: of its own band, in its own place.

    Raises:
        UserError: a path with a * that no file, or more than one, fits.
    """
    text = MARK.sub(_own, str(path))
    if text == str(path) or "*" not in text:
        return Path(text)
    found = _glob(str(path))
    if len(found) != 1:
        raise UserError(f"{text}: {len(found) or 'no'} such files, need one")
    return Path(found[0])


def image_files(
    path: str | Path, bands: Sequence[str] = (), stack: Sequence[int] = ()
) -> list[Path]:
    """The files whose channels are an image's, in their order: slice by slice, band by band.

    Args:
        path: with marks, where there is more than one file.
        bands: values of the mark {band}; without the mark they are no files.
        stack: steps to slices before and after, 0 is the image's own; at the ends of a series its
            last slice is repeated.

    Raises:
        UserError: `stack` without the mark {slice}, or bands of a path that has the mark without.
    """
    if "{" not in str(path):
        if stack:
            raise UserError(f"{path}: STACK needs a part {{slice}} in IMAGE_PATTERN; run folds.py")
        return [Path(path)]
    paths = _neighbours(str(path), stack) if stack else [str(path)]
    if not has_mark(path, BAND):
        return [own_file(one) for one in paths]
    if not bands:
        raise UserError(f"{path}: has several bands, name them in BANDS")
    return [own_file(_set_mark(one, BAND, band)) for one in paths for band in bands]


def stored_files(path: str | Path, stack: Sequence[int] = ()) -> list[Path]:
    """All files that hold bands of an image: what was made of them is stale when one changes.

    Args:
        path: with marks, where there is more than one file.
        stack: steps to the slices before and after whose files count as well.
    """
    paths = [str(path)]
    if stack and has_mark(path, SLICE):
        with contextlib.suppress(UserError):  # its own file is gone: whoever reads it says so
            paths += _neighbours(str(path), stack)
    return list(dict.fromkeys(file for one in paths for file in _stored(one)))


def series_files(series: str) -> list[Path]:
    """All files of a series, of `series_of`: every slice in every band."""
    paths = [_set_mark(series, SLICE, value) for value in _slices(series)]
    return list(dict.fromkeys(file for path in paths for file in _stored(path)))


def series_of(path: str | Path) -> str:
    """The path without its own place: the same for all images of a series."""
    return _set_mark(str(path), SLICE, "")


def _own(mark: re.Match[str]) -> str:
    """What stands in the place of a mark in the name of the path's own file."""
    return "" if mark[1] in (WINDOW, PAGE) else mark[2]


def _stored(path: str) -> list[Path]:
    """`stored_files` of an image alone."""
    if not has_mark(path, BAND):
        return [own_file(path)]
    return [Path(name) for name in sorted(_glob(path, part=BAND))]


def _neighbours(path: str, steps: Sequence[int]) -> list[str]:
    if not has_mark(path, SLICE):
        raise UserError(f"{path}: STACK needs a part {{slice}} in IMAGE_PATTERN; run folds.py")
    values = _slices(series_of(path))
    own = next(match[2] for match in MARK.finditer(path) if match[1] == SLICE)
    if own not in values:
        raise UserError(f"{own_file(path)}: no such file")
    at, last = values.index(own), len(values) - 1
    return [_set_mark(path, SLICE, values[min(max(at + step, 0), last)]) for step in steps]


@functools.lru_cache(maxsize=4096)
def _slices(series: str) -> list[str]:
    """What stands in the place of {slice} in the files of a series, by number."""
    plain = MARK.sub(lambda match: match[0] if match[1] == SLICE else _own(match), series)
    mark = f"{{{SLICE}:}}"
    pieces = [re.escape(piece).replace(r"\*", "[^/]*") for piece in plain.split(mark)]
    again = r"\1".join(pieces[1:])
    rule = re.compile(f"{pieces[0]}([^/]+?){again}")
    matches = [rule.fullmatch(name.replace(os.sep, "/")) for name in _glob(series, part=SLICE)]
    return sorted({match[1] for match in matches if match}, key=_by_number)


def _by_number(text: str) -> tuple[float, str]:
    try:
        return decimal_number(text), text
    except ValueError:
        return float("inf"), text


def _glob(path: str, part: str = "") -> list[str]:
    """Files that a path fits, any value in the place of `part`."""
    pieces = re.split(r"(\*)", MARK.sub(lambda m: "*" if m[1] == part else _own(m), path))
    return matching_files("".join(p if p == "*" else glob.escape(p) for p in pieces))


def _set_mark(path: str, part: str, value: str) -> str:
    return MARK.sub(lambda m: f"{{{part}:{value}}}" if m[1] == part else m[0], path)
