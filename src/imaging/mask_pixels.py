"""The pixels of a mask file as they are stored: palettes, few bits, arrays, stacks."""

import io
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from PIL import Image

from core.errors import UserError
from imaging.arrays import whole_numbers
from imaging.axes import order_axes, parse_axes, resolve_axes
from imaging.files import decoding
from imaging.palettes import PaletteReader
from imaging.pictures import check_pages, decode_picture, decode_tiff, pil_array
from imaging.readers import HEAD, Hints, holds_array, reader_of
from imaging.tiff import is_tiff, tiff_pages

Convert: TypeAlias = Callable[[Image.Image], Image.Image | np.ndarray]
KNOB = "MASK_AXES"
# A cut-out of a photo has more colours than masks have.
PHOTO = 64
# Of a mask in JPEG hardly a pixel is neither dark nor bright, of most photos more than half are.
MIDDLE = (64, 192)


def is_lossy(data: bytes) -> bool:
    """Whether a file is a JPEG or a lossy WebP by its content: its edges are not the author's."""
    return data[:2] == b"\xff\xd8" or (data[:4] == b"RIFF" and data[8:16] == b"WEBPVP8 ")


def check_halves(grey: np.ndarray, name: str) -> None:
    """Makes sure that 128 parts the pixels of a lossy file into foreground and background.

    Raises:
        UserError: most of them are about there.
    """
    low, high = MIDDLE
    middle = np.count_nonzero((grey > low) & (grey < high))
    if 2 * middle > grey.size:
        raise UserError(
            f"{name}: a lossy file, {middle / grey.size:.0%} of whose pixels are neither dark nor "
            "bright, as of a photo: does MASK_PATH name the images, or MASK_SUFFIX their ends? If "
            "it is a mask, MASK_THRESHOLD says from which value on it is foreground"
        )


def check_bands(pixels: np.ndarray, name: str) -> None:
    """Makes sure that a mask of one class a pixel is grey or in colours, with alpha or without.

    Raises:
        UserError: other bands.
    """
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        raise UserError(
            f"{name}: the mask has {pixels.shape[2]} bands, need one, or a colour a class: save "
            "the band that is the mask; TASK=multilabel takes a band a class"
        )


def check_numbers(labels: np.ndarray, name: str) -> None:
    """Makes sure that numbers of objects are 0 or more.

    Raises:
        UserError: some are below.
    """
    if labels.min(initial=0) < 0:
        raise UserError(f"{name}: has numbers below 0, need 0 where no object is, objects from 1")


def decode_mask(
    data: bytes, name: str, palette: PaletteReader, *, page: int | None = None, axes: str = ""
) -> np.ndarray:
    """(H, W) or (H, W, C), values as stored, of less than 8 bits and in arrays, too.

    Args:
        palette: what a palette picture gives.
        page: of a stack, or the index of an array's first axis.
        axes: of arrays and pages, as MASK_AXES has them; "" leaves them as they are.

    Raises:
        UserError: it cannot be decoded.
    """

    def convert(picture: Image.Image) -> Image.Image | np.ndarray:
        if picture.mode != "P":
            return _plain_mode(picture)
        colours = np.zeros((256, 3), np.uint8)
        entries = np.array(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        colours[: len(entries)] = entries
        return palette(np.asarray(picture), colours)

    if holds_array(data):
        return _decode_array(data, name, page, axes)
    if is_tiff(data):
        if page is None and is_stacked(data, name, axes):
            return _decode_pages(data, name, convert, axes)
        with decoding(name):
            chosen = None if page is None else tiff_pages(io.BytesIO(data))[page]
        return _no_bool(decode_tiff(data, name, convert, page=chosen))
    # Bits a channel and kind of colours, as a PNG begins; 0 is grey.
    bits, kind = data[24:26] if data.startswith(b"\x89PNG") and len(data) > 25 else (8, 0)
    if bits == 16 and kind:
        return _deep_colours(decode_picture(data, name, alpha=True))
    pixels = _no_bool(pil_array(data, name, convert))
    if kind == 0 and bits in (2, 4):
        # Grey of 2 or 4 bits is stretched to 0..255 by every decoder: back to the ids.
        return pixels // (255 // ((1 << bits) - 1))
    return pixels


def _deep_colours(pixels: np.ndarray) -> np.ndarray:
    """Colours of 16 bits as 8, or as one plane where they are grey: ids may be in either byte.

    Args:
        pixels: uint16 (H, W, 3) or (H, W, 4).
    """
    upper, colours = (pixels >> 8).astype(np.uint8), pixels[:, :, :3]
    if colours.max(initial=0) <= 255:
        return np.dstack([colours.astype(np.uint8), upper[:, :, 3:]])
    grey = bool((colours == colours[:, :, :1]).all())
    stretched = not (colours % 257).any() or not (colours & 255).any()
    return colours[:, :, 0] if grey and not stretched else upper


def is_stacked(data: bytes, name: str, axes: str) -> bool:
    """Whether the axes of a file are those of an array, or of pages that MASK_AXES names.

    Raises:
        UserError: its pages cannot be read.
    """
    if not is_tiff(data) or not parse_axes(axes, KNOB).names:
        return holds_array(data)
    with decoding(name):
        return len(tiff_pages(io.BytesIO(data))) > 1


def _decode_pages(data: bytes, name: str, convert: Convert, axes: str) -> np.ndarray:
    with decoding(name):
        pages = tiff_pages(io.BytesIO(data))
        check_pages(pages, name)
        array = np.stack([_no_bool(decode_tiff(data, name, convert, page=one)) for one in pages])
    names = parse_axes(axes, KNOB).names
    return order_axes(array, resolve_axes(array.shape, "", names, name, KNOB))


def _no_bool(pixels: np.ndarray) -> np.ndarray:
    # PIL stores True as the byte 255.
    return (pixels.view(np.uint8) != 0).view(np.uint8) if pixels.dtype == bool else pixels


def _plain_mode(picture: Image.Image) -> Image.Image | np.ndarray:
    if picture.mode in ("LA", "La"):
        grey, alpha = (np.asarray(band) for band in picture.convert("LA").split())
        alone = grey.min() == grey.max() and alpha.min() < alpha.max()
        return alpha if alone else grey  # a cut-out of one grey is its alpha
    if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        return picture.convert("RGB")
    return picture


def _decode_array(data: bytes, name: str, page: int | None, axes: str) -> np.ndarray:
    wanted = parse_axes(axes, KNOB)
    with decoding(name):
        array, own = reader_of(data[:HEAD]).read(data, name, Hints(array=wanted.array, page=page))
    array = whole_numbers(_no_bool(array), name)
    if wanted.names:
        array = order_axes(array, resolve_axes(array.shape, own, wanted.names, name, KNOB))
    return array


def alpha_mask(pixels: np.ndarray) -> np.ndarray | None:
    """Alpha (H, W) where it is the mask: it differs, and colours are one, or those of a photo."""
    if pixels.ndim != 3 or pixels.shape[2] != 4 or pixels.dtype != np.uint8:
        return None
    alpha = pixels[:, :, 3]
    if alpha.min(initial=255) == alpha.max(initial=0):
        return None
    packed = pack_pixels(pixels)
    if (packed == packed[0, 0]).all() or len(np.unique(packed[alpha == alpha.max()])) > PHOTO:
        return alpha
    return None


def one_colour(pixels: np.ndarray) -> np.ndarray | None:
    """{0, 1} (H, W) of a picture of black and one colour; None of any other."""
    if pixels.ndim != 3 or pixels.shape[2] < 3:
        return None
    packed = pack_pixels(pixels)
    values = np.unique(packed)
    return (packed != 0).view(np.uint8) if len(values) == 2 and values[0] == 0 else None


def pack_pixels(pixels: np.ndarray) -> np.ndarray:
    """int32 (H, W) of colours (H, W, 3 or more): red, green and blue in one number."""
    red, green, blue = (pixels[:, :, c].astype(np.int32) for c in range(3))
    return (red << 16) | (green << 8) | blue
