"""What sets of views are worth: each scored at native size on images the networks never saw."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import torch

from inference.views import SETS
from Lightning_datamodule import rows_in
from postprocessing.rules import Rule, label_by
from runs.experiment import (
    build_predictor,
    check_same_folds,
    load_folds,
    mask_source,
    run_folder,
)
from runs.reports import check_same_task
from runs.scored import trained_folds
from scoring.gains import Gain, paired_gain
from scoring.nested import choose_nested, fold_blocks, groups_of, sum_blocks
from scoring.objective import WholeScore
from scoring.oof_scores import read_truth


def choose_views(config: Any, *, limit: int) -> None:
    """Weighs the rows of SETS for RUN and prints the flag to use; stores nothing.

    Args:
        config: the configuration.
        limit: images of each fold; 0 = all.
    """
    table = load_folds(config)
    folds = trained_folds(config, table)
    check_same_folds(config)
    whole = WholeScore(config.METRIC, task=config.TASK, classes=config.CLASSES)
    masks, rows, values = mask_source(config), list[dict[str, Any]](), list[torch.Tensor]()
    for fold in folds:
        mine = [dict(row) for row in rows_in(table, [fold])]
        mine = mine[:: -(-len(mine) // limit)] if limit else mine
        values += fold_values(config, mine, fold, masks, whole=whole)
        rows += mine
    stacked = torch.stack(values)
    groups = np.array(groups_of(rows))
    blocks = fold_blocks([row["kfold"] for row in rows], groups.tolist())
    name, gain, each = weigh_sets(stacked, blocks, groups, whole)
    for one, of_set in zip(SETS, each, strict=True):
        print(f"{one:12s} {len(SETS[one]) + 1} views: {of_set}")
    taken = gain.real and name != "none"
    flag = f"use --tta {','.join(SETS[name])}" if taken else "use none: the gain is noise"
    print(
        f"{config.METRIC} of {len(rows)} images without TTA "
        f"{float(whole.score(stacked[:, 0].sum(0))):.4f}; best set {name}, held out {gain}: {flag}"
    )


def set_values(
    config: Any,
    views: dict[str, torch.Tensor],
    row: dict[str, Any],
    masks: Any,
    *,
    whole: WholeScore,
) -> torch.Tensor:
    """(S, V) values of one image's mean probabilities under each row of SETS.

    Args:
        config: the configuration.
        views: probabilities (K, H, W) at native size of each view, "" the image as it is.
        row: the image's row of train_folds.csv.
        masks: the truth.
        whole: the metric.
    """
    from metrics import decide

    truth = read_truth(config, row, masks, whole=whole, size=views[""].shape[-2:])
    rules = [Rule(config.THRESHOLD, split=config.INSTANCES == "border")]
    values = []
    for names in SETS.values():
        mean = torch.stack([views[name] for name in ("", *names)]).mean(0)
        decided = decide(
            mean[None, : config.CLASSES].cpu(), task=config.TASK, threshold=config.THRESHOLD
        )
        if whole.kind == "instances" and rules[0].split:
            decided = torch.from_numpy(label_by(rules, mean, task=config.TASK))[None]
        values.append(whole.values(decided, truth))
    return torch.stack(values)


def fold_values(
    config: Any, rows: Sequence[dict[str, Any]], fold: int, masks: Any, *, whole: WholeScore
) -> list[torch.Tensor]:
    """`set_values` of one fold's images, by its best network."""
    predictor = build_predictor(config, [[run_folder(config).scored_checkpoint(fold)]])
    check_same_task(config, predictor.spec)
    by_img = {row["img"]: row for row in rows}
    images = [(row["img"], config.INPUT / row["image"]) for row in rows]
    out = {}
    for img, views in predictor.views(images, sorted({"", *chain(*SETS.values())})):
        out[img] = set_values(config, views, by_img[img], masks, whole=whole)
    return [out[row["img"]] for row in rows]


def weigh_sets(
    values: torch.Tensor, blocks: np.ndarray, groups: np.ndarray, whole: WholeScore
) -> tuple[str, Gain, list[Gain]]:
    """The set of all blocks, its gain on held-out blocks, and each set's own gain.

    Args:
        values: (N, S, V), S in the order of SETS, the first without views.
        blocks: (N,) as `fold_blocks`.
        groups: (N,) of images that are no independent evidence.
        whole: the metric.
    """
    best, without = choose_nested(sum_blocks(values, blocks), whole.score, switches=1)
    cells = np.array([without[min(block, len(without) - 1)].cell[0] for block in blocks])
    outside = values[torch.arange(len(values)), torch.from_numpy(cells)]
    plain = values[:, 0]
    each = [
        paired_gain(plain, values[:, at], whole.score, groups=groups) for at in range(len(SETS))
    ]
    gain = paired_gain(plain, outside, whole.score, groups=groups)
    return list(SETS)[best.cell[0]], gain, each
