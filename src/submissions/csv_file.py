"""Answers in a CSV: the sample's columns, a cell a mask."""

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from core.errors import UserError
from core.files import writing
from submissions.answer_files import AnswerFile, Entry, Findings, Row
from submissions.plan import Plan


class CsvFile(AnswerFile):
    """submission.csv."""

    name = "submission.csv"

    def assemble(self, path: Path, plan: Plan, rows_of: Callable[[str], list[Row]]) -> int:
        """Writes the rows in the sample's order; returns how many."""
        count = 0
        with writing(path) as part, part.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(plan.header)
            for at, n, row in _placed(plan, rows_of):
                values = {name: cells[at] for name, cells in plan.extras.items()}
                values |= _told(plan, at, n, row)
                writer.writerow([values[name] for name in plan.header])
                count += 1
        return count

    def entries(self, path: Path, plan: Plan, found: Findings) -> Iterator[Entry]:
        """The lines of a CSV with the sample's columns.

        Raises:
            UserError: no such file, other columns, or no UTF-8.
        """
        csv.field_size_limit(sys.maxsize)
        if not path.is_file():
            raise UserError(f"{path}: no such file: run src/ensemble.py, or name the file")
        with path.open(encoding="utf-8", newline="") as stream:
            try:
                reader = csv.reader(stream)
                _check_header(path, next(reader, []), plan.header)
                for cells in reader:
                    line = reader.line_num
                    if len(cells) == len(plan.header):
                        yield _entry(line, dict(zip(plan.header, cells, strict=True)), plan)
                        continue
                    found.error(
                        "cells",
                        f"line {line}: has {len(cells)} cells, need {len(plan.header)}: a comma "
                        "too many, or a row cut off: write the file again",
                    )
            except UnicodeDecodeError as error:
                raise UserError(f"{path}: is not UTF-8 text ({error}): save it as UTF-8") from None


def _placed(plan: Plan, rows_of: Callable[[str], list[Row]]) -> Iterable[tuple[int, int, Row]]:
    """(row of the plan, number from 1 among the image's, what to write) of each row to write."""
    if not plan.listed:
        for img in plan.images:
            first = plan.rows_of[img][0]
            yield from ((first, n, row) for n, row in enumerate(rows_of(img), 1))
        return
    for at, (text, _) in enumerate(plan.rows):
        rows = rows_of(plan.ids.image(text))
        cls = plan.class_of[plan.classes[at]] if plan.kind == "class" else rows[0].cls
        yield at, 1, next(row for row in rows if row.cls == cls)


def _told(plan: Plan, at: int, n: int, row: Row) -> dict[str, str]:
    """Id, class, mask and confidence of a row by the names of their columns."""
    text, cls = plan.rows[at]
    label = plan.labels[row.cls]
    values = {plan.columns.id: text, plan.columns.rle: row.cell}
    if not plan.listed:
        values[plan.columns.id] = plan.ids.write(text, label if plan.ids.has_class else "", n)
    if plan.columns.cls:
        values[plan.columns.cls] = cls if plan.listed else label
    if plan.confidence:
        values[plan.confidence] = f"{row.confidence:.4f}"
    if counter := plan.counter:
        number = str(counter.first + n - 1)
        values[counter.name] = counter.none if row.cell == plan.empty else number
    return values


def _entry(line: int, cells: dict[str, str], plan: Plan) -> Entry:
    columns = plan.columns
    return Entry(
        f"line {line}",
        cells[columns.id],
        cells[columns.cls] if columns.cls else "",
        cells[columns.rle],
        cells[plan.confidence] if plan.confidence else "",
        cells[plan.counter.name] if plan.counter else "",
    )


def _check_header(path: Path, header: list[str], need: list[str]) -> None:
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
