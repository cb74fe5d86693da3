"""Where a crop is cut so that it shows foreground."""

import numpy as np

from imaging.mask_files import IGNORE
from imaging.objects import IGNORED


def draw_foreground(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    """(x, y) of a pixel of a class that a mask holds; None where it holds none.

    Args:
        mask: (H, W) ids, or (H, W, K) with a plane a class; 0 and 255 are no foreground; uint16 of
            objects.
        rng: of the draws.
    """
    inside = (mask != 0) & (mask != (IGNORED if mask.dtype == np.uint16 else IGNORE))
    if mask.ndim == 3:
        planes = np.flatnonzero(inside.any((0, 1)))
        where = inside[..., planes[rng.integers(len(planes))]] if len(planes) else inside[..., 0]
    else:
        classes = np.flatnonzero(np.bincount(mask[inside], minlength=1))
        where = mask == classes[rng.integers(len(classes))] if len(classes) else inside
    found = np.flatnonzero(where)
    if not len(found):
        return None
    y, x = divmod(int(found[rng.integers(len(found))]), mask.shape[1])
    return np.array([x, y])


def centre_on(
    middle: np.ndarray, native: np.ndarray, window: np.ndarray, otherwise: np.ndarray
) -> np.ndarray:
    """Middle of a window that shows a pixel, whole pixels from the edge and inside the image.

    Args:
        middle: (x, y) of the pixel, which the window has in its own middle where there is room.
        native: (W, H) of the image.
        window: (w, h) of the window, in pixels of the image.
        otherwise: (x, y) along an axis on which the window is larger than the image.
    """
    room = np.maximum(np.floor(native - window), 0)
    start = np.clip(np.floor(middle - (window - 1) / 2), 0, room)
    return np.where(room > 0, start + (window - 1) / 2, otherwise)
