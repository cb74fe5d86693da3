"""Pictures as competitions ship them, read to one declared shape, type and colour order."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from core.errors import UserError, raise_all
from core.gates import is_whole_number
from imaging.arrays import is_stack
from imaging.axes import order_axes, parse_axes, resolve_axes, size_of
from imaging.files import decoding, read_page
from imaging.readers import HEAD, Hints, is_image, read_part, reader_of, without_suffix
from imaging.sources import (
    BAND,
    Box,
    has_mark,
    image_files,
    own_file,
    page_of,
    window_of,
    without_window,
)
from imaging.values import check_type, fit_bits, fit_channels, scale_values
from streaming.files import file_names, open_file

# How far the sides of an image's files may differ in proportion.
SAME_SHAPE = 0.02


@dataclass(frozen=True)
class PixelRules:
    """How files become what a network sees; each field as the knob of its name.

    Attributes:
        channels: of the image.
        bits: of a channel, 8 or 16.
        value_range: what becomes 0 and the most of `bits`, one pair or one a channel.
        nodata: a value that means none; NaN means none, too.
        axes: of arrays and pages.
        bands: values of the mark {band} of paths that have it, else numbers of channels from 1.
        stack: steps to the slices whose channels are the image's; () = itself.
    """

    channels: int = 3
    bits: int = 8
    value_range: tuple[float, ...] = ()
    nodata: float | None = None
    axes: str = ""
    bands: tuple[str, ...] = ()
    stack: tuple[int, ...] = ()


def read_image(path: str | Path, **rules: Any) -> np.ndarray:
    """A picture as (H, W, channels), RGB order: uint8 for bits=8, uint16 for bits=16.

    The rules, for every format:

    - EXIF orientation is applied.
    - Grey is repeated to 3 channels; 3 channels become 1 by ITU-R 601 luma.
    - Alpha is dropped, not blended (kept when channels=4); a palette gives its colours.
    - 16 bits to 8: v / 257, rounded. 8 bits to 16: v * 257.
    - With a value range any type of pixel is taken: its ends become 0 and the most of `bits`, what
      is beyond is cut; NaN and `nodata` become 0.
    - An animation gives its first picture; of pages, and of arrays whose axes their shape does not
      tell, `axes` says what they are.
    - Of several files (bands, slices) the channels stand behind each other; a file of another
      size is resized to the first.
    - Of a path that names a window only that part; a TIFF's other strips or tiles are not read.

    Args:
        path: a file, or a path with marks, see `imaging.sources`.
        rules: fields of PixelRules.

    Raises:
        UserError: no such file, truncated or unreadable, another count of channels, or pixels
            that are not 8 or 16 unsigned bits without a value range.
    """
    how = PixelRules(**rules)
    files = image_files(path, how.bands, how.stack)
    arrays = _read_files(path, files, how)
    size = _grid(path, arrays, how)
    if how.value_range:
        pixels = _join(arrays, files, size)
        pixels = scale_values(pixels, how.value_range, how.bits, nodata=how.nodata)
    else:
        pairs = zip(arrays, files, strict=True)
        pixels = _join([_whole_range(array, file, how) for array, file in pairs], files, size)
    pixels = fit_channels(pixels, how.channels, own_file(path).name)
    return np.ascontiguousarray(pixels)


def read_values(path: str | Path, how: PixelRules) -> np.ndarray:
    """(H, W) or (H, W, C) of an image's files with the numbers that they hold.

    Raises:
        UserError: as `read_image`.
    """
    files = image_files(path, how.bands, how.stack)
    arrays = _read_files(path, files, how)
    return _join(arrays, files, _grid(path, arrays, how))


def _grid(path: str | Path, arrays: Sequence[np.ndarray], how: PixelRules) -> tuple[int, int]:
    """(H, W) of the file that a path names: its image's masks lie on it."""
    height, width = arrays[0].shape[:2]
    return (height, width) if len(arrays) == 1 else image_size(path, how.axes)


def _read_files(path: str | Path, files: Sequence[Path], how: PixelRules) -> list[np.ndarray]:
    picks, box, page = not has_mark(path, BAND), window_of(path), page_of(path)
    if box is None:
        one = partial(_read_file, how=how, picks=picks, page=page)
        read = {file: one(file) for file in dict.fromkeys(files)}
        return [read[file] for file in files]
    size = image_size(without_window(path), how.axes)
    if not box.is_inside(size):
        raise UserError(f"{path}: the window is outside of the image of {size}")

    def part(file: Path) -> np.ndarray:
        if len(files) == 1 or image_size(file, how.axes) == size:
            return _read_file(file, how, picks=picks, box=box, page=page)
        return _to_size(_read_file(file, how, picks=picks), size, file)[box.slices]

    read = {file: part(file) for file in dict.fromkeys(files)}
    return [read[file] for file in files]


def _join(arrays: Sequence[np.ndarray], files: Sequence[Path], size: tuple[int, int]) -> np.ndarray:
    """Channels behind each other, on a grid of (H, W).

    Raises:
        UserError: files of different shapes.
    """
    pairs = zip(arrays, files, strict=True)
    fitted = [_to_size(array, size, file) for array, file in pairs]
    return np.dstack(fitted) if len(fitted) > 1 else fitted[0]


def _whole_range(pixels: np.ndarray, file: Path, how: PixelRules) -> np.ndarray:
    """uint8 or uint16 whose type's whole range is black to white; no data is black."""
    check_type(pixels, file.name)
    if how.nodata is not None:
        pixels = np.where(pixels == how.nodata, pixels.dtype.type(0), pixels)
    return fit_bits(pixels, how.bits)


def _read_file(
    path: Path,
    how: PixelRules,
    *,
    picks: bool,
    box: Box | None = None,
    page: int | None = None,
) -> np.ndarray:
    """(H, W) or (H, W, C) of one file; with `picks` the channels that BANDS names by number."""
    name, wanted = path.name, parse_axes(how.axes)
    numbers = _numbers(how.bands) if picks else []
    # A fourth channel is alpha unless four are asked for.
    hints = Hints(max(numbers, default=how.channels) == 4 and not how.stack, wanted.array, page)
    held = None if box is None else read_part(path, hints, box)
    whole = held is None
    data, page = read_page(path, page) if whole else (b"", page)
    hints = hints._replace(page=page)
    with decoding(name, data):
        array, own = held or reader_of(data[:HEAD]).read(data, name, hints)
        if array.dtype == bool:  # as pictures of one bit have it
            array = array.astype(np.uint8) * np.uint8(255)
        pixels = order_axes(array, resolve_axes(array.shape, own, wanted.names, name))
    if not pixels.size:
        raise UserError(f"{name}: holds {pixels.shape}, no pixels: write it anew, or take it away")
    pixels = pixels[box.slices] if whole and box else pixels
    if numbers:
        pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
        if max(numbers) > pixels.shape[2]:
            raise UserError(f"{name}: has {pixels.shape[2]} bands, BANDS asks for {max(numbers)}")
        pixels = pixels[:, :, [number - 1 for number in numbers]]
    return pixels


def _numbers(bands: Sequence[str]) -> list[int]:
    """BANDS as numbers of channels from 1.

    Raises:
        UserError: they are none.
    """
    if not all(is_whole_number(band) and int(band) > 0 for band in bands):
        raise UserError(
            f"BANDS={','.join(bands)}: need numbers of a file's channels from 1; names of files "
            "need a part {band} in IMAGE_PATTERN"
        )
    return [int(band) for band in bands]


def _to_size(pixels: np.ndarray, size: tuple[int, int], file: Path) -> np.ndarray:
    """Pixels of another resolution on the grid of an image's first file.

    Raises:
        UserError: they are of another shape.
    """
    own = pixels.shape[:2]
    if own == size:
        return pixels
    if abs(own[0] * size[1] / (own[1] * size[0]) - 1) > SAME_SHAPE:
        raise UserError(
            f"{file.name}: is {own}, the first file of its image {size}: need files of one shape"
        )
    way = cv2.INTER_AREA if own[0] > size[0] else cv2.INTER_LINEAR
    kept = pixels.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64)
    return cv2.resize(pixels if kept else pixels.astype(np.float32), size[::-1], interpolation=way)


def image_size(path: str | Path, axes: str = "") -> tuple[int, int]:
    """(H, W) of a picture after EXIF orientation, from its header: no pixel is decoded.

    Raises:
        UserError: no such file, a header that cannot be read, or axes that it does not tell.
    """
    if box := window_of(path):
        return box.height, box.width
    shape, own, wanted = shape_of(path, axes, page_of(path))
    return size_of(shape, resolve_axes(shape, own, wanted, own_file(path).name))


def page_count(path: str | Path, axes: str = "") -> int:
    """Pages of a stack: of a TIFF, or along the first axis of an array of three or more.

    Raises:
        UserError: no such file, or a header that cannot be read.
    """
    shape, own, _ = shape_of(path, axes)
    return shape[0] if is_stack(shape, own) else 1


def shape_of(
    path: str | Path, axes: str = "", page: int | None = None
) -> tuple[tuple[int, ...], str, tuple[str, ...]]:
    """Shape of a file, axes as it says itself (see `readers.Held`), and those of AXES.

    Raises:
        UserError: no such file, or a header that cannot be read.
    """
    path, wanted = own_file(path), parse_axes(axes)
    name, hints = path.name, Hints(array=wanted.array, page=page)
    try:
        file = open_file(path)  # other errors than this one are the decoder's
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    with decoding(name), file:
        reader = reader_of(file.read(HEAD))
        file.seek(0)
        if reader.shape is None:
            array, own = reader.read(file.read(), name, hints)
            return array.shape, own, wanted.names
        return *reader.shape(file, name, hints), wanted.names


def list_images(folder: str | Path, suffix: str = "") -> dict[str, str]:
    """Names of a folder's pictures by id (the name without suffix), sorted; no subfolders.

    With a suffix, `_sat.jpg`, only names that end so, capitals or not. Names, as a hundred
    thousand Path objects take as long as all the rest of folds.py.

    Raises:
        UserError: no such folder, or two files of one id.
    """
    try:
        names = sorted(filter(is_image, file_names(folder)))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no such folder of images") from None
    found: dict[str, str] = {}
    problems = []
    for name in names:
        if not name.lower().endswith(suffix.lower()):
            continue
        cut = name[: -len(suffix)] if suffix else without_suffix(name)
        stem = unicodedata.normalize("NFC", cut)
        if stem in found:
            problems.append(f"{found[stem]} and {name} share the id {stem}")
        found.setdefault(stem, name)
    raise_all(
        problems,
        f"{folder}: two files have one id. If one is the image and the other its mask, or a copy, "
        "set IMAGE_SUFFIX to the end of the images' names; else rename one:",
    )
    return found
