"""Files of pictures as bytes: whole ones, and the error for those that are not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
from PIL import Image

from core.errors import UserError, is_out_of_memory
from core.memory import largest_picture
from imaging.arrays import page_alone
from streaming.files import open_file, read_file

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"

# How files begin that are no pictures, and what helps.
FOREIGN = {
    (b"version https://git-lfs",): "a pointer of Git LFS, not the file itself: git lfs pull",
    (
        b"<!doctype html",
        b"<html",
    ): "a web page, as one gets without logging in: download it logged in",
    (
        *(b"PK\x03\x04", b"7z\xbc\xaf", b"BZh", b"Rar!", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"),
        b"ustar",
    ): "compressed or packed: unpack it",
    (b"\x1f\x8b",): "compressed: unpack it; or a NIfTI volume that is cut off",
    (b"\x89HDF", b"MATLAB 5.0", b"MATLAB 7.3"): "a cut-off file of HDF5 or MATLAB",
    (b"ftyphei", b"ftypmif1", b"ftypavi", b"\xff\x0a", b"v/1\x01"): (
        "HEIC, AVIF, JPEG XL or OpenEXR: convert it to PNG or TIFF"
    ),
    (b"ftyp", b"AVI ", b"\x1aE\xdf\xa3"): "a video: write its frames as pictures",
    (b"%PDF", b"8BPS", b"<svg"): "a PDF, Photoshop file or drawing: export it as PNG",
    (b"ZISRAWFILE",): "a microscope's file (CZI): export it as TIFF",
    (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"): (
        "a pickle of Python: write its arrays with np.save"
    ),
    (b"PAR1", b"SQLite format 3", b"\xd0\xcf\x11\xe0"): "a table: TRAIN_CSV takes CSV",
    (b"NRRD", b"ObjectType"): "a volume: write its slices with SimpleITK and np.save",
    (b"{", b"[", b"<?xml"): "JSON or XML: annotations belong to MASK_PATH",
}

# Where else such marks stand than at the beginning: boxes of MP4 and HEIC, RIFF, tar.
INNER = ((4, b"ftyp"), (8, b"AVI "), (257, b"ustar"))

# OpenCV's own lines on stderr say nothing that our error does not.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
# Competition data is trusted and slides exceed PIL's limit of 179 million pixels.
Image.MAX_IMAGE_PIXELS = None


def read_complete(path: str | Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        UserError: no such file, an empty one, or a JPEG or PNG without its end marker: decoders
            differ by version in whether they fill what is missing with grey, without a word.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from None
    name = Path(path).name
    if not data:
        raise UserError(f"{name}: the file is empty: download it again")
    # An EXIF thumbnail ends with the same marker, hence the order of the last scan and last end.
    jpeg_cut = (
        data.startswith(b"\xff\xd8\xff")
        and not data.endswith(b"\xff\xd9")
        and data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda")
    )
    png_cut = data.startswith(PNG_MAGIC) and data.rfind(b"IEND") < 0
    if jpeg_cut or png_cut:
        raise UserError(
            f"{name}: truncated, its end marker is missing after {len(data)} bytes: "
            "download it again"
        )
    return data


def read_page(path: str | Path, page: int | None) -> tuple[bytes, int | None]:
    """`read_complete`, and the page to take of it; of a large array only that page's bytes.

    Raises:
        UserError: as `read_complete`.
    """
    if page is not None:
        name = Path(path).name
        with decoding(name), contextlib.suppress(OSError), open_file(path) as stream:
            if data := page_alone(stream, page, name):
                return data, None
    return read_complete(path), page


def check_declared(height: int, width: int, name: str, *, layers: int = 1) -> None:
    """Makes sure that a picture of the size its header claims fits into memory.

    Args:
        height, width: of it.
        name: of its file.
        layers: of 8 bytes a pixel: pages, and bands by the dozen.

    Raises:
        UserError: it does not: a few kilobytes may claim 100,000 pixels a side.
    """
    most = largest_picture()
    if width * height * layers > most:
        times = f", {layers} times" if layers > 1 else ""
        raise UserError(
            f"{name}: claims {width} x {height} pixels{times}, this machine takes {most} pixels "
            "a picture: take it away, or raise MAX_PIXELS if it is right"
        )


@contextlib.contextmanager
def decoding(name: str, data: bytes = b"") -> Iterator[None]:
    """Around a decoder: whatever it raises of damaged bytes becomes the error `unreadable`.

    That is any error there is: of OpenCV, zlib and struct, of Python's parser, a division by zero.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise unreadable(name, error, data) from error


def unreadable(name: str, reason: object = "", data: bytes = b"") -> UserError:
    """The error for a file that no decoder takes; of its bytes, what else it is.

    Raises:
        MemoryError: the reason is want of memory: the file may be whole.
    """
    if is_out_of_memory(reason):
        raise MemoryError(name)
    words = str(reason).partition("<_io")[0].strip()  # PIL names the object in memory
    told = f" ({words})" if words else ""
    if other := _foreign(data):
        return UserError(f"{name}: cannot be decoded: it is {other}")
    return UserError(
        f"{name}: cannot be decoded{told}: truncated or not a picture, download it again or "
        "convert it"
    )


def _foreign(data: bytes) -> str:
    """What a file is that is no picture; "" where nothing tells."""
    start = next((at for at, mark in INNER if data.startswith(mark, at)), 0)
    head = data[start : start + 256].lstrip(b"\xef\xbb\xbf\r\n\t ").lower()
    for marks, what in FOREIGN.items():
        if head.startswith(tuple(mark.lower() for mark in marks)):
            return what
    printable = all(byte >= 32 or byte in b"\r\n\t" for byte in data[:256])
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    return "text: lists and tables belong to TRAIN_CSV" if data and (printable or utf_16) else ""
