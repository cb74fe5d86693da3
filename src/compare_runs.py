"""The ledger: every run with what differs and what it scored, in output/runs.csv and runs.html.

--pair a,b      two runs image by image: is the difference more than noise?
--advise a,b,c  which two to leave in as final submissions, and why
--pick hours    prints only the run that is best by a column: ensemble.py --runs $(...)
--where QUERY   only runs that a pandas query over results and knobs keeps: --where "EPOCHS > 10"
--scalars DIR   TensorBoard scalars of lightning_logs/DIR as JSON lists
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from core.advice import command
from core.errors import UserError, nearest, script
from core.files import clear_parts, writing
from core.flags import load_config, names
from core.quantities import counted
from reporting.ledger import write_ledger_page
from runs.ledger import read_runs, read_scalars
from runs.reports import read_report

SMALLER_IS_BETTER = ("hours", "epochs")
# Columns in which the metric says what is better.
SCORES = ("score", "tuned")


def pick_run(table: Any, column: str, distances: Collection[str] = ()) -> str:
    """The run that is best by a column.

    Args:
        table: of runs.
        column: of it.
        distances: metrics of which less is better.

    Raises:
        UserError: no such column, no run has a value in it, or values of several metrics.
    """
    if column not in table:
        known = [str(name) for name in table]
        raise UserError(f"--pick: no column {column!r}.{nearest(column, known)} Known: {known}")
    filled = table.dropna(subset=[column])
    if filled.empty:
        raise UserError(f"--pick: no run has a {column}: score them with Lightning_tester.py")
    less = column in SMALLER_IS_BETTER
    if column in SCORES:
        metrics = sorted(set(filled["metric"]))
        if len(metrics) > 1:
            raise UserError(
                f"--pick {column}: the runs are scored by {', '.join(metrics)}, which do not "
                f"compare. Keep one: --where \"metric == '{metrics[0]}'\""
            )
        less = metrics[0] in distances
    ordered = filled.sort_values(column, ascending=less, kind="stable")
    return str(ordered["run"].iloc[0])


def filter_runs(table: Any, query: str) -> Any:
    """The rows that a query keeps.

    Raises:
        UserError: it cannot be understood, or keeps none.
    """
    import pandas as pd

    if not query:
        return table
    columns = ", ".join(map(str, table))
    try:
        keep = table.eval(query)
    except Exception as error:  # pandas raises whatever its parser meets
        raise UserError(f"--where {query!r}: {error}. Columns: {columns}") from error
    if not (isinstance(keep, pd.Series) and keep.dtype.kind == "b"):
        raise UserError(f"--where {query!r}: need a comparison of columns, of {columns}")
    kept = table[keep]
    if kept.empty:
        raise UserError(f"--where {query!r} keeps none of {len(table)} runs")
    return kept


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pair = names("two different runs, as a,b", least=2, most=2)
    several = names("two different runs or more, as a,b,c", least=2)
    parser.add_argument("--pair", type=pair, help="two runs, with a comma")
    parser.add_argument("--advise", type=several, help="several runs, with commas")
    parser.add_argument("--pick", default="", help="a column; prints the best run's name")
    parser.add_argument("--where", default="", help="a pandas query over results and knobs")
    parser.add_argument("--scalars", type=Path, help="a folder under LOGS, such as demo/fold_0")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    if args.scalars:
        folder = config.LOGS / args.scalars
        scalars = read_scalars(folder) if folder.is_dir() else {}
        if not scalars:
            folds = sorted(str(args.scalars / path.name) for path in folder.glob("fold_*"))
            need = f". Need a fold: {', '.join(folds)}" if folds else ""
            raise UserError(f"--scalars: no TensorBoard scalars in {folder}{need}")
        print(json.dumps(scalars))
        return 0
    for run in args.pair or args.advise or ():
        read_report(config.OUTPUT, run)  # what is missing is told before torch comes in
    if args.pair:
        from runs.experiment import run_of
        from runs.pairs import compare_pair

        print(compare_pair(run_of(config), args.pair))
        return 0
    if args.advise:
        from runs.experiment import run_of
        from runs.pairs import advise_pair

        print(advise_pair(run_of(config), args.advise))
        return 0
    runs = read_runs(config.LOGS, config.OUTPUT)
    if not len(runs.table):
        none = f"no run in {config.LOGS}: train one, {command('Lightning_trainer')}, or set LOGS"
        if runs.notes:
            none = f"no run in {config.LOGS} can be compared:"
        raise UserError("\n  ".join([none, *runs.notes]))
    table = filter_runs(runs.table, args.where)
    if args.pick:
        print(pick_run(table, args.pick, runs.distances))
        return 0
    table = table[runs.shown]
    clear_parts(config.OUTPUT)
    with writing(config.OUTPUT / "runs.csv") as part:
        table.to_csv(part, index=False)
    write_ledger_page(config.OUTPUT / "runs.html", table)
    for note in runs.notes:
        print(f"note: {note}")
    print(table.drop(columns=["best_ckpt"]).to_string(index=False, na_rep="", line_width=120))
    print(f"{counted(len(table), 'run')}: {config.OUTPUT / 'runs.csv'} and runs.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
