"""Turns runs into a Kaggle kernel that works offline, and proves it here before the push.

python src/kernel.py infer --owner me --competition slug   bundle, notebook, COMMANDS.md
python src/kernel.py train --owner me --competition slug   a notebook that trains on Kaggle's GPUs
python src/kernel.py check                                 every rule that can be checked here
python src/kernel.py run                                   the notebook, executed as Kaggle would
"""

from core.loading import stop_while_loading

if __name__ == "__main__":
    stop_while_loading()

import argparse
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from core.advice import command
from core.errors import script
from core.flags import load_config, names, number
from core.locks import Claim
from core.quantities import counted
from kernel_build.job import kernel_folder, runs_of
from runs.owners import owning, scored


def add_making(parser: argparse.ArgumentParser) -> None:
    """What infer and train have in common."""
    from kernel_build.push import add_push_arguments

    add = parser.add_argument
    add("--owner", default="", help="your Kaggle user name; default: KAGGLE_USERNAME")
    add("--title", default="", help="title of the kernel, 5 to 50 characters")
    add("--dataset-title", default="", help="title of the bundle's data set, 6 to 50 characters")
    add("--machine", default="NvidiaTeslaT4", help="Kaggle's accelerator name, or cpu")
    add("--hours", type=SOME, default=9.0, help="the competition's limit, or a training budget")
    add("--dry-run", action="store_true", help="say what the bundle holds; write nothing")
    add("--wheels", type=Path, help="folder of py3-none-any wheels for the bundle")
    add_push_arguments(parser)


def add_infer(parser: argparse.ArgumentParser) -> None:
    add_making(parser)
    add_runs(parser)
    add = parser.add_argument
    add("--weights", choices=["fp32", "fp16"], default="fp32", help="fp16: half the upload")
    add("--from-kernel", default="", help="owner/slug of a train kernel: no upload")


def add_train(parser: argparse.ArgumentParser) -> None:
    add_making(parser)
    add_runs(parser)
    parser.add_argument(
        "--resume", action="store_true", help="attach the kernel's own earlier output"
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    some = names("different runs with commas, as a,b")
    parser.add_argument("--runs", type=some, help="runs to average, with commas; default: RUN")


def add_check(parser: argparse.ArgumentParser) -> None:
    from kernel_build.push import add_push_arguments

    add_runs(parser)
    parser.add_argument("--train", action="store_true", help="the train kernel")
    add_push_arguments(parser)


def add_run(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add = parser.add_argument
    add("--train", action="store_true", help="the train kernel")
    add("--hidden", type=number(1), default=50, help="images of the hidden rerun")
    add("--forecast", type=number(0), default=0, help="images to project to; 0 = --hidden")
    add("--gpu-factor", type=SOME, default=1.0, help="how much faster Kaggle's machine is")
    add("--matrix", action="store_true", help="all layouts and ways to unpack, 16 runs")
    add("--demand-gpu", action="store_true", help="on this machine's GPU, or not at all")


SOME = number(0.0001, kind=float)
VERBS = {"infer": add_infer, "train": add_train, "check": add_check, "run": add_run}


def plan_line(
    args: argparse.Namespace, runs: Sequence[str], *, output: Path, logs: Path, folds: Any
) -> str:
    """What a kernel's bundle will hold, and how long the kernel may run."""
    from core.quantities import size_words
    from runs.reports import checkpoints_of, read_report

    limit = f"{args.hours:g} h on Kaggle at most"
    if args.verb == "train":
        return f"plan: a kernel that trains run {runs[0]}, folds and code alone to upload, {limit}"
    reports = [read_report(output, run) for run in runs]
    paths = [*chain(*(checkpoints_of(one, logs, folds) for one in reports))]
    size = sum(path.stat().st_size for path in paths) / (2 if args.weights == "fp16" else 1)
    return f"plan: {counted(len(paths), 'network')}, {size_words(size)} to upload, {limit}"


def work(config: Any, args: argparse.Namespace, folder: Path) -> None:
    """Runs the verb."""
    if args.verb == "run":
        from kernel_build.rehearsal import Asked, rehearse, rehearse_train
        from runs.experiment import competition_of

        if args.train:
            rehearse_train(folder, config.INPUT, gpu=args.demand_gpu)
        else:
            asked = Asked(**{name: getattr(args, name) for name in Asked._fields})
            competition = competition_of(config)
            rehearse(folder, competition, asked, output=config.OUTPUT, logs=config.LOGS)
        return
    if args.verb == "infer":
        from kernel_build.infer import build_infer

        build_infer(config, args, folder)
    elif args.verb == "train":
        from kernel_build.train import build_train

        build_train(config, args, folder)

    from kernel_build.check import check_kernel

    print(check_kernel(folder))
    if args.push:
        from kernel_build.push import push

        push(folder, submit=args.submit)
    elif args.verb != "check":
        print(f"next: {command('kernel')} run, then the commands of {folder / 'COMMANDS.md'}")


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, verbs=VERBS, description=__doc__)
    runs = runs_of(args, config.RUN)
    folder = kernel_folder(config.OUTPUT, runs, args)
    if getattr(args, "dry_run", False):
        where = {"output": config.OUTPUT, "logs": config.LOGS, "folds": config.TRAIN_FOLDS}
        print(plan_line(args, runs, **where))
        return 0
    read = [scored(config.LOGS, config.OUTPUT, run, config.TRAIN_FOLDS) for run in runs]
    mine = Claim(config.OUTPUT, folder.parent.name, folder.name)
    with owning("kernel", [*chain(*read), mine]):
        work(config, args, folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
