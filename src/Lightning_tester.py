"""Scores a run on the images its folds never saw: honest out-of-fold results.

Each fold's best network predicts its own validation images at their own size. output/<RUN>/
receives oof/*.png (probabilities), oof.csv (a row an image), report.json (scores, checkpoints,
threshold: what ensemble.py and kernel.py read), cases.png (the worst and the best), classes.csv (a
row a class) and report.html, the page to look at.
--image PATH draws the prediction over one picture instead.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.errors import script
from core.flags import load_config
from core.locks import Claim
from runs.experiment import check_same_folds, load_folds, run_folder
from runs.names import check_names
from runs.owners import networks, owning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="draw the prediction over this picture only")
    parser.add_argument("--worst-first", action="store_true", help="order oof.csv by score")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_names(config, "METRIC", "TTA")
    table = load_folds(config)

    from reporting.build import write_page
    from reporting.cases import draw_cases, draw_image
    from runs.scored import score_run, trained_folds
    from training.console import quiet_lightning

    quiet_lightning()
    if args.image:
        folder, folds = run_folder(config), trained_folds(config, table)
        draw_image(config, args.image, [folder.scored_checkpoint(fold) for fold in folds])
        return 0
    claims = networks(config.LOGS, config.RUN, config.TRAIN_FOLDS, reads=True)
    with owning("Lightning_tester", [*claims, Claim(config.OUTPUT, config.RUN)]):
        folds = trained_folds(config, table)
        check_same_folds(config)
        ranked = score_run(config, table, folds, worst=args.worst_first)
        draw_cases(config, ranked, table)
        write_page(config)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
