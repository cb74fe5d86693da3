"""TIFF pages: what their tags say, and bands that neither OpenCV nor PIL decodes (2, 5 or more)."""

import logging
import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC

from core.errors import UserError
from imaging.packed import check_deflated, check_lzma
from imaging.sources import own_file
from streaming.files import open_file

ORIENTATION, GDAL_NODATA = 274, 42113
ALPHA = {EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA}
COLOUR_MODELS = {
    PHOTOMETRIC.RGB,
    PHOTOMETRIC.PALETTE,
    PHOTOMETRIC.SEPARATED,
    PHOTOMETRIC.YCBCR,
    PHOTOMETRIC.CIELAB,
}
DEFLATED = {COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE, COMPRESSION.PIXTIFF}
PACKED = DEFLATED | {COMPRESSION.LZMA}
# The subfile types of what is no picture of its own: a smaller copy, a transparency mask.
COPY_OR_MASK = 0b101

# It tells of every odd tag of every file; what cannot be read raises.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes of a file say TIFF (BigTIFF too)."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_pages(stream: BinaryIO) -> list[tifffile.TiffPage]:
    """The first page of a TIFF and the others as large, without smaller copies and masks.

    Their tags are read, no pixel is decoded.

    Raises:
        ValueError: tags that cannot be read.
    """
    stream.seek(0)
    pages = tifffile.TiffFile(stream).pages
    first = pages.first
    if not pages.is_multipage:
        return [first]
    whole, seen = [], set[int]()
    for page in pages:
        if page.offset in seen:
            raise ValueError("its pages are chained in a circle")
        seen.add(page.offset)
        if isinstance(page, tifffile.TiffPage):
            whole.append(page)
    return [
        page for page in whole if page.shape == first.shape and not page.subfiletype & COPY_OR_MASK
    ] or [first]


def tiff_page(stream: BinaryIO, name: str) -> tifffile.TiffPage:
    """The one picture of a TIFF.

    Raises:
        UserError: a stack: further pages as large as the first, which would be lost.
        ValueError: tags that cannot be read.
    """
    first, *others = tiff_pages(stream)
    if others:
        size = (first.imagelength, first.imagewidth)
        raise UserError(
            f"{name}: holds {len(others) + 1} pages of {size}, one would be read and the others "
            "lost; need one picture a file: save each page as a file of its own"
        )
    return first


def tiff_size(page: tifffile.TiffPage) -> tuple[int, int]:
    """(H, W) of a page when it is turned upright.

    Raises:
        TypeError: tags that are no numbers.
    """
    height, width = int(page.imagelength), int(page.imagewidth)
    return (width, height) if tiff_orientation(page) >= 5 else (height, width)


def tiff_orientation(page: tifffile.TiffPage) -> int:
    """The EXIF orientation of a page, 1 to 8."""
    return int(page.tags.valueof(ORIENTATION, default=1))


def tiff_bits(page: tifffile.TiffPage) -> int:
    """Bits a sample, the most of all bands."""
    return int(np.max(page.bitspersample))


def has_colour_model(page: tifffile.TiffPage) -> bool:
    """Whether the bands are grey, a palette or colours, with or without alpha: not just bands."""
    bands, model = page.samplesperpixel, page.photometric
    if bands <= 2:
        return bands == 1 or model == PHOTOMETRIC.PALETTE or bool(ALPHA & set(page.extrasamples))
    if bands == 4 and model == PHOTOMETRIC.RGB:
        return has_alpha(page)  # the fourth may be infrared
    return bands <= 4 and model in COLOUR_MODELS


def has_alpha(page: tifffile.TiffPage) -> bool:
    """Whether the fourth band is transparency: by its tag, or for want of one beside RGB."""
    told = set(page.extrasamples)
    colours = page.samplesperpixel == 4 and page.photometric == PHOTOMETRIC.RGB
    return colours and (bool(told & ALPHA) or not told)


def has_codec(page: tifffile.TiffPage) -> bool:
    """Whether tifffile can decode a page; with imagecodecs it can more."""
    codecs, predictors = tifffile.TIFF.DECOMPRESSORS, tifffile.TIFF.UNPREDICTORS
    return page.compression in codecs and page.predictor in predictors


def check_deep_colours(page: tifffile.TiffPage, name: str) -> None:
    """Makes sure that deep bands are no print colours, which would pass for red, green and blue.

    Raises:
        UserError: more than 8 bits of CMYK, YCbCr or Lab.
    """
    model = page.photometric
    if model in COLOUR_MODELS - {PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE}:
        raise UserError(
            f"{name}: colours are {PHOTOMETRIC(model).name} of {tiff_bits(page)} bits, "
            "need RGB there: convert the images first"
        )


def read_tiff_bands(page: tifffile.TiffPage, name: str) -> np.ndarray:
    """(H, W, bands) of numbers as stored, strips or tiles, bands together or apart.

    Raises:
        UserError: another pixel type, or a compression that needs imagecodecs.
        ValueError: pixels that are cut off.
    """
    if page.dtype is None or page.dtype.kind not in "uif" or page.imagedepth > 1:
        raise UserError(
            f"{name}: TIFF of {page.samplesperpixel} bands has pixels of {tiff_bits(page)} bits "
            f"({page.dtype}), need whole or floating numbers of 8 bits or more: save the file "
            "again so"
        )
    if not has_codec(page):
        raise UserError(
            f"{name}: TIFF of {page.samplesperpixel} bands has compression "
            f"{tifffile.COMPRESSION(page.compression).name}, need NONE or ADOBE_DEFLATE: save the "
            "file again so, or pip install imagecodecs"
        )
    check_chunks(page)
    pixels = page.asarray()
    if pixels.ndim not in (2, 3):
        raise ValueError(f"its pixels are {pixels.shape}")
    return np.moveaxis(pixels, 0, -1) if page.axes.startswith("S") else pixels


def check_chunks(page: tifffile.TiffPage) -> None:
    """Makes sure that no strip or tile of a page unpacks to more than it claims.

    Raises:
        ValueError: one does; tifffile's own decoders unpack all that there is.
    """
    if page.compression not in PACKED:
        return
    stream = page.parent.filehandle
    for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        stream.seek(at)
        check_chunk(page, stream.read(count))


def check_chunk(page: tifffile.TiffPage, packed: bytes) -> None:
    """As `check_chunks`, of one of them.

    Raises:
        ValueError: as there.
    """
    most = math.prod(page.chunks) * np.dtype(page.dtype).itemsize
    if page.compression in DEFLATED:
        check_deflated(packed, most)
    elif page.compression == COMPRESSION.LZMA:
        check_lzma(packed, most)


def declared_nodata(path: Path) -> float | None:
    """The value that a TIFF says means no data (GDAL_NODATA); None of any other file."""
    with open_file(own_file(path)) as stream:
        if not is_tiff(stream.read(4)):
            return None
        tag = tiff_pages(stream)[0].tags.get(GDAL_NODATA)
    try:
        return None if tag is None else float(str(tag.value).strip("\0 "))
    except ValueError:
        return None
