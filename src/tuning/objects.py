"""Tuning for a metric of objects: connected parts first, then the watershed against them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from postprocessing.rules import Rule
from scoring.nested import fold_blocks
from scoring.objective import Objective
from scoring.oof import OofImages
from scoring.sweeps import (
    OBJECT_THRESHOLDS,
    SEED_THRESHOLDS,
    SPLIT_THRESHOLDS,
    area_grid,
    object_values,
)
from tuning.candidates import score_rules
from tuning.steps import Choice, Class, propose_parts, propose_threshold


def tune_objects(images: OofImages, objective: Objective, start: float) -> list[Class]:
    """Tunes a binary run for a metric of objects: threshold, then minimum area and holes.

    With a border the watershed is tuned the same way, seeds before area, and is taken if it beats
    the tuned connected parts on images that had no say.
    """
    thresholds = sorted({*OBJECT_THRESHOLDS, start})
    areas = area_grid(np.concatenate(images.each(partial(_object_areas, images))))
    values = score_rules(images, objective, [Rule(threshold) for threshold in thresholds])
    blocks, groups = fold_blocks(images.folds, images.groups), np.array(images.groups)
    one = Class(
        objective, blocks, groups, rule=Rule(start), values=values[:, thresholds.index(start)]
    )
    one.consider("threshold", propose_threshold(one, values, thresholds))
    one.consider("parts", _propose_areas(images, one, areas))
    if images.border:
        split = tune_split(images, one, areas)
        one.steps += split.steps
        one.consider("watershed against parts", split.now)
    return [one]


def tune_split(images: OofImages, parts: Class, areas: Sequence[int]) -> Class:
    """The watershed's own steps from the threshold where `parts` started."""
    start = replace(parts.start.rule, split=True)
    thresholds = sorted({*SPLIT_THRESHOLDS, start.threshold})
    seeds = sorted({*SEED_THRESHOLDS, start.seed})
    cells = [replace(start, threshold=t, seed=s) for t in thresholds for s in seeds]
    values = score_rules(images, parts.objective, cells)
    one = Class(
        parts.objective,
        parts.blocks,
        parts.groups,
        rule=start,
        values=values[:, cells.index(start)],
    )
    grid = values.unflatten(1, (len(thresholds), len(seeds)))

    def rule_at(rule: Rule, threshold: int, seed: int) -> Rule:
        return replace(rule, threshold=thresholds[threshold], seed=seeds[seed])

    one.consider("watershed's seeds", one.propose(lambda _: grid, rule_at))
    one.consider("watershed's objects", _propose_areas(images, one, areas))
    return one


def score_parts(
    images: OofImages, objective: Objective, rules: Sequence[Rule], areas: Sequence[int]
) -> Tensor:
    """(N, R, A, 2, V) values under each rule, with each minimum area, plain and holes filled."""

    def sweep(at: int) -> np.ndarray:
        levels = images.levels(at)
        truth = images.instances(at, levels.shape[1:])
        values = objective.metric.values
        return np.stack([object_values(levels, truth, rule, areas, values) for rule in rules])

    return torch.from_numpy(np.stack(images.each(sweep)))


def _propose_areas(images: OofImages, one: Class, areas: Sequence[int]) -> Choice:
    rules = one.now.rules()
    tables = score_parts(images, one.objective, rules, areas).unbind(1)
    return propose_parts(one, dict(zip(rules, tables, strict=True)), areas, 1)


def _object_areas(images: OofImages, at: int) -> np.ndarray:
    size = images.levels(at).shape[1:]
    return np.bincount(images.instances(at, size).ravel())[1:]
