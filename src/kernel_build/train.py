"""The train kernel: folds on Kaggle's GPUs under a time budget, resumed from its own output.

What it leaves in /kaggle/working holds a bundle that an inference kernel attaches with
--from-kernel: nothing is downloaded and uploaded again.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError, raise_all
from core.files import write_json
from core.knobs import SRC
from core.recipes import recipe_files
from kernel_build.bundle import (
    add_wheels,
    distribution_of,
    write_dataset_metadata,
    write_manifest,
)
from kernel_build.image import import_closure, missing_distributions, not_in_image
from kernel_build.job import names_of, runs_of, travelling_knobs
from kernel_build.notebook import CPU, Kernel, build_cells, slugify, write_notebook
from kernel_build.push import write_commands
from kernel_side.mount import Job
from runs import audits
from runs.fold_table import choose_folds, read_fold_table
from runs.names import check_names
from runs.sources import NAME, write_sources
from training.loggers import NEEDS

ROOTS = (
    *("Lightning_trainer", "Lightning_tester", "ensemble"),
    *("kernel_side.mount", "kernel_side.predict", "kernel_side.train", "kernel_build.export"),
)
STEPS = [
    (
        "Locate: the competition and the bundle, in either mount layout",
        "from kernel_side import mount, predict, train\n\nJOB = mount.{job}\n"
        "gpus = predict.look_around(JOB)\n"
        "bundle = mount.find_bundle(JOB)\nmount.verify(bundle)\n",
    ),
    ("Install: wheels of the bundle", "paths = mount.install(bundle, WORK)\n"),
    (
        "Resume: runs of an earlier version, when its output is attached",
        "train.resume(JOB, bundle)\n",
    ),
    (
        "Train: one fold a GPU, stopped by the budget, last.ckpt kept",
        "finished = train.train(JOB, SRC, bundle, paths, gpus=gpus)\n",
    ),
    (
        "Score and export: a bundle that an inference kernel attaches",
        "train.finish(JOB, SRC, bundle, paths, finished)\nprint('the end was reached')\n",
    ),
]


def check_loggers(names: Sequence[str], wheels: Path | None) -> None:
    """Makes sure that Kaggle's image has what rows of LOGGERS need, or a wheel brings it.

    Raises:
        UserError: lists the rows that would stop the training there.
    """
    brought = {distribution_of(path) for path in wheels.glob("*.whl")} if wheels else set()
    needed = {name: NEEDS[name][1] for name in names if name in NEEDS}
    lacking = set(not_in_image(needed.values())) - brought
    raise_all(
        [f"{name} needs {package}" for name, package in needed.items() if package in lacking],
        "LOGGERS that Kaggle's image has no packages for: leave them out of this call, or put "
        "the packages' wheels into a folder for --wheels:",
    )


def check_alone(config: Any) -> None:
    """Makes sure that a run begins from nothing that other runs have left here.

    Raises:
        UserError: it does, and the kernel would stop there.
    """
    asked = [name for name in ("INIT_CKPT", "PSEUDO") if getattr(config, name)]
    raise_all(
        [f"{name}={getattr(config, name)}" for name in asked],
        "a train kernel carries no networks or labels of other runs: train this run here, or leave "
        "them out:",
    )


def find_encoder(weights: str | None) -> Path | None:
    """A local file of encoder weights; None where they are none, or fetched.

    Raises:
        UserError: no such file.
    """
    if weights in (None, "imagenet"):
        return None
    path = Path(str(weights))
    if not path.is_file():
        raise UserError(f"ENCODER_WEIGHTS: no file {path}")
    return path


def pack_encoder(weights: str | None, bundle: Path) -> list[str]:
    """Puts a local file of encoder weights into the bundle; returns flags for the kernel.

    Raises:
        UserError: no such file.
    """
    path = find_encoder(weights)
    if path is None:
        return ["--encoder-weights", weights or "none"]
    shutil.copyfile(path, bundle / f"encoder{path.suffix}")
    return []


def build_train(config: Any, args: argparse.Namespace, folder: Path) -> None:
    """Writes bundle, notebook and COMMANDS.md of a kernel that trains RUN.

    The bundle holds the folds, the wheels, and ENCODER_WEIGHTS when that is a local file; with
    ENCODER_WEIGHTS=imagenet the kernel is given internet.

    Raises:
        UserError: no folds, several runs, knobs that name no rows, or that ask for other runs.
    """
    runs = runs_of(args, config.RUN)
    owner, title, dataset = names_of(args, runs, config.COMPETITION, "training")
    if len(runs) > 1:
        raise UserError(f"train makes one kernel a run, got {', '.join(runs)}: choose one")
    check_names(config)
    check_alone(config)
    check_loggers(config.LOGGERS, args.wheels)
    table = read_fold_table(config.FOLDS_CSV)
    audits.check_strict_folds(config.FOLDS_CSV, strict=config.STRICT_FOLDS)
    folds = choose_folds(table, config.TRAIN_FOLDS, holdout=config.HOLDOUT)
    travelling = travelling_knobs(config)
    lacking = missing_distributions(SRC, import_closure(SRC, ROOTS))
    find_encoder(config.ENCODER_WEIGHTS)
    # What an earlier rehearsal left in working/ stays: --resume goes on from it.
    for name in ("bundle", "notebook"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "job.json").unlink(missing_ok=True)  # written last: it says that the rest is whole
    bundle = folder / "bundle"
    bundle.mkdir(parents=True)
    for path in (config.FOLDS_CSV, config.OUTPUT / audits.NAME):
        if path.is_file():
            shutil.copyfile(path, bundle / path.name)
    weights = pack_encoder(config.ENCODER_WEIGHTS, bundle)
    knobs = ["--run", runs[0], *weights, *travelling]
    add_wheels(lacking, bundle, args.wheels)
    source = f"{owner}/{slugify(dataset)}"
    # What tells the competition's folder there; some ship no sample.
    sample = config.TEST_CSV if config.TEST_CSV.is_file() else config.TRAIN_PATH
    bundle_id = write_manifest(bundle, kind="train", reports={})
    write_dataset_metadata(bundle, name=source, title=dataset)
    job = Job(
        competition=config.COMPETITION,
        source=source,
        bundle_id=bundle_id,
        runs=tuple(runs),
        sample=sample.relative_to(config.INPUT).as_posix(),
        gpus=0 if args.machine == CPU else 2,
        hours=args.hours,
        knobs=tuple(knobs),
        folds=tuple(folds),
        earlier=f"{owner}/{slugify(title)}",
    )
    kernel = Kernel(
        owner,
        title,
        machine=args.machine,
        internet=config.ENCODER_WEIGHTS == "imagenet",
        datasets=(source,),
        # The kernel's own earlier output: not there the first time, so it is asked for by a flag.
        kernels=(job.earlier,) if args.resume else (),
        competitions=(config.COMPETITION,),
    )
    cells = build_cells(SRC, ROOTS, STEPS, kernel=kernel, job=job)
    write_notebook(folder / "notebook", cells, kernel)
    write_commands(folder, kernel, submit="")
    encoder = Path(config.ENCODER_WEIGHTS or "")
    given = [*([encoder] if encoder.is_file() else []), *recipe_files()]
    write_sources(folder / NAME, [config.FOLDS_CSV, config.OUTPUT / audits.NAME, *given])
    write_json(folder / "job.json", {**vars(job), "weights": "fp32"})
