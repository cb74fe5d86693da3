"""Tuning of binary and multilabel runs for a metric of pixels."""

from collections.abc import Sequence

import numpy as np
import torch

from postprocessing.rules import Rule, apply_rule
from scoring.nested import fold_blocks
from scoring.objective import Objective, count_values
from scoring.oof import OofImages
from scoring.sweeps import GATES, THRESHOLDS, area_grid, sweep_parts, sweep_thresholds
from tuning.steps import Class, propose_gate, propose_pair, propose_parts, propose_threshold


def tune_pixels(images: OofImages, objective: Objective, start: float) -> list[Class]:
    """Tunes each class of a binary or multilabel run for a metric of pixels."""
    thresholds = sorted({*THRESHOLDS, start})

    def first(at: int) -> tuple[np.ndarray, np.ndarray]:
        levels = images.levels(at)[: images.classes]
        truth = images.truth(at, levels.shape[1:])
        planes = zip(levels, truth, strict=True)
        return np.stack([sweep_thresholds(*pair, thresholds) for pair in planes]), truth.sum((1, 2))

    swept = images.each(first)
    counts = torch.from_numpy(np.stack([pair[0] for pair in swept]))
    truth = torch.from_numpy(np.stack([pair[1] for pair in swept]).astype(np.int64))
    blocks, groups = fold_blocks(images.folds, images.groups), np.array(images.groups)
    tuned, areas = [], []
    for k in range(images.classes):
        values = count_values(objective, counts[:, k], truth[:, k])
        one = Class(
            objective, blocks, groups, rule=Rule(start), values=values[:, thresholds.index(start)]
        )
        areas.append(area_grid(truth[:, k].numpy()))
        one.consider("threshold", propose_threshold(one, values, thresholds))
        pair = propose_pair(one, counts[:, k], truth[:, k], thresholds, areas[k])
        one.consider("pair", pair)
        tuned.append(one)

    # A watershed's rule drops small objects, not small parts: pixels do not tell which.
    smallest = [[0] if images.border else grid for grid in areas]

    def second(at: int) -> list[dict[Rule, np.ndarray]]:
        levels = images.levels(at)[: images.classes]
        planes = zip(levels, images.truth(at, levels.shape[1:]), strict=True)
        return [
            {rule: sweep_parts(*pair, rule, smallest[k]) for rule in tuned[k].now.rules()}
            for k, pair in enumerate(planes)
        ]

    parts = images.each(second)
    for k, one in enumerate(tuned):
        tables = {
            rule: count_values(
                objective, torch.from_numpy(np.stack([row[k][rule] for row in parts])), truth[:, k]
            )
            for rule in one.now.rules()
        }
        one.consider("parts", propose_parts(one, tables, smallest[k], 2))
    if images.gates(0) is not None:
        tune_gates(images, tuned, truth, areas)
    return tuned


def tune_gates(
    images: OofImages, tuned: Sequence[Class], truth: torch.Tensor, areas: Sequence[list[int]]
) -> None:
    """Tunes below which probability of the second head a class's mask is empty.

    Args:
        images: with gates.
        tuned: the classes so far.
        truth: (N, K) foreground pixels.
        areas: grid of each class, in pixels.
    """

    def sweep(at: int) -> list[np.ndarray]:
        levels = images.levels(at)
        planes = zip(levels, images.truth(at, levels.shape[1:]), strict=True)
        counts = []
        for one, (plane, mask) in zip(tuned, planes, strict=True):
            shown = [apply_rule(plane, rule) for rule in one.now.rules()]
            pixels = [[each.sum(), (each & mask).sum()] for each in shown]
            counts.append(np.array(pixels, np.int64))
        return counts

    swept = images.each(sweep)
    gates = torch.tensor([images.gates(at) for at in range(len(images))], dtype=torch.double)
    for k, one in enumerate(tuned):
        counts = torch.from_numpy(np.stack([row[k] for row in swept]))
        of = (counts, truth[:, k], gates[:, k])
        one.consider("gate", propose_gate(one, *of, limits=GATES, areas=areas[k]))
