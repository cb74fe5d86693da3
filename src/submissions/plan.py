"""What the sample submission asks for: its columns, rows, images and classes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from competition.spec import Competition
from competition.tables import Rows, SampleColumns, image_id, train_table
from core.errors import nearest, raise_all
from core.gates import is_whole_number
from submissions.row_ids import RowIds
from submissions.sample import (
    Counter,
    Sample,
    class_labels,
    class_numbers,
    trained_classes,
    trained_columns,
)


@dataclass(frozen=True)
class Plan:
    """What the sample submission asks for.

    Attributes:
        kind: what a row stands for: image, class (of an image) or instance.
        columns: names of the id, class (or None) and mask columns.
        confidence: name of the column of confidences, if there is one.
        header: all columns in their order.
        rows: (id as written, cell of the class column or "") of each row.
        classes: class of each row, of its column or its id (x.jpg_3); "" where there is none.
        images: image ids in the order of their first row.
        rows_of: row numbers of each image.
        class_of: class index of each class text.
        labels: the text of each class.
        extras: cells of the columns that are none of these, which a submission repeats.
        ids: how ids are made, where not as in `rows`.
        listed: whether the answer has these rows; else an image has as many as objects.
        counter: the column that numbers an image's objects, where rows are not listed.
        empty: the cell of an empty mask.
        numbers: what an image is called by COCO results, by its id in `rows`; none: as in `rows`.
    """

    kind: Rows
    columns: SampleColumns
    confidence: str | None
    header: list[str]
    rows: list[tuple[str, str]]
    classes: list[str]
    images: list[str]
    rows_of: dict[str, list[int]]
    class_of: dict[str, int]
    labels: tuple[str, ...]
    extras: dict[str, list[str]]
    ids: RowIds
    listed: bool = True
    counter: Counter | None = None
    empty: str = ""
    numbers: Mapping[str, int | str] = field(default_factory=dict)

    @cached_property
    def numbered(self) -> bool:
        """Whether all ids are whole numbers."""
        return all(is_whole_number(text) for text, _ in self.rows)

    @property
    def wanted(self) -> list[int]:
        """Classes that have rows, where rows stand for classes."""
        return sorted({self.class_of[text] for text in self.classes if text in self.class_of})


def build_plan(
    sample: Sample, kind: Rows, competition: Competition, images: Mapping[str, Path] | None = None
) -> Plan:
    """The plan of a sample whose rows are of this kind.

    Args:
        sample: one without rows gets one an image; one row an image, where each class has its
            own, becomes so many.
        kind: what a row stands for.
        competition: gives classes and ids.
        images: the test images by id, where they are here.

    Raises:
        UserError: classes outside 0 to K-1.
    """
    texts = [*sample.classes, *(text for _, text in sample.rows), *trained_classes(competition)]
    labels = class_labels(competition, [text for text in texts if text])
    ids = RowIds(competition.answer_id, labels)
    rows = sample.rows or [(text, "") for text in _made_ids(competition, images or {})]
    classes = sample.classes or [text for _, text in rows]
    extras = {name: cells or [""] * len(rows) for name, cells in sample.extras.items()}
    listed = len(rows) > len({ids.image(text) for text, _ in rows}) or not sample.has_classes
    if kind == "class" and not listed:
        if not trained_classes(competition):
            _known_classes(competition, sorted({*classes} - {""}))
        wanted = _classes_with_rows(competition, labels)
        texts = wanted if sample.columns.cls else [""] * len(wanted)
        extras = {name: [c for c in cells for _ in wanted] for name, cells in extras.items()}
        classes = wanted * len(rows)
        rows = [
            (ids.write(text, "" if sample.columns.cls else cls), in_column)
            for text, _ in rows
            for cls, in_column in zip(wanted, texts, strict=True)
        ]
    elif ids.template and kind != "instance" and not (ids.has_class and sample.classes):
        rows = [(ids.write(text, text_cls), text_cls) for text, text_cls in rows]
    class_of = {text: at for at, text in enumerate(labels)} if sample.has_classes else {}
    if kind == "class":
        class_of = _known_classes(competition, sorted(set(classes)))
    rows_of: dict[str, list[int]] = {}
    for at, (text, _) in enumerate(rows):
        rows_of.setdefault(ids.image(text), []).append(at)
    return Plan(
        kind=kind,
        columns=sample.columns,
        confidence=sample.confidence,
        header=sample.header,
        rows=rows,
        classes=classes,
        images=list(rows_of),
        rows_of=rows_of,
        class_of=class_of,
        labels=labels,
        extras=extras,
        ids=ids,
        listed=kind != "instance",
        numbers=sample.numbers,
        counter=sample.counter if kind == "instance" else None,
    )


def _made_ids(competition: Competition, images: Mapping[str, Path]) -> list[str]:
    """Ids of the images as TRAIN_CSV writes them, with the file's suffix or without."""
    columns = trained_columns(competition)
    written = train_table(competition)[0][columns.id].head(1).tolist() if columns else []
    with_suffix = any(
        image_id(text) + Path(text).suffix == text for text in written if Path(text).suffix
    )
    return [path.name if with_suffix else img for img, path in images.items()]


def _classes_with_rows(competition: Competition, labels: Sequence[str]) -> list[str]:
    """Classes that an image has rows of: those of TRAIN_CSV, else all but the background."""
    known = set(class_numbers(competition, trained_classes(competition)).values())
    first = 1 if competition.task == "multiclass" else 0
    return [labels[k] for k in (sorted(known) or range(first, len(labels)))]


def _known_classes(competition: Competition, texts: Sequence[str]) -> dict[str, int]:
    found = class_numbers(competition, texts)
    problems = [
        f"class {text!r}: need a number from CLASS_BASE={competition.class_base} on, or a name of "
        f"CLASS_NAMES.{nearest(text, competition.class_names)}"
        for text in texts
        if text not in found
    ]
    raise_all(problems, f"{competition.test_csv.name}: classes that TASK and CLASSES do not know:")
    return found


def match_images(plan: Plan, found: Iterable[str], folder: Path, *, shared: bool = False) -> None:
    """Makes sure that the sample's ids are the ids of the files.

    Args:
        plan: of the sample.
        found: ids of the files.
        folder: of the files.
        shared: the folder holds training images, too.

    Raises:
        UserError: lists ids without a file and files without a row.
    """
    wanted, there = set(plan.images), set(found)
    problems = [f"{img}: in the sample, no image" for img in plan.images if img not in there]
    if not shared:
        problems += [f"{img}: an image, not in the sample" for img in sorted(there - wanted)]
    raise_all(problems, f"the sample submission and {folder} do not hold the same images:")
