"""Tuning a multiclass run for a metric of objects, outlines or volumes of its classes."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from postprocessing.rules import Rule, Rules
from scoring.nested import fold_blocks
from scoring.objective import WholeScore
from scoring.oof import OofImages
from scoring.oof_scores import oof_values
from scoring.sweeps import area_grid
from tuning.class_sweeps import WEIGHTS
from tuning.steps import Class

# Weights of the background that are tried: each decides all images anew.
LADDER = WEIGHTS[::2]
# From rules so far and a place in a grid to other rules.
Change = Callable[[Rules, int], Rules]


def tune_wholes(images: OofImages, whole: WholeScore) -> list[Class]:
    """Tunes the weight of the background, then the smallest part of all other classes."""
    areas = area_grid(np.concatenate(images.each(lambda at: _object_areas(images, at))))

    def weigh_ground(rules: Rules, at: int) -> Rules:
        return Rules((replace(rules.each[0], weight=LADDER[at]), *rules.each[1:]))

    def drop_specks(rules: Rules, at: int) -> Rules:
        ground, *others = rules.each
        return Rules((ground, *(replace(rule, min_area=areas[at]) for rule in others)))

    def values(rules: Rules) -> Tensor:
        return oof_values([images], rules.each, whole, weights=[(1.0,)])[:, 0]

    def grid(change: Change, count: int) -> Callable[[Rules], Tensor]:
        return lambda rules: torch.stack([values(change(rules, at)) for at in range(count)], 1)

    plain = Rules((Rule(),) * images.classes)
    blocks = fold_blocks(images.folds, images.groups)
    one = Class(whole, blocks, np.array(images.groups), rule=plain, values=values(plain))
    one.consider("background", one.propose(grid(weigh_ground, len(LADDER)), weigh_ground))
    one.consider("parts", one.propose(grid(drop_specks, len(areas)), drop_specks))
    return [one]


def _object_areas(images: OofImages, at: int) -> np.ndarray:
    levels = images.levels(at)
    labels = images.instances(at, (levels.shape[1], levels.shape[2]))
    return np.unique(labels[labels > 0], return_counts=True)[1]
