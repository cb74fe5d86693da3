"""One pass over a run's stored predictions: all that a report shows is sums of these pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from imaging.mask_files import IGNORE
from measures.evidence import needs_of
from measures.pixels import confusion
from metrics import build_metric
from postprocessing.rules import Rule, decide_by, label_by
from scoring.oof import OofImages
from scoring.sweeps import THRESHOLDS, counts_above, level_counts


@dataclass(frozen=True)
class OofCounts:
    """Pixels of N images and K classes.

    Attributes:
        counts: int64 (N, K, 4): true positive, false positive, false negative, true negative.
        confused: int64 (R, C): true classes by decided ones. Binary: background and foreground.
            Multilabel: pixels of a true class that each class was decided at; the last column
            counts those at which none was.
        levels: int64 (P, 256, 2): pixels at each level, and those that truly are of the class.
            Multiclass: of the likeliest class, whichever it is (P = 1).
        above: int64 (N, K, T, 2): pixels above each of THRESHOLDS, and true ones; T is 0 for
            multiclass.
        surely: int64 (N, K, 2): pixels above the highest of THRESHOLDS where the mask has not the
            class, and those not above the lowest where it has.
        scores: (N,) the run's metric of each image; nan where it has none.
    """

    counts: np.ndarray
    confused: np.ndarray
    levels: np.ndarray
    above: np.ndarray
    surely: np.ndarray
    scores: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """int64 (N, K): true pixels of each class."""
        return self.counts[..., 0] + self.counts[..., 2]

    @property
    def pixels(self) -> np.ndarray:
        """int64 (N,): pixels of each image that are not ignored."""
        return self.counts[:, 0].sum(-1)


def count_oof(images: OofImages, rules: Sequence[Rule], metric: str) -> OofCounts:
    """Counts of all images, decided by the rules.

    Args:
        images: stored predictions and their truth.
        rules: one a class. Multiclass: parts too small for a class are not dropped, because they
            would be of no class.
        metric: the row of METRICS for `scores`.
    """
    scored: Any = build_metric(metric, task=images.task, classes=images.classes)
    if images.task == "multiclass":
        rules = [replace(rule, min_area=0) for rule in rules]

    def count(at: int) -> OofCounts:
        levels = images.levels(at)
        size = (levels.shape[1], levels.shape[2])
        truth = images.truth(at, size)
        probs = torch.from_numpy(levels) / 255
        mask = decide_by(rules, probs, task=images.task, gates=images.gates(at))
        found, target = mask, truth
        if needs_of(scored) == "instances":
            found = label_by(rules, probs, task=images.task)
            target = images.instances(at, size)
        score = np.nan
        if hasattr(scored, "per_image"):
            pair = [torch.from_numpy(labels)[None] for labels in (found, target)]
            score = float(scored.per_image(*pair)[0])
        split = _count_ids if images.task == "multiclass" else _count_planes
        counts, confused, hist, above, surely = split(levels[: images.classes], mask, truth)
        return OofCounts(counts, confused, hist, above, surely, np.array(score))

    found = images.each(count)
    columns = {
        field.name: np.stack([getattr(one, field.name) for one in found])
        for field in fields(OofCounts)
    }
    pooled = {name: columns.pop(name).sum(0) for name in ("confused", "levels")}
    return OofCounts(**columns, **pooled)


def _count_ids(levels: np.ndarray, mask: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, ...]:
    classes = len(levels)
    table = confusion(torch.from_numpy(mask)[None], torch.from_numpy(truth)[None], classes)[0]
    confused = table.numpy()
    tp, decided, true = confused.diagonal(), confused.sum(0), confused.sum(1)
    counts = np.stack([tp, decided - tp, true - tp, confused.sum() - decided - true + tp], -1)
    level, hit, valid = levels.max(0), levels.argmax(0) == truth, truth != IGNORE
    hits = [np.bincount(level[valid & kept], minlength=256) for kept in (True, hit)]
    low, high = sure_levels()
    own = np.take_along_axis(levels, np.where(valid, truth, 0)[None].astype(np.intp), 0)[0]
    claimed = levels.argmax(0)[valid & ~hit & (level > high)]
    lost = truth[valid & ~hit & (own <= low)]
    surely = np.stack([np.bincount(ids, minlength=classes) for ids in (claimed, lost)], -1)
    none = np.zeros((classes, 0, 2), np.int64)
    return counts, confused, np.stack(hits, -1)[None], none, surely


def sure_levels() -> tuple[int, int]:
    """Levels 0...255 of the lowest and the highest of THRESHOLDS."""
    return int(255 * THRESHOLDS[0]), int(255 * THRESHOLDS[-1])


def _count_planes(
    levels: np.ndarray, mask: np.ndarray, truth: np.ndarray
) -> tuple[np.ndarray, ...]:
    pixels = truth[0].size
    # Sums of products of {0, 1} in float64 are exact up to 2^53 pixels.
    first, second = (one.reshape(len(one), -1).astype(np.float64) for one in (truth, mask))
    shared = first @ second.T
    tp, decided, true = shared.diagonal(), second.sum(1), first.sum(1)
    counts = np.stack([tp, decided - tp, true - tp, pixels - decided - true + tp], -1)
    missed = first @ (second.max(0) == 0)
    confused = np.column_stack([shared, missed])
    if len(levels) == 1:
        (tp, fp, fn, tn) = counts[0]
        confused = np.array([[tn, fp], [fn, tp]])
    hist = np.stack([level_counts(*pair) for pair in zip(levels, truth, strict=True)])
    above = np.stack([counts_above(one, THRESHOLDS) for one in hist])
    low, high = above[:, 0], above[:, -1]
    surely = np.stack([high[:, 0] - high[:, 1], first.sum(1).astype(np.int64) - low[:, 1]], -1)
    return counts.astype(np.int64), confused.astype(np.int64), hist, above, surely
