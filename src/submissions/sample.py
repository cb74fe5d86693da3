"""The sample submission as it lies there, and what the training table adds where it is silent."""

from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from competition.masks import mask_format
from competition.spec import Competition
from competition.table_files import AUTO, read_table
from competition.tables import (
    CONFIDENCE_NAME,
    COUNTER_NAME,
    Columns,
    SampleColumns,
    class_number,
    image_id,
    joined_classes,
    read_sample_table,
    sample_columns,
    table_rows,
    train_table,
)
from core.errors import UserError, raise_all
from core.gates import is_whole_number, json_value
from submissions.row_ids import RowIds, row_ids

if TYPE_CHECKING:
    import pandas as pd


class Counter(NamedTuple):
    """A column that numbers the objects of an image, as SpaceNet's BuildingId.

    Attributes:
        name: of the column.
        first: number of an image's first object.
        none: what stands there for an image without objects.
    """

    name: str
    first: int = 1
    none: str = "-1"


@dataclass(frozen=True)
class Sample:
    """A sample submission.

    Attributes:
        columns: names of the id, class (or None) and mask columns.
        header: all columns in their order.
        rows: (id as written, cell of the class column or "") of each row; none where it is a
            header alone, or made up because the competition ships none.
        classes: class of each row where its ids hold it (x.jpg_3), else none.
        cells: of the mask column.
        confidence: name of the column of confidences, if there is one.
        counter: the column that numbers an image's objects, if there is one.
        extras: cells of the columns that are neither id, class, mask nor confidence.
        numbers: of a COCO file that lists the test images the id of each, by its file's name.
        has_classes: whether rows tell classes apart.
        shipped: whether there is such a file.
    """

    columns: SampleColumns
    header: list[str]
    rows: list[tuple[str, str]] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    confidence: str | None = None
    counter: Counter | None = None
    extras: dict[str, list[str]] = field(default_factory=dict)
    numbers: dict[str, int | str] = field(default_factory=dict)
    has_classes: bool = False
    shipped: bool = True

    def without_rows(self) -> "Sample":
        """A header alone; the cells stay, as they show how masks are spelled."""
        extras = {name: list[str]() for name in self.extras}
        return replace(self, rows=[], classes=[], extras=extras)


def read_sample(competition: Competition, *, lists_alone: bool = False) -> Sample:
    """TEST_CSV, or what an answer of this competition looks like where it ships none.

    Args:
        competition: the configuration's.
        lists_alone: a list of the images will do, as of an answer that is no table.

    Raises:
        UserError: somebody named a file that is not there, or columns are missing.
    """
    path, joined_by_knob = competition.test_csv, "{class}" in competition.answer_id
    if not path.exists() and not competition.sample_chosen:
        columns = _made_columns(competition)
        header = [name for name in (columns.id, columns.cls, columns.rle) if name]
        has_classes = columns.cls is not None or joined_by_knob
        return Sample(columns, header, has_classes=has_classes, shipped=False)
    if path.suffix.lower() == ".json":
        return _read_json_sample(path)
    table = read_sample_table(competition)
    if lists_alone and len(table.columns) == 1:
        columns = SampleColumns(str(table.columns[0]), "mask", None)
        rows = [(text, "") for text in table[columns.id]]
        return Sample(columns, [columns.id, columns.rle], rows, cells=[""] * len(rows))
    knobs = ("id_column", "rle_column", "class_column")
    named = {knob: _of_sample(getattr(competition, knob), table, competition) for knob in knobs}
    columns = sample_columns(table, **named, name=path.name)
    header = [str(name) for name in table.columns]
    ids = table[columns.id].tolist()
    texts = table[columns.cls].tolist() if columns.cls else [""] * len(ids)
    joined = None if columns.cls or not ids else joined_classes(table[columns.id])
    if joined is None and joined_by_knob and not columns.cls:
        rules = row_ids(competition), RowIds(competition.answer_id)
        joined = [next(filter(None, (rule.cls(text) for rule in rules)), "") for text in ids]
    others = [name for name in header if name not in columns]
    confidence = next((name for name in others if CONFIDENCE_NAME.search(name)), None)
    return Sample(
        columns=columns,
        header=header,
        rows=list(zip(ids, texts, strict=True)),
        classes=joined or [],
        cells=table[columns.rle].tolist(),
        confidence=confidence,
        counter=_find_counter({name: table[name].tolist() for name in others}),
        extras={name: table[name].tolist() for name in others if name != confidence},
        has_classes=bool(columns.cls or joined or joined_by_knob),
    )


def _find_counter(columns: Mapping[str, list[str]]) -> Counter | None:
    """The column called so that holds whole numbers alone; one number stands for no object."""
    for name, cells in columns.items():
        if COUNTER_NAME.fullmatch(name) and all(map(is_whole_number, cells)):
            numbers = sorted({int(cell) for cell in cells})
            if len(numbers) == 1:
                return Counter(name, none=str(numbers[0]))
            real = [number for number in numbers if number >= 0]
            return Counter(name, first=min(real, default=1))
    return None


def _of_sample(column: str, table: "pd.DataFrame", competition: Competition) -> str:
    """A column's knob, auto where it names one of TRAIN_CSV that the sample lacks."""
    if column in table or "{" in column or not competition.train_csv.is_file():
        return column
    return AUTO if column in read_table(competition.train_csv) else column


def _made_columns(competition: Competition) -> SampleColumns:
    """Columns of the knobs, else those of TRAIN_CSV, else id and rle."""
    trained = trained_columns(competition)
    names = [
        knob if knob not in (AUTO, "") else name
        for knob, name in (
            (competition.id_column, trained.id if trained and trained.rle else "id"),
            (competition.rle_column, (trained and trained.rle) or "rle"),
            (competition.class_column, trained.cls if trained and trained.rle else None),
        )
    ]
    if competition.answer_id != AUTO and "{class}" in competition.answer_id:
        names[2] = None
    return SampleColumns(str(names[0]), str(names[1]), names[2])


def _read_json_sample(path: Path) -> Sample:
    """The image ids of COCO results, or of a COCO file that lists the test images.

    Raises:
        UserError: it is neither.
    """
    try:
        values = json_value(path.read_text(encoding="utf-8-sig"))
        found = values["images"] if isinstance(values, dict) else values
        key = "file_name" if isinstance(values, dict) else "image_id"
        ids = [str(one[key]) for one in found]
        given = [one["id"] for one in found if "id" in one and key == "file_name"]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: set TEST_CSV") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: no COCO results ({type(error).__name__}: {error}): need a list of image_id, "
            "category_id, segmentation, score, or a file with images"
        ) from None
    _check_numbers(path, given, len(ids))
    rows = [(text, "") for text in dict.fromkeys(ids)]
    columns = SampleColumns("image_id", "segmentation", None)
    numbers = dict(zip(ids, given, strict=True)) if given else {}
    header = ["image_id", "segmentation"]
    return Sample(columns, header, rows, cells=[""] * len(rows), numbers=numbers)


def _check_numbers(path: Path, given: Sequence[Any], count: int) -> None:
    """Makes sure that the ids of the images of a COCO file tell these apart.

    Raises:
        UserError: some images have an id and others not, or it is no number or text, or another's.
    """
    other = [number for number in given if type(number) not in (int, str)]
    twice = [] if other else [number for number, times in Counts(given).items() if times > 1]
    problems = [f"id {number!r}: need a whole number or a text" for number in other]
    problems += [f"id {number!r}: of more than one image" for number in twice]
    if given and len(given) < count:
        problems.append(f"{count - len(given)} of {count} images have no id")
    raise_all(problems, f"{path}: answers call images by their id, need one for each:")


def trained_columns(competition: Competition) -> Columns | None:
    """Which column of TRAIN_CSV is which; None without such a table."""
    if not competition.train_csv.is_file():
        return None
    return train_table(competition)[1]


def trained_cells(competition: Competition) -> list[str]:
    """Cells of TRAIN_CSV's masks as they are written there; none where it has no masks."""
    columns = trained_columns(competition)
    if columns is None or columns.rle is None:
        return []
    table = read_table(competition.train_csv, competition.id_column)
    return table[columns.rle].str.strip().tolist()


def trained_classes(competition: Competition) -> list[str]:
    """Different classes in TRAIN_CSV, as they are written there."""
    columns = trained_columns(competition)
    if columns is None or columns.cls is None or columns.rle is None:
        return []
    return list(dict.fromkeys(train_table(competition)[0][columns.cls]))


def trained_by_objects(competition: Competition) -> bool:
    """Whether the training masks come object by object: a row of TRAIN_CSV or a file each."""
    try:
        form = mask_format(competition)
    except UserError:
        return False  # a kernel may lack the training masks
    columns = trained_columns(competition)
    if form not in ("rle", "polygons") or columns is None or columns.rle is None:
        return form in ("instances", "labels")
    table, _ = train_table(competition)
    ids = table[columns.id].map(image_id)
    return table_rows(ids, table[columns.cls] if columns.cls else None) == "instance"


def class_labels(competition: Competition, known: Sequence[str]) -> tuple[str, ...]:
    """The text of each class: as known, else of CLASS_NAMES where those are names, else numbers.

    Args:
        known: texts of the sample and of TRAIN_CSV.
    """
    found = {at: text for text, at in class_numbers(competition, known).items()}
    names = competition.class_names
    named = bool(names) and (
        not found or any(class_number(text, names) is not None for text in found.values())
    )
    rest = names if named else [str(k + competition.class_base) for k in range(competition.classes)]
    return tuple(found.get(k, rest[k]) for k in range(competition.classes))


def class_numbers(competition: Competition, texts: Sequence[str]) -> dict[str, int]:
    """Class index of each text that is a class: a number from CLASS_BASE on, or of CLASS_NAMES.

    The one text of one class is that class, whatever it is.
    """
    if competition.classes == 1 and len(set(texts)) == 1:
        return {texts[0]: 0}
    named = {text: class_number(text, competition.class_names) for text in texts}
    found = {
        text: int(text) - competition.class_base if at is None else at
        for text, at in named.items()
        if at is not None or is_whole_number(text)
    }
    return {text: at for text, at in found.items() if 0 <= at < competition.classes}
