"""Which pictures look alike: a perceptual hash and a thumbnail of each."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from core.errors import UserError
from imaging.images import image_size, read_image

# Bits of a hash (dHash of 16 x 16) in which two pictures of one thing may differ. Frames of CamVid
# a second apart: 5 to 40; of two sequences: 73 and more; nuclei of DSB2018: 19 and more.
NEAR = 12
HASH_SIDE, THUMB_SIDE = 16, 16
# Grey levels: a picture as flat as this has no look of its own.
FLAT = 1.5
# Rows compared with all others at once.
BLOCK = 512
# Pictures are made smaller by whole steps while that leaves so many pixels a side: it is fast.
ENOUGH = 128
# Channels that OpenCV mixes.
MOST_MIXED = 4


class Looks(NamedTuple):
    """What pictures look like.

    Attributes:
        hashes: float32 (N, 256) of {0, 1}.
        thumbs: float32 (N, 256), mean 0 and length 1: a product of two is their correlation.
        known: bool (N,), False where a picture is flat or cannot be read.
    """

    hashes: np.ndarray
    thumbs: np.ndarray
    known: np.ndarray


def look_of(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Hash and thumbnail of a grey picture uint8 (H, W); None of a flat one.

    Source of the hash: Krawetz 2013, dHash: whether it grows brighter from a pixel to the next.
    """
    step = max(1, min(grey.shape) // ENOUGH)
    height, width = (side // step for side in grey.shape)
    whole = grey[: height * step, : width * step]
    grey = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    thumb = cv2.resize(grey, (THUMB_SIDE, THUMB_SIDE), interpolation=cv2.INTER_AREA)
    centred = thumb.astype(np.float32).ravel() - np.float32(thumb.mean())
    if centred.std() < FLAT:
        return None
    small = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return bits.astype(np.float32), centred / np.linalg.norm(centred)


def looks_of(paths: Sequence[Path], pixels: Mapping[str, Any], *, title: str) -> Looks:
    """The looks of pictures, read with all cores; those that cannot be read are unknown.

    Args:
        paths: of the pictures.
        pixels: arguments of `read_image`.
        title: of the progress bar.
    """
    from tqdm import tqdm

    def look(path: Path) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return look_of(read_grey(path, pixels))
        except UserError:
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bar = tqdm(pool.map(look, paths), title, len(paths), leave=False, disable=None)
        return join_looks(list(bar))


def join_looks(found: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> Looks:
    """The looks of single pictures as arrays; None is unknown."""
    nothing = np.zeros(HASH_SIDE**2, np.float32), np.zeros(THUMB_SIDE**2, np.float32)
    pairs = [pair or nothing for pair in found] or [nothing][:0]
    hashes = np.array([bits for bits, _ in pairs], np.float32).reshape(-1, HASH_SIDE**2)
    thumbs = np.array([thumb for _, thumb in pairs], np.float32).reshape(-1, THUMB_SIDE**2)
    return Looks(hashes, thumbs, np.array([pair is not None for pair in found], bool))


def read_grey(path: Path, pixels: Mapping[str, Any]) -> np.ndarray:
    """uint8 (H, W) of a picture, for its look alone: of a large JPEG a smaller version.

    Raises:
        UserError: it cannot be read.
    """
    if path.suffix.lower() in (".jpg", ".jpeg"):
        side = min(image_size(path))
        flags = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4}
        factor = next((n for n in flags if side >= n * ENOUGH), 0)
        grey = cv2.imread(str(path), flags.get(factor, cv2.IMREAD_GRAYSCALE))
        if grey is not None:
            return grey
    return to_grey(read_image(path, **pixels))


def to_grey(image: np.ndarray) -> np.ndarray:
    """uint8 (H, W) of an image (H, W, C) of 8 or 16 bits: the mean of its channels, rounded."""
    channels = image.shape[2]
    if channels == 1:
        grey = image[:, :, 0]
    elif channels <= MOST_MIXED:
        grey = cv2.transform(image, np.full((1, channels), 1 / channels))
    else:
        grey = np.rint(image.mean(2, dtype=np.float32)).astype(image.dtype)
    return grey if grey.dtype == np.uint8 else (grey // 257).astype(np.uint8)


def nearest_apart(looks: Looks, asked: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """The look-alike of each asked picture on another side, int64 (len(asked),), -1: there is none.

    Args:
        looks: of N pictures.
        asked: int64, indices of pictures.
        sides: int64 (N,), the fold of each.
    """
    nearest = np.full(len(asked), -1, np.int64)
    for start in range(0, len(asked), BLOCK):
        rows = asked[start : start + BLOCK]
        alike = looks.thumbs[rows] @ looks.thumbs.T
        open_to = (sides[rows, None] != sides) & looks.known & looks.known[rows, None]
        alike = np.where(open_to, alike, -np.inf)
        best = alike.argmax(1)
        nearest[start : start + BLOCK] = np.where(open_to.any(1), best, -1)
    return nearest
