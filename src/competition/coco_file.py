"""COCO annotation files: images, annotations, categories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from competition.drawings import is_image_records
from competition.drawn import check_folders
from competition.label_classes import classes_of
from competition.outline_masks import Annotation, Entry
from competition.spec import Competition
from competition.tables import image_id
from core.errors import UserError, raise_all
from core.quantities import counted


def is_coco(data: Any) -> bool:
    """Whether a JSON document has a list of images whose objects stand elsewhere."""
    return isinstance(data, Mapping) and "images" in data and not is_image_records(data)


class Document(NamedTuple):
    """What a COCO file holds.

    Attributes:
        path: of it.
        names: of categories, by id.
        images: id, file name, height, width.
        found: of each outline the image's id, the category's, the segmentation.
    """

    path: Path
    names: dict[Any, Any]
    images: list[list[Any]]
    found: list[tuple[Any, Any, Any]]


def read_coco(
    documents: Sequence[tuple[Path, Any]], competition: Competition
) -> dict[str, list[Entry]]:
    """The entries of each image id of COCO files; several of one name in a file are annotators.

    Where files number their categories each in a way of its own, a category is its name.

    Args:
        documents: files and the JSON that they hold.
        competition: its classes.

    Raises:
        UserError: no COCO annotations, an image in two files, one id of several images, or
            categories that are none of the classes.
    """
    parts = [_read_document(path, data) for path, data in documents]
    classes = _classes(parts, competition)
    entries: dict[str, list[Entry]] = {}
    file_of: dict[str, Path] = {}
    twice = []
    for part, cls_of in zip(parts, classes, strict=True):
        by_id = {number: Entry((high, wide), []) for number, _, high, wide in part.images}
        check_folders([file_name for _, file_name, _, _ in part.images], part.path)
        lost = [f"{number!r}" for number, _, _ in part.found if number not in by_id]
        raise_all(sorted(set(lost)), f"{part.path}: annotations of images that it does not list:")
        for number, category, segmentation in part.found:
            if (cls := cls_of[category]) is not None:
                by_id[number].annotations.append(Annotation(cls, segmentation))
        for number, file_name, _, _ in part.images:
            img = image_id(file_name)
            if file_of.setdefault(img, part.path) != part.path:
                twice.append(f"{img}: {file_of[img].name} and {part.path.name}")
            entries.setdefault(img, []).append(by_id[number])
    raise_all(
        twice,
        f"{competition.mask_path}: images that two COCO files list: set MASK_PATH to one of them, "
        "or leave files out by MASK_PATTERN:",
    )
    return entries


def categories_of(
    documents: Sequence[tuple[Path, Any]], competition: Competition
) -> dict[int, Any]:
    """The category whose outlines are a class, of each class that is of one category alone.

    Args:
        documents: files and the JSON that they hold.
        competition: its classes.

    Raises:
        UserError: as `read_coco`.
    """
    parts = [_read_document(path, data) for path, data in documents]
    found: dict[int, set[Any]] = {}
    for cls_of in _classes(parts, competition):
        for category, cls in cls_of.items():
            if cls is not None:
                found.setdefault(cls, set()).add(category)
    return {cls: categories.pop() for cls, categories in found.items() if len(categories) == 1}


def _classes(parts: Sequence[Document], competition: Competition) -> list[dict[Any, int | None]]:
    """The class of each category in use, a file each; None is of none."""
    names: dict[Any, Any] = {}
    by_name = False
    for part in parts:
        by_name |= any(names.get(one, name) != name for one, name in part.names.items())
        names |= part.names
    called = [
        {
            category: str(part.names.get(category, category)) if by_name else category
            for _, category, _ in part.found
        }
        for part in parts
    ]
    used = [name for categories in called for name in categories.values()]
    cls_of = classes_of(used, {} if by_name else names, competition)
    return [{one: cls_of.get(name) for one, name in categories.items()} for categories in called]


def coco_notes(documents: Sequence[tuple[Path, Any]]) -> list[str]:
    """A line for each of these COCO files where some annotations enclose nothing."""
    found = []
    for path, data in documents:
        told = [one.get("segmentation") for one in data["annotations"]]
        bare = sum(not outline or _is_box(outline) for outline in told)
        if bare:
            found.append(
                f"{path.name}: {bare} of {counted(len(told), 'annotation')} have no outline, a box "
                "at most: what they mark is background"
            )
    return found


def _read_document(path: Path, data: Any) -> Document:
    try:
        called = [(one["id"], one.get("name", "")) for one in data.get("categories", [])]
        names = dict(called)
        fields = ("id", "file_name", "height", "width")
        images = [[one[field] for field in fields] for one in data["images"]]
        told = data["annotations"]
        found = [
            (one["image_id"], one["category_id"], one["segmentation"])
            for one in told
            if one.get("segmentation")
        ]
        _check_kinds(images, found)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: no COCO annotations ({type(error).__name__}: {error}): need images with id, "
            "file_name, height, width, and annotations with image_id, category_id, segmentation"
        ) from None
    _check_once([(row[0], row[1]) for row in images], f"{path}: an id of several images")
    _check_once(called, f"{path}: an id of several categories")
    if told and all(_is_box(segmentation) for _, _, segmentation in found):
        raise UserError(
            f"{path}: none of {counted(len(told), 'annotation')} has an outline, they are boxes: "
            "need polygons or run lengths as segmentation; export the set for segmentation, not "
            "for detection"
        )
    return Document(path, names, images, found)


def _check_once(pairs: Sequence[tuple[Any, Any]], headline: str) -> None:
    """Makes sure that no id has two names, as where files were joined that count from the same.

    Raises:
        UserError: `headline`, and a line for each that has.
    """
    first: dict[Any, Any] = {}
    problems = [
        f"{number!r}: {first[number]} and {name}"
        for number, name in pairs
        if first.setdefault(number, name) != name
    ]
    raise_all(problems, f"{headline}, were files joined? Number them anew, or keep them apart:")


def _is_box(segmentation: Any) -> bool:
    """Whether it is the four numbers of a box, or two corners, which enclose nothing."""
    rings = segmentation if isinstance(segmentation, list) else [None]
    return all(isinstance(ring, list) and len(ring) == 4 for ring in rings)


def _check_kinds(images: Sequence[Sequence[Any]], found: Sequence[tuple[Any, Any, Any]]) -> None:
    """Raises TypeError where an id is neither number nor text, a name no text, a size no number."""
    ids = [row[0] for row in images] + [value for row in found for value in row[:2]]
    wrong = [f"id {value!r}" for value in ids if not isinstance(value, int | float | str)]
    wrong += [f"file_name {row[1]!r}" for row in images if not isinstance(row[1], str)]
    wrong += [f"size {row[2:]!r}" for row in images if not all(type(n) is int for n in row[2:])]
    if wrong:
        raise TypeError(wrong[0][:200])
