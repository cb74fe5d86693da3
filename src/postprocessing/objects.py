"""Objects told apart: the border a network learns beside its mask, and the watershed that uses it.

A mask alone merges objects that touch. The border marks the thin band where two objects are near
each other; mask minus border falls apart into one seed an object, and a flood from the seeds gives
every pixel of the mask back to one of them.

Source: the first place of Data Science Bowl 2018 (Topcoders: Buslaev, Durnov, Seferbekov), whose
networks predict nuclei and the borders between touching ones, wider between larger ones.
"""

import cv2
import numpy as np

# How far a border reaches into an object: a share of the median object's diameter, and at least
# and at most so many pixels. A band of fixed width swallows small objects and is lost between
# large, blurred ones; sizes follow the zoom of the augmentation because the median is of what is
# shown.
REACH, NARROWEST, WIDEST = 0.15, 1, 4
NOTHING = np.iinfo(np.uint16).max


def draw_borders(labels: np.ndarray) -> np.ndarray:
    """uint8 (H, W) of {0, 1}: pixels that have two or more objects within the border's reach.

    Args:
        labels: uint16 (H, W), 0 is background; ids need not be consecutive.
    """
    reach = border_reach(labels)
    if not reach:
        return np.zeros(labels.shape, np.uint8)
    window = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    largest = cv2.dilate(labels, window)
    # The smallest id but the background's: unequal to the largest where there are two.
    smallest = cv2.erode(np.where(labels > 0, labels, np.uint16(NOTHING)), window)
    return (smallest < largest).view(np.uint8)


def border_reach(labels: np.ndarray) -> int:
    """Pixels that a border reaches to each side; 0 where there are less than two objects."""
    areas = np.bincount(labels.ravel())[1:]
    areas = areas[areas > 0]
    if len(areas) < 2:
        return 0
    diameter = np.sqrt(4 / np.pi * np.median(areas))
    return int(np.clip(round(REACH * diameter), NARROWEST, WIDEST))


def split_objects(
    mask: np.ndarray, inside: np.ndarray, *, seed: float, seed_area: int
) -> np.ndarray:
    """int32 (H, W): the mask's connected parts, those with several seeds divided among them.

    Every pixel of the mask belongs to one object, and a part without any seed is an object as it
    is: the watershed divides, it neither adds nor loses foreground.

    Args:
        mask: uint8 (H, W) of {0, 1}.
        inside: int16 (H, W), levels of the mask minus those of the border, -255...255.
        seed: seeds are connected pixels of the mask where `inside` is above it, -1 to 1.
        seed_area: fewer pixels than this are no seed.
    """
    count, parts = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
    core = ((inside > 255 * seed) & (mask > 0)).view(np.uint8)
    seeds = renumber(cv2.connectedComponents(core, connectivity=8, ltype=cv2.CV_32S)[1], seed_area)
    part_of = np.zeros(int(seeds.max()) + 1, np.int64)
    part_of[seeds] = parts
    several = np.bincount(part_of[1:], minlength=count) > 1
    # Most parts have one seed, which would flood them as a whole: only the others are flooded.
    contested = several[parts]
    if not contested.any():
        return parts
    from skimage.segmentation import watershed

    flooded = watershed(-inside, seeds * contested, mask=contested, connectivity=2)
    return renumber(np.where(contested, count + flooded, parts))


def renumber(labels: np.ndarray, min_area: int = 1) -> np.ndarray:
    """int32 (H, W): objects of `min_area` pixels or more, numbered from 1 without gaps."""
    keep = np.bincount(labels.ravel()) >= max(min_area, 1)
    keep[0] = False
    return (np.cumsum(keep, dtype=np.int32) * keep)[labels]
