"""What was painted, not drawn: Supervisely's bitmaps and Label Studio's brushes, as run lengths."""

import base64
import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image

from core.gates import whole_number
from imaging.coco_counts import write_counts
from imaging.rle import Size

# Bytes of a picture that are not of its pixels, at most.
HEADERS = 1 << 16
# Bits that tell how long a brush's whole text, its words, and its four kinds of run lengths are.
BRUSH_HEAD = (32, 5, 4, 4, 4, 4)


def read_bitmap(bitmap: Mapping[str, Any], size: Size | None) -> dict[str, Any]:
    """COCO's run lengths of a Supervisely bitmap: a zipped PNG with the place of its corner.

    Args:
        bitmap: data, in base64, and origin, x and y in pixels.
        size: (H, W) of the image.

    Raises:
        ValueError: it cannot be read, or is beyond the image.
    """
    if size is None:
        raise ValueError("a bitmap, and no size of its image")
    most = 4 * size[0] * size[1] + HEADERS
    try:
        data = zlib.decompressobj().decompress(base64.b64decode(bitmap["data"]), most)
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
    except (zlib.error, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"a bitmap that cannot be read: {error}") from None
    left, top = map(whole_number, bitmap["origin"])
    if min(left, top) < 0 or left + width > size[1] or top + height > size[0]:
        raise ValueError(f"a bitmap of {height, width} at {left},{top} of an image of {size}")
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise ValueError("a bitmap that is cut off")
    mask = np.zeros(size, np.uint8)
    painted = (picture if picture.ndim == 2 else picture[:, :, -1]) != 0
    mask[top : top + height, left : left + width] = painted
    return _counted(mask)


def read_brush(words: Sequence[int], size: Size) -> dict[str, Any]:
    """COCO's run lengths of a Label Studio brush: bytes whose bits run-length encode RGBA.

    Args:
        words: the bytes.
        size: (H, W) of the image.

    Raises:
        ValueError: cut off, or of another size.
    """
    bits = "".join(f"{byte:08b}" for byte in bytes([*words]))
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        if at > len(bits):
            raise ValueError("a brush that is cut off")
        return int(bits[at - count : at], 2)

    total, width, *lengths = (take(count) for count in BRUSH_HEAD)
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"a brush of {total // 4} pixels, its image is {size}")
    values = np.zeros(total, np.uint8)
    done = 0
    while done < total:
        same, kind = take(1), take(2)
        end = done + take(lengths[kind] + 1) + 1
        if same:
            values[done:end] = take(width + 1)
        else:
            found = [take(width + 1) for _ in range(min(end, total) - done)]
            values[done : done + len(found)] = found
        done = end
    return _counted((values.reshape(*size, 4)[:, :, 3] != 0).astype(np.uint8))


def _counted(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": write_counts(mask)}
