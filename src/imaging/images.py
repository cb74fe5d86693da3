"""Pictures as competitions ship them, read to one declared shape, type and colour order."""

import io
import os
import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageOps

from core.errors import UserError, raise_all
from core.memory import largest_picture
from imaging.tiff import (
    ORIENTATION,
    check_deep_colours,
    has_codec,
    has_colour_model,
    is_tiff,
    read_tiff_bands,
    tiff_bits,
    tiff_orientation,
    tiff_page,
    tiff_size,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
DECODE_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
    cv2.error,
)

# Competition data is trusted and slides exceed PIL's limit of 179 million pixels.
Image.MAX_IMAGE_PIXELS = None


def read_image(
    path: str | Path, *, channels: int = 3, bits: int = 8, value_range: Sequence[float] = ()
) -> np.ndarray:
    """A picture as (H, W, channels), RGB order: uint8 for bits=8, uint16 for bits=16.

    The rules, for every format:

    - EXIF orientation is applied.
    - Grey is repeated to 3 channels; 3 channels become 1 by ITU-R 601 luma.
    - Alpha is dropped, not blended (kept when channels=4); a palette gives its colours.
    - 16 bits to 8: v / 257, rounded. 8 bits to 16: v * 257.
    - With a value range any type of pixel is taken: its ends become 0 and the most of `bits`, what
      is beyond is cut, NaN becomes 0.
    - An animation gives its first picture; a TIFF of several pages of one size is refused.

    Raises:
        UserError: no such file, truncated or unreadable, another count of channels, or pixels
            that are not 8 or 16 unsigned bits without a value range.
    """
    name = Path(path).name
    pixels = _decode(read_complete(path), name, alpha=channels == 4)
    if value_range:
        pixels = scale_values(pixels, value_range, bits)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise UserError(
            f"{name}: pixels are {pixels.dtype}, need uint8 or uint16: say with "
            "VALUE_RANGE=low,high which values become black and white"
        )
    pixels = _fit_channels(pixels, channels, name)
    return np.ascontiguousarray(_fit_bits(pixels, bits))


def scale_values(pixels: np.ndarray, value_range: Sequence[float], bits: int) -> np.ndarray:
    """uint8 or uint16 of any numbers: the range's ends become 0 and the most, NaN becomes 0."""
    low, high = value_range
    share = (pixels.astype(np.float64) - low) / (high - low)
    whole = np.rint(np.clip(np.nan_to_num(share, nan=0.0), 0, 1) * (2**bits - 1))
    return whole.astype(np.uint8 if bits == 8 else np.uint16)


def largest_value(path: str | Path) -> tuple[float, np.dtype]:
    """The largest value of a picture as its file has it, and the type of its pixels.

    Raises:
        UserError: as `read_image`.
    """
    pixels = _decode(read_complete(path), Path(path).name, alpha=False)
    return float(np.nanmax(pixels)), pixels.dtype


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a picture after EXIF orientation, from its header: no pixel is decoded.

    Raises:
        UserError: no such file, a header that cannot be read, or a stack of pages.
    """
    try:
        with open(path, "rb") as file:
            if is_tiff(file.read(4)):
                return tiff_size(tiff_page(file, Path(path).name))
        with Image.open(path) as picture:
            width, height = picture.size
            turned = exif_orientation(picture) >= 5
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except UserError:
        raise
    except DECODE_FAULTS as error:
        raise unreadable(Path(path).name, error) from error
    return (width, height) if turned else (height, width)


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


def read_complete(path: str | Path) -> bytes:
    """The bytes of a picture's file.

    Raises:
        UserError: no such file, an empty one, or a JPEG or PNG without its end marker: decoders
            differ by version in whether they fill what is missing with grey, without a word.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UserError(f"{path}: is no file (a folder, pipe or device): take it away")
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from None
    name = Path(path).name
    if not data:
        raise UserError(f"{name}: the file is empty: download it again")
    check_declared(data, name)
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


def check_declared(data: bytes, name: str) -> None:
    """Makes sure that a picture of the size its header claims fits into memory.

    Raises:
        UserError: it does not: a few kilobytes may claim 100,000 pixels a side.
    """
    try:
        if is_tiff(data):
            height, width = tiff_size(tiff_page(io.BytesIO(data), name))
        else:
            with Image.open(io.BytesIO(data)) as picture:
                width, height = picture.size
    except DECODE_FAULTS:
        return  # the decoder says what is wrong; a UserError is told as it is
    most = largest_picture()
    if width * height > most:
        raise UserError(
            f"{name}: claims {width} x {height} pixels in {len(data)} bytes, this machine takes "
            f"{most} pixels a picture: take it away, or raise MAX_PIXELS if it is right"
        )


def unreadable(name: str, reason: object = "") -> UserError:
    """The error for a file that no decoder takes."""
    told = f" ({reason})" if str(reason) else ""
    return UserError(
        f"{name}: cannot be decoded{told}: truncated or not a picture, download it again or "
        "convert it"
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
    exif.load(block)
    return int(exif.get(ORIENTATION, 1))


def pil_array(
    data: bytes, name: str, convert: Callable[[Image.Image], Image.Image | np.ndarray]
) -> np.ndarray:
    """The first picture of a file through PIL, converted, EXIF orientation applied.

    Raises:
        UserError: PIL cannot decode it.
    """
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(convert(upright))
    except DECODE_FAULTS as error:
        raise unreadable(name, error) from error


def _decode(data: bytes, name: str, *, alpha: bool) -> np.ndarray:
    """(H, W) or (H, W, C) in RGB order, upright, any type; alpha only when asked for."""
    if is_tiff(data):
        return decode_tiff(data, name, _plain)
    if data.startswith(b"GIF8"):
        return pil_array(data, name, _plain)
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
    try:
        pixels = cv2.imdecode(
            np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED if alpha else flags
        )
    except cv2.error as error:
        raise unreadable(name, error) from error
    if pixels is None:
        raise unreadable(name)
    pixels = _to_rgb(pixels)
    return _turn_like_header(pixels, data) if alpha else pixels


def decode_tiff(
    data: bytes, name: str, convert: Callable[[Image.Image], Image.Image | np.ndarray]
) -> np.ndarray:
    """(H, W) or (H, W, C) of a TIFF by the decoder that has it right.

    OpenCV multiplies RGB by alpha and hands out one band of two; PIL cuts 16-bit colours to 8
    and knows no other count of bands.

    Raises:
        UserError: none of them can decode it.
    """
    try:
        page = tiff_page(io.BytesIO(data), name)
        bits, coloured = tiff_bits(page), has_colour_model(page)
        if page.samplesperpixel == 1 and bits == 16:
            return _deep_grey(data, page, name, convert)
        if page.samplesperpixel == 1 or (bits <= 8 and coloured):
            return pil_array(data, name, convert)
        check_deep_colours(page, name)
        if bits == 16 and coloured and page.planarconfig == tifffile.PLANARCONFIG.CONTIG:
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            # OpenCV turns a TIFF upright whatever the flags.
            if pixels is not None and pixels.dtype == np.uint16:
                return _to_rgb(pixels)
        pixels = read_tiff_bands(page, name)
    except UserError:
        raise
    except DECODE_FAULTS as error:
        raise unreadable(name, error) from error
    return orient(pixels, tiff_orientation(page))


def _deep_grey(
    data: bytes,
    page: tifffile.TiffPage,
    name: str,
    convert: Callable[[Image.Image], Image.Image | np.ndarray],
) -> np.ndarray:
    """(H, W) uint16, upright, 0 is black; PIL has codecs that tifffile lacks, not all orders."""
    if has_codec(page):
        pixels = orient(read_tiff_bands(page, name), tiff_orientation(page))
    else:
        pixels = pil_array(data, name, convert).astype(page.dtype)
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


def _turn_like_header(pixels: np.ndarray, data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as picture:
        return orient(pixels, exif_orientation(picture))


def _plain(picture: Image.Image) -> Image.Image:
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


def _fit_channels(pixels: np.ndarray, channels: int, name: str) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    have = pixels.shape[2]
    if have == channels:
        return pixels
    if have == 1 and channels == 3:
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_GRAY2RGB)
    if have in (3, 4) and channels == 3:
        return pixels[:, :, :3]
    if have in (3, 4) and channels == 1:
        rgb = np.ascontiguousarray(pixels[:, :, :3])
        return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[:, :, None]
    raise UserError(
        f"{name}: has {have} channels, CHANNELS is {channels}. They must match (only grey to 3, "
        f"RGB to 1 and dropping alpha are done for you): set CHANNELS={have} or convert the image"
    )


def _fit_bits(pixels: np.ndarray, bits: int) -> np.ndarray:
    if bits == 8 and pixels.dtype == np.uint16:
        # (v + 128) // 257 is v / 257 rounded, without floats.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if bits == 16 and pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    return pixels


def is_image(name: str) -> bool:
    """Whether a file of this name can be a picture."""
    # macOS leaves ._name.png files that hold no picture.
    return not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)
