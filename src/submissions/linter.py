"""What is wrong with an answer, row by row, without painting a mask."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from core.errors import UserError, nearest
from core.gates import decimal_number, is_whole_number
from core.quantities import counted
from imaging.rle import Size
from submissions.answer import Answer
from submissions.answer_files import Entry, Findings
from submissions.answer_format import CellError, CellFinding, Sampled

SAMPLED = 12
# Pixels of an image whose cells are painted to look at their outlines.
PAINTED = 1 << 26
# Id and class of a row.
Key = tuple[str, str]


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


# Of fewer masks, those of a weak network, most may look cut by chance.
FEW = 5


class Linter:
    """Checks a file against the sample submission, the images' sizes and the format.

    Args:
        answer: what the sample asks for.
        size_of: an image's (H, W), or None when its file is not here.
        shapes: whether odd outlines tell of another pixel order or size; where this project has
            written the masks, they tell of a network that is noise.
    """

    def __init__(
        self, answer: Answer, size_of: Callable[[str], Size | None], *, shapes: bool = True
    ):
        self.answer, self.plan, self.form = answer, answer.plan, answer.form
        self.shapes = shapes
        self.native_size = size_of
        self.path = Path()
        self.found = Findings()
        self.population = Population()
        self._first_text: str | None = None
        self._texts_differ = False
        self._empty_tokens: dict[str, str] = {}
        self._numbers: dict[tuple[str, str], str] = {}
        self._unsized = 0

    def size_of(self, img: str) -> Size | None:
        """(H, W) of an image's masks in the answer, None when its file is not here."""
        size = self.native_size(img)
        return None if size is None else self.answer.size_of(size)

    def check(self, path: Path) -> Findings:
        """All findings of a file.

        Raises:
            UserError: it cannot be read, or its columns are not the sample's: nothing else can be
                checked then.
        """
        self.path = path
        seen: dict[Key, str] = {}
        order: list[Key] = []
        group: tuple[str, list[tuple[str, CellFinding]]] = ("", [])
        for entry in self.form.file().entries(path, self.plan, self.found):
            key, img = self._key(entry), self.plan.ids.image(entry.id)
            if img != group[0]:
                self._check_apart(*group)
                group = (img, [])
            if key not in seen:
                order.append(key)
            elif self.plan.listed or self.plan.ids.counts:
                self.found.error(
                    "duplicate",
                    f"{entry.where}: {self._told(key)} is in {seen[key]} already: keep one of them",
                )
            elif order[-1] != key and self.form.file.tells_empty:
                self.found.error(
                    "apart",
                    f"{entry.where}: rows of {key[0]!r} are not together, "
                    f"the first is in {seen[key]}: sort them",
                )
            seen.setdefault(key, entry.where)
            self._check_names(entry)
            self._check_number(entry, img)
            finding = self._check_text(entry.where, img, entry.cell)
            if finding is not None:
                group[1].append((entry.where, finding))
        self._check_apart(*group)
        self._check_ids(order, seen)
        self._check_whole()
        return self.found

    def _key(self, entry: Entry) -> Key:
        return entry.id, entry.cls if self.plan.listed else ""

    def _told(self, key: Key) -> str:
        return f"{key[0]!r}" + (f" class {key[1]!r}" if key[1] else "")

    def _check_names(self, entry: Entry) -> None:
        """The id's form, class and confidence of a row whose id is not one of the sample's."""
        if not self.plan.ids.fits(entry.id):
            self.found.error(
                "id form",
                f"{entry.where}: {entry.id!r}: need an id like {self.plan.ids.template}",
            )
        filled = not self.form.is_empty(entry.cell)
        classed = entry.cls or (filled and self.plan.columns.cls)
        if classed and not self.plan.listed and entry.cls not in self.plan.labels:
            self.found.error(
                "class",
                f"{entry.where}: class {entry.cls!r}: need one of "
                f"{', '.join(self.plan.labels[:20])}.{nearest(entry.cls, self.plan.labels)}",
            )
        sure = entry.confidence or (filled and self.plan.confidence)
        if sure and not _is_share(entry.confidence):
            self.found.error(
                "confidence",
                f"{entry.where}: confidence is {entry.confidence!r}, need a number from 0 to 1",
            )

    def _check_number(self, entry: Entry, img: str) -> None:
        """The number among an image's objects: a whole one, and each once."""
        if self.plan.counter is None:
            return
        where = self._numbers.setdefault((img, entry.number), entry.where)
        if where != entry.where or not is_whole_number(entry.number):
            self.found.error(
                "number",
                f"{entry.where}: {img}: {self.plan.counter.name} is {entry.number!r}, need another "
                "whole number for each object of an image",
            )

    def _check_text(self, where: str, img: str, text: str) -> CellFinding | None:
        """Checks one cell; what it holds, or None when it is empty or cannot be read."""
        self.population.rows += 1
        self.population.pixels.setdefault(img, 0)
        if self._first_text is None:
            self._first_text = text
        self._texts_differ |= text != self._first_text
        if self.form.is_empty(text):
            self.population.empty += 1
            self._empty_tokens.setdefault(text, where)
            return None
        size = self.size_of(img)
        self._unsized += size is None
        try:
            found = self.form.at(img, size).inspect(text, size)
        except UserError as error:
            rule, what = "syntax", str(error)
            if isinstance(error, CellError):
                rule, what = error.rule, error.what
            self.found.error(rule, f"{where}: {img}: {what}")
            return None
        self.population.pixels[img] += found.pixels
        for doubt in found.doubts:
            self.found.warn("identity", f"{where}: {img}: {doubt}")
        small = size is not None and size[0] * size[1] <= PAINTED
        if (
            self.shapes
            and size
            and small
            and found.telling
            and len(self.population.sample) < SAMPLED
        ):
            self.population.sample.append(Sampled(where, text, size))
        return found

    def _check_apart(self, img: str, rows: list[tuple[str, CellFinding]]) -> None:
        """Rows of one image share no pixel, where objects or classes exclude each other."""
        if len(rows) < 2 or self.answer.task == "multilabel" or self.form.overlaps:
            return
        starts = np.concatenate([found.starts for _, found in rows])
        ends = starts + np.concatenate([found.lengths for _, found in rows])
        owner = np.repeat(np.arange(len(rows)), [len(found.starts) for _, found in rows])
        order = np.argsort(starts, kind="stable")
        clash = np.flatnonzero(ends[order][:-1] > starts[order][1:])
        if len(clash):
            one, two = sorted(int(owner[order[clash[0] + step]]) for step in (0, 1))
            self.found.error(
                "overlap",
                f"{rows[one][0]} and {rows[two][0]}: {img}: masks share pixels: give each pixel to "
                "one row",
            )

    def _check_ids(self, order: list[Key], seen: dict[Key, str]) -> None:
        if self.plan.ids.counts or not self.form.file.tells_empty:
            return self._check_images(seen)
        need = list(
            dict.fromkeys((text, cls if self.plan.listed else "") for text, cls in self.plan.rows)
        )
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
                    f"{seen[key]}: {self._told(key)} is not in the "
                    f"sample.{nearest(key[0], names)} Drop it or mend it",
                )
        common = [key for key in order if key in known]
        if not missing and common != need and self.form.file.ordered:
            at = next(at for at, key in enumerate(need) if common[at] != key)
            self.found.warn(
                "order",
                f"{seen[common[at]]}: {self._told(common[at])}, the "
                f"sample has {self._told(need[at])} there: sort it so",
            )
        return None

    def _check_images(self, seen: dict[Key, str]) -> None:
        """Every row is of a test image, where images without objects have none."""
        known = set(self.plan.images)
        self.population.pixels = dict.fromkeys(self.plan.images, 0) | self.population.pixels
        for (text, _), where in seen.items():
            if self.plan.ids.image(text) not in known:
                self.found.error(
                    "unknown",
                    f"{where}: {text!r} is of no test image.{nearest(text, known)} Drop it or "
                    "mend it",
                )

    def _check_whole(self) -> None:
        for token, where in self._empty_tokens.items():
            if token != self.form.empty:
                self.found.error(
                    "empty",
                    f"{where}: an empty mask is {token!r}, this "
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
                f"{counted(self._unsized, 'row')}: {'its' if self._unsized == 1 else 'their'} "
                "image is not here or cannot be read, bounds and order are not checked"
            )
        sample = self.population.sample
        error = self.form.check_sample(sample) if sample else None
        if error and error[0] == "size" and len(sample) < FEW:
            self.found.warn(*error)
        elif error:
            self.found.error(*error)
        if self.shapes and self.form.untold and all(one.size[0] == one.size[1] for one in sample):
            self.found.notes.append(self.form.untold)


def _is_share(text: str) -> bool:
    try:
        return 0 <= decimal_number(text) <= 1
    except ValueError:
        return False
