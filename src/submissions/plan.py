"""What the sample submission asks for: its columns, rows, images and classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from competition.spec import Competition
from competition.tables import SampleColumns, image_id, joined_classes, read_sample
from core.errors import nearest, raise_all


@dataclass(frozen=True)
class Plan:
    """What the sample submission asks for.

    Attributes:
        columns: names of the id, class (or None) and run-length columns.
        header: all columns in their order.
        rows: (id as written, cell of the class column or "") of each row.
        classes: class of each row, of its column or its id (x.jpg_3); "" where there is none.
        images: image ids in the order of their first row.
        rows_of: row numbers of each image.
        class_of: class index of each class text.
        extras: cells of the columns that are none of the three, which a submission repeats.
    """

    columns: SampleColumns
    header: list[str]
    rows: list[tuple[str, str]]
    classes: list[str]
    images: list[str]
    rows_of: dict[str, list[int]]
    class_of: dict[str, int]
    extras: dict[str, list[str]]


def read_plan(competition: Competition) -> Plan:
    """The plan of TEST_CSV.

    Raises:
        UserError: no such file, columns that are missing, classes outside 0 to K-1.
    """
    table, columns = read_sample(competition)
    ids = table[columns.id].tolist()
    texts = table[columns.cls].tolist() if columns.cls else [""] * len(ids)
    joined = None if columns.cls else joined_classes(table[columns.id])
    classes = joined or texts
    rows_of: dict[str, list[int]] = {}
    for at, text in enumerate(ids):
        rows_of.setdefault(image_id(text), []).append(at)
    known = columns.cls or joined
    class_of = _class_indices(competition, sorted(set(classes))) if known else {}
    header = [str(name) for name in table.columns]
    rows = list(zip(ids, texts, strict=True))
    extras = {name: table[name].tolist() for name in header if name not in columns}
    return Plan(columns, header, rows, classes, list(rows_of), rows_of, class_of, extras)


def _class_indices(competition: Competition, texts: Sequence[str]) -> dict[str, int]:
    names = {name: at for at, name in enumerate(competition.class_names)}
    found = {
        text: names[text] if text in names else int(text) - competition.class_base
        for text in texts
        if text in names or text.lstrip("-").isdigit()
    }
    problems = [
        f"class {text!r}: need a number from CLASS_BASE={competition.class_base} on, or a name of "
        f"CLASS_NAMES.{nearest(text, names)}"
        for text in texts
        if not 0 <= found.get(text, -1) < competition.classes
    ]
    raise_all(problems, f"{competition.test_csv.name}: classes that TASK and CLASSES do not know:")
    return found


def match_images(plan: Plan, found: Iterable[str], folder: Path) -> None:
    """Makes sure that the sample's ids are the ids of the files.

    Raises:
        UserError: lists ids without a file and files without a row.
    """
    wanted, there = set(plan.images), set(found)
    problems = [f"{img}: in the sample, no image" for img in plan.images if img not in there]
    problems += [f"{img}: an image, not in the sample" for img in sorted(there - wanted)]
    raise_all(problems, f"the sample submission and {folder} do not hold the same images:")
