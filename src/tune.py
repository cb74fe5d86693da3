"""What is decided after training, on images that the networks never saw; honestly.

python src/tune.py          rules: threshold, gate, smallest parts, holes; weights of classes
python src/tune.py tta      which views of an image help, and their price; prints the flag
python src/tune.py soup     best.ckpt and last.ckpt of each fold in one network, if it is better
python src/tune.py blend --runs a,b     which mean of several runs, and how much of each

Every choice is made on some folds and judged on the fold that had no say; a gain inside noise is
not taken. Rules go into output/<RUN>/report.json, which ensemble.py follows, and onto report.html.
A soup is left as soup.ckpt beside best.ckpt, and the run is scored again. A blend is written to
output/<a+b>/ as if it were a run: tune it with --run a+b, predict with ensemble.py --runs a,b.
All but tta need Lightning_tester.py first.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import UserError, script
from core.flags import load_config, names, number
from core.knobs import knob_values
from core.locks import Claim
from runs.fold_table import read_fold_table
from runs.folder import RunFolder
from runs.names import check_names
from runs.owners import networks, owning, scored
from runs.reports import read_report

if TYPE_CHECKING:
    from runs.run import Run


def add_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the verdicts, store nothing")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="say how long; store nothing")


def add_tta(parser: argparse.ArgumentParser) -> None:
    add_dry_run(parser)
    parser.add_argument("--limit", type=number(0), default=0, help="images a fold; 0 = all")


def add_soup(parser: argparse.ArgumentParser) -> None:
    add_dry_run(parser)


def add_blend(parser: argparse.ArgumentParser) -> None:
    add_dry_run(parser)
    two = names("two different runs or more, as a,b", least=2)
    parser.add_argument("--runs", type=two, required=True, help="two or more, with commas")


VERBS = {"rules": add_rules, "tta": add_tta, "soup": add_soup, "blend": add_blend}


def claims_of(args: argparse.Namespace, logs: Path, output: Path, run: str) -> list[Claim]:
    """What a verb works on: of runs that are blended it reads the scores."""
    if args.verb == "blend":
        read = [claim for name in args.runs for claim in scored(logs, output, name, None)]
        return [*read, Claim(output, "+".join(args.runs))]
    return [*networks(logs, run, None, reads=args.verb != "soup"), Claim(output, run)]


def check_there(
    args: argparse.Namespace, logs: Path, output: Path, run: str, *, folds: Sequence[int] | None
) -> None:
    """Makes sure that what a verb begins from is there.

    Args:
        folds: TRAIN_FOLDS.

    Raises:
        UserError: no network, or a run that is not scored, whose report is broken, or of which
            other folds are asked for than were scored; a trained run of a blend's name.
    """
    if args.verb in ("tta", "soup"):
        RunFolder(logs, run).check_trained()
    if args.verb == "tta":
        return
    if args.verb == "blend" and RunFolder(logs, mean := "+".join(args.runs)).trained():
        raise UserError(
            f"run {mean!r} was trained: this blend would take its place in {output / mean}. Give "
            "the runs in another order"
        )
    for name in args.runs if args.verb == "blend" else [run]:
        there = [fold.fold for fold in read_report(output, name).folds]
        if folds is not None and there and sorted(folds) != sorted(there):
            raise UserError(
                f"tune {args.verb} takes all folds of run {name!r} that were scored, {there}: got "
                f"TRAIN_FOLDS={list(folds)}, leave it out"
            )


def plan_line(run: "Run", args: argparse.Namespace) -> str:
    """How long a verb takes that predicts (tta, soup) or reads predictions (blend)."""
    from imaging.levels import write_probs
    from inference.views import SETS
    from Lightning_datamodule import rows_in
    from runs.forecast import forecast_line, reading_line
    from runs.scored import trained_folds

    if args.verb == "blend":
        return reading_line([run.output / name / "oof" for name in args.runs])
    folds = trained_folds(run)
    images = [(row["img"], run.input / row["image"]) for row in rows_in(run.table, folds)]
    if args.verb == "tta" and args.limit:
        images = images[: args.limit * len(folds)]
    # A soup is scored, and where it is taken the run is scored again.
    times = 1 + len(set(chain(*SETS.values()))) if args.verb == "tta" else 2
    predictor = run.predictor([[run.folder.scored_checkpoint(folds[0])]])
    keep = write_probs if args.verb == "soup" else None
    return forecast_line(predictor, images, times=times, keep=keep)


def tune(run: "Run", args: argparse.Namespace, knobs: Mapping[str, Any]) -> None:
    """Runs the verb; `knobs` are for the page."""
    from reporting.build import write_page
    from runs.reports import report_path

    if args.verb == "rules":
        from tuning.rules import tune_rules

        tune_rules(run, dry_run=args.dry_run)
        if not args.dry_run:
            write_page(run, knobs)
    elif args.verb == "tta":
        from tuning.views import choose_views

        choose_views(run, limit=args.limit)
        if report_path(run.output, run.name).is_file():
            write_page(run, knobs)
    elif args.verb == "blend":
        from tuning.weights import blend_runs

        blend_runs(run, args.runs)
    else:
        from reporting.cases import draw_cases
        from runs.scored import score_run, trained_folds
        from tuning.soups import take_soup

        if take_soup(run):
            draw_cases(run, score_run(run, trained_folds(run)))
            write_page(run, knobs)


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, verbs=VERBS, verb="rules", description=__doc__)
    read_fold_table(config.FOLDS_CSV)  # what is missing is told before torch comes in
    plan = args.dry_run and args.verb != "rules"  # of the rules the verdicts themselves are printed
    claims = [] if plan else claims_of(args, config.LOGS, config.OUTPUT, config.RUN)
    with owning("tune", claims):
        check_there(args, config.LOGS, config.OUTPUT, config.RUN, folds=config.TRAIN_FOLDS)
        check_names(config, "METRIC")

        from runs.experiment import run_of
        from training.console import quiet_lightning

        quiet_lightning()
        run = run_of(config)
        if plan:
            print(plan_line(run, args))
        else:
            tune(run, args, knob_values(config))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
