"""Stacks of pages: TIFF files of one picture each become one file, and that file them again."""

from collections.abc import Iterator, Sequence
from io import BytesIO

import tifffile

from imaging.tiff import is_tiff


def join_pages(pages: Sequence[bytes]) -> bytes:
    """A compressed TIFF of all the pages."""
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        for data in pages:
            pixels = tifffile.imread(BytesIO(data))
            writer.write(pixels, photometric="minisblack", compression="zlib", metadata=None)
    return stream.getvalue()


def split_pages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Number, as ids of pages have it, and file of each page.

    Raises:
        ValueError: no TIFF.
    """
    if not is_tiff(data[:4]):
        raise ValueError("not a TIFF by its content")
    with tifffile.TiffFile(BytesIO(data)) as file:
        digits = len(str(len(file.pages) - 1))
        for number, page in enumerate(file.pages):
            stream = BytesIO()
            tifffile.imwrite(stream, page.asarray(), photometric="minisblack", metadata=None)
            yield f"{number:0{digits}d}", stream.getvalue()
