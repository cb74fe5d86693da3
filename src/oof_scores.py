"""Per-image values of stored out-of-fold predictions, of one run or the mean of several."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from errors import UserError
from objective import WholeScore
from oof import OofImages
from postprocess import Rule, decide_by

KINDS = ("probs", "logits", "votes")
# Logits of 0 and 255 would be infinite: half a level away from the ends.
EDGE = 0.5 / 255


def mean_probs(levels: Sequence[Tensor], weights: Sequence[float], kind: str = "probs") -> Tensor:
    """float32 (K, H, W) in 0-1: the weighted mean of several predictions of one image.

    Args:
        levels: uint8 (K, H, W), 0...255, of each run.
        weights: one a run; their sum does not matter.
        kind: "probs" (arithmetic), "logits" (what a doubtful run says counts less) or "votes" (of
            masks decided above one half; for multiclass of the likeliest class).
    """
    share = torch.tensor(weights, dtype=torch.float32) / sum(weights)
    probs = torch.stack([level.float() / 255 for level in levels])
    if kind == "logits":
        logits = torch.logit(probs.clamp(EDGE, 1 - EDGE))
        return torch.tensordot(share, logits, 1).sigmoid()
    if kind == "votes":
        if probs.shape[1] > 1 and bool((probs.sum(1) - 1).abs().max() < 0.05):
            ids = probs.argmax(1, keepdim=True)
            probs = torch.zeros_like(probs).scatter_(1, ids, 1.0)
        else:
            probs = (probs > 0.5).float()
    return torch.tensordot(share, probs, 1)


def oof_values(
    runs: Sequence[OofImages],
    rules: Sequence[Rule],
    whole: WholeScore,
    *,
    weights: Sequence[Sequence[float]],
    kind: str = "probs",
) -> Tensor:
    """(N, W, V) values of each image under each of W weightings of the runs.

    Args:
        runs: the same images in the same order, of each run.
        rules: of the decision, one a class.
        whole: the metric.
        weights: W weightings, one number a run.
        kind: see `mean_probs`.
    """
    first = runs[0]
    # Multiclass parts that are too small belong to no class, which no pixel metric can count.
    if first.task == "multiclass":
        rules = [replace(rule, min_area=0) for rule in rules]

    def values(at: int) -> Tensor:
        levels = [torch.from_numpy(run.levels(at)) for run in runs]
        size = (levels[0].shape[-2], levels[0].shape[-1])
        truth: Any = torch.from_numpy(first.truth(at, size))[None]
        if whole.kind == "instances":
            truth = first.instances(at, size)[None]
        masks = [
            torch.from_numpy(decide_by(rules, mean_probs(levels, one, kind), task=first.task))
            for one in weights
        ]
        return torch.stack([whole.values(mask[None], truth) for mask in masks])

    return torch.stack(first.each(values))


def common_images(runs: Sequence[OofImages]) -> list[OofImages]:
    """The runs with the images that all of them predicted, in one order.

    Raises:
        UserError: there is none.
    """
    known = set.intersection(*({row["img"] for row in run.rows} for run in runs))
    if not known:
        raise UserError("the runs have no image in common: were they scored on the same folds?")
    kept = []
    for run in runs:
        rows = sorted((row for row in run.rows if row["img"] in known), key=lambda row: row["img"])
        kept.append(
            OofImages(
                run.folder,
                rows,
                masks=run.masks,
                root=run.root,
                task=run.task,
                classes=run.classes,
            )
        )
    return kept
