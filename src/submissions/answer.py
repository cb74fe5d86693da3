"""The answer of a competition: which rows, how they are spelled, at which size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from scipy.ndimage import find_objects

from competition.spec import Competition
from competition.table_files import AUTO
from core.errors import UserError
from imaging.images import image_size
from imaging.objects import mask_to_instances
from imaging.rle import Size
from submissions.answer_files import Row
from submissions.answer_format import AnswerFormat, Frame, Item
from submissions.csv_file import CsvFile
from submissions.formats import SUBMISSIONS, choose_empty, choose_format, choose_rows
from submissions.plan import Plan, build_plan
from submissions.results_file import category_labels
from submissions.row_ids import row_ids
from submissions.run_lengths import RunLengths
from submissions.sample import read_sample


class Prediction(NamedTuple):
    """What is known of an image when its rows are written.

    Attributes:
        img: its id.
        mask: multiclass (H, W) ids, else (K, H, W) of {0, 1}.
        objects: int32 (H, W), 1 to n, where objects were split; None: the mask's connected parts.
        probs: float (K, H, W), 0-1, where confidences are wanted.
        source: the image's file.
    """

    img: str
    mask: np.ndarray
    objects: np.ndarray | None = None
    probs: np.ndarray | None = None
    source: Path | None = None


@dataclass(frozen=True)
class Answer:
    """How predictions become the rows of an answer.

    Attributes:
        plan: what the sample asks for.
        form: how a cell is spelled.
        task, classes: of the networks.
        asked_size: ANSWER_SIZE.
        asked_name: SUBMISSION_FILE.
        notes: what was taken for granted, a line each.
    """

    plan: Plan
    form: AnswerFormat
    task: str
    classes: int
    asked_size: tuple[float, ...] = ()
    asked_name: str = AUTO
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of the file under output/<RUN>/."""
        return self.form.file.name if self.asked_name == AUTO else self.asked_name

    @property
    def foreground(self) -> list[int]:
        """The networks' classes beside the background."""
        return list(range(1 if self.task == "multiclass" else 0, self.classes))

    @property
    def takes_objects(self) -> bool:
        """Whether it is written object by object."""
        return self.plan.kind == "instance" or self.form.takes_objects

    @property
    def takes_confidence(self) -> bool:
        """Whether it says how sure it is."""
        return self.form.tells_confidence or self.plan.confidence is not None

    def key(self) -> dict[str, Any]:
        """Plain values of all that rows depend on beside the predictions."""
        told = (self.plan.kind, self.plan.header, self.plan.labels, self.plan.wanted)
        return {"format": vars(self.form), "rows": told, "size": self.asked_size}

    def size_of(self, size: Size) -> Size:
        """(H, W) of the answer for an image of this (H, W)."""
        return answer_size(size, self.asked_size)

    def write(self, prediction: Prediction) -> list[Row]:
        """The rows of an image; those of `blank` where it has no foreground."""
        size = self.size_of((prediction.mask.shape[-2], prediction.mask.shape[-1]))
        return self.rows(
            self._items(prediction, size), Frame(size, prediction.source, prediction.img)
        )

    def takes_strips(self, size: Size) -> bool:
        """Whether StripRows can write an image of this (H, W)."""
        plain = isinstance(self.form, RunLengths) and not self.takes_objects
        return plain and not self.takes_confidence and self.size_of(size) == size

    def rows(self, items: list[Item], frame: Frame) -> list[Row]:
        """The rows of an image of these items, those of `blank` where there are none."""
        if self.plan.kind == "image":
            if not items and not self.form.writes_empty:
                return self.blank(frame)
            sure = max((item.confidence for item in items), default=0.0)
            return [Row(self.form.write(items, frame), confidence=sure)]
        if self.plan.kind == "class":
            known = {item.cls: item for item in items}
            return [
                Row(self.form.write([known[k]], frame), k, known[k].confidence)
                if k in known
                else Row(self.form.write_empty(frame), k, 0.0)
                for k in self.plan.wanted
            ]
        rows = [Row(self.form.write([one], frame), one.cls, one.confidence) for one in items]
        return rows or self.blank(frame)

    def blank(self, frame: Frame) -> list[Row]:
        """The rows of an image without any foreground."""
        if self.form.writes_empty:
            return [Row(self.form.write([], frame), confidence=0.0)]
        if self.plan.kind == "class":
            return [Row(self.form.write_empty(frame), k, 0.0) for k in self.plan.wanted]
        if not self.form.file.tells_empty or self.plan.ids.counts:
            return []
        return [Row(self.form.write_empty(frame), confidence=0.0)]

    def _items(self, prediction: Prediction, size: Size) -> list[Item]:
        items: list[Item] = []
        for cls, plane in self.planes(prediction.mask):
            probs = None if prediction.probs is None else prediction.probs[cls]
            labels = plane.astype(np.int32)
            if self.takes_objects:
                known = prediction.objects
                labels = mask_to_instances(plane) if known is None else known
            items += _labelled(labels, probs, cls, size)
        return items

    def planes(self, mask: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(class, {0, 1} (H, W)) of each class that has rows, of a mask as Prediction has it."""
        wanted = self.plan.wanted if self.plan.kind == "class" else self.foreground
        if self.task != "multiclass":
            return [(k, mask[k]) for k in wanted]
        return [(k, (mask == k).astype(np.uint8)) for k in wanted]


def answer_size(size: Size, asked: Sequence[float]) -> Size:
    """(H, W) of the answer: the image's, a share of its sides, or pixels."""
    if not asked:
        return size
    if len(asked) == 1 and asked[0] < 1:
        return max(1, round(size[0] * asked[0])), max(1, round(size[1] * asked[0]))
    return int(asked[0]), int(asked[-1])


def resize_labels(labels: np.ndarray, size: Size) -> np.ndarray:
    """int32 labels (H, W) at another size: the nearest pixel's."""
    if labels.shape == size:
        return labels
    small = labels.astype(np.float32)  # OpenCV resizes no int32; below 2 ** 24 it is exact
    return cv2.resize(small, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(np.int32)


def _labelled(labels: np.ndarray, probs: np.ndarray | None, cls: int, size: Size) -> list[Item]:
    """An item a label of int32 (H, W) from 1 on that is left at another size."""
    sure = mean_inside(labels, probs)
    small = resize_labels(labels, size)
    items = []
    for n, box in enumerate(find_objects(small), 1):
        if box is not None:  # pixels outside of an object's box are not looked at
            mask = np.zeros(small.shape, np.uint8)
            mask[box] = small[box] == n
            items.append(Item(mask, cls, sure[n]))
    return items


def mean_inside(labels: np.ndarray, probs: np.ndarray | None) -> list[float]:
    """Mean probability of the pixels of each label, 0 to n; 1 where it is not known."""
    if probs is None:
        return [1.0] * (int(labels.max(initial=0)) + 1)
    pixels = np.bincount(labels.ravel())
    means = np.bincount(labels.ravel(), weights=probs.ravel()) / np.maximum(pixels, 1)
    return [float(mean) for mean in means]


def read_answer(
    competition: Competition,
    images: Mapping[str, Path] | None = None,
    *,
    task: str = "",
    classes: int = 0,
    listed: bool = True,
) -> Answer:
    """What the configuration and the sample ask for.

    Args:
        competition: the configuration's.
        images: the test images by id, where they are here.
        task, classes: of the networks, else of the configuration.
        listed: whether the sample says of which images; else it tells the form only, and may be
            missing.

    Raises:
        UserError: the sample is broken, or asks for what is not known.
    """
    competition = replace(
        competition, task=task or competition.task, classes=classes or competition.classes
    )
    asked = SUBMISSIONS.get(competition.submission)
    lists_alone = asked is not None and asked.file is not CsvFile
    sample, found = read_sample(competition, lists_alone=lists_alone), images or {}

    def size_of(text: str) -> Size | None:
        img = row_ids(competition).image(text)
        if img not in found:
            return None
        try:
            return answer_size(image_size(found[img], competition.axes), competition.answer_size)
        except UserError:
            return None  # told where the image is read

    if not listed and not sample.shipped and competition.submission == AUTO:
        competition = replace(competition, submission="rle")
    name = choose_format(competition, sample, size_of)
    if not listed:
        sample = sample.without_rows()
    form = SUBMISSIONS[name]
    if form.writes_empty and competition.answer_id == AUTO:
        competition = replace(competition, answer_id=f"{{id}}{_usual_suffix(found)}")
    kind = choose_rows(competition, sample, form)
    plan = build_plan(sample, kind, competition, found)
    if not form.file.tells_empty:
        plan = replace(plan, labels=category_labels(competition, plan.labels))
    empty, note = choose_empty(competition, sample, form)
    plan = replace(plan, empty=empty)
    filled = [cell for cell in sample.cells if form.fits(cell, None)]
    return Answer(
        plan=plan,
        form=form.build(competition, plan, empty=empty, cells=filled),
        task=competition.task,
        classes=competition.classes,
        asked_size=competition.answer_size,
        asked_name=competition.submission_file,
        notes=(note,) if note else (),
    )


def _usual_suffix(images: Mapping[str, Path]) -> str:
    """Of mask files: TIFF where the images are."""
    suffixes = {path.suffix.lower() for path in images.values()}
    return ".tif" if suffixes and suffixes <= {".tif", ".tiff"} else ".png"
