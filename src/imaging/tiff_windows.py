"""Parts of a TIFF: only the strips or tiles that hold them are read."""

from typing import BinaryIO

import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC

from imaging.sources import Box
from imaging.tiff import check_chunk, has_codec, tiff_orientation

# Plain colours as stored; tifffile's decoder of JPEG gives RGB, too.
PLAIN = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)
BITS = (8, 16, 32, 64)


def is_windowed(page: tifffile.TiffPage) -> bool:
    """Whether parts of a page can be read as they are stored: upright, no palette, no odd bits."""
    jpeg = page.compression == COMPRESSION.JPEG and page.photometric == PHOTOMETRIC.YCBCR
    return (
        (page.photometric in PLAIN or jpeg)
        and page.dtype is not None
        and page.dtype.kind in "uif"
        and page.bitspersample in BITS
        and page.samplesperpixel != 2  # grey with alpha, maybe
        and page.imagedepth == 1
        and tiff_orientation(page) == 1
        and has_codec(page)
    )


def read_page_window(page: tifffile.TiffPage, stream: BinaryIO, box: Box) -> np.ndarray:
    """(h, w) or (h, w, C) of a page, numbers as stored; memory as for the strips or tiles in it.

    Args:
        page: for which `is_windowed` holds.
        stream: the open file that it is of.
        box: inside of the image.
    """
    bands = page.samplesperpixel
    out = np.zeros((box.height, box.width, bands), page.dtype)
    if page.is_contiguous and page.planarconfig == tifffile.PLANARCONFIG.CONTIG:
        _copy_rows(page, stream, box, out)
    else:
        for index in _chunks_in(page, box):
            _copy_chunk(page, stream, index, box, out)
    return out[..., 0] if bands == 1 else out


def _copy_rows(page: tifffile.TiffPage, stream: BinaryIO, box: Box, out: np.ndarray) -> None:
    """Of pixels that lie in the file as in memory, only those rows' bytes."""
    kind = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
    pixel = kind.itemsize * page.samplesperpixel
    for row in range(box.height):
        at = ((box.top + row) * page.imagewidth + box.left) * pixel
        stream.seek(page.dataoffsets[0] + at)
        data = stream.read(box.width * pixel)
        if len(data) < box.width * pixel:
            raise ValueError(f"its pixels are cut off in row {box.top + row}")
        out[row] = np.frombuffer(data, kind).reshape(box.width, -1)


def _chunks_in(page: tifffile.TiffPage, box: Box) -> list[int]:
    """Numbers of the strips or tiles that meet a box, of all planes."""
    high, wide = page.chunks[:2]
    rows, columns = page.chunked[-2:] if page.planarconfig == 2 else page.chunked[:2]
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    downs = range(box.top // high, min(rows, -(-(box.top + box.height) // high)))
    rights = range(box.left // wide, min(columns, -(-(box.left + box.width) // wide)))
    return [
        (plane * rows + down) * columns + right
        for plane in range(planes)
        for down in downs
        for right in rights
    ]


def _copy_chunk(
    page: tifffile.TiffPage, stream: BinaryIO, index: int, box: Box, out: np.ndarray
) -> None:
    stream.seek(page.dataoffsets[index])
    data = stream.read(page.databytecounts[index])
    if len(data) < page.databytecounts[index]:
        raise ValueError(f"strip or tile {index} is cut off")
    check_chunk(page, data)
    tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    given = tables if page.compression == COMPRESSION.JPEG else {}
    decoded, (plane, _, top, left, _), _ = page.decode(data or None, index, **given)
    if decoded is None:  # a tile that was left out is 0
        return
    chunk = decoded[0]
    bands = slice(None) if page.planarconfig == 1 else slice(plane, plane + 1)
    low_y, low_x = max(top, box.top), max(left, box.left)
    high_y = min(top + chunk.shape[0], box.top + box.height)
    high_x = min(left + chunk.shape[1], box.left + box.width)
    out[low_y - box.top : high_y - box.top, low_x - box.left : high_x - box.left, bands] = chunk[
        low_y - top : high_y - top, low_x - left : high_x - left
    ]
