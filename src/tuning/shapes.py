"""Tuning for a metric of outlines and shapes, which only whole masks can be scored by."""

import numpy as np

from postprocessing.rules import Rule
from scoring.nested import fold_blocks
from scoring.objective import Objective
from scoring.oof import OofImages
from scoring.sweeps import OBJECT_THRESHOLDS
from tuning.candidates import score_rules
from tuning.steps import Class, propose_threshold


def tune_shapes(images: OofImages, objective: Objective, start: float) -> list[Class]:
    """Tunes each class's threshold of a binary or multilabel run."""
    thresholds = sorted({*OBJECT_THRESHOLDS, start})
    rules = [Rule(threshold) for threshold in thresholds]
    blocks, groups = fold_blocks(images.folds, images.groups), np.array(images.groups)
    tuned = []
    for k in range(images.classes):
        values = score_rules(images, objective, rules, k)
        now = values[:, thresholds.index(start)]
        one = Class(objective, blocks, groups, rule=Rule(start), values=now)
        one.consider("threshold", propose_threshold(one, values, thresholds))
        tuned.append(one)
    return tuned
