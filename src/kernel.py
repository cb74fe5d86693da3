"""Turns runs into a Kaggle kernel that works offline, and proves it here before the push.

python src/kernel.py infer --owner me --competition slug   bundle, notebook, COMMANDS.md
python src/kernel.py train --owner me --competition slug   a notebook that trains on Kaggle's GPUs
python src/kernel.py check                                 every rule that can be checked here
python src/kernel.py run                                   the notebook, executed as Kaggle would
"""

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from errors import UserError, script
from overrides import PREFIX, load_config

HOST_KNOBS = (
    *("INPUT", "OUTPUT", "LOGS", "RUN", "COMPETITION", "ENCODER_WEIGHTS"),
    *("ACCELERATOR", "DEVICES", "STRATEGY", "NUM_WORKERS"),
)
UNDER_INPUT = ("TRAIN_PATH", "MASK_PATH", "TEST_PATH", "TRAIN_CSV", "TEST_CSV")


def travelling_knobs(config: Any) -> list[str]:
    """Flags for Kaggle: every override of this call but those that describe this machine.

    What config.py itself says travels with the file.

    Raises:
        UserError: a path outside INPUT.
    """
    flags = []
    for variable in sorted(name for name in os.environ if name.startswith(PREFIX)):
        name, text = variable.removeprefix(PREFIX), os.environ[variable]
        if name in HOST_KNOBS:
            continue
        if name in UNDER_INPUT and Path(text).is_absolute():
            if not Path(text).is_relative_to(config.INPUT):
                raise UserError(f"{name}: {text} is outside INPUT, Kaggle mounts INPUT only")
            text = Path(text).relative_to(config.INPUT).as_posix()
        flags += ["--" + name.lower().replace("_", "-"), text]
    return flags


def runs_of(config: Any, args: argparse.Namespace) -> list[str]:
    """The runs of --runs, or RUN."""
    return [name for name in args.runs.split(",") if name] or [config.RUN]


def kernel_folder(config: Any, args: argparse.Namespace) -> Path:
    """Where the kernel of these runs is: output/<runs>/kernel/."""
    kind = "kernel" if args.command != "train" and not args.train else "train_kernel"
    return config.OUTPUT / "+".join(runs_of(config, args)) / kind


def names_of(config: Any, args: argparse.Namespace, kind: str) -> tuple[str, str, str]:
    """(owner, kernel title, data set title).

    Raises:
        UserError: no owner or no competition.
    """
    owner = args.owner or os.environ.get("KAGGLE_USERNAME", "")
    if not owner:
        raise UserError("--owner: need your Kaggle user name")
    if not config.COMPETITION:
        raise UserError("COMPETITION: need the slug of kaggle.com/competitions/<slug>")
    title = args.title or f"{'+'.join(runs_of(config, args))} {kind}".replace("_", " ")
    return owner, title, args.dataset_title or f"{title} bundle"


def sample_of(config: Any) -> dict[str, Any]:
    """What a Job says of the sample submission: its file and columns."""
    from competition import read_table, sample_columns
    from kernel_mount import read_rows

    columns = sample_columns(
        read_table(config.TEST_CSV, config.ID_COLUMN),
        id_column=config.ID_COLUMN,
        rle_column=config.RLE_COLUMN,
        class_column=config.CLASS_COLUMN,
        name=config.TEST_CSV.name,
    )
    return {
        "columns": tuple(read_rows(config.TEST_CSV)[0]),
        "id_column": columns.id,
        "rle_column": str(columns.rle),
        "sample": config.TEST_CSV.relative_to(config.INPUT).as_posix(),
    }


def build_bundle(
    config: Any, runs: Sequence[str], folder: Path, *, half: bool, wheels: Path | None
) -> str:
    """Writes weights, reports, wheels and manifest of runs; returns the bundle's id."""
    from kernel_bundle import add_wheels, write_manifest
    from kernel_export import export_runs
    from kernel_image import import_closure, missing_distributions
    from kernel_notebook import INFER_ROOTS

    src = Path(__file__).parent
    folder.mkdir(parents=True)
    reports = export_runs(config, runs, folder, half=half)
    add_wheels(missing_distributions(src, import_closure(src, INFER_ROOTS)), folder, wheels)
    return write_manifest(folder, kind="infer", reports=reports)


def build_infer(config: Any, args: argparse.Namespace) -> None:
    """Writes the bundle, the notebook and COMMANDS.md of an inference kernel."""
    from experiment import write_json
    from kernel_bundle import write_dataset_metadata
    from kernel_mount import Job
    from kernel_notebook import (
        CPU,
        INFER,
        INFER_ROOTS,
        Kernel,
        build_cells,
        slugify,
        write_notebook,
    )
    from kernel_push import write_commands

    owner, title, dataset = names_of(config, args, "inference")
    runs, folder, src = runs_of(config, args), kernel_folder(config, args), Path(__file__).parent
    knobs, sample = travelling_knobs(config), sample_of(config)
    source, bundle_id = args.from_kernel, ""
    shutil.rmtree(folder, ignore_errors=True)
    if not source:
        source = f"{owner}/{slugify(dataset)}"
        half = args.weights == "fp16"
        bundle_id = build_bundle(config, runs, folder / "bundle", half=half, wheels=args.wheels)
        write_dataset_metadata(folder / "bundle", name=source, title=dataset)
    job = Job(
        competition=config.COMPETITION,
        source=source,
        bundle_id=bundle_id,
        runs=tuple(runs),
        **sample,
        gpus=0 if args.machine == CPU else 2,
        hours=args.hours,
        knobs=("--unreadable", "empty", *knobs),
    )
    kernel = Kernel(
        owner,
        title,
        machine=args.machine,
        datasets=() if args.from_kernel else (source,),
        kernels=(source,) if args.from_kernel else (),
        competitions=(config.COMPETITION,),
    )
    cells = build_cells(src, INFER_ROOTS, INFER, kernel=kernel, job=job)
    write_notebook(folder / "notebook", cells, kernel)
    write_commands(folder, kernel, submit=config.COMPETITION)
    write_json(folder / "job.json", {**vars(job), "weights": args.weights})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from kernel_push import add_push_arguments

    add = parser.add_argument
    add("command", choices=["infer", "train", "check", "run"], help="what to do")
    add("--runs", default="", help="runs to average, with commas; default: RUN")
    add("--owner", default="", help="your Kaggle user name; default: KAGGLE_USERNAME")
    add("--title", default="", help="title of the kernel, 5 to 50 characters")
    add("--dataset-title", default="", help="title of the bundle's data set, 6 to 50 characters")
    add("--machine", default="NvidiaTeslaT4", help="Kaggle's accelerator name, or cpu")
    add("--hours", type=float, default=9.0, help="the competition's limit, or a training budget")
    add("--weights", choices=["fp32", "fp16"], default="fp32", help="fp16: half the upload")
    add("--wheels", type=Path, help="folder of py3-none-any wheels for the bundle")
    add("--from-kernel", default="", help="infer: owner/slug of a train kernel, no upload")
    add("--train", action="store_true", help="check, run: the train kernel")
    add("--resume", action="store_true", help="train: attach the kernel's own earlier output")
    add("--hidden", type=int, default=50, help="run: images of the hidden rerun")
    add("--forecast", type=int, default=0, help="run: images to project to; 0 = --hidden")
    add("--gpu-factor", type=float, default=1.0, help="run: how much faster Kaggle's machine is")
    add("--matrix", action="store_true", help="run: all layouts and ways to unpack, 16 runs")
    add("--demand-gpu", action="store_true", help="run: on this machine's GPU, or not at all")
    add_push_arguments(parser)


@script
def main(argv: Sequence[str] | None = None) -> int:
    config, args = load_config(argv, add_arguments, description=__doc__)
    folder = kernel_folder(config, args)
    if args.command == "run":
        from kernel_run import rehearse, rehearse_train

        (rehearse_train if args.train else rehearse)(config, args, folder)
        return 0
    if args.command == "infer":
        build_infer(config, args)
    elif args.command == "train":
        from kernel_train import build_train

        build_train(config, args, folder)

    from kernel_check import check_kernel

    print(check_kernel(folder))
    if args.push:
        from kernel_push import push

        push(folder, submit=args.submit)
    elif args.command != "check":
        print(f"next: src/kernel.py run, then the commands of {folder / 'COMMANDS.md'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
