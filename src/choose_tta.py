"""Weighs test-time augmentations on images the networks never saw: they can hurt.

Each fold's network predicts its validation images in every view; sets of views are compared at
native size, chosen on all folds but one and judged on that one. Prints the flag to use; nothing
is stored. `--limit 200` takes so many images a fold.
"""

import argparse
from collections.abc import Sequence

from core.errors import UserError, script
from core.flags import load_config, number
from runs.experiment import (
    check_same_folds,
    chosen_folds,
    load_folds,
    scored_checkpoint,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=number(0), default=0, help="images a fold; 0 = all")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    table = load_folds(config)
    folds = [
        fold for fold in chosen_folds(config, table) if scored_checkpoint(config, fold).is_file()
    ]
    if not folds:
        raise UserError(f"no fold of run {config.RUN!r} is trained in {config.RUN_PATH}")
    check_same_folds(config)

    import numpy as np
    import torch

    from inference.views import SETS
    from Lightning_datamodule import rows_in
    from runs.experiment import mask_source
    from scoring.nested import fold_blocks, groups_of
    from scoring.objective import WholeScore
    from training.console import quiet_lightning
    from tuning.views import fold_values, weigh_sets

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
