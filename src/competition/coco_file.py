"""COCO annotation files: images, annotations, categories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from competition.drawings import is_image_records
from competition.outline_masks import Annotation, Entry, classes_of
from competition.spec import Competition
from competition.tables import image_id
from core.errors import UserError, raise_all


def is_coco(data: Any) -> bool:
    """Whether a JSON document has a list of images whose objects stand elsewhere."""
    return isinstance(data, Mapping) and "images" in data and not is_image_records(data)


def read_coco(data: Any, path: Path, competition: Competition) -> dict[str, list[Entry]]:
    """The entries of each image id of an annotation file; several of one file name are annotators.

    Args:
        data: the JSON document.
        path: of the file, for messages.
        competition: its classes.

    Raises:
        UserError: no COCO annotations, or categories that are none of the classes.
    """
    try:
        names = {one["id"]: one.get("name", "") for one in data.get("categories", [])}
        fields = ("id", "file_name", "height", "width")
        images = [[one[field] for field in fields] for one in data["images"]]
        found = [
            (one["image_id"], one["category_id"], one["segmentation"])
            for one in data["annotations"]
            if one.get("segmentation")
        ]
        _check_kinds(images, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: no COCO annotations ({type(error).__name__}: {error}): need images with id, "
            "file_name, height, width, and annotations with image_id, category_id, segmentation"
        ) from None
    cls_of = classes_of([category for _, category, _ in found], names, competition)
    by_id: dict[Any, Entry] = {}
    entries: dict[str, list[Entry]] = {}
    for number, file_name, height, width in images:
        by_id[number] = Entry((height, width), [])
        entries.setdefault(image_id(file_name), []).append(by_id[number])
    lost = [f"{number!r}" for number, _, _ in found if number not in by_id]
    raise_all(sorted(set(lost)), f"{path}: annotations of images that it does not list:")
    for number, category, segmentation in found:
        if category in cls_of:
            by_id[number].annotations.append(Annotation(cls_of[category], segmentation))
    return entries


def _check_kinds(images: Sequence[Sequence[Any]], found: Sequence[tuple[Any, Any, Any]]) -> None:
    """Raises TypeError where an id is neither number nor text, a name no text, a size no number."""
    ids = [row[0] for row in images] + [value for row in found for value in row[:2]]
    wrong = [f"id {value!r}" for value in ids if not isinstance(value, int | float | str)]
    wrong += [f"file_name {row[1]!r}" for row in images if not isinstance(row[1], str)]
    wrong += [f"size {row[2:]!r}" for row in images if not all(type(n) is int for n in row[2:])]
    if wrong:
        raise TypeError(wrong[0][:200])
