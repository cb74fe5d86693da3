"""Answer formats: SUBMISSIONS, a class a format, and which of them a sample submission asks for."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from competition.spec import Competition
from competition.table_files import AUTO
from competition.tables import RLE_NAME, Rows, empty_tokens
from core.errors import UserError
from core.quantities import counted
from core.rows import pick
from imaging.rle import Size, is_empty_rle
from submissions.answer_format import AnswerFormat
from submissions.mask_archive import MaskFiles
from submissions.packed_counts import Counts, Packed
from submissions.polygons import Wkt
from submissions.results_file import CocoResults
from submissions.row_ids import row_ids
from submissions.run_lengths import RunLengths, RunLists
from submissions.run_values import CountsDictionary, RunList, RunPairs
from submissions.sample import Sample, trained_by_objects, trained_cells

# The values of SUBMISSION beside auto.
SUBMISSIONS: dict[str, type[AnswerFormat]] = {
    "rle": RunLengths,
    "lists": RunLists,
    "list": RunList,
    "pairs": RunPairs,
    "dictionary": CountsDictionary,
    "counts": Counts,
    "packed": Packed,
    "wkt": Wkt,
    "coco": CocoResults,
    "files": MaskFiles,
}
# How masks are spelled where no sample shows it.
SPELLED = {
    "rle": "start length start length",
    "lists": "[start, length, ...];[...], a list an object",
    "list": "[start, length, ...]",
}
SizeOf = Callable[[str], Size | None]
SHOWN, LOOKED_AT = 60, 200


def choose_format(competition: Competition, sample: Sample, size_of: SizeOf) -> str:
    """The row of SUBMISSIONS: as asked, else the one that all filled cells of the sample are of.

    Where no cell is filled those of TRAIN_CSV tell, or a column named like run lengths.

    Args:
        competition: its SUBMISSION.
        sample: of the competition.
        size_of: (H, W) of the answer for an image, None where the image is not here.

    Raises:
        UserError: the sample's cells are of another format, of none, of several, or tell nothing.
    """
    filled = _filled(sample, size_of)
    if competition.submission != AUTO:
        _check_asked(competition, filled)
        return competition.submission
    if competition.test_csv.suffix.lower() == ".json" and sample.shipped:
        return "coco"
    names = _names_that_fit(filled or _trained(competition))
    if names == ["lists", "list"]:
        # A list of one object looks like one mask: it is that where TRAIN_CSV's cells are.
        names = ["list" if "list" in _names_that_fit(_trained(competition)) else "lists"]
    if not names and not filled:
        names = [name for name, form in SUBMISSIONS.items() if any(map(form.owns, sample.cells))]
    if not names and not filled and sample.shipped and RLE_NAME.search(sample.columns.rle):
        return "rle"
    if len(names) == 1:
        return names[0]
    name, known = competition.test_csv.name, ", ".join(SUBMISSIONS)
    if filled and not names:
        odd = [cell for cell in filled if not _names_that_fit([cell])] or filled
        raise UserError(
            f"{name}: {odd[0].told} is of no known format ({known}). Set SUBMISSION; a format of "
            "your own is a row of SUBMISSIONS in a recipe, docs/house.md"
        )
    why = f"may be {' or '.join(names)}" if names else "shows no mask, nor does TRAIN_CSV"
    if not sample.shipped:
        name = f"no sample submission {name}, and TRAIN_CSV shows no mask"
        raise UserError(
            f"{name}: how masks are to be spelled is not known. Set SUBMISSION to one of {known}: "
            "see the competition's page"
        )
    shown = ", ".join(f"{name} ({spelled})" for name, spelled in SPELLED.items())
    raise UserError(
        f"{name}: column {sample.columns.rle!r} {why}: how masks are to be spelled is not known. "
        f"Set SUBMISSION as the competition's page spells a mask: {shown}; or {known}"
    )


def _check_asked(competition: Competition, filled: Sequence["Filled"]) -> None:
    """Makes sure that the sample's cells are of the format that is asked for."""
    asked = competition.submission
    form = pick(SUBMISSIONS, asked, "SUBMISSION")
    odd = [one for one in filled if not form.fits(one.cell, one.size)]
    if odd and form.known_by_cells:
        told = " or ".join(_names_that_fit(odd[:1])) or "of no known format"
        raise UserError(
            f"SUBMISSION={asked}, but {odd[0].told} of {competition.test_csv.name} is {told}: set "
            "SUBMISSION to what the competition wants, or auto"
        )


class Filled(NamedTuple):
    """A cell that shows a mask; size is its answer's (H, W), None where that is not known."""

    line: int
    cell: str
    size: Size | None

    @property
    def told(self) -> str:
        """Line and cell, for messages."""
        cell = self.cell if len(self.cell) <= SHOWN else f"{self.cell[:SHOWN]}..."
        return f"line {self.line}, {cell!r},"


def _trained(competition: Competition) -> list[Filled]:
    cells = trained_cells(competition)
    filled = [Filled(at + 2, cell, None) for at, cell in enumerate(cells) if not _is_token(cell)]
    return filled[:LOOKED_AT]


def _filled(sample: Sample, size_of: SizeOf) -> list[Filled]:
    """The sample's cells that are no empty tokens, each text once."""
    first: dict[str, int] = {}
    for at, cell in enumerate(sample.cells):
        first.setdefault(cell, at)
    return [
        Filled(at + 2, cell, size_of(sample.rows[at][0]))
        for cell, at in first.items()
        if not _is_token(cell)
    ]


def _names_that_fit(cells: Sequence[Filled]) -> list[str]:
    return [
        name
        for name, form in SUBMISSIONS.items()
        if cells and form.known_by_cells and all(form.fits(one.cell, one.size) for one in cells)
    ]


def _is_token(cell: str) -> bool:
    """Whether a cell says that there is no mask: a known word, or one of letters alone."""
    text = cell.strip()
    return is_empty_rle(text) or (len(text) <= SHOWN and text.replace(" ", "").isalpha())


def choose_empty(
    competition: Competition, sample: Sample, form: type[AnswerFormat]
) -> tuple[str, str]:
    """The cell of an empty mask, and a note where nothing shows it.

    Raises:
        UserError: the sample, or TRAIN_CSV, writes it in several ways.
    """
    if competition.rle_empty != AUTO:
        return competition.rle_empty, ""
    name = competition.test_csv.name
    shown = [
        cell
        for cell in dict.fromkeys(sample.cells)
        if is_empty_rle(cell) or (_is_token(cell) and not form.fits(cell, None))
    ]
    if not shown:
        import pandas as pd

        cells, name = trained_cells(competition), competition.train_csv.name
        shown = empty_tokens(pd.Series(cells, dtype=object)) if cells else []
        shown += [cell for cell in dict.fromkeys(cells) if _is_token(cell) and cell not in shown]
    if len(shown) > 1:
        told = ", ".join(map(repr, shown[:5]))
        raise UserError(
            f"{name}: an empty mask is written as {told}: set RLE_EMPTY to the one that the "
            "competition wants"
        )
    if shown:
        return shown[0], ""
    if form.spells_empty(sample.cells):
        return form.usual_empty, ""
    if not form.writes_empty and form.file.tells_empty:
        return form.usual_empty, (
            f"neither {competition.test_csv.name} nor {competition.train_csv.name} shows an empty "
            f"mask: it is written as {form.usual_empty!r}; else set RLE_EMPTY"
        )
    return form.usual_empty, ""


def choose_rows(competition: Competition, sample: Sample, form: type[AnswerFormat]) -> Rows:
    """What a row stands for: as asked; else as the sample has it, and objects where TRAIN_CSV has.

    Raises:
        UserError: the sample's shape does not fit, or rows cannot tell the classes apart.
    """
    ids = row_ids(competition)
    several = len(sample.rows) > len({ids.image(text) for text, _ in sample.rows})
    kind = _row_kind(competition, sample, form, several=several, counted=ids.counts)
    foreground = competition.classes - (competition.task == "multiclass")
    if kind == "class" and not sample.has_classes:
        raise UserError(
            "SUBMISSION_ROWS=class, but the sample has no class column: set CLASS_COLUMN"
        )
    if kind == "image" and several:
        images = len({ids.image(text) for text, _ in sample.rows})
        raise UserError(
            f"SUBMISSION_ROWS=image, but the sample has {len(sample.rows)} rows for "
            f"{counted(images, 'image')}: set SUBMISSION_ROWS to class or instance"
        )
    tells = form.names_classes or kind == "class" or (kind == "instance" and sample.has_classes)
    if foreground > 1 and not tells:
        raise UserError(
            f"SUBMISSION_ROWS={kind} has room for one class, the networks know {foreground} "
            "beside the background: set CLASS_COLUMN, or train on TASK=binary"
        )
    return kind


def _row_kind(
    competition: Competition,
    sample: Sample,
    form: type[AnswerFormat],
    *,
    several: bool,
    counted: bool,
) -> Rows:
    if not form.file.tells_empty:
        return "instance"
    if form.writes_empty:
        return "image"
    if competition.submission_rows != "auto":
        return competition.submission_rows
    if counted or sample.counter:
        return "instance"
    if several:
        if sample.has_classes and len(set(_keys(sample))) == len(sample.rows):
            return "class"
        return "instance" if trained_by_objects(competition) else "image"
    if form.joins:
        return "image"
    if trained_by_objects(competition):
        return "instance"
    return "class" if sample.has_classes else "image"


def _keys(sample: Sample) -> list[tuple[str, str]]:
    """(id, class) of each row."""
    if not sample.classes:
        return sample.rows
    return [(text, cls) for (text, _), cls in zip(sample.rows, sample.classes, strict=True)]
