"""Scores a run on the images its folds never saw: honest out-of-fold results.

Each fold's best network predicts its own validation images at their own size. output/<RUN>/
receives oof/*.png (probabilities), oof.csv (a row an image), report.json (scores, checkpoints,
threshold: what ensemble.py and kernel.py read), cases.png (the worst and the best), classes.csv (a
row a class) and report.html, the page to look at.
--shard 0/2 and --shard 1/2 share the images between two processes, the one that ends last writes
the report. --image PATH draws the prediction over one picture instead.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.errors import script
from core.flags import load_config
from core.knobs import knob_values
from core.locks import Claim
from runs.fold_table import read_fold_table
from runs.names import check_names
from runs.owners import SCORES, networks, owning
from runs.shares import WHOLE, parse_share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="draw the prediction over this picture only")
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")
    parser.add_argument("--shard", default="0/1", help="index/count: this process's images")
    parser.add_argument("--worst-first", action="store_true", help="order oof.csv by score")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    check_names(config, "METRIC", "TTA")
    share = parse_share(args.shard)
    read_fold_table(config.FOLDS_CSV)  # missing or broken: told before torch comes in

    from imaging.levels import write_probs
    from reporting.build import write_page
    from reporting.cases import draw_cases, draw_image
    from runs.experiment import run_of
    from runs.forecast import forecast_line
    from runs.identity import check_same_folds
    from runs.scored import left_to_score, score_run, score_share, trained_folds
    from training.console import quiet_lightning

    quiet_lightning()
    run = run_of(config)
    if args.image:
        checkpoints = [run.folder.scored_checkpoint(fold) for fold in trained_folds(run)]
        draw_image(run, args.image, checkpoints)
        return 0
    if args.dry_run:
        folds = trained_folds(run)
        one = [[run.folder.scored_checkpoint(folds[0])]]
        left, predictor = left_to_score(run, folds), run.predictor(one, views=[run.tta])
        if share != WHOLE:
            left = predictor.share(left, share.index, share.count)
        print(forecast_line(predictor, left, keep=write_probs))
        return 0
    claims = networks(run.logs, run.name, run.train_folds, reads=True)
    mine = [Claim(run.output, run.name)]
    if share != WHOLE:
        part = f"shard {share.index} of {share.count} of the scores"
        mine = [Claim(run.output, run.name, SCORES, True), Claim(run.output, run.name, part)]
    with owning("Lightning_tester", [*claims, *mine]):
        folds = trained_folds(run)
        check_same_folds(run)
        if share != WHOLE and not score_share(run, folds, share):
            return 0
        draw_cases(run, score_run(run, folds, worst=args.worst_first))
        write_page(run, knob_values(config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
