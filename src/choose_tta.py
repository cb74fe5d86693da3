"""Weighs test-time augmentations on images the networks never saw: they can hurt.

Each fold's network predicts its validation images in every view; sets of views are compared at
native size, chosen on all folds but one and judged on that one. Prints the flag to use; nothing
is stored. `--limit 200` takes so many images a fold.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bootstrap import Gain, paired_gain
from errors import UserError, script
from experiment import (
    check_same_folds,
    chosen_folds,
    load_folds,
    loader_spec,
    quiet_lightning,
    scored_checkpoint,
)
from nested import choose_nested, fold_blocks, groups_of, sum_blocks
from objective import WholeScore
from oof_scores import read_truth
from overrides import load_config
from postprocess import Rule, label_by
from precision import precision_here
from tta import SETS, TestTimeModel


def set_values(
    config: Any, views: dict[str, torch.Tensor], row: dict[str, Any], masks: Any, *,
    whole: WholeScore,
) -> torch.Tensor:  # fmt: skip
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
    from predictor import build_stream, choose_device, load_teams, predict_batch

    device = choose_device(config.ACCELERATOR)
    precision = precision_here(config.PRECISION, config.ACCELERATOR)
    (team,) = load_teams([[scored_checkpoint(config, fold)]], device)
    spec = team.spec
    if (spec.task, spec.classes, spec.instances) != (config.TASK, config.CLASSES, config.INSTANCES):
        raise UserError(
            f"run {config.RUN!r} is {spec.task} with {spec.instances}: set TASK, CLASSES and "
            "INSTANCES as it was"
        )
    plain = team.modules[0].model
    by_img = {row["img"]: row for row in rows}
    out = {}
    stream = build_stream(
        [(row["img"], config.INPUT / row["image"]) for row in rows], [team], loader_spec(config)
    )
    for batch in stream:
        shown: dict[str, dict[str, torch.Tensor]] = {img: {} for img in batch["img"]}
        for name in ("", *{name for names in SETS.values() for name in names}):
            look = TestTimeModel(plain, [name], task=config.TASK, plain=False) if name else plain
            team.modules[0].model = look
            for img, _, probs in predict_batch(batch, [team], device, precision=precision):
                shown[img][name] = probs
        for img, views in shown.items():
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=0, help="images a fold; 0 = all")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    table = load_folds(config)
    folds = [
        fold for fold in chosen_folds(config, table) if scored_checkpoint(config, fold).is_file()
    ]
    if not folds:
        raise UserError(f"no fold of run {config.RUN!r} is trained in {config.RUN_PATH}")

    from competition import mask_source
    from Lightning_datamodule import rows_in

    check_same_folds(config)
    quiet_lightning()
    whole = WholeScore(config.METRIC, task=config.TASK, classes=config.CLASSES)
    masks, rows, values = mask_source(config), [], []

    for fold in folds:
        mine = [dict(row) for row in rows_in(table, [fold])]
        mine = mine[:: -(-len(mine) // args.limit)] if args.limit else mine
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
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
