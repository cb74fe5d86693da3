"""Masks of outlines: objects as polygons or COCO's run lengths, by one annotator or several."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from competition.mask_source import MaskSource, Row
from competition.outline_units import pixels_a_unit
from competition.spec import Competition
from competition.table_files import AUTO
from core.errors import UserError
from core.quantities import counted
from imaging.coco_counts import counted_runs, plain_counts, read_counts
from imaging.georeference import map_to_pixels, meets
from imaging.mask_files import IGNORE, MaskRules, read_mask_file
from imaging.polygons import Polygons, fill_polygons
from imaging.rle import Size, paint_runs


class MaskFile(NamedTuple):
    """A binary mask as the outline of an object; of another size than its image it is scaled."""

    path: Path


# Pixels from the first: no image is so large.
FAR = 1e6
# Outlines of an object are no longer than so many times height and width together.
LONG = 64


class Annotation(NamedTuple):
    """One object: its class, IGNORE where it counts for nothing, and its outline.

    The outline is Polygons, a MaskFile, or what COCO writes: [[x, y, x, y, ...]], {size, counts}.
    """

    cls: int
    outline: Any


class Entry(NamedTuple):
    """What one annotator says of an image: the size in the file (H, W), if it is told; objects."""

    size: Size | None
    annotations: list[Annotation]


class OutlineMasks(MaskSource):
    """Annotations by image; several entries of one image are as many annotators.

    - binary: the union of an entry's objects; of several annotators, what more than half marked.
    - multiclass: of several annotators the first one counts. Objects lie on each other in the
      order of the file, or smaller ones on larger ones.
    - multilabel: as binary, for each class.

    Args:
        entries: of each image id.
        competition: whose images, task and classes they are of.
        by_area: smaller objects lie on larger ones, as with COCO.
        tells_objects: an annotation is an object, not all of a class.
        name: of the file, for messages; "" = MASK_PATH's.
        notes: what is to be told of the file.

    Raises:
        UserError: no outline has three corners.
    """

    several_rows = True

    def __init__(
        self,
        entries: Mapping[str, list[Entry]],
        competition: Competition,
        *,
        by_area: bool,
        tells_objects: bool = True,
        name: str = "",
        notes: Sequence[str] = (),
    ):
        self.entries, self.by_area = dict(entries), by_area
        self.root, self.name = competition.input, name or competition.mask_path.name
        self._check_corners()
        self.task, self.classes = competition.task, competition.classes
        self.units = competition.outline_units
        self.absent_is_empty = competition.absent == "empty"
        self.has_objects = tells_objects and self.task != "multilabel"
        self.notes = [*notes, *self._annotator_notes()]
        self.ignores = any(
            one.cls == IGNORE for them in entries.values() for e in them for one in e.annotations
        )

    def _check_corners(self) -> None:
        annotations = (one for them in self.entries.values() for e in them for one in e.annotations)
        drawn = (one.outline for one in annotations if isinstance(one.outline, Polygons))
        corners = [len(ring) for outline in drawn for part in outline.parts for ring in part]
        if corners and max(corners) < 3:
            raise UserError(
                f"{self.name}: none of {len(corners)} outlines has three corners: need polygons; "
                "runs of pixels are MASK_FORMAT=rle, 'start length start length'"
            )

    def _annotator_notes(self) -> list[str]:
        several = [img for img, entries in self.entries.items() if len(entries) > 1]
        if not several:
            return []
        counts = "the first of them counts"
        if self.task != "multiclass":
            counts = "a pixel is foreground where more than half of them marked it"
        return [
            f"{self.name} lists {counted(len(several), 'image')} several times, {several[0]} for "
            f"one, as of several annotators: {counts}. If these are different images of one "
            "name, rename the files"
        ]

    def read(self, row: Row, size: Size) -> np.ndarray:
        """The mask of an image's annotations.

        Raises:
            UserError: the file does not list the image, says another size, or holds an outline
                that is none.
        """
        entries = self._entries_of(row["img"], size)
        if self.task == "multiclass":
            mask = np.zeros(size, np.uint8)
            for cls, inside in self._paint_order(row, entries[0], size):
                mask[inside] = cls
            return mask
        votes = np.zeros((self.classes, *size), np.int64)
        ignored = np.zeros(size, bool)
        for entry in entries:
            marked = np.zeros(votes.shape, bool)
            for cls, outline in entry.annotations:
                inside = self._decode(outline, row, size)
                if cls == IGNORE:
                    ignored |= inside
                else:
                    marked[cls] |= inside
            votes += marked
        mask = (2 * votes > len(entries)).view(np.uint8)
        mask[:, ignored] |= (mask[:, ignored] == 0) * np.uint8(IGNORE)
        return mask[0] if self.task == "binary" else mask

    def objects(self, row: Row, size: Size) -> np.ndarray | None:
        """int32 (H, W): the first annotator's objects from 1 on, painted as `read` does.

        Raises:
            UserError: as `read`.
        """
        if not self.has_objects:
            return None
        labels = np.zeros(size, np.int32)
        entry = self._entries_of(row["img"], size)[0]
        shown = [pair for pair in self._paint_order(row, entry, size) if pair[0] != IGNORE]
        for at, (_, inside) in enumerate(shown, start=1):
            labels[inside] = at
        return labels

    def files(self, row: Row) -> list[Path]:
        """Mask files of an image's annotations."""
        entries = self.entries.get(row["img"], [])
        outlines = [one.outline for entry in entries for one in entry.annotations]
        return [outline.path for outline in outlines if isinstance(outline, MaskFile)]

    def lists(self, img: str) -> bool:
        """Whether the file has an entry of it, or needs none."""
        return img in self.entries or self.absent_is_empty

    def _entries_of(self, img: str, size: Size) -> Sequence[Entry]:
        if not self.lists(img):
            raise UserError(f"{img}: not in {self.name}: drop the image, or set ABSENT=empty")
        entries = self.entries.get(img) or [Entry(size, [])]
        for entry in entries:
            if entry.size not in (None, size):
                raise UserError(
                    f"{img}: {self.name} says (H, W) {entry.size}, image is {size}: the outlines "
                    "are of another version of the images"
                )
            if entry.size is None and self.units == AUTO:
                _refuse_outside(entry, size, f"{img}: {self.name}")
        return entries

    def _paint_order(self, row: Row, entry: Entry, size: Size) -> list[tuple[int, np.ndarray]]:
        """Class and bool (H, W) of an entry's objects, what lies on top last."""
        decoded = [(cls, self._decode(outline, row, size)) for cls, outline in entry.annotations]
        if self.by_area:
            decoded.sort(key=lambda pair: -np.count_nonzero(pair[1]))
        return decoded

    def _decode(self, outline: Any, row: Row, size: Size) -> np.ndarray:
        if isinstance(outline, Polygons):
            name = f"{row['img']} in {self.name}"
            return fill_polygons(self._in_pixels(outline, row, size, name), size)
        if isinstance(outline, MaskFile):
            return _read_scaled(outline.path, size)
        try:
            return decode_coco(outline, size)
        except Exception as error:  # pycocotools raises bare ones, too
            raise UserError(
                f"{row['img']}: {self.name} holds an outline that is no COCO polygon or run length "
                f"({type(error).__name__}: {error})"
            ) from None

    def _in_pixels(self, outline: Polygons, row: Row, size: Size, name: str) -> Polygons:
        factor = pixels_a_unit(self.units, row, size, row["img"])
        if factor is not None:
            return outline.scaled(factor)
        if outline.unit == "percent":
            return outline.scaled((size[1] / 100, size[0] / 100))
        if outline.unit == "map":
            return map_to_pixels(outline, self.root / row["image"], size, name)
        return outline


def _refuse_outside(entry: Entry, size: Size, name: str) -> None:
    """Raises where all outlines in pixels are beyond the image, whose size no program told."""
    rings = [
        np.concatenate([ring for part in one.outline.parts for ring in part])
        for one in entry.annotations
        if isinstance(one.outline, Polygons) and one.outline.unit == "pixel" and one.outline.parts
    ]
    rings = [points for points in rings if len(points) > 2]
    if rings and not any(meets(points, size) for points in rings):
        points = np.concatenate(rings)
        low, high = (tuple(ends.tolist()) for ends in (points.min(0), points.max(0)))
        raise UserError(
            f"{name}: outlines from (x, y) {low} to {high} are outside of the image of {size} "
            "(H, W): they are of another version of the images, or x and y are swapped"
        )


def _read_scaled(path: Path, size: Size) -> np.ndarray:
    """bool (H, W) of a mask file of this size, or of a smaller or larger one of this aspect."""
    mask = read_mask_file(path, MaskRules("binary"))
    if mask.shape == size:
        return mask != 0
    height, width = mask.shape
    if abs(height * size[1] - width * size[0]) > max(*size, height, width):
        raise UserError(
            f"{path.name}: mask is {mask.shape}, image is {size}: need the image's size or aspect"
        )
    return cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) != 0


def decode_coco(segmentation: Any, size: Size) -> np.ndarray:
    """bool (H, W) of polygons [[x, y, x, y, ...]], or run lengths {size, counts}.

    Raises:
        Exception: any, where it is neither.
    """
    from pycocotools import mask as coco

    if isinstance(segmentation, list):
        _check_polygons(segmentation)
        # Two corners enclose nothing; pycocotools takes four numbers for a box with its width.
        rings = [ring for ring in segmentation if len(ring) > 4]
        if not rings:
            return np.zeros(size, bool)
        points = [np.reshape(ring, (-1, 2)).astype(float) for ring in rings]
        edges = [np.abs(ring - np.roll(ring, 1, 0)).sum() for ring in points]
        if sum(edges) > LONG * sum(size):  # pycocotools holds every fifth of a pixel of them
            return fill_polygons(Polygons(tuple((ring,) for ring in points)), size)
        packed = coco.merge(coco.frPyObjects(rings, *size))
        return coco.decode(packed).astype(bool)
    counts = _counts_of(segmentation, size)
    starts, lengths = counted_runs(counts)
    return paint_runs(starts, lengths, np.ones(len(starts), bool), size=size, order="column")


def _check_polygons(polygons: Sequence[Sequence[float]]) -> None:
    """Raises ValueError where numbers are no pairs of x and y, or are far beyond any image.

    Painting follows every edge.
    """
    far = [value for ring in polygons for value in ring if not abs(value) <= FAR]
    if far:
        raise ValueError(f"a corner at {far[0]}")
    counts = [len(ring) for ring in polygons if len(ring) < 4 or len(ring) % 2]
    if counts:
        raise ValueError(f"{counts[0]} numbers, need pairs of x and y")


def _counts_of(segmentation: Mapping[str, Any], size: Size) -> np.ndarray:
    """The counts of a run-length mask; raises ValueError where it is not of this (H, W)."""
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"size {segmentation['size']}, image is {size}")
    told = segmentation["counts"]
    counts = plain_counts(told) if isinstance(told, list) else read_counts(told)
    if counts.sum() != size[0] * size[1]:
        raise ValueError(f"counts of {counts.sum()} pixels, image has {size[0] * size[1]}")
    return counts
