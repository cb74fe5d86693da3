"""READERS, a row a kind of file: what it is by its content, what it holds, how large it is.

A row of your own, in a recipe's .py: `READERS["raw"] = Reader((".raw",), knows, read)`.
"""

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image, ImageFile
from tifffile import TiffPage

from core.recipes import load_recipe
from imaging.arrays import ARRAY, ARRAYS, array_shape, read_array, stack_page
from imaging.containers import (
    GZIP,
    HDF5,
    MATLAB,
    MATLAB_73,
    NIFTI,
    hdf5_shape,
    matlab_shape,
    nifti_shape,
    read_hdf5,
    read_matlab,
    read_nifti,
)
from imaging.dicom import DICOM, dicom_shape, read_dicom
from imaging.files import decoding
from imaging.pictures import (
    check_pages,
    decode_picture,
    decode_tiff,
    exif_orientation,
    plain_mode,
)
from imaging.sources import Box
from imaging.tiff import has_alpha, is_tiff, tiff_pages, tiff_size
from imaging.tiff_windows import is_windowed, read_page_window
from streaming.files import open_file, state_of

# First bytes of a file that tell what it is.
HEAD = 256


class Hints(NamedTuple):
    """What is wanted of a file.

    Attributes:
        alpha: keep a picture's alpha as its fourth channel.
        array: name of the array, where a file holds several.
        page: the page of a stack, or the index of an array's first axis, that is the picture.
    """

    alpha: bool = False
    array: str = ""
    page: int | None = None


class Held(NamedTuple):
    """What a file holds.

    Attributes:
        array: upright, RGB order, any type of numbers.
        axes: HW, HWC, NHW or NHWC (N: pages); "" where the file does not say.
    """

    array: np.ndarray
    axes: str = ""


class Reader(NamedTuple):
    """A kind of file.

    Attributes:
        suffixes: of files that a folder's listing takes for images, in small letters.
        knows: whether the first HEAD bytes of a file are of this kind.
        read: what a file's bytes hold; its name is for messages.
        shape: shape and axes of the same, from an open file; None: the file is read for it.
        part: as `read`, of a part of an open file alone; None, or gives None: all of it is read.
    """

    suffixes: tuple[str, ...]
    knows: Callable[[bytes], bool]
    read: Callable[[bytes, str, Hints], Held]
    shape: Callable[[BinaryIO, str, Hints], tuple[tuple[int, ...], str]] | None = None
    part: Callable[[BinaryIO, str, Hints, Box], Held | None] | None = None


def reader_of(head: bytes) -> Reader:
    """The last row that knows a file by its first bytes; that of pictures where none does."""
    _load_recipe()
    known = (row for row in reversed(READERS.values()) if row.knows(head))
    return next(known, READERS["picture"])


def holds_array(data: bytes) -> bool:
    """Whether a file's bytes are of a kind that holds numbers, no picture."""
    return reader_of(data[:HEAD]) not in (READERS["picture"], READERS["tiff"])


def read_part(path: str | Path, hints: Hints, box: Box) -> Held | None:
    """What a part of a file holds; None where all of it has to be read, if there is a file.

    Raises:
        UserError: it cannot be decoded.
    """
    if state_of(Path(path)) is None:
        return None
    with decoding(Path(path).name), open_file(path) as stream:
        part = reader_of(stream.read(HEAD)).part
        return None if part is None else part(stream, Path(path).name, hints, box)


def image_suffixes() -> tuple[str, ...]:
    """Suffixes of all rows, each with its dot."""
    _load_recipe()
    return _suffixes_of(tuple(READERS.values()))


@functools.cache
def _suffixes_of(readers: tuple[Reader, ...]) -> tuple[str, ...]:
    return tuple(suffix for row in readers for suffix in row.suffixes)


def without_suffix(name: str) -> str:
    """A file's name without the suffix of a picture: scan of scan.nii.gz; v1.2 stays."""
    suffix = max(filter(name.lower().endswith, image_suffixes()), key=len, default="")
    return name[: -len(suffix)] if 0 < len(suffix) < len(name) else name


def is_image(name: str) -> bool:
    """Whether a file of this name can be a picture."""
    # macOS leaves ._name.png files that hold no picture.
    return not name.startswith(".") and name.lower().endswith(image_suffixes())


# Rows of a recipe, in processes that have not read the configuration.
_load_recipe = functools.cache(load_recipe)


def _read_picture(data: bytes, name: str, hints: Hints) -> Held:
    pixels = decode_picture(data, name, alpha=hints.alpha)
    pixels = pixels if hints.alpha else pixels[..., :3] if pixels.ndim == 3 else pixels
    return Held(pixels, "HWC"[: pixels.ndim])


def _picture_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    with Image.open(stream) as picture:
        if isinstance(picture, ImageFile.StubImageFile):
            raise OSError(f"{picture.format} is no picture")
        width, height = picture.size
        turned = exif_orientation(picture) >= 5
    return ((width, height) if turned else (height, width)), "HW"


def _read_tiff(data: bytes, name: str, hints: Hints) -> Held:
    pages = _asked(tiff_pages(io.BytesIO(data)), hints)
    check_pages(pages, name)
    return _held_pages(pages, [decode_tiff(data, name, plain_mode, page=p) for p in pages], hints)


def _tiff_part(stream: BinaryIO, name: str, hints: Hints, box: Box) -> Held | None:
    pages = _asked(tiff_pages(stream), hints)
    if not all(map(is_windowed, pages)):
        return None
    return _held_pages(pages, [read_page_window(page, stream, box) for page in pages], hints)


def _asked(pages: list[TiffPage], hints: Hints) -> list[TiffPage]:
    return pages if hints.page is None else [pages[hints.page]]


def _held_pages(pages: list[TiffPage], decoded: list[np.ndarray], hints: Hints) -> Held:
    if has_alpha(pages[0]) and not hints.alpha:
        decoded = [pixels[..., :3] for pixels in decoded]
    if len(pages) == 1:
        return Held(decoded[0], "HWC"[: decoded[0].ndim])
    return Held(np.stack(decoded), "NHWC"[: decoded[0].ndim + 1])


def _tiff_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    pages = _asked(tiff_pages(stream), hints)
    size = tiff_size(pages[0])
    bands = () if pages[0].samplesperpixel == 1 else (pages[0].samplesperpixel,)
    if len(pages) == 1:
        return (*size, *bands), "HWC"[: 2 + len(bands)]
    return (len(pages), *size, *bands), "NHWC"[: 3 + len(bands)]


def _read_array(data: bytes, name: str, hints: Hints) -> Held:
    return _one_page(Held(read_array(data, name, hints.array)), hints)


def _one_page(held: Held, hints: Hints) -> Held:
    page = stack_page(hints.page, held.array.shape, held.axes)
    return held if page is None else Held(held.array[page], held.axes[1:])


def _array_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    return _page_shape(array_shape(stream, name, hints.array), "", hints)


def _page_shape(shape: tuple[int, ...], axes: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    page = stack_page(hints.page, shape, axes)
    return (shape, axes) if page is None else (shape[1:], axes[1:])


def _read_hdf5(data: bytes, name: str, hints: Hints) -> Held:
    return Held(read_hdf5(io.BytesIO(data), name, hints.array, hints.page))


def _hdf5_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    return _page_shape(hdf5_shape(stream, name, hints.array), "", hints)


def _read_matlab(data: bytes, name: str, hints: Hints) -> Held:
    return _one_page(Held(read_matlab(data, name, hints.array)), hints)


def _matlab_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    return _page_shape(matlab_shape(stream, name, hints.array), "", hints)


def _read_nifti(data: bytes, name: str, hints: Hints) -> Held:
    return Held(*read_nifti(data, name, hints.page))


def _nifti_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    return _page_shape(*nifti_shape(stream, name), hints)


def _read_dicom(data: bytes, name: str, hints: Hints) -> Held:
    return _one_page(Held(*read_dicom(data, name)), hints)


def _dicom_shape(stream: BinaryIO, name: str, hints: Hints) -> tuple[tuple[int, ...], str]:
    return _page_shape(*dicom_shape(stream, name), hints)


PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".jp2", ".ppm", ".pgm")
PICTURE_MAGICS = (
    b"\xff\xd8\xff",
    b"\x89PNG",
    b"GIF8",
    b"BM",
    b"RIFF",
    b"P5",
    b"P6",
    b"\0\0\0\x0cjP",
)

READERS: dict[str, Reader] = {
    "picture": Reader(
        PICTURES, lambda head: head.startswith(PICTURE_MAGICS), _read_picture, _picture_shape
    ),
    "tiff": Reader((".tif", ".tiff"), is_tiff, _read_tiff, _tiff_shape, _tiff_part),
    "array": Reader(
        (".npy", ".npz"), lambda head: head.startswith((ARRAY, ARRAYS)), _read_array, _array_shape
    ),
    "hdf5": Reader(
        (".h5", ".hdf5"), lambda head: head.startswith((HDF5, MATLAB_73)), _read_hdf5, _hdf5_shape
    ),
    "matlab": Reader((".mat",), lambda head: head.startswith(MATLAB), _read_matlab, _matlab_shape),
    "nifti": Reader(
        (".nii", ".nii.gz"), lambda head: head.startswith((*NIFTI, GZIP)), _read_nifti, _nifti_shape
    ),
    "dicom": Reader((".dcm",), lambda head: head[128:132] == DICOM, _read_dicom, _dicom_shape),
}
