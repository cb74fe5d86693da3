"""The rows of an image whose mask comes in strips, and is never whole in memory."""

import numpy as np

from imaging.run_strips import RunStrips
from submissions.answer import Answer
from submissions.answer_files import Row
from submissions.answer_format import Frame, Item
from submissions.run_lengths import RunLengths

NO_PIXELS = np.empty((0, 0), np.uint8)


class StripRows:
    """Collects strips of a mask from top to bottom, then gives the rows of the image.

    Args:
        answer: whose `takes_strips` holds for the image.
        frame: of the image.
    """

    def __init__(self, answer: Answer, frame: Frame):
        assert isinstance(answer.form, RunLengths)
        self.answer, self.frame, self.order = answer, frame, answer.form.order
        self.found: dict[int, RunStrips] = {}

    def add(self, strip: np.ndarray) -> None:
        """The next rows of the mask: multiclass (h, W) ids, else (K, h, W) of {0, 1}."""
        for cls, plane in self.answer.planes(strip):
            runs = self.found.setdefault(cls, RunStrips(self.frame.size, self.order))
            runs.add(plane)

    def rows(self) -> list[Row]:
        """As `Answer.write` gives them of the whole mask."""
        runs = {cls: strips.runs() for cls, strips in self.found.items()}
        items = [Item(NO_PIXELS, cls, runs=pair) for cls, pair in runs.items() if len(pair[0])]
        return self.answer.rows(items, self.frame)
