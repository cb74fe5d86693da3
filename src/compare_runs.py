"""The ledger: every run with what differs and what it scored, in output/runs.csv and runs.html.

--pair a,b      two runs image by image: is the difference more than noise?
--advise a,b,c  which two to leave in as final submissions, and why
--pick hours    prints only the run that is best by a column: ensemble.py --runs $(...)
--where QUERY   only runs that a pandas query keeps: --where "EPOCHS > 10"
--scalars DIR   TensorBoard scalars of lightning_logs/DIR as JSON lists
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from adviser import advise
from bootstrap import Gain, paired_gain
from errors import UserError, nearest, script
from experiment import load_folds
from ledger import read_runs, read_scalars, write_html
from objective import WholeScore
from oof_scores import common_images, oof_values, open_oof
from overrides import load_config
from postprocess import rules_of

SMALLER_IS_BETTER = ("hours", "epochs")


def run_values(config: Any, names: Sequence[str]) -> tuple[dict[str, Tensor], Any, np.ndarray]:
    """(values (N, V) by run, the metric, groups) of the images that all runs predicted.

    Each run is decided by its own rules.

    Raises:
        UserError: a run is not scored, or they are of different tasks or classes.
    """
    from competition import mask_source

    table, masks = load_folds(config), mask_source(config)
    opened = [open_oof(config, table, run, masks) for run in names]
    if len({(images.task, images.classes) for images, _ in opened}) > 1:
        raise UserError(f"{', '.join(names)} are of different tasks or classes: compare like runs")
    common = common_images([images for images, _ in opened])
    whole = WholeScore(config.METRIC, task=common[0].task, classes=common[0].classes)
    values = {
        name: oof_values([images], rules_of(report), whole, weights=[[1.0]])[:, 0]
        for name, images, (_, report) in zip(names, common, opened, strict=True)
    }
    return values, whole, np.array(common[0].groups)


def split_names(flag: str, text: str, need: str) -> list[str]:
    """Different names of runs, two or more.

    Raises:
        UserError: fewer, or one twice.
    """
    names = [name for name in text.split(",") if name]
    if len(set(names)) != len(names) or len(names) < 2:
        raise UserError(f"{flag}: got {text!r}, need {need}")
    return names


def compare_pair(config: Any, text: str) -> str:
    """The difference of two runs "a,b" in words.

    Raises:
        UserError: not two runs, or as `run_values`.
    """
    names = split_names("--pair", text, "two different runs such as a,b")
    if len(names) != 2:
        raise UserError(f"--pair: got {text!r}, need two runs such as a,b")
    values, whole, groups = run_values(config, names)
    gain = paired_gain(values[names[0]], values[names[1]], whole.score, groups=groups)
    scores = [float(whole.score(values[name].sum(0))) for name in names]
    word = "noise" if gain.low <= 0 <= gain.high else f"{names[gain.gain > 0]} is better"
    verdict = pseudo_verdict(config, names, gain)
    return (
        f"{config.METRIC} of {len(groups)} images: {names[0]} {scores[0]:.4f}, "
        f"{names[1]} {scores[1]:.4f}, difference {gain}: {word}{verdict}"
    )


def pseudo_verdict(config: Any, names: Sequence[str], gain: Gain) -> str:
    """Whether to go on, where the second run was trained on pseudo-labels of the first; or ""."""
    path = config.LOGS / names[1] / "run.json"
    knobs = json.loads(path.read_text())["knobs"] if path.is_file() else {}
    if knobs.get("PSEUDO") != names[0]:
        return ""
    if gain.real:
        return f". Pseudo-labels helped: {names[1]} may teach another round"
    return f". Pseudo-labels did not help: stop here and keep {names[0]}"


def advise_pair(config: Any, text: str) -> str:
    """Which two of the runs "a,b,c" to submit as final ones, with the reasons.

    Raises:
        UserError: fewer than two runs, or as `run_values`.
    """
    values, whole, groups = run_values(
        config, split_names("--advise", text, "different runs such as a,b,c")
    )
    best, others = advise(values, whole, groups)
    score = float(whole.score(values[best].sum(0)))
    lines = [f"{config.METRIC} of {len(groups)} images", f"first:  {best} {score:.4f}, the best"]
    lines.append(f"second: {others[0]}")
    return "\n".join(lines + [f"not:    {one}" for one in others[1:]])


def pick_run(table: Any, column: str) -> str:
    """The run that is best by a column.

    Raises:
        UserError: no such column, or no run has a value in it.
    """
    if column not in table:
        known = [str(name) for name in table]
        raise UserError(f"--pick: no column {column!r}.{nearest(column, known)} Known: {known}")
    filled = table.dropna(subset=[column])
    if filled.empty:
        raise UserError(f"--pick: no run has a {column}: score them with Lightning_tester.py")
    ordered = filled.sort_values(column, ascending=column in SMALLER_IS_BETTER, kind="stable")
    return str(ordered["run"].iloc[0])


def filter_runs(table: Any, query: str) -> Any:
    """The rows that a query keeps.

    Raises:
        UserError: it cannot be understood.
    """
    if not query:
        return table
    try:
        return table.query(query)
    except Exception as error:  # pandas raises whatever its parser meets
        columns = ", ".join(map(str, table))
        raise UserError(f"--where {query!r}: {error}. Columns: {columns}") from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pair", default="", help="two runs, with a comma")
    parser.add_argument("--advise", default="", help="several runs, with commas")
    parser.add_argument("--pick", default="", help="a column; prints the best run's name")
    parser.add_argument("--where", default="", help="a pandas query over the columns")
    parser.add_argument("--scalars", type=Path, help="a folder under LOGS, such as demo/fold_0")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    if args.scalars:
        folder = config.LOGS / args.scalars
        scalars = read_scalars(folder) if folder.is_dir() else {}
        if not scalars:
            raise UserError(f"--scalars: no TensorBoard scalars in {folder}")
        print(json.dumps(scalars))
        return 0
    if args.pair:
        print(compare_pair(config, args.pair))
        return 0
    if args.advise:
        print(advise_pair(config, args.advise))
        return 0
    table, notes = read_runs(config.LOGS, config.OUTPUT)
    table = filter_runs(table, args.where)
    if not len(table):
        raise UserError("\n  ".join([f"no run in {config.LOGS} to compare", *notes]))
    if args.pick:
        print(pick_run(table, args.pick))
        return 0
    part = config.OUTPUT / "runs.part"
    table.to_csv(part, index=False)
    part.replace(config.OUTPUT / "runs.csv")
    write_html(config.OUTPUT / "runs.html", table)
    for note in notes:
        print(f"note: {note}")
    print(table.drop(columns=["best_ckpt"]).to_string(index=False, na_rep="", line_width=120))
    print(f"{len(table)} runs: {config.OUTPUT / 'runs.csv'} and runs.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
