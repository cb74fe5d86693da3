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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import script
from core.flags import load_config
from core.knobs import knob_values
from core.locks import Claim
from runs.fold_table import read_fold_table
from runs.folder import RunFolder
from runs.names import check_names
from runs.owners import SCORES, networks, owning
from runs.shares import WHOLE, Share, parse_share

if TYPE_CHECKING:
    from runs.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", type=Path, help="draw the prediction over this picture only")
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")
    parser.add_argument("--shard", default="0/1", help="index/count: this process's images")
    parser.add_argument("--worst-first", action="store_true", help="order oof.csv by score")


def claims_of(
    args: argparse.Namespace, logs: Path, output: Path, run: str, folds: Sequence[int] | None
) -> list[Claim]:
    """What a call works on: networks that it reads, scores that it writes, or a shard of them."""
    if args.image or args.dry_run:
        return []
    share = parse_share(args.shard)
    mine = [Claim(output, run)]
    if share != WHOLE:
        part = f"shard {share.index} of {share.count} of the scores"
        mine = [Claim(output, run, SCORES, True), Claim(output, run, part)]
    return [*networks(logs, run, folds, reads=True), *mine]


def plan_line(run: "Run", share: Share) -> str:
    """How long a share of the images that are left takes, by some of them."""
    from imaging.levels import write_probs
    from runs.forecast import forecast_line
    from runs.scored import left_to_score, trained_folds

    folds = trained_folds(run)
    one = [[run.folder.scored_checkpoint(folds[0])]]
    left, predictor = left_to_score(run, folds), run.predictor(one, views=[run.tta])
    if share != WHOLE:
        left = predictor.share(left, share.index, share.count)
    return forecast_line(predictor, left, keep=write_probs)


def score(run: "Run", args: argparse.Namespace, knobs: Mapping[str, Any]) -> None:
    """Scores the images of this process; `knobs` are for the page, which the last one writes."""
    from reporting.build import write_page
    from reporting.cases import draw_cases
    from runs.identity import check_same_folds
    from runs.scored import score_run, score_share, trained_folds

    share, folds = parse_share(args.shard), trained_folds(run)
    check_same_folds(run)
    if share != WHOLE and not score_share(run, folds, share):
        return
    draw_cases(run, score_run(run, folds, worst=args.worst_first))
    write_page(run, knobs)


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    share = parse_share(args.shard)
    read_fold_table(config.FOLDS_CSV)  # what is missing is told before torch comes in
    claims = claims_of(args, config.LOGS, config.OUTPUT, config.RUN, config.TRAIN_FOLDS)
    with owning("Lightning_tester", claims):
        RunFolder(config.LOGS, config.RUN).check_trained()
        check_names(config, "METRIC", "TTA")

        from runs.experiment import run_of
        from training.console import quiet_lightning

        quiet_lightning()
        run = run_of(config)
        if args.image:
            from reporting.cases import draw_image
            from runs.scored import trained_folds

            checkpoints = [run.folder.scored_checkpoint(fold) for fold in trained_folds(run)]
            draw_image(run, args.image, checkpoints)
        elif args.dry_run:
            print(plan_line(run, share))
        else:
            score(run, args, knob_values(config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
