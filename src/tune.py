"""Chooses threshold, gate, minimum area and holes on out-of-fold predictions, honestly.

Of a multiclass run it chooses weights of the classes and their smallest parts.
Every step is chosen on some folds and judged on the fold that had no say; a gain inside noise is
not taken. What is taken goes into output/<RUN>/report.json, which ensemble.py follows.
Needs Lightning_tester.py first; takes a minute or less, no GPU.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from class_tuning import tune_ids
from errors import UserError, script
from experiment import check_same_folds, load_folds, write_json
from nested import fold_blocks
from objective import Objective, WholeScore, build_objective
from oof import OofImages, read_oof_rows
from overrides import load_config
from postprocess import Rule, Rules, apply_rule
from sweeps import (
    GATES,
    OBJECT_THRESHOLDS,
    THRESHOLDS,
    area_grid,
    object_scores,
    sweep_parts,
    sweep_thresholds,
)
from tuning import (
    Class,
    count_values,
    propose_gate,
    propose_pair,
    propose_parts,
    propose_threshold,
)


def tune_pixels(images: OofImages, objective: Objective, start: float) -> list[Class]:
    """Tunes each class of a binary or multilabel run for a metric of pixels."""
    thresholds = sorted({*THRESHOLDS, start})

    def first(at: int) -> tuple[np.ndarray, np.ndarray]:
        levels = images.levels(at)
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

    def second(at: int) -> list[dict[Rule, np.ndarray]]:
        levels = images.levels(at)
        planes = zip(levels, images.truth(at, levels.shape[1:]), strict=True)
        return [
            {rule: sweep_parts(*pair, rule, areas[k]) for rule in tuned[k].now.rules()}
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
        one.consider("parts", propose_parts(one, tables, areas[k], 2))
    if images.gates(0) is not None:
        tune_gates(images, tuned, truth)
    return tuned


def tune_gates(images: OofImages, tuned: Sequence[Class], truth: torch.Tensor) -> None:
    """Tunes below which probability of the second head a class's mask is empty.

    Args:
        images: with gates.
        tuned: the classes so far.
        truth: (N, K) foreground pixels.
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
        one.consider("gate", propose_gate(one, counts, truth[:, k], gates[:, k], GATES))


def tune_objects(images: OofImages, objective: Objective, start: float) -> list[Class]:
    """Tunes a binary run for a metric of objects: threshold, then minimum area and holes."""
    thresholds = sorted({*OBJECT_THRESHOLDS, start})

    def sweep(at: int, rules: Sequence[Rule], areas: Sequence[int]) -> np.ndarray:
        levels = images.levels(at)
        truth = images.instances(at, levels.shape[1:])
        return np.stack([object_scores(levels[0], truth, rule, areas) for rule in rules])

    def table(rules: Sequence[Rule], areas: Sequence[int]) -> torch.Tensor:
        scores = np.stack(images.each(partial(sweep, rules=rules, areas=areas)))
        return objective.of_scores(torch.from_numpy(scores))

    def object_areas(at: int) -> np.ndarray:
        size = images.levels(at).shape[1:]
        return np.bincount(images.instances(at, size).ravel())[1:]

    values = table([Rule(threshold) for threshold in thresholds], [0])[:, :, 0, 0]
    blocks, groups = fold_blocks(images.folds, images.groups), np.array(images.groups)
    one = Class(
        objective, blocks, groups, rule=Rule(start), values=values[:, thresholds.index(start)]
    )
    one.consider("threshold", propose_threshold(one, values, thresholds))
    areas = area_grid(np.concatenate(images.each(object_areas)))
    rules = one.now.rules()
    tables = dict(zip(rules, table(rules, areas).unbind(1), strict=True))
    one.consider("parts", propose_parts(one, tables, areas, 1))
    return [one]


def summary(tuned: Sequence[Class], images: OofImages, objective: Any) -> dict[str, Any]:
    """What report.json keeps of the tuning."""

    def mean(which: str) -> list[float]:
        both = [(one.start, one.now) for one in tuned]
        sums = [[getattr(choice, which).sum(0) for choice in pair] for pair in both]
        return torch.tensor(
            [[float(objective.score(total)) for total in pair] for pair in sums]
        ).mean(0).tolist()  # fmt: skip

    (before, inside), (_, outside) = mean("inside"), mean("outside")
    return {
        "metric": objective.name,
        "images": len(images),
        "blocks": "folds" if len(set(images.folds)) > 1 else "groups of one fold",
        "untuned": before,
        "in_sample": inside,
        "held_out": outside,
        "classes": [[step.to_dict() for step in one.steps] for one in tuned],
    }


def tune_images(config: Any, images: OofImages) -> tuple[list[Class], Any]:
    """(what was tuned, the metric it was tuned for): a Class each, of multiclass one for all.

    Raises:
        UserError: a metric that is not made of counts, or of objects for several classes.
    """
    objective = build_objective(config.METRIC)
    if objective.kind == "instances" and config.CLASSES > 1:
        raise UserError(f"METRIC={config.METRIC} tells objects of one class apart: need CLASSES=1")
    if config.TASK == "multiclass":
        whole = WholeScore(config.METRIC, task=config.TASK, classes=config.CLASSES)
        return tune_ids(images, whole), whole
    tune = tune_objects if objective.kind == "instances" else tune_pixels
    return tune(images, objective, config.THRESHOLD), objective


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the verdicts, store nothing")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_same_folds(config)
    rows = read_oof_rows(load_folds(config), config.RUN_OUTPUT)

    from competition import mask_source

    images = OofImages(
        config.RUN_OUTPUT / "oof",
        rows,
        masks=mask_source(config),
        root=config.INPUT,
        task=config.TASK,
        classes=config.CLASSES,
    )
    tuned, objective = tune_images(config, images)
    names = config.CLASS_NAMES or [f"class {k}" for k in range(config.CLASSES)]
    for name, one in zip(names, tuned, strict=False):
        label = f"{name}, " if len(tuned) > 1 else ""
        for step in one.steps:
            print(f"{label}{step.verdict()}")
    told = summary(tuned, images, objective)
    path = config.RUN_OUTPUT / "report.json"
    if not args.dry_run:
        report = json.loads(path.read_text())
        first = tuned[0].now.rule
        each = first.each if isinstance(first, Rules) else [one.now.rule for one in tuned]
        rules = [rule.to_dict() for rule in each]
        write_json(path, {**report, "rules": rules, "tuning": told})
    print(
        f"{objective.name} of {len(images)} images: untuned {told['untuned']:.4f}, tuned "
        f"{told['held_out']:.4f} on held-out folds ({told['in_sample']:.4f} in-sample): "
        + (f"{path} as it was" if args.dry_run else str(path))
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
