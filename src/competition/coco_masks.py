"""Masks of a COCO annotation file: polygons, run lengths of both kinds, several annotators."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from competition.mask_source import MaskSource, Row
from competition.spec import Competition
from competition.tables import class_ids, image_id
from core.errors import UserError, raise_all
from imaging.rle import Size


class Annotation(NamedTuple):
    """One object: its class and its outline as COCO writes it."""

    cls: int
    segmentation: Any


class Entry(NamedTuple):
    """What one annotator says of an image: the size in the file (H, W), and objects."""

    size: Size
    annotations: list[Annotation]


class CocoMasks(MaskSource):
    """Annotations by image; several entries of one file name are as many annotators.

    - binary: the union of an entry's objects; of several annotators, what more than half marked.
    - multiclass: smaller objects lie on larger ones; of several annotators the first one counts.
    - multilabel: as binary, for each class.

    Args:
        entries: of each image id.
        absent_is_empty: an image that the file does not list is empty.
        name: of the file, for messages.
    """

    several_rows = True

    def __init__(
        self,
        entries: Mapping[str, list[Entry]],
        *,
        task: str,
        classes: int,
        absent_is_empty: bool = False,
        name: str,
    ):
        self.entries, self.task, self.classes, self.name = dict(entries), task, classes, name
        self.absent_is_empty = absent_is_empty
        self.has_objects = task != "multilabel"

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask of an image's annotations.

        Raises:
            UserError: the file does not list the image, says another size, or holds an outline
                that COCO does not know.
        """
        entries = self._entries_of(row["img"], size)
        if self.task == "multiclass":
            return self._paint_classes(row["img"], entries[0], size)
        shape = (self.classes, *size)
        votes = np.zeros(shape, np.int64)
        for entry in entries:
            marked = np.zeros(shape, bool)
            for cls, segmentation in entry.annotations:
                marked[cls] |= self._decode(segmentation, row["img"], size)
            votes += marked
        mask = (2 * votes > len(entries)).view(np.uint8)
        return mask[0] if self.task == "binary" else mask

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """int32 (H, W): the first annotator's objects from 1 on, smaller ones on larger ones.

        Raises:
            UserError: as `read`.
        """
        if not self.has_objects:
            return None
        labels = np.zeros(size, np.int32)
        entry = self._entries_of(row["img"], size)[0]
        for at, (_, inside) in enumerate(self._by_area(row["img"], entry, size), start=1):
            labels[inside] = at
        return labels

    def lists(self, img: str) -> bool:
        """Whether the file has an entry of it, or needs none."""
        return img in self.entries or self.absent_is_empty

    def _entries_of(self, img: str, size: Size) -> Sequence[Entry]:
        if not self.lists(img):
            raise UserError(f"{img}: not in {self.name}: drop the image, or set ABSENT=empty")
        entries = self.entries.get(img) or [Entry(size, [])]
        for entry in entries:
            if entry.size != size:
                raise UserError(
                    f"{img}: {self.name} says (H, W) {entry.size}, image is {size}: the outlines "
                    "are of another version of the images"
                )
        return entries

    def _paint_classes(self, img: str, entry: Entry, size: Size) -> np.ndarray:
        mask = np.zeros(size, np.uint8)
        for cls, inside in self._by_area(img, entry, size):
            mask[inside] = cls
        return mask

    def _by_area(self, img: str, entry: Entry, size: Size) -> list[tuple[int, np.ndarray]]:
        """Class and bool (H, W) of an entry's objects, the largest first."""
        decoded = [(cls, self._decode(outline, img, size)) for cls, outline in entry.annotations]
        return sorted(decoded, key=lambda pair: -np.count_nonzero(pair[1]))

    def _decode(self, segmentation: Any, img: str, size: Size) -> np.ndarray:
        """bool (H, W) of polygons [[x, y, x, y, ...]], or run lengths {size, counts}."""
        from pycocotools import mask as coco

        try:
            if isinstance(segmentation, list):
                packed = coco.merge(coco.frPyObjects(segmentation, *size))
            else:
                # Decoding trusts what is written here, to the size of memory.
                _check_counts(segmentation, size)
                packed = segmentation
                if isinstance(segmentation["counts"], list):
                    packed = coco.frPyObjects(segmentation, *size)
            mask = coco.decode(packed)
        except Exception as error:  # pycocotools raises bare ones, too
            raise UserError(
                f"{img}: {self.name} holds an outline that is no COCO polygon or run length "
                f"({type(error).__name__}: {error})"
            ) from None
        return mask.astype(bool)


def _check_counts(segmentation: Mapping[str, Any], size: Size) -> None:
    """Raises ValueError where a run-length mask is not of this (H, W)."""
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"size {segmentation['size']}, image is {size}")
    counts = segmentation["counts"]
    if isinstance(counts, list) and sum(counts) != size[0] * size[1]:
        raise ValueError(f"counts of {sum(counts)} pixels, image has {size[0] * size[1]}")


def read_coco(path: Path, competition: Competition) -> dict[str, list[Entry]]:
    """The entries of each image id of an annotation file.

    Raises:
        UserError: no such file, no COCO annotations, or categories that are none of the classes.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {one["id"]: one.get("name", "") for one in data.get("categories", [])}
        fields = ("id", "file_name", "height", "width")
        images = [[one[field] for field in fields] for one in data["images"]]
        found = [
            (one["image_id"], one["category_id"], one["segmentation"])
            for one in data["annotations"]
            if one.get("segmentation")
        ]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: set MASK_PATH to the annotation file") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: no COCO annotations ({type(error).__name__}: {error}): need images with id, "
            "file_name, height, width, and annotations with image_id, category_id, segmentation"
        ) from None
    cls_of = _classes_of([category for _, category, _ in found], names, competition)
    by_id: dict[Any, Entry] = {}
    entries: dict[str, list[Entry]] = {}
    for number, file_name, height, width in images:
        by_id[number] = Entry((height, width), [])
        entries.setdefault(image_id(file_name), []).append(by_id[number])
    lost = [f"{number!r}" for number, _, _ in found if number not in by_id]
    raise_all(sorted(set(lost)), f"{path}: annotations of images that it does not list:")
    for number, category, segmentation in found:
        by_id[number].annotations.append(Annotation(cls_of[category], segmentation))
    return entries


def _classes_of(
    used: Sequence[Any], names: Mapping[Any, str], competition: Competition
) -> dict[Any, int]:
    """Class of each category in use: 0 for binary, by CLASS_NAMES, or its id from CLASS_BASE."""
    import pandas as pd

    categories = list(dict.fromkeys(used))
    if competition.task == "binary":
        return dict.fromkeys(categories, 0)
    cells = [names[c] if names.get(c) in competition.class_names else c for c in categories]
    found = class_ids(pd.Series(cells, dtype=object), competition)
    known = range(competition.classes)
    problems = [
        f"category {category!r} ({names.get(category, 'no name')})"
        for category, cls in zip(categories, found, strict=True)
        if cls not in known
    ]
    raise_all(
        problems,
        f"categories that are none of the {competition.classes} classes: name them in CLASS_NAMES, "
        "or set CLASSES and CLASS_BASE so that ids fit:",
    )
    return {category: int(cls) for category, cls in zip(categories, found, strict=True)}
