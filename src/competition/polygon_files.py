"""Annotation files: COCO, or what drawing programs export, of all images or one each."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from competition.coco_file import coco_notes, is_coco, read_coco
from competition.drawings import DRAWINGS
from competition.drawn import Drawn, check_folders
from competition.label_classes import classes_of
from competition.listings import find_mask_names
from competition.outline_masks import Annotation, Entry, OutlineMasks
from competition.patterns import FilePattern
from competition.spec import Competition
from competition.table_files import AUTO, file_stamp
from competition.tables import image_id
from competition.text_drawings import is_prose, is_text, read_text
from competition.xml_drawings import XML_DRAWINGS, read_xml
from core.errors import UserError, nearest
from core.gates import is_whole_number, json_value

ANNOTATION_SUFFIXES = (".json", ".jsonl", ".ndjson", ".geojson", ".xml", ".wkt", ".txt")
FAULTS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)


def annotation_files(competition: Competition) -> list[Path]:
    """The file of MASK_PATH, or those in the folder, sorted; of several sets that of MASK_SUFFIX.

    Raises:
        UserError: there is none.
    """
    path = competition.mask_path
    if path.is_file():
        return [path]
    if competition.mask_pattern:
        return [path / name for name in find_mask_names(competition).values()]
    names = sorted(os.listdir(path)) if path.is_dir() else []
    wanted = [n for n in names if n.lower().endswith(ANNOTATION_SUFFIXES) and n[0] != "."]
    if not wanted:
        beside = os.listdir(path.parent) if path.parent.is_dir() else []
        near = nearest(path.name, (name for name in beside if name != path.name))
        raise UserError(
            f"{path}: no annotation file, and no folder of them.{near} Set MASK_PATH to a file of "
            f"all images, or to a folder of one each ({', '.join(ANNOTATION_SUFFIXES)})"
        )
    ending = [name for name in wanted if name.endswith(competition.mask_suffix)]
    return [path / name for name in ending or wanted]


def stamp_of(paths: Sequence[Path]) -> tuple[object, ...]:
    """Names, sizes and times of files: what was read of them holds as long."""
    return tuple((path, file_stamp(path)) for path in paths)


def coco_files(competition: Competition) -> list[Path]:
    """The COCO file MASK_PATH, or those in that folder which MASK_PATTERN fits; else all of it.

    Raises:
        UserError: there is none.
    """
    path, pattern = competition.mask_path, competition.mask_pattern
    if not path.is_dir():
        return [path]
    if pattern:
        rule = FilePattern(pattern, "", knobs=("MASK_PATTERN", "ID_TEMPLATE"))
        names = list(rule.find(path, is_wanted=lambda name: name[0] != ".").values())
    else:
        names = sorted(name for name in os.listdir(path) if name.lower().endswith(".json"))
    if not names:
        fitting = f" that fits MASK_PATTERN {pattern!r}" if pattern else ""
        raise UserError(f"{path}: no COCO file{fitting}: set MASK_PATH to the file, or its folder")
    return [path / name for name in names]


def read_coco_masks(competition: Competition, paths: Sequence[Path]) -> OutlineMasks:
    """The masks of COCO files, see `read_coco`."""
    return _coco_masks([(path, load_document(path)) for path in paths], competition)


def _coco_masks(documents: Sequence[tuple[Path, Any]], competition: Competition) -> OutlineMasks:
    entries = read_coco(documents, competition)
    return OutlineMasks(entries, competition, by_area=True, notes=coco_notes(documents))


def read_outlines(paths: Sequence[Path], competition: Competition) -> OutlineMasks:
    """The masks of annotation files.

    Raises:
        UserError: files that are none of the known kinds, one id of images of several folders, or
            labels that are no classes.
    """
    documents = list(documents_of(paths))
    if documents and all(is_coco(data) for _, data in documents):
        return _coco_masks(documents, competition)
    ids = {}
    if competition.mask_pattern and competition.mask_path.is_dir():
        ids = {competition.mask_path / n: i for i, n in find_mask_names(competition).items()}
    label = "" if competition.class_column == AUTO else competition.class_column
    drawn = []
    for path, data in documents:
        found = read_drawn(path, data, label)
        if competition.mask_path.is_file() and not any(one.image for one in found):
            raise UserError(
                f"{path}: no COCO annotations, and polygons of no image that it names: set "
                "MASK_PATH to the folder, if there is such a file an image"
            )
        check_folders([one.image for one in found], path)
        stated = ids.get(path) or _stated_id(path, competition.mask_suffix)
        own = stated or image_id(path.name.removesuffix(path.suffix))
        # What the knobs read from a file's name goes before the name that a program left in it.
        alone = stated and len(found) == 1
        drawn += [(own if alone else image_id(one.image) or own, one) for one in found]
    return OutlineMasks(entries_of(drawn, competition), competition, by_area=False)


def documents_of(paths: Sequence[Path]) -> Iterator[tuple[Path, Any]]:
    """The documents of files, without the classes.txt and README.txt that lie beside them.

    Raises:
        UserError: one cannot be read.
    """
    for path in paths:
        try:
            document = load_document(path)
        except UserError:
            if len(paths) == 1 or path.suffix.lower() != ".txt" or not is_prose(_text_of(path)):
                raise
        else:
            yield path, document


def _text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8-sig", errors="replace")


def entries_of(
    drawn: Sequence[tuple[str, Drawn]], competition: Competition
) -> dict[str, list[Entry]]:
    """Drawings by image id, with classes for labels.

    Raises:
        UserError: labels that are none of the classes.
    """
    labels = [label for _, one in drawn for label, _ in one.shapes]
    cls_of = classes_of([_plain_label(label) for label in labels], {}, competition)
    entries: dict[str, list[Entry]] = {}
    for img, one in drawn:
        shapes = [(cls_of.get(_plain_label(label)), outline) for label, outline in one.shapes]
        kept = [Annotation(cls, outline) for cls, outline in shapes if cls is not None]
        entries.setdefault(img, []).append(Entry(one.size, kept))
    return entries


def load_document(path: Path) -> Any:
    """A JSON document, the list of a file's JSON lines, an XML tree, or the text of WKT and YOLO.

    Raises:
        UserError: it cannot be read, or is none of these.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.lstrip()[:1] == "<":
            return ElementTree.fromstring(text)
        if is_text(text):
            return text
        return _load_json(text)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: set MASK_PATH to the annotations") from None
    except (ValueError, ElementTree.ParseError) as error:
        raise UserError(
            f"{path}: no COCO annotations, and neither JSON, JSON lines, XML, WKT nor YOLO "
            f"({error}): it is cut off, or masks of another MASK_FORMAT"
        ) from None


def _load_json(text: str) -> Any:
    try:
        return json_value(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json_value(line) for line in lines]


def read_drawn(path: Path, data: Any, label: str) -> list[Drawn]:
    """The drawings of a document of any known kind.

    Raises:
        UserError: another kind, or a shape that is no area.
    """
    try:
        if isinstance(data, str):
            return read_text(data)
        if isinstance(data, ElementTree.Element):
            return _named(read_xml(data))
        for is_kind, read in DRAWINGS.values():
            if is_kind(data):
                return _named(read(data, label))
    except FAULTS as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{path}: {what}") from None
    shown = list(data)[:6] if isinstance(data, Mapping) else type(data).__name__
    known = ", ".join([*DRAWINGS, *XML_DRAWINGS])
    raise UserError(
        f"{path}: no COCO annotations, nor {known}, WKT or YOLO, but {shown}: export it as one of "
        "these, or write a row of MASKS into the recipe's .py"
    )


def _named(drawn: list[Drawn]) -> list[Drawn]:
    """The drawings; raises ValueError where an image's name is no text."""
    for one in drawn:
        if not isinstance(one.image, str):
            raise ValueError(f"need the name of an image, got {str(one.image)[:80]}")
    return drawn


def _stated_id(path: Path, suffix: str) -> str:
    """What stands before MASK_SUFFIX, "" where it is no more than the type of the file."""
    ends = suffix != path.suffix and path.name.endswith(suffix)
    return path.name.removesuffix(suffix) if suffix and ends else ""


def _plain_label(label: Any) -> Any:
    """A label that can be looked up; numbers as text are numbers."""
    if isinstance(label, list) and len(label) == 1:
        return _plain_label(label[0])
    if isinstance(label, list | Mapping):
        return str(label)
    if isinstance(label, str) and is_whole_number(label.strip()):
        return int(label)
    return label
