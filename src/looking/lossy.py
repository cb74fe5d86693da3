"""The colours of masks that were stored as JPEG: those of areas, without what edges add."""

from collections import Counter
from collections.abc import Iterable

import cv2
import numpy as np

Colour = tuple[int, int, int]
# Areas are flat over so many pixels, but for what JPEG adds.
SIDE, SPREAD = 5, 24
# Colours nearer than this are one, and areas of a file smaller than this share none.
NEAR, LEAST = 64, 0.002
# Ends of the range are meant where a value is as near to them.
END = 8


def flat_colours(pixels: np.ndarray) -> Counter[Colour]:
    """Colours of the areas of a lossy mask, uint8 (H, W) or (H, W, C), with counts of pixels."""
    planes = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels[:, :, :3]
    planes = np.ascontiguousarray(planes if planes.shape[2] == 3 else np.repeat(planes, 3, 2))
    kernel = np.ones((SIDE, SIDE), np.uint8)
    spread = cv2.dilate(planes, kernel).astype(int) - cv2.erode(planes, kernel)
    areas = planes[spread.max(2) <= SPREAD]
    colours, counts = np.unique(areas, axis=0, return_counts=True)
    found = Counter(dict(zip(map(tuple, colours.tolist()), counts.tolist(), strict=True)))
    least = LEAST * planes[..., 0].size
    return Counter({colour: n for colour, n in join_near(found.items()).items() if n >= least})


def join_near(counted: Iterable[tuple[Colour, int]]) -> Counter[Colour]:
    """Colours with those near to them counted to the most frequent, ends of the range exact."""
    joined: Counter[Colour] = Counter()
    for colour, count in sorted(counted, key=lambda pair: -pair[1]):
        near = (one for one in joined if _gap(one, colour) < NEAR)
        red, green, blue = (0 if v <= END else 255 if v >= 255 - END else v for v in colour)
        joined[next(near, (red, green, blue))] += count
    return joined


def _gap(one: Colour, other: Colour) -> int:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))
