"""What is wrong with a submission file, row by row, without painting a mask."""

import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from competition.tables import image_id
from core.errors import UserError, nearest
from imaging.rle import Size
from submissions.answer_format import AnswerFormat, CellError, Sampled
from submissions.plan import Plan

SHOWN = 5
SAMPLED = 12


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


@dataclass
class Population:
    """What the rows add up to.

    Attributes:
        rows: number of rows.
        empty: rows without foreground.
        pixels: foreground pixels by image; in images whose rows overlap they count twice.
        sample: some telling cells, for a look at their shape.
    """

    rows: int = 0
    empty: int = 0
    pixels: dict[str, int] = field(default_factory=dict)
    sample: list[Sampled] = field(default_factory=list)


class Linter:
    """Checks a file against the sample submission, the images' sizes and the format.

    Args:
        plan: what the sample submission asks for.
        form: how masks become rows.
        size_of: an image's (H, W), or None when its file is not here.
    """

    def __init__(self, plan: Plan, form: AnswerFormat, size_of: Callable[[str], Size | None]):
        self.plan, self.form, self.size_of = plan, form, size_of
        self.found = Findings()
        self.population = Population()
        self._first_text: str | None = None
        self._texts_differ = False
        self._empty_tokens: dict[str, int] = {}
        self._unsized = 0

    def check(self, path: Path) -> Findings:
        """All findings of a file.

        Raises:
            UserError: it cannot be read, or its columns are not the sample's: nothing else can be
                checked then.
        """
        seen: dict[tuple[str, str], int] = {}
        order: list[tuple[str, str]] = []
        group: tuple[str, list[tuple[int, np.ndarray, np.ndarray]]] = ("", [])
        cls = self.plan.columns.cls
        for line, cells in self._rows(path):
            key = (cells[self.plan.columns.id], cells[cls] if cls else "")
            if key[0] != group[0]:
                self._check_apart(*group)
                group = (key[0], [])
            if key not in seen:
                order.append(key)
            elif not self.form.takes_objects:
                self.found.error(
                    "duplicate",
                    f"line {line}: {self._told(key)} is in line "
                    f"{seen[key]} already: keep one of them",
                )
            elif order[-1] != key:
                self.found.error(
                    "apart",
                    f"line {line}: rows of {key[0]!r} are not together, "
                    f"the first is in line {seen[key]}: sort them",
                )
            seen.setdefault(key, line)
            runs = self._check_text(line, image_id(key[0]), cells[self.plan.columns.rle])
            if runs is not None:
                group[1].append((line, *runs))
        self._check_apart(*group)
        self._check_ids(order, seen)
        self._check_whole()
        return self.found

    def _rows(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        csv.field_size_limit(sys.maxsize)
        if not path.is_file():
            raise UserError(f"{path}: no such file: run src/ensemble.py, or name the file")
        with path.open(encoding="utf-8", newline="") as stream:
            try:
                reader = csv.reader(stream)
                self._check_header(path, next(reader, []))
                for cells in reader:
                    if len(cells) == len(self.plan.header):
                        yield reader.line_num, dict(zip(self.plan.header, cells, strict=True))
                        continue
                    self.found.error(
                        "cells",
                        f"line {reader.line_num}: has {len(cells)} cells, "
                        f"need {len(self.plan.header)}: a comma too many, or a row "
                        "cut off: write the file again",
                    )
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: is not UTF-8 text ({error}): save it as UTF-8") from None

    def _check_header(self, path: Path, header: list[str]) -> None:
        need = self.plan.header
        if header == need:
            return
        why = "need the sample's, in its order"
        if header and header[0].startswith("\ufeff"):
            why = "it begins with a byte-order mark: save it as plain UTF-8"
        elif header and header[0] == "":
            why = "the first column has no name: write it with index=False"
        elif len(header) == 1 and len(need) > 1:
            why = "cells must be separated by commas"
        raise UserError(f"{path}: columns are {header}, the sample has {need}: {why}")

    def _told(self, key: tuple[str, str]) -> str:
        return f"{key[0]!r}" + (f" class {key[1]!r}" if self.plan.columns.cls else "")

    def _check_text(self, line: int, img: str, text: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Checks one cell; its runs from 0, or None when they cannot be read."""
        self.population.rows += 1
        self.population.pixels.setdefault(img, 0)
        if self._first_text is None:
            self._first_text = text
        self._texts_differ |= text != self._first_text
        if self.form.is_empty(text):
            self.population.empty += 1
            self._empty_tokens.setdefault(text, line)
            return None
        size = self.size_of(img)
        self._unsized += size is None
        try:
            found = self.form.inspect(text, size)
        except CellError as error:
            self.found.error(error.rule, f"line {line}: {img}: {error.what}")
            return None
        self.population.pixels[img] += int(found.lengths.sum())
        for doubt in found.doubts:
            self.found.warn("identity", f"line {line}: {img}: {doubt}")
        if size and found.telling and len(self.population.sample) < SAMPLED:
            self.population.sample.append(Sampled(line, text, size))
        return found.starts, found.lengths

    def _check_apart(self, img: str, rows: list[tuple[int, np.ndarray, np.ndarray]]) -> None:
        """Rows of one image share no pixel, where objects or classes exclude each other."""
        if len(rows) < 2 or self.form.task == "multilabel":
            return
        starts = np.concatenate([starts for _, starts, _ in rows])
        ends = starts + np.concatenate([lengths for _, _, lengths in rows])
        owner = np.repeat([line for line, _, _ in rows], [len(starts) for _, starts, _ in rows])
        order = np.argsort(starts, kind="stable")
        clash = np.flatnonzero(ends[order][:-1] > starts[order][1:])
        if len(clash):
            one, two = sorted(int(owner[order[clash[0] + step]]) for step in (0, 1))
            self.found.error(
                "overlap",
                f"lines {one} and {two}: {img}: masks share pixels: give each pixel to one row",
            )

    def _check_ids(self, order: list[tuple[str, str]], seen: dict[tuple[str, str], int]) -> None:
        need = list(dict.fromkeys(self.plan.rows))
        known = set(need)
        missing = [key for key in need if key not in seen]
        for key in missing:
            self.found.error(
                "missing",
                f"{self._told(key)} is in the sample, not here: add its "
                "row, an empty one if nothing is there",
            )
        names = [key[0] for key in missing]
        for key in order:
            if key not in known:
                self.found.error(
                    "unknown",
                    f"line {seen[key]}: {self._told(key)} is not in the "
                    f"sample.{nearest(key[0], names)} Drop it or mend it",
                )
        common = [key for key in order if key in known]
        if not missing and common != need:
            at = next(at for at, key in enumerate(need) if common[at] != key)
            self.found.warn(
                "order",
                f"line {seen[common[at]]}: {self._told(common[at])}, the "
                f"sample has {self._told(need[at])} there: sort it so",
            )

    def _check_whole(self) -> None:
        for token, line in self._empty_tokens.items():
            if token != self.form.empty:
                self.found.error(
                    "empty",
                    f"line {line}: an empty mask is {token!r}, this "
                    f"competition wants {self.form.empty!r}: set RLE_EMPTY, or write "
                    "it so",
                )
        rows = self.population.rows
        if rows > 1 and not self._texts_differ:
            self.found.warn("constant", f"all {rows} rows hold the same mask: is this the sample?")
        if rows > 1 and self.population.empty == rows:
            self.found.warn("constant", "every mask is empty")
        if self._unsized:
            self.found.notes.append(
                f"{self._unsized} rows: their image is not here, bounds and order are not checked"
            )
        sample = self.population.sample
        error = self.form.check_sample(sample) if sample else None
        if error:
            self.found.error(*error)
        if not sample and self.form.untold:
            self.found.notes.append(self.form.untold)
