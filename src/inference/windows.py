"""Windows that slide over an image larger than a network takes, and how they are blended."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from core.errors import UserError
from imaging.geometry import Size
from imaging.sources import window_starts

# WINDOW=auto: an image of more pixels is cut into windows of this (H, W).
LARGE, AUTO_SIZE = 4096 * 4096, (1024, 1024)
# Deviation of the Gaussian as a share of the window, as in nnU-Net.
SIGMA = 1 / 8


class Piece(NamedTuple):
    """A window's extent along one axis.

    Attributes:
        start: its first pixel.
        weights: float32 (n,) of its pixels; at each pixel those of all pieces sum to 1.
    """

    start: int
    weights: np.ndarray


@dataclass(frozen=True)
class Windows:
    """How large images are cut; each field is called as its knob, in config.py.

    Attributes:
        window: "auto", "off", or a side or (H, W) in pixels.
        overlap: of neighbours, a share of the window.
        blend: "gaussian": the middle of a window counts most; "crop": each pixel is taken from the
            window in whose middle it lies most.
    """

    window: str | int | Size = "auto"
    overlap: float = 0.25
    blend: str = "gaussian"

    def size(self, native: Size) -> Size | None:
        """(H, W) of the windows of an image of this (H, W); None: it is not cut."""
        if self.window == "off" or (self.window == "auto" and native[0] * native[1] <= LARGE):
            return None
        wanted = AUTO_SIZE if isinstance(self.window, str) else self.window
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        if native[0] <= height and native[1] <= width:
            return None
        return min(height, native[0]), min(width, native[1])

    def check(self, modes: Sequence[str]) -> None:
        """Makes sure that networks of these resize modes can look through windows.

        Raises:
            UserError: WINDOW is a size, and some of them look at whole images only.
        """
        others = sorted(set(modes) - {"crop"})
        if others and not isinstance(self.window, str):
            raise UserError(
                f"WINDOW={self.window}: got a network of RESIZE_MODE={others[0]}, which sees whole "
                "images squeezed to its size; need RESIZE_MODE=crop: train with it, or WINDOW=off"
            )

    def cut(self, length: int, window: int) -> list[Piece]:
        """The pieces of an axis of this length, in their order; the last is shifted back."""
        starts = window_starts(length, window, max(1, round(window * (1 - self.overlap))))
        weights = np.zeros((len(starts), length))
        for at, start in enumerate(starts):
            weights[at, start : start + window] = _weigh(window, self.blend)
        if self.blend == "crop":  # only the window in whose middle a pixel lies
            weights = weights == weights.max(0)
        weights = weights / weights.sum(0)
        return [
            Piece(start, weights[at, start : start + window].astype(np.float32))
            for at, start in enumerate(starts)
        ]


def _weigh(window: int, blend: str) -> np.ndarray:
    away = np.abs(np.arange(window) - (window - 1) / 2)
    if blend == "crop":
        return window - away
    return np.exp(-0.5 * (away / (SIGMA * window)) ** 2)


class Strip:
    """The sum of weighted windows of an image, a row of windows at a time.

    Rows that no later window reaches are handed out, so it holds no more than one row of windows.

    Args:
        channels: of the probabilities.
        width: of the image.
    """

    def __init__(self, channels: int, width: int, device: torch.device):
        self.rows = torch.zeros(channels, 0, width, device=device)

    def grow(self, height: int) -> None:
        """Makes room for a window of this height from the first row on."""
        missing = height - self.rows.shape[1]
        self.rows = torch.nn.functional.pad(self.rows, (0, 0, 0, missing))

    def add(self, probs: torch.Tensor, down: Piece, right: Piece) -> None:
        """Adds a window's probabilities (K, h, w)."""
        weights = torch.from_numpy(np.outer(down.weights, right.weights)).to(self.rows.device)
        height, width = weights.shape
        self.rows[:, :height, right.start : right.start + width] += probs * weights

    def take(self, height: int) -> torch.Tensor:
        """The first rows (K, height, W), which are finished; they are gone from here."""
        done, self.rows = self.rows[:, :height], self.rows[:, height:]
        return done


def finished(pieces: Sequence[Piece], length: int) -> Iterator[tuple[Piece, int]]:
    """Each piece with the number of pixels that are finished after it, from its start on."""
    ends = [piece.start for piece in pieces[1:]] + [length]
    for piece, end in zip(pieces, ends, strict=True):
        yield piece, end - piece.start
