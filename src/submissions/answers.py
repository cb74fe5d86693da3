"""The score of an answer where the truth is known, a file of the same format."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from competition.volumes import volume_of
from core.errors import UserError, raise_all
from metrics import build_metric, needs_of
from submissions.answer_files import Findings
from submissions.linter import Linter

# Class (or None where the cell says it) and cell of each row of an image.
Cells = list[tuple[int | None, str]]


def read_cells(path: Path, linter: Linter) -> dict[str, Cells]:
    """The filled cells of an answer by image.

    Raises:
        UserError: it is no file of the answer's format, or has rows that are none.
    """
    plan, found = linter.plan, Findings()
    numbers = {**plan.class_of, **{label: k for k, label in enumerate(plan.labels)}}
    if plan.kind == "class":
        numbers = plan.class_of
    cells: dict[str, Cells] = defaultdict(list)
    joined = dict(zip(plan.rows, plan.classes, strict=True))
    for entry in linter.form.file().entries(path, plan, found):
        rows = cells[plan.ids.image(entry.id)]
        text = entry.cls or joined.get((entry.id, ""), "")
        if not linter.form.is_empty(entry.cell):
            rows.append((numbers.get(text), entry.cell))
    raise_all(found.lines("errors"), f"{path}:")
    return dict(cells)


def score_file(
    path: Path, labels: Path, linter: Linter, *, metric: str, volume_pattern: str = ""
) -> float:
    """The metric of a checked submission over the images that both files hold.

    Each class is a {0, 1} mask; several classes are scored as `multilabel`, so that what no row
    claims is nothing. Metrics of objects take every mask as one object, those of volumes the images
    whose ids VOLUME_PATTERN calls alike as slices.

    Raises:
        UserError: no common image, or images whose size is not known.
    """
    ours, truth = read_cells(path, linter), read_cells(labels, linter)
    common = [img for img in ours if img in truth]
    if not common:
        raise UserError(f"{labels}: has no image of {path}: are the ids written alike?")
    unsized = [img for img in common if linter.size_of(img) is None]
    raise_all([f"{img}: no image" for img in unsized], "scoring needs the images' sizes:")
    wanted = linter.plan.wanted if linter.plan.kind == "class" else linter.answer.foreground
    task = "multilabel" if len(wanted) > 1 else "binary"
    score: Any = build_metric(metric, task=task, classes=len(wanted))
    if getattr(score, "needs_confidence", False):
        raise UserError(
            f"METRIC={metric} ranks objects by their confidence, which run lengths do not tell: "
            "score the answer with --metric map"
        )
    volumes = needs_of(score) == "volumes"
    for img in common:
        more = {"slices": [(volume_of(img, volume_pattern), img)]} if volumes else {}
        pair = [_paint(cells[img], img, linter, wanted, score) for cells in (ours, truth)]
        score.update(*(torch.from_numpy(mask)[None] for mask in pair), **more)
    return float(score.compute())


def _paint(cells: Cells, img: str, linter: Linter, wanted: list[int], score: Any) -> np.ndarray:
    size: Any = linter.size_of(img)
    objects = needs_of(score) == "instances"
    masks = np.zeros((len(wanted), *size), np.int32 if objects else np.uint8)
    items = [(cls, item) for cls, cell in cells for item in linter.form.read(cell, size)]
    for at, (cls, item) in enumerate(items, 1):
        k = item.cls if cls is None else cls
        masks[wanted.index(k) if len(wanted) > 1 else 0][item.mask > 0] = at if objects else 1
    return masks[0] if objects else masks
