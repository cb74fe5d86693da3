"""The score of an answer where the truth is known, a file of the same format."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from competition.volumes import volume_of
from core.errors import UserError, raise_all
from core.gates import decimal_number
from imaging.mask_files import IGNORE
from imaging.rle import Size
from measures.evidence import needs_of
from measures.overlaps import overlap_masks
from measures.pixels import leave_out_ignored
from metrics import build_metric, renumbered, without
from submissions.answer_files import Findings
from submissions.answer_format import AnswerFormat, Item
from submissions.linter import Linter


class Cell(NamedTuple):
    """A filled cell of an image: its class and confidence, None where the cell itself says them."""

    text: str
    cls: int | None
    confidence: float | None


def read_cells(path: Path, linter: Linter) -> dict[str, list[Cell]]:
    """The filled cells of an answer by image.

    Raises:
        UserError: it is no file of the answer's format, or has rows that are none.
    """
    plan, form, found = linter.plan, linter.form, Findings()
    numbers = {**plan.class_of, **{label: k for k, label in enumerate(plan.labels)}}
    if plan.kind == "class":
        numbers = plan.class_of
    wanted = _wanted(linter)
    told = ", ".join(label for label, k in numbers.items() if k in wanted)
    cells: dict[str, list[Cell]] = defaultdict(list)
    if not form.file.tells_empty or plan.ids.counts:
        cells.update({img: [] for img in plan.images})
    joined = dict(zip(plan.rows, plan.classes, strict=True))
    for entry in form.file().entries(path, plan, found):
        rows = cells[plan.ids.image(entry.id)]
        text = entry.cls or joined.get((entry.id, ""), "")
        if not form.is_empty(entry.cell):
            sure = decimal_number(entry.confidence) if entry.confidence else None
            cls = numbers.get(text)
            if len(wanted) > 1 and text and cls not in wanted:
                found.error("class", f"{entry.where}: class {text!r}: need one of {told}")
            rows.append(Cell(entry.cell, cls, sure))
    raise_all(found.lines("errors"), f"{path}:")
    return dict(cells)


def score_file(
    path: Path, labels: Path, linter: Linter, *, metric: str, volume_pattern: str = ""
) -> float:
    """The metric of a checked submission over the images that both files hold.

    Each class is a {0, 1} mask; several classes are scored as `multilabel`, so that what no row
    claims is nothing; where the answer gives every pixel a class, as `multiclass`. Pixels that
    the truth leaves open count for nothing. Metrics of objects take every mask as one object with
    the confidence that the answer gives it, those of volumes the images whose ids VOLUME_PATTERN
    calls alike as slices.

    Raises:
        UserError: no common image, or images whose size is not known.
    """
    ours, truth = read_cells(path, linter), read_cells(labels, linter)
    common = [img for img in ours if img in truth]
    if not common:
        raise UserError(f"{labels}: has no image of {path}: are the ids written alike?")
    unsized = [img for img in common if linter.size_of(img) is None]
    raise_all([f"{img}: no image" for img in unsized], "scoring needs the images' sizes:")
    wanted = _wanted(linter)
    need = needs_of(build_metric(without(metric, "only"), task="binary", classes=1))
    task, step = ("multilabel" if len(wanted) > 1 else "binary"), 0
    if linter.answer.task == "multiclass" and linter.form.fills:
        task, wanted = "multiclass", list(range(linter.answer.classes))
    elif need == "instances" and len(wanted) > 1:
        task, step = "multiclass", 1
    known = renumbered(metric, wanted)
    score: Any = build_metric(known, task=task, classes=len(wanted) + step)
    if getattr(score, "needs_confidence", False) and not linter.answer.takes_confidence:
        raise UserError(
            f"METRIC={metric} ranks objects by their confidence, which this answer does not tell: "
            "score it with --metric map"
        )
    for img in common:
        size: Any = linter.size_of(img)
        form = linter.form.at(img, size)
        found, real = _read(ours[img], form, size), _read_truth(truth[img], form, size, labels)
        if need == "instances":
            placed = [[_placed(item, wanted, step) for item in one.items] for one in (found, real)]
            score.update(matches=[_match(placed[0], placed[1], size)])
            continue
        more = {"slices": [(volume_of(img, volume_pattern), img)]} if need == "volumes" else {}
        mask, target = (_paint(one.items, wanted, task, size) for one in (found, real))
        target[..., real.void] = IGNORE
        pair = (torch.from_numpy(one)[None] for one in (mask, target))
        score.update(*leave_out_ignored(*pair, task=task), **more)
    return float(score.compute())


def _wanted(linter: Linter) -> list[int]:
    """Classes that an answer has masks of."""
    return linter.plan.wanted if linter.plan.kind == "class" else linter.answer.foreground


class Read(NamedTuple):
    """What the cells of an image say; `void` bool (H, W): what a truth leaves open."""

    items: list[Item]
    void: np.ndarray


def _read(cells: Sequence[Cell], form: AnswerFormat, size: Size) -> Read:
    """The items of an image's cells, with the class and confidence of their rows."""
    items, open_pixels = [], np.zeros(size, bool)
    for cell in cells:
        told, void = form.read_truth(cell.text, size)
        open_pixels |= False if void is None else void
        known: dict[str, Any] = {"cls": cell.cls, "confidence": cell.confidence}
        said = {name: value for name, value in known.items() if value is not None}
        items += [item._replace(**said) for item in told]
    return Read(items, open_pixels)


def _read_truth(cells: Sequence[Cell], form: AnswerFormat, size: Size, labels: Path) -> Read:
    """As `_read`; what is wrong with the truth is told with its file."""
    try:
        return _read(cells, form, size)
    except UserError as error:
        raise UserError(f"{labels}: {error}") from None


def _placed(item: Item, wanted: Sequence[int], step: int) -> Item:
    """An item whose class is its place among those that are wanted, from `step` on."""
    return item._replace(cls=wanted.index(item.cls) + step if len(wanted) > 1 else 0)


def _match(found: Sequence[Item], real: Sequence[Item], size: Size) -> Any:
    return overlap_masks(
        [item.mask for item in found],
        [item.mask for item in real],
        size,
        confidence=[item.confidence for item in found],
        classes=([item.cls for item in found], [item.cls for item in real]),
    )


def _paint(items: Sequence[Item], wanted: Sequence[int], task: str, size: Size) -> np.ndarray:
    """uint8 ids (H, W) of multiclass, else {0, 1} (K, H, W)."""
    ids = np.zeros(size, np.uint8)
    planes = np.zeros((len(wanted), *size), np.uint8)
    for item in items:
        inside = item.mask > 0
        ids[inside] = item.cls
        planes[wanted.index(item.cls) if len(wanted) > 1 else 0][inside] = 1
    return ids if task == "multiclass" else planes
