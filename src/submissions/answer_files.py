"""Where an answer is written: the contract of a file, its rows, and what a check finds in it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from submissions.plan import Plan

SHOWN = 5


class Row(NamedTuple):
    """One row of the answer before it is written.

    Attributes:
        cell: the spelled mask.
        cls: index of its class.
        confidence: mean probability inside it, 0-1.
    """

    cell: str
    cls: int = 0
    confidence: float = 1.0


class Entry(NamedTuple):
    """One row of an answer that was read, each part as it is written there.

    Attributes:
        where: its place for messages, such as "line 3".
        confidence, number: "" where the file has none; the number among an image's objects.
    """

    where: str
    id: str
    cls: str
    cell: str
    confidence: str = ""
    number: str = ""


@dataclass
class Findings:
    """Problems by rule: errors the competition may refuse, warnings a person should look at."""

    errors: dict[str, list[str]] = field(default_factory=dict)
    warnings: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def error(self, rule: str, text: str) -> None:
        """Adds a line to an error's rule."""
        self.errors.setdefault(rule, []).append(text)

    def warn(self, rule: str, text: str) -> None:
        """Adds a line to a warning's rule."""
        self.warnings.setdefault(rule, []).append(text)

    def lines(self, which: str) -> list[str]:
        """The first lines of each rule of "errors" or "warnings", with a count of the rest."""
        out = []
        for rule, texts in getattr(self, which).items():
            out += [f"{rule}: {text}" for text in texts[:SHOWN]]
            if len(texts) > SHOWN:
                out.append(f"{rule}: and {len(texts) - SHOWN} more")
        return out


class AnswerFile(ABC):
    """A kind of file that holds an answer."""

    # Of the file under output/<RUN>/.
    name: ClassVar[str]
    # Whether an image without any object has a row that says so.
    tells_empty: ClassVar[bool] = True
    # Whether rows have the sample's order.
    ordered: ClassVar[bool] = True

    @abstractmethod
    def assemble(self, path: Path, plan: Plan, rows_of: Callable[[str], list[Row]]) -> int:
        """Writes the answer whole or not at all; returns its rows.

        Args:
            path: of the file.
            plan: which images, rows and ids.
            rows_of: the rows of an image.
        """

    @abstractmethod
    def entries(self, path: Path, plan: Plan, found: Findings) -> Iterator[Entry]:
        """The rows of an answer, in its order; what is no row is told to `found`.

        Raises:
            UserError: it cannot be read at all.
        """
