"""What a score is worth: what masks score that no network made."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from competition.mask_source import MaskSource
from core.errors import UserError
from data.specs import DataSpec, Row
from imaging.images import image_size
from imaging.mask_files import IGNORE
from imaging.objects import mask_objects
from measures.evidence import Evidence
from measures.pixels import leave_out_ignored
from metrics import build_metric

# Enough to know a constant's score to the second digit; scored at this side at most.
IMAGES, SIDE = 100, 512
# Pixels of masks that are decoded at most: seconds.
PIXELS = 400_000_000
# Side of the mean mask.
GRID = 128


def trivial_scores(
    rows: Sequence[Row], root: Path, masks: MaskSource, *, spec: DataSpec, metric: str
) -> dict[str, float]:
    """Scores of constant masks, and of the mean mask of the other folds, over some of the rows.

    Args:
        rows: of train_folds.csv.
        root: folder that their paths start from.
        masks: the truth; an image whose mask cannot be read is left out.
        spec: task, classes and their names.
        metric: a row of METRICS.

    Returns:
        Scores by what was predicted everywhere; none where images are too large to look at many,
        or the metric has nothing to say.
    """
    truths = read_truths(rows, root, masks, spec.axes)
    if not truths:
        return {}
    shapes = [truth.shape[-2:] for _, truth, _ in truths]
    guesses = {name: [fill] * len(truths) for name, fill in _constants(truths, spec).items()}
    guesses["mean mask"] = mean_masks([(row, truth) for row, truth, _ in truths], spec)
    scores = {}
    for name, masks_of in guesses.items():
        built: Any = build_metric(
            metric, task=spec.task, classes=spec.classes, class_names=spec.class_names
        )
        keep_to_itself(built)
        for guess, shape, (row, truth, labels) in zip(masks_of, shapes, truths, strict=True):
            evidence = _evidence(shrink(guess, shape), truth, labels, spec)
            evidence.slices = [(row.get("volume", ""), row["img"])]
            evidence.add_to(built)
        score = float(built.compute())
        if np.isfinite(score):
            scores[name] = score
    return scores


def keep_to_itself(metric: torch.nn.Module) -> None:
    """Lets a metric ask no other process of a training, which may not be computing it."""
    for part in metric.modules():
        if isinstance(part, Metric):
            part.distributed_available_fn = lambda: False


def best_of(scores: Mapping[str, float], metric: str, spec: DataSpec) -> tuple[str, float] | None:
    """(what, score) of the best of `trivial_scores`; None where there is none."""
    if not scores:
        return None
    built = build_metric(metric, task=spec.task, classes=spec.classes)
    best = max if built.higher_is_better else min
    name = best(scores, key=scores.__getitem__)
    return name, scores[name]


def read_truths(
    rows: Sequence[Row], root: Path, masks: MaskSource, axes: str = "", *, most: int = IMAGES
) -> list[tuple[Row, np.ndarray, np.ndarray | None]]:
    """(row, mask, objects) of evenly picked rows, `most` at most, made smaller than SIDE."""
    few = rows[:: max(1, len(rows) // 16)]
    pixels = np.mean([np.prod(image_size(root / row["image"], axes)) for row in few])
    count = min(len(rows), most, int(PIXELS / pixels))
    found: list[tuple[Row, np.ndarray, np.ndarray | None]] = []
    for at in np.linspace(0, len(rows) - 1, count).astype(int):
        row = rows[at]
        with suppress(UserError, OSError):  # told by the trainer, with all others of its kind
            size = image_size(root / row["image"], axes)
            zoom = min(1.0, SIDE / max(size))
            small = (max(1, round(size[0] * zoom)), max(1, round(size[1] * zoom)))
            labels = masks.objects(row, size) if masks.has_objects else None
            truth = shrink(masks.read(row, size), small)
            found.append((row, truth, None if labels is None else shrink(labels, small)))
    return found


def shrink(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask (..., H, W) at another size (h, w), by the nearest pixel."""
    at = [
        ((np.arange(side) + 0.5) * whole / side).astype(int)
        for side, whole in zip(size, mask.shape[-2:], strict=True)
    ]
    return mask[..., at[0][:, None], at[1]]


def _constants(
    truths: Sequence[tuple[Row, np.ndarray, Any]], spec: DataSpec
) -> dict[str, np.ndarray]:
    """Masks of one pixel (K, 1, 1), for multiclass (1, 1), by name."""
    if spec.task != "multiclass":
        shape = (spec.classes, 1, 1)
        fills = {"all background": np.zeros(shape, np.uint8)}
        return fills | {"all foreground": np.ones(shape, np.uint8)}
    counts = np.sum([np.bincount(truth.ravel(), minlength=256) for _, truth, _ in truths], axis=0)
    largest = int(np.argmax(counts[: spec.classes]))
    name = spec.class_names[largest] if spec.class_names else f"class {largest}"
    return {f"all {name}": np.full((1, 1), largest, np.uint8)}


def mean_masks(truths: Sequence[tuple[Row, np.ndarray]], spec: DataSpec) -> list[np.ndarray]:
    """For each image the mean mask of all images of other folds, decided, (K,) GRID x GRID."""
    totals: dict[Any, np.ndarray] = {}
    for row, truth in truths:
        small = shrink(truth, (GRID, GRID))
        if spec.task == "multiclass":
            planes = np.arange(spec.classes)[:, None, None] == small
        else:
            planes = np.broadcast_to(small == 1, (spec.classes, GRID, GRID))
        known = np.broadcast_to(small != IGNORE, planes.shape)
        counted = np.stack([planes, known]).astype(np.int32)
        totals[row["kfold"]] = totals.get(row["kfold"], 0) + counted
    whole = np.sum(list(totals.values()), axis=0)
    decided = {}
    for fold, mine in totals.items():
        inside, known = whole - mine if len(totals) > 1 else whole
        if spec.task == "multiclass":
            decided[fold] = inside.argmax(0).astype(np.uint8)
        else:
            decided[fold] = (2 * inside > known).astype(np.uint8)
    return [decided[row["kfold"]] for row, _ in truths]


def _evidence(guess: np.ndarray, truth: np.ndarray, labels: Any, spec: DataSpec) -> Evidence:
    mask, target = (torch.from_numpy(np.ascontiguousarray(one))[None] for one in (guess, truth))
    target = target[:, None] if spec.task == "binary" else target
    decided, known = leave_out_ignored(mask, target, task=spec.task)

    def objects() -> tuple[Any, Any, torch.Tensor]:
        of_truth = mask_objects(truth, labels, task=spec.task, classes=spec.classes)
        sure = torch.ones(1, *of_truth.shape)
        return decided, of_truth[None], sure

    return Evidence(decided, known, task=spec.task, classes=spec.classes, objects=objects)
