"""Objects of masks: connected parts, of one class or of several."""

import cv2
import numpy as np

from imaging.mask_files import IGNORE

# The number of ignored pixels in uint16 (H, W) of objects, of no object.
IGNORED = np.iinfo(np.uint16).max


def mask_to_instances(mask: np.ndarray) -> np.ndarray:
    """int32 (H, W): connected foreground of a (H, W) mask numbered from 1, in reading order.

    Pixels that touch at a corner are one object (8-connectivity), as in skimage's label, which
    DSB2018's kernels use; SciPy's default is 4. Ignored pixels (255) are background.
    """
    foreground = ((mask != 0) & (mask != IGNORE)).view(np.uint8)
    if not foreground.size:
        return np.zeros(mask.shape, np.int32)
    return cv2.connectedComponents(foreground, connectivity=8, ltype=cv2.CV_32S)[1]


def mask_objects(
    mask: np.ndarray, labels: np.ndarray | None, *, task: str, classes: int
) -> np.ndarray:
    """int32 (H, W): the objects of a mask as metrics take them, see `class_objects`.

    Args:
        mask: of one image; ids (H, W) of multiclass.
        labels: its objects where they have names; else they are the connected parts.
        task, classes: of the mask.
    """
    if task == "multiclass":
        return class_objects(mask, classes, labels)
    return mask_to_instances(mask) if labels is None else labels


def class_objects(ids: np.ndarray, classes: int, labels: np.ndarray | None = None) -> np.ndarray:
    """int32 (H, W): objects whose number modulo `classes` is their class, 0 where there is none.

    Args:
        ids: (H, W), 0 is the background, 255 is ignored.
        classes: K.
        labels: (H, W) of objects, 0 where there is none; else they are each class's parts.
    """
    inside = (ids > 0) & (ids < classes)
    if labels is None:
        labels = np.zeros(ids.shape, np.int64)
        for k in np.unique(ids[inside]):
            parts = mask_to_instances(ids == k)
            labels += (parts + labels.max(initial=0)) * (parts > 0)
    numbers = labels.astype(np.int64) * classes + ids
    return np.where(inside & (labels > 0), numbers, 0).astype(np.int32)
