"""Chooses threshold, gate, minimum area and holes on out-of-fold predictions, honestly.

Every step is chosen on some folds and judged on the fold that had no say; a gain inside noise is
not taken. What is taken goes into output/<RUN>/report.json, which ensemble.py follows, and onto
report.html.
Needs Lightning_tester.py first; takes seconds, no GPU.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from errors import UserError, script
from experiment import check_same_folds, load_folds, write_json
from nested import fold_blocks
from object_tuning import tune_objects
from objective import Objective, build_objective
from oof import OofImages, read_oof_rows
from overrides import load_config
from postprocess import Rule
from sweeps import THRESHOLDS, area_grid, sweep_parts, sweep_thresholds
from tuning import Class, count_values, propose_pair, propose_parts, propose_threshold


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

    def second(at: int) -> list[dict[Rule, np.ndarray]]:
        levels = images.levels(at)[: images.classes]
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
    return tuned


def summary(tuned: Sequence[Class], images: OofImages, objective: Objective) -> dict[str, Any]:
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
        "gains": [[gain.gain, gain.low, gain.high] for gain in (one.gain() for one in tuned)],
        "classes": [[step.to_dict() for step in one.steps] for one in tuned],
    }


def check_task(config: Any, objective: Objective) -> None:
    """Makes sure that there is a threshold to tune.

    Raises:
        UserError: multiclass, or a metric of objects for several classes.
    """
    if config.TASK == "multiclass":
        raise UserError(
            "TASK=multiclass: the likeliest class wins, there is no threshold to tune. The "
            "ensemble follows MIN_AREA alone"
        )
    if objective.kind == "instances" and config.CLASSES > 1:
        raise UserError(f"METRIC={config.METRIC} tells objects of one class apart: need CLASSES=1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the verdicts, store nothing")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    objective = build_objective(config.METRIC)
    check_task(config, objective)
    check_same_folds(config)
    rows = read_oof_rows(load_folds(config), config.RUN_OUTPUT)
    path = config.RUN_OUTPUT / "report.json"
    report = json.loads(path.read_text())

    from competition import mask_source
    from report import write_page

    images = OofImages(
        config.RUN_OUTPUT / "oof",
        rows,
        masks=mask_source(config),
        root=config.INPUT,
        task=config.TASK,
        classes=config.CLASSES,
        border=report["spec"].get("instances") == "border",
    )
    tune = tune_objects if objective.kind == "instances" else tune_pixels
    tuned = tune(images, objective, config.THRESHOLD)
    names = config.CLASS_NAMES or [f"class {k}" for k in range(config.CLASSES)]
    for name, one in zip(names, tuned, strict=True):
        label = f"{name}, " if len(tuned) > 1 else ""
        for step in one.steps:
            print(f"{label}{step.verdict()}")
    told = summary(tuned, images, objective)
    if not args.dry_run:
        rules = [one.now.rule for one in tuned]
        if tune is tune_pixels:  # says nothing on objects: they stay split as they were scored
            rules = [replace(rule, split=images.border) for rule in rules]
        kept = [rule.to_dict() for rule in rules]
        write_json(path, {**report, "rules": kept, "tuning": told})
        write_page(config)
    print(
        f"{objective.name} of {len(images)} images: untuned {told['untuned']:.4f}, tuned "
        f"{told['held_out']:.4f} on held-out folds ({told['in_sample']:.4f} in-sample)"
        f"{', gain ' + str(tuned[0].gain()) if len(tuned) == 1 else ''}: "
        + (f"{path} as it was" if args.dry_run else str(path))
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
