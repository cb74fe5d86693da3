"""Weighs several runs on their out-of-fold predictions: which mean, and how much of each.

python src/blend.py --runs a,b writes output/a+b/ with the blended predictions as if it were a run:
tune it with tune.py --run a+b, predict with ensemble.py --runs a,b. Two or three runs are weighed
on a grid, more by climbing: the run that helps most is added, again and again. Equal weights of
probabilities stay unless something else is better on folds that had no say.
"""

import argparse
from collections.abc import Sequence

from core.errors import UserError, script
from core.flags import load_config
from runs.experiment import load_folds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", default="", help="two runs or more, with commas")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    names = [name for name in args.runs.split(",") if name]
    if len(set(names)) != len(names) or len(names) < 2:
        raise UserError(f"--runs: got {args.runs!r}, need two different runs or more, as a,b")
    table = load_folds(config)

    from runs.experiment import mask_source
    from runs.predictions import open_oof
    from scoring.objective import WholeScore
    from scoring.oof_scores import common_images
    from tuning.weights import weigh, write_blend

    masks = mask_source(config)
    opened = [open_oof(config, table, name, masks) for name in names]
    if len({(images.task, images.classes, images.border) for images, _ in opened}) > 1:
        raise UserError("--runs: they are of different TASK, CLASSES or INSTANCES")
    runs = common_images([images for images, _ in opened])
    whole = WholeScore(config.METRIC, task=runs[0].task, classes=runs[0].classes)
    blend = weigh(runs, whole, config.THRESHOLD, names)
    folder = write_blend(config, runs, [report for _, report in opened], blend)
    print(f"blended {len(runs[0])} images of {len(runs)} runs: {folder}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
