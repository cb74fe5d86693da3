"""TIFF bands that neither OpenCV nor PIL decodes: 2, 5 or more a pixel, as satellites deliver."""

import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from core.errors import UserError

WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, PLANAR, PREDICTOR, FORMAT, ORIENTATION = (
    256, 257, 258, 259, 277, 284, 317, 339, 274,
)  # fmt: skip
STRIP_OFFSETS, STRIP_ROWS, STRIP_BYTES = 273, 278, 279
PHOTOMETRIC, EXTRA_SAMPLES = 262, 338
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_BYTES = 322, 323, 324, 325
DEFLATE = (8, 32946)
PALETTE, ALPHA = 3, (1, 2)
# RGB, palette, CMYK, YCbCr, Lab
COLOUR_MODELS = (2, 3, 5, 6, 8)

Tags = Mapping[int, Any]


def is_tiff(head: bytes) -> bool:
    """Whether the first bytes of a file say TIFF (BigTIFF too)."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def tiff_tags(stream: BinaryIO) -> Tags:
    """Tags of the first page; raises what PIL raises when they are cut off."""
    stream.seek(0)
    head = stream.read(8)
    if b"+" in head[2:4]:  # BigTIFF: the offset is 8 bytes further
        head += stream.read(8)
    directory = ImageFileDirectory_v2(head)
    stream.seek(directory.next or 0)
    directory.load(stream)
    return {tag: directory[tag] for tag in directory}


def tiff_bits(tags: Tags) -> int:
    """Bits a sample, the most of all bands."""
    bits = tags.get(BITS, 1)
    return max(bits) if isinstance(bits, tuple) else int(bits)


def has_colour_model(tags: Tags) -> bool:
    """Whether the bands are grey, a palette or colours, with or without alpha: not just bands."""
    bands, model = int(tags.get(SAMPLES, 1)), int(tags.get(PHOTOMETRIC, 1))
    if bands <= 2:
        extra = np.atleast_1d(tags.get(EXTRA_SAMPLES, 0))
        return bands == 1 or model == PALETTE or bool(np.isin(extra, ALPHA).any())
    return bands <= 4 and model in COLOUR_MODELS


def read_tiff_bands(data: bytes, tags: Tags, name: str) -> np.ndarray:
    """(H, W, bands) uint8 or uint16 of the first page, strips or tiles, plain or deflate.

    Raises:
        UserError: another compression or pixel type.
    """
    bits, compression = tiff_bits(tags), int(tags.get(COMPRESSION, 1))
    forms = np.atleast_1d(tags.get(FORMAT, 1))
    if compression not in (1, *DEFLATE) or bits not in (8, 16) or (forms != 1).any():
        raise UserError(
            f"{name}: TIFF of {tags.get(SAMPLES, 1)} bands has compression {compression}, {bits} "
            "bits; need none (1) or deflate (8) and 8 or 16 unsigned bits: save the file again so"
        )
    height, width, bands = int(tags[HEIGHT]), int(tags[WIDTH]), int(tags.get(SAMPLES, 1))
    planes = bands if int(tags.get(PLANAR, 1)) == 2 else 1
    block = (
        int(tags.get(TILE_HEIGHT, tags.get(STRIP_ROWS, height))),
        int(tags.get(TILE_WIDTH, width)),
    )
    block = (min(block[0], height) if TILE_HEIGHT not in tags else block[0], block[1])
    dtype = np.dtype(f"{'>' if data[:1] == b'M' else '<'}u{bits // 8}")
    out = np.zeros((height, width, bands), dtype=f"u{bits // 8}")
    corners = [
        (plane, top, left)
        for plane in range(planes)
        for top in range(0, height, block[0])
        for left in range(0, width, block[1])
    ]
    for (plane, top, left), raw in zip(corners, _blocks(data, tags), strict=True):
        rows = block[0] if TILE_HEIGHT in tags else min(block[0], height - top)
        pixels = np.frombuffer(raw, dtype, rows * block[1] * (bands // planes))
        pixels = pixels.reshape(rows, block[1], -1)
        if int(tags.get(PREDICTOR, 1)) == 2:
            pixels = np.cumsum(pixels, axis=1, dtype=out.dtype)
        spot = out[top : top + rows, left : left + block[1], plane : plane + bands // planes]
        spot[:] = pixels[: spot.shape[0], : spot.shape[1]]
    return out


def _blocks(data: bytes, tags: Tags) -> list[bytes]:
    offsets = np.atleast_1d(tags.get(TILE_OFFSETS, tags.get(STRIP_OFFSETS)))
    counts = np.atleast_1d(tags.get(TILE_BYTES, tags.get(STRIP_BYTES)))
    parts = [data[o : o + n] for o, n in zip(offsets.tolist(), counts.tolist(), strict=True)]
    if int(tags.get(COMPRESSION, 1)) == 1:
        return parts
    return [zlib.decompress(part) for part in parts]
