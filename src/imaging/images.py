"""Pictures as competitions ship them, read to one declared shape, type and colour order."""

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from core.errors import UserError, raise_all
from imaging.axes import order_axes, parse_axes, resolve_axes, size_of
from imaging.files import DECODE_FAULTS, read_complete, unreadable
from imaging.readers import HEAD, Hints, is_image, reader_of
from imaging.values import check_type, fit_bits, fit_channels, scale_values


def read_image(
    path: str | Path,
    *,
    channels: int = 3,
    bits: int = 8,
    value_range: Sequence[float] = (),
    axes: str = "",
) -> np.ndarray:
    """A picture as (H, W, channels), RGB order: uint8 for bits=8, uint16 for bits=16.

    The rules, for every format:

    - EXIF orientation is applied.
    - Grey is repeated to 3 channels; 3 channels become 1 by ITU-R 601 luma.
    - Alpha is dropped, not blended (kept when channels=4); a palette gives its colours.
    - 16 bits to 8: v / 257, rounded. 8 bits to 16: v * 257.
    - With a value range any type of pixel is taken: its ends become 0 and the most of `bits`, what
      is beyond is cut, NaN becomes 0.
    - An animation gives its first picture; of pages, and of arrays whose axes their shape does not
      tell, `axes` says what they are.

    Raises:
        UserError: no such file, truncated or unreadable, another count of channels, or pixels
            that are not 8 or 16 unsigned bits without a value range.
    """
    name = Path(path).name
    pixels = read_values(path, alpha=channels == 4, axes=axes)
    if value_range:
        pixels = scale_values(pixels, value_range, bits)
    check_type(pixels, name)
    pixels = fit_channels(pixels, channels, name)
    return np.ascontiguousarray(fit_bits(pixels, bits))


def read_values(path: str | Path, *, alpha: bool = False, axes: str = "") -> np.ndarray:
    """(H, W) or (H, W, C) of a file with the numbers that it holds; alpha only when asked for.

    Raises:
        UserError: as `read_image`.
    """
    name, wanted = Path(path).name, parse_axes(axes)
    data = read_complete(path)
    array, own = reader_of(data[:HEAD]).read(data, name, Hints(alpha, wanted.array))
    return order_axes(array, resolve_axes(array.shape, own, wanted.names, name))


def image_size(path: str | Path, axes: str = "") -> tuple[int, int]:
    """(H, W) of a picture after EXIF orientation, from its header: no pixel is decoded.

    Raises:
        UserError: no such file, a header that cannot be read, or axes that it does not tell.
    """
    name, wanted = Path(path).name, parse_axes(axes)
    hints = Hints(array=wanted.array)
    try:
        with open(path, "rb") as file:
            reader = reader_of(file.read(HEAD))
            file.seek(0)
            if reader.shape is None:
                array, own = reader.read(file.read(), name, hints)
                shape = array.shape
            else:
                shape, own = reader.shape(file, name, hints)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except DECODE_FAULTS as error:
        raise unreadable(name, error) from error
    return size_of(shape, resolve_axes(shape, own, wanted.names, name))


def list_images(folder: str | Path, suffix: str = "") -> dict[str, str]:
    """Names of a folder's pictures by id (the name without suffix), sorted; no subfolders.

    With a suffix, `_sat.jpg`, only names that end so, capitals or not. Names, as a hundred
    thousand Path objects take as long as all the rest of folds.py.

    Raises:
        UserError: no such folder, or two files of one id.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if is_image(e.name) and e.is_file())
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder}: no such folder of images") from None
    found: dict[str, str] = {}
    problems = []
    for name in names:
        if not name.lower().endswith(suffix.lower()):
            continue
        cut = name[: -len(suffix)] if suffix else name.rpartition(".")[0]
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
