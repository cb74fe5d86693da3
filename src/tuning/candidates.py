"""Steps that try whole rules one by one: a row of STEPS, and its field of Rule, make a new one."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from measures.overlaps import overlap_objects
from postprocessing.rules import Rule, apply_rule, label_levels
from scoring.objective import Objective, count_values, volumes_of
from scoring.oof import OofImages
from tuning.steps import Class

# In the order in which they are tried, after the steps that have a faster way. A row gives the
# rules to choose among from the rule so far; each stands for itself, neighbours are not averaged.
STEPS: dict[str, Callable[[Rule], list[Rule]]] = {
    "outline": lambda rule: [replace(rule, grow=pixels) for pixels in range(-3, 4)],
}


def take_steps(images: OofImages, one: Class, k: int) -> None:
    """Takes one class, the k-th, through STEPS."""
    for name, candidates in STEPS.items():

        def grid(rule: Rule, candidates: Callable[[Rule], list[Rule]] = candidates) -> Tensor:
            return score_rules(images, one.objective, candidates(rule), k)

        def rule_at(
            rule: Rule, at: int, candidates: Callable[[Rule], list[Rule]] = candidates
        ) -> Rule:
            return candidates(rule)[at]

        one.consider(name, one.propose(grid, rule_at, switches=1))


def score_rules(
    images: OofImages, objective: Objective, rules: Sequence[Rule], k: int = 0
) -> Tensor:
    """(N, R, V) values of every image's k-th class under each of R rules."""
    if objective.kind == "volumes":
        return _score_volumes(images, objective, rules, k)

    def sweep(at: int) -> Tensor:
        if objective.kind == "instances":
            levels = images.levels(at)
            objects = images.instances(at, (levels.shape[1], levels.shape[2]))
            matched = [overlap_objects(label_levels(levels, rule), objects) for rule in rules]
            return objective.metric.image_values(matched)
        masks, truth = _decide(images, rules, k, at)
        if objective.kind == "shapes":
            target = torch.from_numpy(truth).expand(len(masks), 1, -1, -1)
            return objective.metric.image_values(torch.from_numpy(masks)[:, None], target)
        pixels = np.stack([masks.sum((1, 2)), (masks & truth).sum((1, 2))], -1, dtype=np.int64)
        every = torch.tensor([int(truth.sum())])
        return count_values(objective, torch.from_numpy(pixels)[None], every)[0]

    return torch.stack(images.each(sweep))


def _decide(
    images: OofImages, rules: Sequence[Rule], k: int, at: int
) -> tuple[np.ndarray, np.ndarray]:
    """Masks (R, H, W) of an image's k-th class under each rule, and the truth (H, W)."""
    levels, gates = images.levels(at), images.gates(at)
    gate = 1.0 if gates is None else gates[k]
    masks = np.stack([apply_rule(levels[k], rule, gate) for rule in rules])
    return masks, images.truth(at, (levels.shape[1], levels.shape[2]))[k]


def _score_volumes(
    images: OofImages, objective: Objective, rules: Sequence[Rule], k: int
) -> Tensor:
    """As `score_rules`; what a volume as a whole is worth stands at its first slice."""
    values: dict[int, Tensor] = {}
    for slices in volumes_of(images.rows):
        decided = [_decide(images, rules, k, at) for at in slices]
        truth = torch.from_numpy(np.stack([real for _, real in decided]))[:, None]
        planes = zip(*(masks for masks, _ in decided), strict=True)
        masks = (torch.from_numpy(np.stack(one))[:, None] for one in planes)
        whole = [objective.metric.image_values(mask, truth) for mask in masks]
        values |= dict(zip(slices, torch.stack(whole, 1), strict=True))
    return torch.stack([values[at] for at in range(len(images))])
