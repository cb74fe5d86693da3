"""COCO results: a JSON list, one entry an object, with its class and score."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from competition.coco_file import categories_of, is_coco
from competition.masks import mask_format
from competition.polygon_files import annotation_files, coco_files, documents_of
from competition.spec import Competition
from core.errors import UserError
from core.files import writing
from core.gates import is_whole_number, json_value, whole_number
from imaging.rle import Size
from submissions.answer_files import AnswerFile, Entry, Findings, Row
from submissions.answer_format import CellError, Frame, Item
from submissions.coco_counts import Runs, read_cell, runs_of
from submissions.packed_counts import Counts
from submissions.plan import Plan

FIELDS = ("image_id", "category_id", "segmentation", "score")


class ResultsFile(AnswerFile):
    """submission.json, as pycocotools' `loadRes` takes it."""

    name = "submission.json"
    tells_empty = False

    def assemble(self, path: Path, plan: Plan, rows_of: Callable[[str], list[Row]]) -> int:
        """Writes an entry an object; returns how many."""
        count = 0
        with writing(path) as part, part.open("w", encoding="utf-8") as stream:
            for img in plan.images:
                for row in rows_of(img):
                    stream.write(",\n" if count else "[")
                    stream.write(json.dumps(_entry(plan, img, row)))
                    count += 1
            stream.write("]\n" if count else "[]\n")
        return count

    def entries(self, path: Path, plan: Plan, found: Findings) -> Iterator[Entry]:
        """The entries of a list.

        Raises:
            UserError: no such file, or no JSON list.
        """
        try:
            values = json_value(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}: run src/ensemble.py") from None
        except ValueError as error:
            raise UserError(f"{path}: no JSON ({error}): need a list of results") from None
        if not isinstance(values, list):
            raise UserError(f"{path}: a {type(values).__name__}, need a list of results")
        names = {number: text for text, number in plan.numbers.items()}
        for n, entry in enumerate(values, 1):
            where = f"entry {n}"
            if not isinstance(entry, dict) or not set(FIELDS) <= entry.keys():
                found.error("cells", f"{where}: need {', '.join(FIELDS)}")
                continue
            img = entry["image_id"]
            text = names.get(img, str(img)) if isinstance(img, int | str) else str(img)
            need = image_number(plan, text)
            if type(img) is not type(need) and (text in plan.numbers or not names):
                found.error("id form", f"{where}: image_id is {img!r}, need {need!r}")
            yield Entry(
                where,
                text,
                str(entry["category_id"]),
                json.dumps(entry["segmentation"]),
                str(entry["score"]),
            )


def _entry(plan: Plan, img: str, row: Row) -> dict[str, Any]:
    text = plan.rows[plan.rows_of[img][0]][0]
    label = plan.labels[row.cls]
    return {
        "image_id": image_number(plan, text),
        "category_id": int(label) if is_whole_number(label) else row.cls,
        "segmentation": json_value(row.cell),
        "score": round(row.confidence, 4),
    }


def image_number(plan: Plan, text: str) -> int | str:
    """An image's id as COCO results hold it: the sample's, else a number where all of them are."""
    if text in plan.numbers:
        return plan.numbers[text]
    return int(text) if plan.numbered and is_whole_number(text) else text


def category_labels(competition: Competition, labels: Sequence[str]) -> tuple[str, ...]:
    """The category id of each class: of the COCO files of training masks, else numbers.

    Without such files one class is category 1, several are what CLASS_BASE makes of them.
    """
    documents = _trained_documents(competition)
    known = _named_categories(documents)
    used = categories_of(documents, competition) if documents else {}
    names: dict[str | None, Any] = {name: number for number, name in known}
    if competition.classes == 1:
        alone = known[0][0] if len(known) == 1 else 1
        wanted = next(iter(competition.class_names), None)
        return (str(used.get(0, names.get(wanted, alone))),)
    numbers = [k + competition.class_base for k in range(competition.classes)]
    called = zip(competition.class_names or labels, numbers, strict=True)
    found = [names.get(name, number) for name, number in called]
    return tuple(str(used.get(k, number)) for k, number in enumerate(found))


def _trained_documents(competition: Competition) -> list[tuple[Path, Any]]:
    """The COCO files of the training masks; none of other masks, or where they are not here."""
    try:
        form = mask_format(competition)
        of_outlines = coco_files if form == "coco" else annotation_files
        documents = documents_of(of_outlines(competition) if form in ("coco", "polygons") else [])
        first = next(documents, None)
        return [first, *documents] if first and is_coco(first[1]) else []
    except UserError:
        return []


def _named_categories(documents: Sequence[tuple[Path, Any]]) -> list[tuple[Any, str]]:
    """(id, name) of the categories that COCO files list."""
    found = []
    for path, data in documents:
        try:
            found += [(one["id"], one.get("name", "")) for one in data.get("categories", [])]
        except (KeyError, TypeError, AttributeError):
            told = "categories are not as COCO has them: id and name each"
            raise UserError(f"{path}: {told}") from None
    return list(dict.fromkeys(found))


@dataclass(frozen=True)
class CocoResults(Counts):
    """Entries of COCO results: {"size": [H, W], "counts": ...} each."""

    file: ClassVar[type[AnswerFile]] = ResultsFile
    known_by_cells: ClassVar[bool] = False
    names_classes: ClassVar[bool] = True
    tells_confidence: ClassVar[bool] = True
    overlaps: ClassVar[bool] = True

    def write(self, items: Sequence[Item], frame: Frame) -> str:
        """The counts of the one mask with their size."""
        return json.dumps({"size": list(frame.size), "counts": super().write(items, frame)})

    def is_empty(self, cell: str) -> bool:
        """Never: what is not there has no entry."""
        return False

    def runs(self, cell: str, size: Size) -> list[Runs]:
        """The runs of the one mask."""
        try:
            values = json_value(cell)
            told, counts = tuple(map(whole_number, values["size"])), str(values["counts"])
            height, width = told
        except (ValueError, KeyError, TypeError):
            need = 'need {"size": [H, W], "counts": "..."}'
            raise CellError("syntax", f"segmentation is {cell[:40]}: {need}") from None
        runs = runs_of(read_cell(counts), (height, width))
        if told != size and max(size) < 1 << 31:
            raise CellError("size", f"size is {list(told)}, the answer has {list(size)}")
        if not len(runs[0]):
            raise CellError("empty", "an empty mask: leave the entry out")
        return [runs]
