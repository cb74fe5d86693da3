"""Runs of a mask that comes in strips of rows, so that it is never whole in memory."""

import numpy as np

from imaging.rle import Order, Size, mask_runs


class RunStrips:
    """The runs of a mask (H, W) from its strips; memory grows with runs, not with pixels.

    Args:
        size: (H, W) of the mask.
        order: in which its pixels are numbered.
    """

    def __init__(self, size: Size, order: Order):
        self.size, self.order = size, order
        self.top = 0
        self.starts: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []

    def add(self, strip: np.ndarray) -> None:
        """Adds the next rows, uint8 (h, W) of {0, 1}."""
        if self.order == "row":
            starts, lengths = mask_runs(strip, order="row")
            starts += self.top * self.size[1]
        else:  # a row of background below: no run goes on in the next column
            starts, lengths = mask_runs(np.pad(strip, ((0, 1), (0, 0))), order="column")
            columns, rows = np.divmod(starts, len(strip) + 1)
            starts = columns * self.size[0] + self.top + rows
        self.starts.append(starts)
        self.lengths.append(lengths)
        self.top += len(strip)

    def runs(self) -> tuple[np.ndarray, np.ndarray]:
        """Starts from 0 and lengths, int64, as `mask_runs` gives them of the whole mask."""
        starts, lengths = np.concatenate(self.starts), np.concatenate(self.lengths)
        order = np.argsort(starts, kind="stable")
        starts, ends = starts[order], (starts + lengths)[order]
        if not len(starts):
            return starts, lengths
        apart = np.flatnonzero(starts[1:] != ends[:-1]) + 1
        firsts, lasts = np.append(0, apart), np.append(apart - 1, len(starts) - 1)
        return starts[firsts], ends[lasts] - starts[firsts]
