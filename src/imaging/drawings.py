"""Pictures for people: contours over images, sheets of the worst and best cases."""

import functools
from pathlib import Path

import cv2
import numpy as np

from core.files import writing

Colour = tuple[int, ...]

# Blue and orange: eyes that do not tell red from green tell these apart.
TRUTH, PREDICTION = (0, 190, 255), (255, 120, 0)
GREY = (127, 127, 127)


def class_colour(number: int) -> Colour:
    """A colour for a class id: hues a golden angle apart, each eight of them darker or paler."""
    hue = (number * 137.508 + 210) % 360 / 2
    pixel = np.array(
        [[[hue, 180 - 80 * (number // 16 % 2), 240 - 110 * (number // 8 % 2)]]], np.uint8
    )
    return tuple(int(value) for value in cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0])


def paint_classes(image: np.ndarray, mask: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """A copy of an RGB image with each class of a mask (H, W) of ids in its colour, 255 in grey."""
    colours = _class_colours().astype(np.float32)
    return (image * (1 - strength) + colours[mask] * strength).astype(np.uint8)


def layer_classes(mask: np.ndarray, strength: float = 0.6) -> np.ndarray:
    """What `paint_classes` lays over an image: uint8 (H, W, 4), red, green, blue and opacity."""
    return np.dstack([_class_colours()[mask], np.full(mask.shape, 255 * strength, np.uint8)])


@functools.cache
def _class_colours() -> np.ndarray:
    """uint8 (256, 3): the colour of each id, and of 255."""
    return np.array([*(class_colour(k) for k in range(255)), GREY], np.uint8)


def draw_contours(
    image: np.ndarray, mask: np.ndarray, colour: Colour, *, width: int = 0
) -> np.ndarray:
    """A copy of an image with the outline of each class, or object, of a mask.

    The image's own border is no outline.

    Args:
        image: uint8 (H, W, C); the colour has as many values.
        mask: (H, W) ids with 255 ignored, int32 (H, W) objects, or (K, H, W) of {0, 1}.
        colour: of the lines.
        width: of the lines in pixels; 0 = by the size of the image.
    """
    nothing = (0,) if mask.dtype == np.int32 else (0, 255)
    planes = mask if mask.ndim == 3 else [mask == k for k in np.unique(mask) if k not in nothing]
    width = width or max(1, round(max(image.shape) / 400))
    drawn = np.ascontiguousarray(image).copy()
    beyond = 2 * width
    for plane in planes:
        # What touches the border goes on beyond it, so that its outline there is not drawn.
        wider = np.pad(plane.astype(np.uint8), beyond, mode="edge")
        lines, _ = cv2.findContours(
            wider, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE, offset=(-beyond, -beyond)
        )
        cv2.drawContours(drawn, lines, -1, colour, width)
    return drawn


def draw_planes(image: np.ndarray, planes: np.ndarray, *, width: int = 0) -> np.ndarray:
    """A copy of an image with the outline of each class in its colour, also where classes overlap.

    Args:
        image: uint8 (H, W, 3), or (H, W, 4) with opacity.
        planes: (K, H, W) of {0, 1}, 255 ignored.
        width: of the lines in pixels; 0 = by the size of the image.
    """
    opaque = (255,) * (image.shape[2] - 3)
    for number, plane in enumerate(planes == 1):
        image = draw_contours(image, plane[None], (*class_colour(number), *opaque), width=width)
    return image


def layer_planes(planes: np.ndarray, strength: float = 0.4) -> np.ndarray:
    """uint8 (H, W, 4): classes of bool (K, H, W) in their colours, the mean where they overlap."""
    colours = np.array([class_colour(number) for number in range(len(planes))], np.float32)
    count = planes.sum(0)
    mixed = np.tensordot(planes, colours, (0, 0)) / np.maximum(count, 1)[..., None]
    return np.dstack([mixed, 255 * strength * (count > 0)]).astype(np.uint8)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Any image (H, W, C) as uint8 (H, W, 3): 16 bits scaled down, the first or only band shown."""
    image = (image >> 8).astype(np.uint8) if image.dtype == np.uint16 else image
    return image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)


def tile(picture: np.ndarray, title: str, side: int = 420) -> np.ndarray:
    """A picture fitted into a square of `side` with a line of text above it, no taller than it."""
    scale = side / max(picture.shape[:2])
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    card = np.full((small.shape[0] + 32, side + 8, 3), 255, np.uint8)
    card[26 : 26 + small.shape[0], 4 : 4 + small.shape[1]] = small
    shown = title if len(title) <= 46 else title[:22] + "..." + title[-21:]
    cv2.putText(card, shown, (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    return card


def write_sheet(path: Path, tiles: list[np.ndarray], columns: int = 4) -> None:
    """Writes tiles of one width, row by row, as one PNG; a row is as tall as its tallest."""
    tiles = tiles + [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    write_picture(path, np.vstack([np.hstack(_same_height(row)) for row in rows]))


def _same_height(row: list[np.ndarray]) -> list[np.ndarray]:
    tallest = max(len(card) for card in row)
    edges = ((0, 0), (0, 0))
    return [np.pad(card, ((0, tallest - len(card)), *edges), constant_values=255) for card in row]


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Writes an RGB picture; folders are made."""
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done, path
    with writing(path) as part:
        part.write_bytes(data.tobytes())
