"""Tuning for a metric of outlines and shapes, which only whole masks can be scored by."""

import numpy as np
import torch
from torch import Tensor

from postprocessing.rules import Rule, apply_rule
from scoring.nested import fold_blocks
from scoring.objective import Objective
from scoring.oof import OofImages
from scoring.sweeps import OBJECT_THRESHOLDS
from tuning.steps import Class, propose_threshold


def tune_shapes(images: OofImages, objective: Objective, start: float) -> list[Class]:
    """Tunes each class's threshold of a binary or multilabel run."""
    thresholds = sorted({*OBJECT_THRESHOLDS, start})

    def sweep(at: int) -> Tensor:
        levels = images.levels(at)[: images.classes]
        truth = images.truth(at, levels.shape[1:])
        return torch.stack(
            [
                score_thresholds(*pair, objective, thresholds)
                for pair in zip(levels, truth, strict=True)
            ]
        )

    swept = torch.stack(images.each(sweep))
    blocks, groups = fold_blocks(images.folds, images.groups), np.array(images.groups)
    tuned = []
    for values in swept.unbind(1):
        now = values[:, thresholds.index(start)]
        one = Class(objective, blocks, groups, rule=Rule(start), values=now)
        one.consider("threshold", propose_threshold(one, values, thresholds))
        tuned.append(one)
    return tuned


def score_thresholds(
    levels: np.ndarray, truth: np.ndarray, objective: Objective, thresholds: list[float]
) -> Tensor:
    """(T, V) values of one image's class at each threshold.

    Args:
        levels: uint8 (H, W), 0...255.
        truth: uint8 (H, W) of {0, 1}.
        objective: of a metric that takes masks.
        thresholds: T of them.
    """
    masks = np.stack([apply_rule(levels, Rule(threshold)) for threshold in thresholds])
    target = torch.from_numpy(truth).expand(len(masks), 1, -1, -1)
    return objective.metric.image_values(torch.from_numpy(masks)[:, None], target)
