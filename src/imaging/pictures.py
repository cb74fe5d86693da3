"""Pictures decoded as their tags say: upright, in RGB order, any type of numbers."""

import contextlib
import io
import struct
from collections.abc import Callable, Sequence

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

from imaging.files import check_declared, decoding, unreadable
from imaging.tiff import (
    ORIENTATION,
    check_deep_colours,
    has_codec,
    has_colour_model,
    read_tiff_bands,
    tiff_bits,
    tiff_orientation,
    tiff_page,
    tiff_size,
)


def exif_orientation(picture: Image.Image) -> int:
    """EXIF orientation 1 to 8 of an opened picture, without decoding it.

    PIL's own getexif decodes a PNG to look behind its pixels, and follows XMP, which OpenCV does
    not: both readers must agree on what is up.
    """
    block = picture.info.get("exif")
    if not block:
        return 1
    exif = Image.Exif()
    # A broken block turns nothing, as decoders have it.
    with contextlib.suppress(SyntaxError, struct.error, ValueError, TypeError, KeyError, EOFError):
        exif.load(block)
        return int(exif.get(ORIENTATION, 1))
    return 1


def pil_array(
    data: bytes,
    name: str,
    convert: Callable[[Image.Image], Image.Image | np.ndarray],
    *,
    page: int = 0,
) -> np.ndarray:
    """A picture of a file through PIL, its first or that number, converted, upright by EXIF.

    Raises:
        UserError: PIL cannot decode it.
    """
    with decoding(name, data), Image.open(io.BytesIO(data)) as picture:
        check_declared(picture.height, picture.width, name)
        if page:
            picture.seek(page)
        picture.load()
        upright = ImageOps.exif_transpose(picture)
        return np.asarray(convert(upright))


def decode_picture(data: bytes, name: str, *, alpha: bool) -> np.ndarray:
    """(H, W) or (H, W, C) of any file but a TIFF; alpha only when asked for.

    Raises:
        UserError: it cannot be decoded, or its header says no size, or too large a one.
    """
    if data.startswith(b"GIF8"):
        return pil_array(data, name, plain_mode)
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    with decoding(name, data):
        with Image.open(io.BytesIO(data)) as header:
            check_declared(header.height, header.width, name)
            turned = exif_orientation(header) if alpha else 1  # OpenCV turns what has no alpha
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if alpha else flags
        )
        if pixels is None:
            raise unreadable(name, data=data)
        return orient(_to_rgb(pixels), turned)


def decode_tiff(
    data: bytes,
    name: str,
    convert: Callable[[Image.Image], Image.Image | np.ndarray],
    *,
    page: tifffile.TiffPage | None = None,
) -> np.ndarray:
    """(H, W) or (H, W, C) of a TIFF's one page, or of a page of it, by the decoder that is right.

    OpenCV multiplies RGB by alpha and hands out one band of two; PIL cuts 16-bit colours to 8
    and knows no other count of bands.

    Raises:
        UserError: none of them can decode it, or it has several pages and none is chosen.
    """
    with decoding(name, data):
        page = page or tiff_page(io.BytesIO(data), name)
        check_pages([page], name)
        bits, coloured = tiff_bits(page), has_colour_model(page)
        if page.samplesperpixel == 1 and bits == 16:
            return _deep_grey(data, page, name, convert)
        single = page.samplesperpixel == 1 and bits <= 32  # PIL knows no larger numbers
        if single or (bits <= 8 and coloured):
            return pil_array(data, name, convert, page=page.index)
        check_deep_colours(page, name)
        together = page.planarconfig == tifffile.PLANARCONFIG.CONTIG
        if bits == 16 and coloured and together and page.index == 0:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            # OpenCV turns a TIFF upright whatever the flags.
            if pixels is not None and pixels.dtype == np.uint16:
                return _to_rgb(pixels)
        return orient(read_tiff_bands(page, name), tiff_orientation(page))


def check_pages(pages: Sequence[tifffile.TiffPage], name: str) -> None:
    """Makes sure that pages of a TIFF, all as large as the first, fit into memory together.

    Raises:
        UserError: they do not.
    """
    height, width = tiff_size(pages[0])
    deep = -(-pages[0].samplesperpixel * tiff_bits(pages[0]) // 64)
    check_declared(height, width, name, layers=deep * len(pages))


def _deep_grey(
    data: bytes,
    page: tifffile.TiffPage,
    name: str,
    convert: Callable[[Image.Image], Image.Image | np.ndarray],
) -> np.ndarray:
    """(H, W) of 16 bits, 0 is black; PIL has codecs that tifffile lacks, not all byte orders."""
    if has_codec(page):
        pixels = orient(read_tiff_bands(page, name), tiff_orientation(page))
    else:
        pixels = pil_array(data, name, convert, page=page.index).astype(page.dtype)
    return ~pixels if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE else pixels


def orient(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W, ...) as stored, turned upright by the EXIF orientation 1 to 8."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def plain_mode(picture: Image.Image) -> Image.Image:
    """Palettes, bits and print colours as RGB or grey; RGB, RGBA and deep grey stay."""
    if picture.mode in ("1", "LA", "La"):
        return picture.convert("L")
    if picture.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
        return picture.convert("RGB")
    return picture


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return cv2.cvtColor(pixels, code)
