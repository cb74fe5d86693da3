"""A line of a recipe: a flag, its value, and the sentence that says why."""

import shlex
from collections.abc import Mapping
from typing import NamedTuple

# Classes that a network can have.
MOST_CLASSES = 254


class Line(NamedTuple):
    """A knob as look.py sets it.

    Attributes:
        knob: its name in config.py.
        value: as a flag's text.
        why: one sentence; "" where the line above says it.
    """

    knob: str
    value: str
    why: str

    @property
    def words(self) -> list[str]:
        """The flag and its value; one word where the value would look like a flag: -DX1.tif."""
        flag = "--" + self.knob.lower().replace("_", "-")
        return [f"{flag}={self.value}"] if self.value.startswith("-") else [flag, self.value]

    def text(self) -> str:
        """The line of the recipe, with its reason above it."""
        flag = shlex.join(self.words)
        return f"# {self.why}\n{flag}" if self.why else flag


def words_of(lines: Mapping[str, Line]) -> list[str]:
    """Flags of all lines."""
    return [word for line in lines.values() for word in line.words]
