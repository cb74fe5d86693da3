"""Pictures of miniatures: bright shapes on a dark ground."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image


def disc(rng: np.random.Generator, size: tuple[int, int], radius: int = 7) -> np.ndarray:
    y, x = (int(rng.integers(radius, n - radius)) for n in size)
    return cv2.circle(np.zeros(size, np.uint8), (x, y), int(rng.integers(4, radius)), 1, -1)


def picture(rng: np.random.Generator, masks: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Grey (H, W): each mask brighter than the one before, on a dark ground."""
    image = rng.integers(0, 40, size)
    for at, mask in enumerate(masks):
        image = np.where(mask, 140 + 30 * at + rng.integers(0, 25, size), image)
    return image.astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_objects(
    rng: np.random.Generator, size: tuple[int, int], most: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Grey (H, W) and its discs, which do not touch; sometimes none."""
    taken, masks = np.zeros(size, np.uint8), []
    for _ in range(int(rng.integers(0, most + 1))):
        mask = disc(rng, size)
        if not (cv2.dilate(mask, np.ones((5, 5), np.uint8)) & taken).any():
            taken |= mask
            masks.append(mask)
    return picture(rng, [taken], size), masks or [taken]
