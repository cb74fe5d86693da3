"""Fields of displacement for augmentation: elastic, and a grid whose lines move.

Each is called as field(size, rng) and gives float32 (H, W, 2), how far x and y of a target pixel's
source lie off, in pixels; None where it does not come.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from imaging.geometry import Size, by_channels

Array: TypeAlias = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Distortion:
    """A field that comes with chance `p`.

    Attributes:
        p: chance, 0-1.
    """

    p: float = 1.0

    def __call__(self, size: Size, rng: np.random.Generator) -> Array | None:
        """The field, or None."""
        return self.draw(size, rng) if rng.random() < self.p else None

    def draw(self, size: Size, rng: np.random.Generator) -> Array:
        """The field."""
        raise NotImplementedError


@dataclass(frozen=True)
class Elastic(Distortion):
    """Smooth noise, as tissue gives way: a coarse grid of normal shifts, interpolated.

    Source: Simard et al. 2003; Ronneberger et al. 2015 draw it on a coarse grid, too.

    Attributes:
        strength: deviation of the shifts, a share of the shorter side.
        cells: of the grid along the shorter side.
    """

    strength: float = 0.02
    cells: int = 4

    def draw(self, size: Size, rng: np.random.Generator) -> Array:
        short = min(size)
        height, width = (max(2, round(self.cells * side / short)) + 1 for side in size)
        shifts = rng.standard_normal((height, width, 2), np.float32) * (self.strength * short)
        return np.asarray(cv2.resize(shifts, size[::-1], interpolation=cv2.INTER_CUBIC))


@dataclass(frozen=True)
class GridDistortion(Distortion):
    """Columns and rows of a grid become wider and narrower; the frame stays where it is.

    Attributes:
        limit: largest change of a cell's width, a share of it.
        cells: along each side.
    """

    limit: float = 0.3
    cells: int = 5

    def draw(self, size: Size, rng: np.random.Generator) -> Array:
        shifts = []
        for side in size:
            widths = 1 + rng.uniform(-self.limit, self.limit, self.cells)
            ends = np.concatenate([[0], np.cumsum(widths)]) / widths.sum() * (side - 1)
            even = np.linspace(0, side - 1, self.cells + 1)
            shifts.append(np.interp(np.arange(side), even, ends) - np.arange(side))
        field = np.empty((*size, 2), np.float32)
        field[..., 0], field[..., 1] = shifts[1][None, :], shifts[0][:, None]
        return field


def remap(array: Array, matrix: Array, field: Array, *, nearest: bool) -> Array:
    """`array` moved by a 2x3 matrix, as `warp` does, and by a field in the target, in one pass."""
    height, width = field.shape[:2]
    inverse = cv2.invertAffineTransform(np.asarray(matrix, np.float64))
    x = np.arange(width, dtype=np.float32)[None, :] + field[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field[..., 1]
    right, down = ((row[0] * x + row[1] * y + row[2]).astype(np.float32) for row in inverse)
    way = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    return by_channels(
        array, lambda part: cv2.remap(part, right, down, way, borderMode=cv2.BORDER_REFLECT_101)
    )
