"""Trains in stages: each is a run that starts from the one before.

python src/train_stages.py recipes/mine.stages @recipes/mine.args --run mine

A line of the file is a stage, its name and its flags:

    small:  --crop-size 256 --epochs 20
    large:  --crop-size 512 --epochs 6 --lr 3e-4
    pseudo: --pseudo large --epochs 8

They are the runs mine-small, mine-large, mine-pseudo; each fold starts from its own best network of
the stage before (INIT_CKPT, unless the line has its own). A stage with --pseudo and the name of an
earlier one has that one scored, and its test images labelled, before. The same command goes on
where it was stopped: whatever is finished is kept. --dry-run measures each stage by a network of
its own and says how long it takes.
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.advice import command
from core.errors import Stopped, UserError, nearest, raise_all, script, told_problems
from core.flag_files import word_lines
from core.flags import as_flags, load_config
from core.knobs import ROOT
from runs.attempts import STOPPED, call_script
from runs.fold_table import choose_folds, read_fold_table
from runs.reports import read_report, was_scored

# Knobs of a stage that say what it takes of others.
ASKED = ("INIT_CKPT", "PSEUDO", "HOLDOUT", "TRAIN_FOLDS")
BAD_STAGES = "the stages do not hold:"
NEED = "need a line a stage, a name and flags: large: --crop-size 512 --epochs 6"


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    Attributes:
        name: of it.
        words: flags that it adds to those of the command.
    """

    name: str
    words: tuple[str, ...]


def read_stages(path: Path) -> list[Stage]:
    """The stages of a file, in order.

    Raises:
        UserError: no such file, no stage in it, a line that does not read, or a name twice.
    """
    places = [place for place in (path, ROOT / path) if place.is_file()]
    if not places:
        raise UserError(f"no file {path}: {NEED}")
    stages: list[Stage] = []
    for at, line, words in word_lines(places[0]):
        if not words:
            continue
        name, *flags = words
        if not re.fullmatch(r"[\w.-]+:", name) or name.startswith((".", "-")):
            raise UserError(f"{path}, line {at}: got {line.strip()[:80]!r}, {NEED}")
        if name[:-1] in [stage.name for stage in stages]:
            raise UserError(f"{path}, line {at}: stage {name[:-1]} is there twice")
        stages.append(Stage(name[:-1], tuple(flags)))
    if not stages:
        raise UserError(f"{path} has no stages: {NEED}")
    return stages


def plan_stages(
    stages: Sequence[Stage], knobs: Sequence[Mapping[str, Any]], run: str
) -> list[dict[str, str]]:
    """What each stage's run is told besides its flags: RUN, INIT_CKPT and PSEUDO by their runs.

    Args:
        stages: in order.
        knobs: INIT_CKPT and PSEUDO of each, as its flags have them.
        run: that their runs are named after.

    Raises:
        UserError: --pseudo names a later stage, or none.
    """
    runs = {stage.name: f"{run}-{stage.name}" for stage in stages}
    planned: list[dict[str, str]] = []
    for at, (stage, asked) in enumerate(zip(stages, knobs, strict=True)):
        told = {"RUN": runs[stage.name]}
        earlier = [other.name for other in stages[:at]]
        init, pseudo = asked["INIT_CKPT"], asked["PSEUDO"]
        if init in earlier:
            told["INIT_CKPT"] = runs[init]
        elif at and not init:
            told["INIT_CKPT"] = planned[-1]["RUN"]
        if pseudo in earlier:
            told["PSEUDO"] = runs[pseudo]
        elif pseudo in runs:
            raise UserError(
                f"stage {stage.name}: --pseudo {pseudo} is no earlier stage."
                f"{nearest(pseudo, earlier)} Earlier: {', '.join(earlier) or 'none'}"
            )
        planned.append(told)
    return planned


def read_knobs_of(stages: Sequence[Stage], argv: Sequence[str]) -> list[dict[str, Any]]:
    """The knobs of ASKED of each stage, all of whose flags are tried.

    Raises:
        UserError: lists what config.py does not take, and rows that are not there, of all stages.
    """
    from runs.names import check_names

    problems, knobs = list[str](), list[dict[str, Any]]()
    for stage in stages:
        try:
            config, _ = load_config([*argv, *stage.words], add_arguments)
            check_names(config)
        except UserError as error:
            problems += [f"{stage.name}: {problem}" for problem in told_problems(error)]
            continue
        if "--run" in stage.words:
            problems.append(f"{stage.name}: --run is the command's, the stage's name follows it")
        knobs.append({name: getattr(config, name) for name in ASKED})
    raise_all(problems, BAD_STAGES)
    return knobs


def folds_of(table: Any, knobs: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    """The folds that each stage trains, by its knobs."""
    return [choose_folds(table, one["TRAIN_FOLDS"], holdout=one["HOLDOUT"]) for one in knobs]


def check_chain(
    stages: Sequence[Stage],
    planned: Sequence[Mapping[str, str]],
    knobs: Sequence[Mapping[str, Any]],
    folds: Sequence[Sequence[int]],
) -> None:
    """Makes sure that each stage will find the folds that it asks of earlier ones.

    Args:
        stages: in order.
        planned: of `plan_stages`.
        knobs: of `read_knobs_of`.
        folds: of `folds_of`.

    Raises:
        UserError: lists the stages that would not.
    """
    problems, runs = [], [told["RUN"] for told in planned]
    for at, (stage, told) in enumerate(zip(stages, planned, strict=True)):
        for before in sorted({runs.index(run) for run in told.values() if run in runs[:at]}):
            name, theirs = stages[before].name, folds[before]
            if lacking := [fold for fold in folds[at] if fold not in theirs]:
                problems.append(
                    f"{stage.name}: folds {lacking} need those of {name}, which trains {theirs}"
                )
            ours, other = knobs[at]["HOLDOUT"], knobs[before]["HOLDOUT"]
            if ours != other:
                problems.append(f"{stage.name}: HOLDOUT is {ours}, that of {name} is {other}")
    raise_all(problems, BAD_STAGES)


def calls_of(
    output: Path,
    logs: Path,
    stage: Stage,
    told: Mapping[str, str],
    folds: Sequence[int],
    taught: Sequence[str] = (),
) -> Iterator[list[str]]:
    """The calls that are left of a stage, script and flags: labels of its folds, its training.

    Args:
        output, logs: of all runs.
        stage: that is due.
        told: what it is told besides its flags.
        folds: that it trains.
        taught: flags of the stage whose labels it learns.
    """
    teacher = told.get("PSEUDO")
    if teacher:
        words = [*taught, *as_flags({"RUN": teacher, "PSEUDO": "", "INIT_CKPT": ""})]
        if not set(folds) <= set(scored_folds(output, logs, teacher)):
            yield ["Lightning_tester", *words]
        from runs.pseudo import labelled_folds

        # Made once: anew they may be other labels than those that a student has begun with.
        if not set(folds) <= labelled_folds(output, teacher):
            yield ["pseudo_label", *words]
    yield ["Lightning_trainer", *stage.words, *as_flags(told)]


def scored_folds(output: Path, logs: Path, run: str) -> list[int]:
    """The folds whose networks a run's report tells of; none where it is missing or broken."""
    try:
        return [fold.fold for fold in read_report(output, run).folds if was_scored(fold, logs)]
    except UserError:
        return []


def run_stage(stage: Stage, calls: Iterable[Sequence[str]]) -> int:
    """Makes a stage's calls one after the other; returns 2 where one has told an error, else 0.

    Raises:
        UserError: a script ended without a word of its own.
        Stopped: it was stopped.
    """
    for script_name, *words in calls:
        code = call_script(script_name, words).code
        if code in STOPPED:
            raise Stopped("", code - 128)  # the script has told it
        if code == 2:
            return code
        if code:
            raise UserError(f"stage {stage.name}: {script_name}.py ended with code {code}")
    return 0


def dry_run(stage: Stage, told: Mapping[str, str]) -> int:
    """The trainer's plan of a stage, as if it began anew; returns the trainer's exit code."""
    alone = {**told, "INIT_CKPT": "", "PSEUDO": ""}  # of earlier stages there is nothing yet
    return call_script("Lightning_trainer", [*stage.words, *as_flags(alone), "--dry-run"]).code


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a stage a line")
    parser.add_argument("--dry-run", action="store_true", help="say how long; write nothing")


@script
def main(argv: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if argv is None else list(argv)
    config, args = load_config(words, add_arguments, description=__doc__)
    stages = read_stages(args.file)
    knobs = read_knobs_of(stages, words)
    planned = plan_stages(stages, knobs, config.RUN)
    config, args = load_config(words, add_arguments)  # the children inherit these flags
    folds = folds_of(read_fold_table(config.FOLDS_CSV), knobs)
    check_chain(stages, planned, knobs, folds)
    if any("PSEUDO" in told for told in planned):
        from competition.listings import find_test_images
        from runs.experiment import competition_of

        find_test_images(competition_of(config))  # what is to be labelled, before all trainings
    flags = {told["RUN"]: stage.words for stage, told in zip(stages, planned, strict=True)}
    for at, (stage, told) in enumerate(zip(stages, planned, strict=True)):
        print(f"stage {at + 1} of {len(stages)}, {stage.name}: run {told['RUN']}", flush=True)
        if args.dry_run:
            code = dry_run(stage, told)
        else:
            taught = flags.get(told.get("PSEUDO", ""), ())
            code = run_stage(
                stage, calls_of(config.OUTPUT, config.LOGS, stage, told, folds[at], taught)
            )
        if code:
            return code
    if args.dry_run:
        return 0
    score = f"{command('Lightning_tester', run=planned[-1]['RUN'])} {shlex.join(stages[-1].words)}"
    print(f"all {len(stages)} stages are trained; score the last: {score}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
